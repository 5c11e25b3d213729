"""A report that follows a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo import cli, live, runs
from hpo.study import Controller
from tests.hpo.toy_objective import spec


@pytest.fixture
def place(tmp_path: Path) -> runs.Place:
    """A finished run."""
    found = runs.make_place(tmp_path, "toy", None)
    Controller(spec(trials=3), found.url).run()
    return found


def test_results_rewrite_the_report_and_every_event_is_told_on(place: runs.Place) -> None:
    heard: list[dict[str, Any]] = []
    told = live.following(heard.append, place)
    told({"wave": [0]})
    assert not place.report.exists()
    told({"recorded": [0], "finished": 1})
    assert "Live: this page" in place.report.read_text(encoding="utf-8")
    assert heard == [{"wave": [0]}, {"recorded": [0], "finished": 1}]


def test_reports_that_take_long_are_written_seldom(place: runs.Place) -> None:
    told = live.following(lambda event: None, place)
    told({"recorded": [0]})
    place.report.unlink()
    told({"recorded": [1]})
    assert not place.report.exists()


def test_a_live_run_ends_with_a_report_that_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = "from tests.hpo.toy_objective import *\nSTUDY = spec(trials=3)\n"
    Path("mine.py").write_text(study, encoding="utf-8")
    assert cli.main(["run", "mine.py", "--live"]) == 0
    assert "Live report: " in capsys.readouterr().out
    assert "Live: this page" not in Path("runs/toy/report.html").read_text(encoding="utf-8")
