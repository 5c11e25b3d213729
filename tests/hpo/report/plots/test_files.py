"""Figures as data by equality, as pages and as pictures; `hpo plot`; a run in a notebook."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from dataclasses import fields
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest

from hpo import notebook
from hpo.cli import main
from hpo.core.trial import Run
from hpo.report.plots import figure_data, files, registry
from hpo.report.plots.registry import Exhibit
from hpo.report.results import Results
from hpo.storage import run_folder
from tests.hpo import toy
from tests.hpo.cli.test_main import complaint

BROWSER = any(map(shutil.which, ("chromium", "google-chrome", "chrome")))


draws_pictures = pytest.mark.skipif(
    not (BROWSER and find_spec("kaleido")), reason="needs kaleido and Chromium"
)


def small() -> Run:
    return toy.run([toy.trial(0, 3.5, 0.2, baseline="standard"), toy.trial(1, 3.4, 0.3)])


@pytest.mark.parametrize("name", ["front", "curve.val_loss", "gain", "paper.1"])
def test_csv_parquet_and_json_hold_the_same_rows(name: str, tmp_path: Path) -> None:
    found = registry.exhibit(Results(toy.beside_paper()), name)
    for ending in ("csv", "parquet", "json"):
        files.write(found, name, tmp_path / f"x.{ending}", "toy")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == found.rows
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "figure": name, "what": found.what, "rows": found.rows}  # fmt: skip
    with (tmp_path / "x.csv").open() as file:
        read = list(csv.DictReader(file))
    assert read == [
        {key: "" if value is None else str(value) for key, value in row.items()}
        for row in found.rows
    ]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_page_needs_no_network(tmp_path: Path) -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2, baseline=toy.HOSTILE)])
    path = files.write(registry.exhibit(Results(run), "front"), "front", tmp_path / "x.html", "toy")
    text = path.read_text()
    assert len(text) > 1e6
    assert "<img src=x" not in text
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)


@draws_pictures
@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_pictures_are_drawn_by_a_browser_of_their_own_or_a_shared_one(tmp_path: Path) -> None:
    front = registry.exhibit(Results(small()), "front")

    def draw(ending: str, start: bytes) -> None:
        path = files.write(front, "front", tmp_path / f"x.{ending}", "toy")
        assert path.read_bytes().startswith(start)
        assert path.stat().st_size > 2000

    draw("png", b"\x89PNG")
    with files.one_browser():
        draw("svg", b"<svg")
        draw("pdf", b"%PDF")


def test_a_picture_is_on_white_and_shows_no_hidden_trial() -> None:
    drawn = registry.exhibit(Results(toy.mixed()), "curve.val_loss").draw()
    waiting = [trace.name for trace in drawn.data if trace.visible == "legendonly"]
    assert waiting
    figure = files.on_paper(drawn, "x")
    assert figure.layout.paper_bgcolor == "white"
    assert [trace.name for trace in figure.data if trace.visible is False] == waiting


def test_pages_are_titled_with_the_runs_name(tmp_path: Path) -> None:
    figure = files.on_paper(
        go.Figure(), files.title(registry.exhibit(Results(small()), "front"), "a<b")
    )
    assert figure.layout.title.text == "a&lt;b: base_loss against gain"
    path = files.write(
        registry.exhibit(Results(small()), "front"), "front", tmp_path / "x.html", "mine"
    )
    assert "mine: base_loss against gain" in path.read_text(encoding="utf-8")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(run_folder, "find_run", lambda *given: None)
    monkeypatch.setattr(run_folder, "read", lambda place: toy.mixed())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_browser_it_says_what_is_missing_and_what_works(
    shown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: go.Figure, **given: object) -> bytes:
        raise RuntimeError("Kaleido requires\nGoogle Chrome to be installed.")

    monkeypatch.setattr(go.Figure, "to_image", fail)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # not installed, which draws without one
    assert main.main(["plot", "toy", "front", "--to", "x.png"]) == 2
    line = complaint(capsys)
    for said in ("Chromium", "plasticity-hpo[pictures]", "html, csv, parquet and json", "Google"):
        assert said in line
    assert "NoBrowser" not in line
    assert list(shown.iterdir()) == []


def test_plot_prints_the_path_and_lists_figures_without_one(
    shown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["plot", "toy", "gain", "--to", "deep/x.CSV"]) == 0
    assert capsys.readouterr().out.strip() == str(shown / "deep" / "x.CSV")
    assert main.main(["plot", "toy"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in registry.exhibits(Results(toy.mixed())))


@pytest.mark.parametrize("ending", ["csv", "json", "parquet", "html"])
def test_all_figures_are_written_into_a_folder_and_what_is_missing_is_reported(
    ending: str, shown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["plot", "toy", "--all", "--to", "deep/all", "--format", ending]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = registry.exhibits(Results(toy.mixed()))
    written, skipped = lines[: len(found)], lines[len(found) :]
    assert written == [str(shown / f"deep/all/{name}.{ending}") for name in found]
    assert sorted(map(str, (shown / "deep/all").iterdir())) == sorted(written)
    assert skipped == [
        "importance: skipped, it needs 20 complete trials of different settings, and 8 trials are "
        "complete.",
        "tree: skipped, it needs trials that share training, and 8 trials are complete.",
    ]


def test_a_run_without_a_trial_has_no_figure_to_write(
    shown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_folder, "read", lambda place: toy.run([]))
    assert main.main(["plot", "toy", "--all", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["front", *registry.NEEDS]
    assert all(": skipped, " in line for line in lines)
    assert list(shown.iterdir()) == []


@draws_pictures
@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_all_pictures_are_drawn_by_one_browser(
    shown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import kaleido

    started = []
    opened = kaleido.Kaleido.open
    monkeypatch.setattr(
        kaleido.Kaleido, "open", lambda self: (started.append(self), opened(self))[1]
    )
    assert main.main(["plot", "toy", "--all"]) == 0
    pictures = list((shown / "toy-figures").iterdir())
    assert len(pictures) == len(registry.exhibits(Results(toy.mixed())))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["front", "--all"], "--all writes every figure; leave out 'front'"),
        (["--all", "--to", "x.svg"], "give a folder, and --format svg"),
        (["--all", "--to", "file", "--format", "csv"], "cannot write to file/front.csv"),
        (["--to", "x.csv"], "name a FIGURE to write, or give --all"),
        (["front", "--to", "x.csv", "--format", "csv"], "leave out --format"),
        (["fronts"], "run 'toy' has no figure 'fronts'; did you mean front?"),
        (["importance"], "it needs 20 complete trials of different settings, and 8 trials are"),
        (["nothing-like-it"], "`hpo plot toy` lists those there are"),
        (["../../x"], "has no figure '../../x'"),
        (["front", "--to", "x.gif"], "is written as png, svg, pdf, html, csv, parquet, json"),
        (["front", "--to", "x"], "by the file's ending; got 'x'"),
        (["front", "--to", "file/x.csv"], "cannot write to file/x.csv"),
        (["front", "--to", "folder.csv"], "cannot write to folder.csv"),
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], said: str, shown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    Path("folder.csv").mkdir()
    assert main.main(["plot", "toy", *arguments]) == 2
    assert said in complaint(capsys)
    assert sorted(path.name for path in shown.iterdir()) == ["file", "folder.csv"]


class Text(HTMLParser):
    """Tags and text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.script = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self.script = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self.script else data


def test_a_notebook_shows_findings_figure_and_table() -> None:
    parsed = Text()
    parsed.feed(notebook.shown(Results(toy.mixed())))
    assert {"h3", "li", "table", "svg"} <= set(parsed.tags)
    assert parsed.tags.count("tr") == 1 + 4
    run = toy.mixed()
    points = figure_data.front_data(Results(run), *figure_data.plane(run)).points
    assert parsed.tags.count("g") == len(points) > 4
    assert "0.300 ± 0.010" in parsed.text
    assert "Use #3: " in parsed.text
    assert "Knee" in parsed.text


def test_a_notebook_shows_a_run_in_few_bytes_and_without_script() -> None:
    parsed, shown = Text(), notebook.shown(Results(toy.mixed()))
    parsed.feed(shown)
    assert len(shown) < 50_000
    assert "script" not in parsed.tags
    assert "http" not in shown


def test_a_notebook_draws_every_figure_of_the_registry_with_its_title() -> None:
    run = toy.mixed()
    shown = notebook.NotebookRun(**{each.name: getattr(run, each.name) for each in fields(run)})
    listed = shown.figures()
    assert list(listed) == list(registry.exhibits(Results(run)))
    for name, what in listed.items():
        drawn = shown.plot(name)
        assert drawn.layout.title.text == f"toy: {what}"
        assert drawn.data or name == "front"
    assert shown.results is shown.results
    with pytest.raises(ValueError, match="did you mean front"):
        shown.plot("fronts")


@pytest.mark.parametrize(
    "values",
    [[(3.0, None)], [(0.0, None)], [(1e9, 1.0), (1e9 + 1, None)], [(-5.0, 0.1), (7e-3, None)]],
)
def test_an_axis_of_a_notebook_has_round_ticks_within_it(
    values: list[tuple[float, float | None]],
) -> None:
    axis = notebook._Axis(values, 0, 100)
    ticks = axis.ticks()
    assert 1 < len(ticks) <= notebook.TICKS + 1
    assert all(0 <= axis(each) <= 100 for each in ticks)
    assert all(0 <= axis(value) <= 100 for value, _ in values)


def test_a_runs_repr_is_one_line() -> None:
    counts = "8 complete, 1 failed, 1 running of 12 trials"
    assert repr(toy.mixed()) == f"<Run 'toy': {counts}; goals base_loss down, gain up>"
    assert repr(toy.run([])) == "<Run 'toy': no trials of 0 trials; goals base_loss down, gain up>"


def test_a_notebook_shows_a_run_without_results() -> None:
    parsed = Text()
    parsed.feed(notebook.shown(Results(toy.run([]))))
    assert "No complete trial counts for the front yet." in parsed.text
    assert "table" not in parsed.tags


def test_hostile_names_stay_text_in_a_notebook() -> None:
    one = toy.trial(0, 3.5, 0.2, baseline=toy.HOSTILE, params={toy.HOSTILE: toy.HOSTILE})
    parsed = Text()
    parsed.feed(notebook.shown(Results(toy.run([one], description=toy.HOSTILE))))
    assert "img" not in parsed.tags
    assert "<img src=x onerror=alert(1)>" in parsed.text


def test_a_run_is_loaded_from_python_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from tests.hpo.toy_objective import *\nSTUDY = spec(trials=2)\n")
    assert main.main(["run", "mine.py"]) == 0
    assert len(run_folder.load("toy").trials) == 2
    assert run_folder.load("runs/toy") == run_folder.load("toy", out=tmp_path / "runs")
    with pytest.raises(ValueError, match="no run 'other' in runs; runs there are toy"):
        run_folder.load("other")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\n=1"),
        ("-1.5", "-1.5"),
        (-1.5, "-1.5"),
        (-3, "-3"),
        ("1e-3", "1e-3"),
        ("a=b", "a=b"),
        (None, ""),
    ],
)
def test_no_cell_of_a_csv_file_is_a_formula_and_numbers_stay_numbers(value: Any, cell: str) -> None:
    exhibit = Exhibit(what="x", make_rows=lambda: [{"plain": value, "=name": 1}], draw=go.Figure)
    names, row = csv.reader(io.StringIO(files._csv(exhibit, "x", "toy").decode(), newline=""))
    assert names == ["plain", "'=name"]
    assert row == [cell, "1"]
