"""Planned contrasts where they are shown: terminal, JSON and the page."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from hpo.core.contrasts import PlannedContrast, PlannedContrasts
from hpo.core.trial import Run
from hpo.report import planned_contrasts, terminal_tables
from hpo.report.html.page import render
from hpo.report.results import Results
from tests.hpo import toy

PLANNED = PlannedContrasts(
    contrasts=(
        PlannedContrast(name="b", metric="base_loss", arm="b", minus="a", expected="down"),
        PlannedContrast(name="of gain", metric="gain", arm="b", minus="a", expected="up"),
    )
)


def planned_run(after: int = 0) -> Run:
    """Differences: base_loss -0.10 and -0.08, gain 0.10 and 0.11."""
    return dataclasses.replace(toy.beside_paper(), contrasts=PLANNED, contrasts_after=after)


def test_terminal_json_and_page_show_the_same_contrasts() -> None:
    results = Results(planned_run())
    data = terminal_tables.run_json(results)["contrasts"]
    loss, gain = data["findings"]
    assert loss["value"] == pytest.approx(-0.09)
    assert loss["error"] == pytest.approx(0.01)
    assert loss["corrected_p"] == pytest.approx(0.0704, abs=1e-4)  # t = 9 with 1 degree of freedom
    assert gain["corrected_p"] == pytest.approx(0.0606, abs=1e-4)  # t = 21, times 2
    assert (loss["outcome"], loss["seeds"], loss["power"]) == ("not significant", [0, 1], None)
    page = render(results)
    console = Console(width=250, record=True, file=io.StringIO())
    terminal_tables.print_run(results, console)
    printed = console.export_text()
    for text in ("b: b - a", "-0.090 ± 0.010", "0.07", "this size takes"):
        assert text in page
        assert text in printed


def test_it_is_said_whether_the_contrasts_came_before_the_results() -> None:
    def first(after: int) -> str:
        return planned_contrasts.notes(planned_run(after), PLANNED)[0]

    assert first(0).startswith("Stated before the first result. Paired over seeds;")
    assert first(3).startswith("Stated after 3 results had come, so not before the run.")
    assert "t test at 0.05, Holm's correction for 2" in first(0)


def test_a_run_without_contrasts_shows_none() -> None:
    results = Results(toy.beside_paper())
    assert terminal_tables.run_json(results)["contrasts"] is None
    assert planned_contrasts.TITLE not in render(results)


def test_equal_differences_have_no_interval() -> None:
    trials = [
        toy.trial(2 * seed + at, 3.0 + loss, 0.1, point=name, seed=seed)
        for seed in range(3)
        for at, (name, loss) in enumerate((("a", 0.0), ("b", 1.0)))
    ]
    results = Results(toy.run(trials, contrasts=PLANNED))
    row = planned_contrasts.rows(results.planned_contrasts)[0]
    assert row[3:6] == ["+1.00", "", "3"]
    found = planned_contrasts.finding_json(results.planned_contrasts[0])
    assert [str(found[name]) for name in ("low", "high", "p", "error")] == ["nan"] * 3 + ["0.0"]
