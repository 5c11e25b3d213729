"""Pictures without a browser: what plotly's figure has is in the drawing."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest

from hpo.cli import main
from hpo.report.plots import files, registry, without_browser
from hpo.report.results import Results
from tests.hpo import toy
from tests.hpo.cli.test_main import folder, write

__all__ = ["folder"]
pytest.importorskip("matplotlib")


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **given: object) -> bytes:
        raise RuntimeError("no Chrome here")

    monkeypatch.setattr(go.Figure, "to_image", fails)
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)


def test_front_and_slices_are_drawn_and_the_rest_is_skipped(
    folder: Path, no_browser: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(trials=6, space=FULL_SPACE)")
    assert main.main(["run", "mine.py"]) == 0
    capsys.readouterr()
    assert main.main(["plot", "toy", "front", "--to", "f.svg"]) == 0
    text = Path("f.svg").read_text()
    assert text.startswith("<?xml")
    assert main.main(["plot", "toy", "--all"]) == 0
    printed = capsys.readouterr().out
    names = {path.name for path in Path("toy-figures").glob("*.png")}
    assert {"front.png", "slice.lr.gain.png", "curve.train_loss.png"} <= names
    assert "interaction.gain: skipped, a picture needs kaleido" in printed
    for path in Path("toy-figures").glob("*.png"):
        assert path.read_bytes()[:4] == b"\x89PNG"


def test_points_errors_names_and_axes_are_those_of_the_figure() -> None:
    figure = go.Figure(layout={"xaxis": {"title": {"text": "a &lt; $b$"}, "type": "log"}})
    figure.add_scatter(
        x=[1.0, 10.0], y=[2.0, 3.0], mode="markers+text", text=["one", "two"], name="dots",
        error_y={"array": [0.1, None]},
    )  # fmt: skip
    figure.add_scatter(x=[1.0, 10.0], y=[0.0, 1.0], mode="lines", line={"dash": "dot"})
    assert without_browser.can_draw(figure)
    text = without_browser.picture(figure, "svg", 400, 300, 1.0).decode()
    for word in ("one", "two", "dots", r"a &lt; $b$"):
        assert f"<!-- {word} -->" in text
    assert not without_browser.can_draw(go.Figure(go.Parcoords()))


def test_hostile_names_are_texts(tmp_path: Path, no_browser: None) -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2, baseline=toy.HOSTILE), toy.trial(1, 3.4, 0.3)])
    found = registry.exhibit(Results(run), "front")
    for ending in files.PICTURES:
        assert files.write(found, "front", tmp_path / f"f.{ending}", "toy").stat().st_size > 1000
