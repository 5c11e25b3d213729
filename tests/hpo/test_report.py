"""The report as a file: whole, offline, and safe against what users name things."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from hpo.report import in_script, render, write_report
from hpo.spec import Limit
from tests.hpo import toy


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)
        elif self.cdata_elem is None:
            self.text += data

    def data(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.scripts[0])
        return parsed


def hostile() -> str:
    name = toy.HOSTILE
    metrics = {f"task.{name}.{key}": 0.3 for key in ("before", "after", "chance")} | {name: 1.0}
    trials = [
        toy.trial(0, 3.5, 0.2, baseline=name, params={name: name}, metrics=metrics, notes=[name]),
        toy.trial(1, 3.4, 0.1, curves={name: [[0, 1.0]]}),
        toy.trial(2, math.nan, math.nan, state="failed", failure=name, params={name: name}),
    ]
    limits = (Limit(metric=name, low=0),)
    run = toy.run(
        [*trials, *toy.beside_paper(name, name).trials],
        limits=limits,
        name=name,
        description=name,
        reproduce={name: name},
        space={name: {}},
        paper=toy.beside_paper(name, name).paper,
    )
    return render(run)


def test_report_is_written_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_report(toy.mixed(), path) == path
    first = path.read_text(encoding="utf-8")
    assert first.rstrip().endswith("</html>")
    write_report(toy.run([]), path)
    assert path.read_text(encoding="utf-8") != first
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_placed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(toy.run([]), tmp_path / "report.html")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_label_stands_beside_the_number_and_is_escaped() -> None:
    trial = toy.trial(0, 3.5, 0.2, labels=["merged", "<b>x"], notes=["merged, not trained: why"])
    page = Page(render(toy.run([trial])))
    assert page.text.count("0 (merged, <b>x)") >= 2
    assert "merged, not trained: why" in page.text


def test_hostile_names_stay_text() -> None:
    page = Page(hostile())
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert page.text.count(toy.HOSTILE) > 10
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert len(page.scripts) == 3


def test_hostile_names_reach_plotly_escaped() -> None:
    figures = json.dumps(Page(hostile()).data()["figures"])
    assert "<img" not in figures
    assert "&lt;img" in figures


def test_data_in_a_script_cannot_end_it_and_parses_back() -> None:
    data = {toy.HOSTILE: [toy.HOSTILE, "<!--<script>", "\u2028", math.nan, math.inf, 1.5]}
    text = in_script(data)
    assert not set("<>&") & set(text)
    assert json.loads(text) == {toy.HOSTILE: [*data[toy.HOSTILE][:3], None, None, 1.5]}


def test_report_makes_no_request() -> None:
    html = render(toy.mixed())
    page = Page(html)
    assert html.count(get_plotlyjs()) == 1
    requesting = {"link", "img", "iframe", "object", "embed", "base", "form", "source", "a"}
    assert not requesting & {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    own = html.replace(get_plotlyjs(), "")
    namespace = "http://www.w3.org/2000/svg"
    assert re.findall(r"https?://[^\"']*|url\(|@import", own) == [namespace]
    policy = next(a["content"] for t, a in page.tags if "Content-Security-Policy" in a.values())
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_summary_says_what_the_search_won_and_what_it_costs() -> None:
    text = Page(render(toy.mixed())).text
    assert "7 of 12 trials complete, 1 failed, 1 running." in text
    assert (
        "Best gain: #4 with 0.330 ± 0.010, against 0.220 ± 0.010 of #1 constant rate, the best "
        "baseline: +0.110 ± 0.014 (7.8 standard errors), paid with +0.100 base_loss nats/token."
    ) in text
    assert "Knee, where a little of one goal stops buying much of another: #3" in text
    assert "loss is not finite at step 40" in text


@pytest.mark.parametrize("trials", [[], [toy.trial(0, math.nan, math.nan, curves={})]])
def test_a_run_without_a_front_has_a_report(trials: list[Any]) -> None:
    assert "No complete trial counts for the front yet." in Page(render(toy.run(trials))).text


def test_a_papers_table_stands_beside_the_runs_with_what_follows() -> None:
    page = Page(render(toy.beside_paper()))
    assert "Paper and this study: arXiv 0000.00000, a large model. Another scale" in page.text
    assert "Ours: a toy" in page.text
    assert "here +0.105 ± 0.005 gain over 2 seeds: same direction." in page.text
    assert "paper -0.1; here -0.09 ± 0.01 base_loss over 2 seeds: not told" in page.text
    assert "b is above a: the paper" in page.text
    assert "Paper and this study" not in Page(render(toy.mixed())).text
    places = {attrs["id"] for tag, attrs in page.tags if tag == "div" and "id" in attrs}
    assert set(page.data()["figures"]) == places
    assert {"paper-0", "paper-1", "paper-2"} < places


def test_every_figure_has_its_place_and_every_trial_its_row() -> None:
    page = Page(render(toy.mixed()))
    places = {attrs["id"] for tag, attrs in page.tags if tag == "div" and "id" in attrs}
    assert set(page.data()["figures"]) == places
    rows = [attrs["data-trial"] for _, attrs in page.tags if "data-trial" in attrs]
    assert rows == ["2", "0", "3", "4", "1", "5", "6", "7", "8", "9"]
    assert page.data()["selected"] == [0, 1, 2, 3, 4]


def test_five_hundred_trials_fit_and_keep_every_point() -> None:
    html = render(toy.large(500))
    assert len(html) - len(get_plotlyjs()) < 6e6
    figures = Page(html).data()["figures"]
    assert [len(trace["x"]) for trace in figures["curve-1"]["data"]] == [40] * 500
