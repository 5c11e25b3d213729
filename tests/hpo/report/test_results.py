"""A run's results: what each part is, and that nothing is computed twice."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hpo import notebook
from hpo.analysis import parallel_coordinates, probes, slices
from hpo.cli import main
from hpo.front import differences, significance, true_values
from hpo.front import front as fronts
from hpo.report import model_card, terminal_tables
from hpo.report.plots import registry
from hpo.report.results import Results
from hpo.storage import run_folder
from tests.hpo import noisy, toy
from tests.hpo.analysis.test_probes import probed
from tests.hpo.report.test_model_card import EXPORTED


@contextmanager
def counted_fits() -> Iterator[list[int]]:
    """A list that grows by one for every goal whose noise is modelled."""
    fits: list[int] = []
    draw = true_values.draw

    def counting(*given: Any, **named: Any) -> Any:
        fits.append(len(fits))
        return draw(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(true_values, "draw", counting)
        yield fits


def test_a_report_fits_the_model_of_the_noise_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = noisy.curve(0.05, seeds=2, num_points=4)
    place = run_folder.RunFolder(tmp_path, "toy", "sqlite://")
    monkeypatch.setattr(run_folder, "find_run", lambda *given: place)
    monkeypatch.setattr(run_folder, "read", lambda *given: run)
    with counted_fits() as fits:
        assert main.main(["report", "toy"]) == 0
    assert place.report.is_file()
    assert len(fits) == len(run.goals) == 2


def test_all_that_shows_a_run_shares_one_fit() -> None:
    results = Results(noisy.curve(0.05, seeds=2, num_points=4))
    trial = results.run.trials[0]
    with counted_fits() as fits:
        terminal_tables.print_run(results, Console(file=io.StringIO()))
        terminal_tables.run_json(results)
        notebook.shown(results)
        model_card.card(results, trial, EXPORTED)
        for exhibit in registry.exhibits(results).values():
            exhibit.draw()
    assert len(fits) == len(results.run.goals)


def test_each_part_is_what_the_analysis_says_and_is_kept() -> None:
    results = Results(probed())
    run = results.run
    assert results.front.standings == fronts.front(run).standings
    assert results.front is results.front
    leads = significance.Leads(fronts.counted_points(run), len(run.goals))
    assert results.differences == differences.differences(results.front, leads)
    assert results.parallel == parallel_coordinates.parallel_data(run)
    assert results.mechanism == probes.mechanism_slices(run)
    assert [(each.x, each.y) for each in results.slices] == [
        (path, goal.metric) for path in slices.varied(run) for goal in run.goals
    ]
    assert Results(toy.mixed()).mechanism == ()


def test_the_best_by_a_goal_is_none_where_none_counts() -> None:
    results = Results(toy.mixed())
    best = [results.best(goal) for goal in results.run.goals]
    assert [trial.number for trial in best if trial is not None] == [2, 4]
    nothing = Results(toy.run([]))
    assert [nothing.best(goal) for goal in nothing.run.goals] == [None, None]


def test_trials_of_the_front_are_found_as_they_were_recorded() -> None:
    results = Results(noisy.curve(0.05, seeds=2, num_points=4))
    for shown, recorded in zip(
        results.front.trials, results.recorded(results.front.trials), strict=True
    ):
        assert recorded is results.run.trials[shown.number]
        assert recorded.metrics["a"] != shown.metrics["a"]
