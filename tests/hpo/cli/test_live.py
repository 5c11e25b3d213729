"""A report that follows a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpo.cli import live, main
from hpo.controller import Controller
from hpo.core.objective import Event, Request
from hpo.report.html import page as html_page
from hpo.report.html import running as section
from hpo.storage import run_folder
from tests.hpo import toy
from tests.hpo.toy_objective import ToyObjective, ToyResult, spec

STEP = {"stage": "pretrain", "step": 20, "steps": 100, "loss": 4.5, "numbers": [0, 1, 2]}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def place(tmp_path: Path) -> run_folder.RunFolder:
    """A finished run."""
    found = run_folder.make_run_folder(tmp_path, "toy", None)
    Controller(spec(trials=3), found.url).run()
    return found


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of no size, for tests that write it many times."""
    monkeypatch.setattr(live, "render", lambda *given: f"<main>{section.MARK}</main>")


def page(place: run_folder.RunFolder) -> str:
    return place.report.read_text(encoding="utf-8")


def running(place: run_folder.RunFolder) -> str:
    """The section of what trains."""
    found = re.search(r'<section id="running">.*?</section>', page(place), re.DOTALL)
    assert found is not None
    return found[0]


def points(markup: str) -> list[int]:
    """How many points each curve has."""
    return [len(each.split()) for each in re.findall(r'<polyline points="([^"]*)"', markup)]


def test_results_rewrite_the_report_and_every_event_is_passed_on(
    place: run_folder.RunFolder,
) -> None:
    heard: list[dict[str, Any]] = []
    told = live.Following(heard.append, place)
    told({"wave": [0]})
    assert not place.report.exists()
    told({"recorded": [0], "finished": 1})
    assert "Live: this page" in page(place)
    assert heard == [{"wave": [0]}, {"recorded": [0], "finished": 1}]


def test_a_wave_that_trains_is_shown_with_its_stage_and_its_loss_so_far(
    place: run_folder.RunFolder,
) -> None:
    clock = Clock()
    told = live.Following(lambda event: None, place, clock)
    told({"wave": [0, 1, 2], "trials": 7, "finished": 0})
    for step in (10, 20, 30):
        clock.now += live.PERIOD_S
        told(STEP | {"step": step, "loss": 5 - step / 100})
    text = running(place)
    assert "0 of 7 trials are done" in text
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    assert cells == ["#0, #1, #2", live.UNNAMED, "pretrain", "30/100", "4.7"]
    assert points(text) == [3]
    assert "loss 4.9 at step 10, 4.7 at step 30" in text
    clock.now += live.PERIOD_S
    told({"recorded": [0, 1, 2], "finished": 3})
    assert "3 of 7 trials are done" in running(place)
    assert "<td" not in running(place)


def test_every_worker_has_a_row_until_it_is_idle(place: run_folder.RunFolder) -> None:
    clock = Clock()
    told = live.Following(lambda event: None, place, clock)
    for index in (0, 1):
        told(STEP | {"worker": f"worker {index}", "numbers": [index]})
    clock.now = live.PERIOD_S
    told({"idle": True, "worker": "worker 0"})
    assert ("worker 0" in running(place), "worker 1" in running(place)) == (False, True)


def test_the_curve_of_a_stage_begins_again_with_other_trials_and_stays_short(
    place: run_folder.RunFolder, light: None
) -> None:
    clock = Clock()
    told = live.Following(lambda event: None, place, clock)

    def shown(event: Event) -> list[int]:
        clock.now += live.PERIOD_S
        told(event)
        return points(running(place))

    for step in range(1, 10 * live.MOST_POINTS):
        told(STEP | {"step": step})
    assert shown(STEP | {"step": 10 * live.MOST_POINTS})[0] >= live.MOST_POINTS / 2
    assert points(running(place))[0] <= live.MOST_POINTS
    assert shown(STEP | {"step": 1}) == [1]
    assert shown(STEP | {"stage": "fine-tune"}) == [1, 1]
    assert shown(STEP | {"stage": "fine-tune", "loss": float("nan"), "step": 21}) == [1, 1]
    assert shown(STEP | {"numbers": [4]}) == [1]
    for stage in range(3 * live.MOST_CURVES):
        told(STEP | {"stage": f"stage {stage}", "numbers": [4]})
    assert len(shown(STEP | {"numbers": [4]})) == live.MOST_CURVES


def test_no_text_of_an_event_becomes_markup(place: run_folder.RunFolder) -> None:
    clock = Clock()
    told = live.Following(lambda event: None, place, clock)
    told(STEP | {"stage": f"{toy.HOSTILE}\x1b[2J", "worker": toy.HOSTILE})
    text = running(place)
    assert "&lt;" in text
    assert "\x1b" not in text
    assert set(re.findall(r"<([a-z0-9]+)", text)) <= {
        "section", "h2", "h3", "p", "div", "table", "thead", "tbody", "tr", "th", "td", "svg",
        "title", "polyline", "circle",
    }  # fmt: skip


def test_the_page_is_not_written_more_often_than_its_period(
    place: run_folder.RunFolder, light: None
) -> None:
    clock, versions = Clock(), set()
    told = live.Following(lambda event: None, place, clock)
    ticks = 40
    for tick in range(4 * ticks):
        clock.now = tick * live.PERIOD_S / 4
        told(STEP | {"step": tick + 1, "steps": 1000})
        versions.add(page(place))
    assert len(versions) == ticks


def test_a_report_that_takes_long_is_rendered_seldom_and_what_runs_is_shown_meanwhile(
    place: run_folder.RunFolder, light: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, rendered = Clock(), []
    render = html_page.render

    def slow(*given: Any) -> str:
        rendered.append(clock.now)
        clock.now += 2 * live.PERIOD_S
        return render(*given)

    monkeypatch.setattr(live, "render", slow)
    told = live.Following(lambda event: None, place, clock)
    for step in range(1, 201):
        told({"recorded": [7], "finished": 3})
        told(STEP | {"step": step, "steps": 1000})
        assert step < 2 or f"{step - 1}/1000" in page(place)
        clock.now += live.PERIOD_S
    assert sum(2 * live.PERIOD_S for _ in rendered[1:]) <= live.MOST_SHARE * clock.now


class Trains(ToyObjective):
    """Tells of steps and of their loss, and hands on what the page says in between."""

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        for step in (1, 2, 3):
            if on_event is not None:
                on_event({"stage": "pretrain", "step": step, "steps": 3, "loss": 5.0 - step})
        report = Path("runs/toy/report.html").read_text(encoding="utf-8")
        with Path("seen").open("a", encoding="utf-8") as file:
            file.write(report.partition('<section id="running">')[2].partition("</section>")[0])
        return super().evaluate(requests)


STUDY = """from tests.hpo.cli.test_live import Trains
from tests.hpo.toy_objective import *
STUDY = spec(trials=3, objective=Trains())
"""


def test_a_live_run_shows_its_training_and_ends_with_a_report_that_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live, "PERIOD_S", 0.0)
    monkeypatch.setattr(live, "MOST_SHARE", 1e9)
    Path("mine.py").write_text(STUDY, encoding="utf-8")
    assert main.main(["run", "mine.py", "--live"]) == 0
    assert "Live report: " in capsys.readouterr().out
    seen = Path("seen").read_text(encoding="utf-8")
    assert "0 of 3 trials are done" in seen
    assert "#0, #1, #2" in seen
    assert points(seen) == [3]
    text = Path("runs/toy/report.html").read_text(encoding="utf-8")
    assert "Live: this page" not in text
    assert 'id="running"' not in text


def test_the_page_of_an_interrupted_run_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = (
        "from tests.hpo.toy_objective import *\n"
        "STUDY = spec(objective=ToyObjective(before=lambda requests: interrupt()))\n"
    )
    Path("mine.py").write_text(study, encoding="utf-8")
    assert main.main(["run", "mine.py", "--live"]) == 130
    assert "Live: this page" not in Path("runs/toy/report.html").read_text(encoding="utf-8")
