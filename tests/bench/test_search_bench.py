"""The search bench: its problems against known values, its figures against hand-made fronts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpo.controller import Controller
from hpo.core.objective import Request
from hpo.numerics import pareto
from hpo.search import candidates, rungs
from tests.bench import moasha, parts, search, textlike
from tests.bench.figures import Options
from tests.bench.search import Reported
from tests.bench.search_problems import PROBLEMS, Analytic


def test_branin_has_its_known_minimum_at_full_fidelity() -> None:
    """0.397887 at (pi, 2.275), (-pi, 12.275), (9.42478, 2.475); the goal is (it - 21) / 22."""
    found = [(math.pi, 2.275), (-math.pi, 12.275), (9.42478, 2.475)]
    X = np.array([[(x + 5) / 15, y / 15] for x, y in found])
    values = PROBLEMS["branin-currin"].values(X, 1.0)[:, 0]
    np.testing.assert_allclose(values, (0.397887 - 21) / 22, atol=1e-6)


@pytest.mark.parametrize("name", ["zdt1", "zdt3", "dtlz2"])
def test_a_deviation_vanishes_at_full_fidelity_only(name: str) -> None:
    problem = PROBLEMS[name]
    best = 0.5 if name == "dtlz2" else 0.0
    X = np.full((5, 6), best)
    X[:, 0] = np.linspace(0.05, 0.95, 5)
    Y = problem.values(X, 1.0)
    if name == "dtlz2":
        np.testing.assert_allclose((Y**2).sum(axis=1), 1.0)
    if name == "zdt1":
        np.testing.assert_allclose(Y[:, 1], 1 - np.sqrt(Y[:, 0]))
    assert (np.abs(problem.values(X, 1 / 9) - Y) > 0.01).any(axis=1).all()


def test_going_on_costs_the_rest_and_noise_belongs_to_point_and_fidelity() -> None:
    objective = Analytic(name="park", noise=0.1)
    params = dict.fromkeys(PROBLEMS["park"].space, 0.3)
    low, full = (objective.measure(params, fidelity, 0) for fidelity in (1 / 3, 1.0))
    assert [low.cost["time_s"], full.cost["time_s"]] == pytest.approx([1 / 3, 2 / 3])
    assert objective.measure(params, 1.0, 0).metrics == full.metrics
    assert objective.measure(params, 1.0, 1).metrics != full.metrics


def test_a_peers_results_are_denoised_by_our_front() -> None:
    """Told the noise, it overstates less than the front as observed."""
    problem, rng = PROBLEMS["park"], np.random.default_rng(0)
    stated, observed = [], []
    for _ in range(5):
        X = rng.random((20, problem.parameters))
        true = problem.values(X, 1.0)
        seen = true + 0.3 * rng.standard_normal(true.shape)
        found = search.denoised("park", X, seen, 0.3)
        assert (found.others == X).all()
        rows = [int(np.flatnonzero((point == X).all(axis=1))[0]) for point in found.points]
        stated.append((found.values - true[rows]).mean())
        best = pareto.non_dominated(seen)
        observed.append((seen - true)[best].mean())
    assert np.mean(observed) < -0.1
    assert abs(np.mean(stated)) < 0.5 * abs(np.mean(observed))
    assert search._true("park", search.denoised("park", X, true, 1e-6)) == 1.0


def test_a_front_is_judged_by_its_true_values() -> None:
    """At x1 in (0.25, 1) of ZDT1 without its other parameters; a third point is worse in truth."""
    points = np.zeros((2, 6))
    points[:, 0] = (0.25, 1.0)
    worse = np.full((1, 6), 0.5)
    problem = PROBLEMS["zdt1"]
    true = problem.values(points, 1.0)
    lucky = Reported(np.vstack([points, worse]), np.vstack([true, [[0.0, 0.0]]]),
                     np.vstack([points, worse]))  # fmt: skip
    assert search._true("zdt1", lucky) == pytest.approx(2 / 3)
    expected = 100 * (1.1 * 1.1 - 0.85 * 0.6 - 0.1 * 0.5) / problem.best
    assert search._overstated("zdt1", lucky) == pytest.approx(expected)


def test_all_searches_report_their_fronts() -> None:
    found = search.run(Options(quick=True, only="branin-currin"))
    keys = {f"branin-currin.noise_{noise}.{method}.at_{share:.0f}"
            for noise in (0.0, 0.15) for method in search.searches()
            for share in (25, 50, 75, 100)}  # fmt: skip
    assert keys <= set(found)
    assert all(0 <= found[key].value <= 1 for key in keys)


def test_what_noise_repeats_and_a_budget_cuts_off_is_as_a_user_would_see_it() -> None:
    """The last front is that of the whole run, at the values that the product states."""
    *early, last = search.ours("branin-currin", 0.15, 100, 6.0)
    assert len(last.points) == len(last.values) >= 1
    assert [len(each.others) for each in (*early, last)] == sorted(
        len(each.others) for each in (*early, last)
    )
    true = PROBLEMS["branin-currin"].values(last.points, 1.0)
    assert np.abs(last.values - true).max() < 5 * 0.15


def test_parts_compare_the_search_as_it_comes_with_what_it_is_without_a_part() -> None:
    names = ("as_it_comes", "without_rungs", *parts.LEFT_OUT)
    before = [candidates.Ranking._shown, candidates.Ranking._new, rungs.first_fidelity]
    for name in names:
        found = parts.run(Options(quick=True, only=name))
        assert set(found) == {f"1_to_1.{name}.at_{share}" for share in (25, 50, 75, 100)}
        assert all(0 <= figure.value <= 1 for figure in found.values())
    after = [candidates.Ranking._shown, candidates.Ranking._new, rungs.first_fidelity]
    assert after == before


@pytest.mark.parametrize("finetuning", [1 / 3, 1.0])
def test_a_study_that_comes_as_it_is_compares_at_rungs_only_where_that_is_cheap(
    finetuning: float,
) -> None:
    """With pretraining at three times fine-tuning a whole question at a ninth is a third."""
    spec = textlike.study(finetuning, 500, 9 * (1 + finetuning))
    controller = Controller(spec, "sqlite://")
    controller.run()
    asks = [ask for trial in controller.record.history.trials for ask in trial.asks]
    assert any(ask.fidelity < 1 for ask in asks) is (finetuning < 0.5)


def test_the_stand_in_goes_on_where_its_schedule_allows_and_counts_what_it_took() -> None:
    objective = textlike.TextLike(finetuning=0.5)
    params = {textlike.DECAY: 0.1, textlike.RATE: 3e-3, textlike.FALL: 0.25}
    low = Request(params=params, fidelity=1 / 3, seed=0)
    full = Request(params=params, fidelity=1.0, seed=0)
    first, second = objective.measure({**low, "base_only": True}), objective.measure(full)
    assert set(first.metrics) == {"base_loss"}
    assert first.cost["time_s"] == pytest.approx(1 / 3)
    assert objective.reused(full, low) == pytest.approx(0.75 / 3)
    assert second.cost["time_s"] == pytest.approx(0.75 + 0.5)
    everywhere = [{textlike.DECAY: d, textlike.RATE: r, textlike.FALL: f}
                  for d in np.geomspace(0.003, 3, 40).tolist()
                  for r in np.geomspace(1e-3, 3e-2, 20).tolist()
                  for f in (0.0, 0.25, 1.0)]  # fmt: skip
    assert 0.9 < textlike.share_of_best(everywhere) <= 1


@pytest.mark.skipif(not moasha.installed(), reason="needs syne-tune (--no-deps)")
def test_moasha_keeps_to_the_budget_and_stops_some_trials() -> None:
    X, Y, at = moasha.full_trials("park", 0.0, 0, 12.0)
    np.testing.assert_allclose(Y, PROBLEMS["park"].values(X, 1.0))
    assert (np.diff(at) >= 1 - 1e-9).all()
    assert at[-1] < 13  # the last may end behind the budget, and then does not count
    assert len(X) < 12  # the rest went to trials that were stopped
