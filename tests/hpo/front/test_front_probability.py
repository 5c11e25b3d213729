"""How certain a front is: closed forms, limits, invariances, and what to repeat next."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm

from hpo.analysis.run_comparison import hypervolume_difference
from hpo.core.goals import Goal, Limit
from hpo.core.trial import Run
from hpo.front import true_values
from hpo.front.differences import differences
from hpo.front.front import counted_points, front
from hpo.front.reevaluation import _gains, next_replicate
from hpo.front.reporting import (
    ADDED_LEAST,
    REPORTED_LEAST,
    REPORTED_SHARE,
    volume,
    with_volume,
)
from hpo.front.significance import Leads
from hpo.numerics import pareto
from tests.hpo import noisy, toy


def test_two_points_with_known_errors_have_the_probability_of_the_normal_cdf() -> None:
    mean, error = np.array([[0.0, 0.0], [0.3, 0.5]]), np.array([[0.2, 0.4], [0.3, 0.1]])
    draws = mean + error * np.random.default_rng(0).normal(size=(40_000, 2, 2))
    found = pareto.non_dominated_draws(draws).mean(axis=0)
    first_better = norm.cdf(np.array([0.3, 0.5]) / np.hypot(error[0], error[1]))
    expected = [1 - np.prod(1 - first_better), 1 - np.prod(first_better)]
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("goals", [1, 2, 3])
def test_fronts_of_many_draws_are_those_of_each_with_ties_and_infinities(goals: int) -> None:
    rng = np.random.default_rng(goals)
    draws = rng.integers(0, 5, size=(50, 20, goals)).astype(float)
    draws[:, 3] = np.inf
    draws[:, 4] += 7
    expected = [pareto.non_dominated(Y_NG) for Y_NG in draws]
    np.testing.assert_array_equal(pareto.non_dominated_draws(draws), expected)


def test_noise_that_nothing_tells_leaves_membership_unknown_and_the_front_as_observed() -> None:
    found = front(toy.mixed())
    assert all(math.isnan(value) for value in found.membership.values())
    assert list(found.membership) == [0, 1, 2, 3, 4, 5]
    assert (found.draws, found.estimates, found.knee_region) == (None, {}, ())
    assert found.hypervolume_range is None


def test_repeated_trials_that_agree_to_the_last_bit_give_the_exact_front() -> None:
    found = front(noisy.curve(noise=0.0))
    observed = front(noisy.curve(noise=0.0, seeds=1))
    assert set(found.membership.values()) == {0.0, 1.0}
    assert [t.number for t in found.trials] == [t.number for t in observed.trials]
    assert found.hypervolume == observed.hypervolume
    assert found.knee is not None
    assert observed.knee is not None
    assert found.knee_region == ((observed.knee.number, 1.0),)
    assert found.knee.number == observed.knee.number
    assert found.undecided == ()


def test_small_noise_tends_to_the_exact_front() -> None:
    exact, found = front(noisy.curve(noise=0.0)), front(noisy.curve(noise=1e-6))
    assert [t.number for t in found.trials] == [t.number for t in exact.trials]
    assert found.membership == pytest.approx(exact.membership, abs=1e-3)
    assert found.hypervolume == pytest.approx(exact.hypervolume, rel=1e-3)


def test_a_noisy_front_holds_what_is_probable_and_says_what_is_open() -> None:
    found = front(noisy.curve(noise=0.15))
    kept = [found.membership[trial.number] for trial in found.trials]
    assert np.mean(kept) >= REPORTED_SHARE
    assert min(kept) >= REPORTED_LEAST
    assert found.undecided
    standings = {t.number: found.standings[t.number] for t in found.points}
    assert {n for n, s in standings.items() if s == "undecided"} == {
        t.number for t in found.undecided
    }
    assert [found.standings[n] for n in range(12, 24)] == ["replicate"] * 12
    assert len(found.points) == len(found.trials) + len(found.undecided) + len(found.dominated)
    assert sum(share for _, share in found.knee_region) <= 1.0
    low, high = found.hypervolume_range or (math.nan, math.nan)
    assert low < found.hypervolume < high
    assert found == front(noisy.curve(noise=0.15))


def test_the_way_a_goal_is_written_does_not_matter() -> None:
    run = noisy.curve(noise=0.15)
    turned = dataclasses.replace(
        run,
        goals=(noisy.GOALS[0], Goal(metric="up", direction="up")),
        trials=[
            t.with_answer(metrics={"a": 10 * t.metrics["a"] + 3, "up": -t.metrics["b"]})
            for t in run.trials
        ],
    )
    one, other = front(run), front(turned)
    assert other.membership == pytest.approx(one.membership, abs=0.02)
    assert [t.number for t in other.trials] == [t.number for t in one.trials]
    number = one.trials[0].number
    assert other.estimates[number]["up"] == pytest.approx(-one.estimates[number]["b"], abs=1e-3)


def test_expected_values_are_less_lucky_than_the_best_observed() -> None:
    rng = np.random.default_rng(0)
    flat = [
        noisy.trial(n, *rng.normal(size=2), params={"x": n % 10 / 10}, seed=n // 10,
                    replicate_of=n % 10 if n > 9 else None)
        for n in range(20)
    ]  # fmt: skip
    found = front(noisy.run(flat))
    best = min(found.points, key=lambda t: t.metrics["a"])
    assert found.estimates[best.number]["a"] > best.metrics["a"] + 0.2
    observed = pareto.hypervolume([[t.metrics["a"], t.metrics["b"]] for t in found.points], [2, 2])
    assert observed > 0
    assert found.hypervolume < pareto.hypervolume(
        [[t.metrics["a"], t.metrics["b"]] for t in found.points], found.reference or ()
    )


def test_a_confirmed_point_shows_its_fresh_seeds_alone() -> None:
    run = noisy.curve(noise=0.05)
    fresh = [
        noisy.trial(24 + k, 0.5 + k / 10, 0.2, params=run.trials[8].params, seed=50 + k,
                    replicate_of=8, confirms=True)
        for k in range(2)
    ]  # fmt: skip
    found = front(dataclasses.replace(run, trials=[*run.trials, *fresh]))
    assert list(found.confirmed) == [8]
    assert found.confirmed[8].metrics["a"] == pytest.approx(0.55)
    assert found.points[8].metrics["a"] == front(run).points[8].metrics["a"]


def test_points_beyond_the_models_size_keep_what_was_observed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = noisy.curve(noise=0.1)
    whole = front(run)
    monkeypatch.setattr(true_values, "MODELLED_POINTS", 8)
    found = front(run)
    assert found.draws is not None
    fixed = np.flatnonzero(np.ptp(found.draws, axis=0).max(axis=1) == 0)
    assert len(fixed) == 4
    assert all(found.membership[found.points[row].number] < 0.05 for row in fixed)
    assert {t.number for t in found.trials} & {t.number for t in whole.trials}


def test_a_point_that_diverged_is_infinitely_bad_and_the_others_keep_their_errors() -> None:
    run = noisy.curve(noise=0.1)
    lost = [
        t.with_answer(metrics={"a": t.metrics["a"], "b": math.inf})
        if t.number in (0, 5) else t
        for t in run.trials
    ]  # fmt: skip
    found = front(dataclasses.replace(run, trials=lost))
    assert found.points[0].metrics["b"] == found.estimates[0]["b"] == math.inf
    assert found.estimates[0]["b_sem"] == 0.0
    assert found.membership[5] == 0.0
    assert found.estimates[2]["b_sem"] > 0.0
    assert next_replicate(dataclasses.replace(run, trials=lost)) is not None
    diverged = dataclasses.replace(run, trials=lost)
    pairs = differences(found, Leads(counted_points(diverged), len(run.goals)))
    assert all(not math.isnan(each.value) for each in pairs)


def test_limits_hold_for_the_mean_of_a_point() -> None:
    run = noisy.run([noisy.trial(0, 1.0, 1.0), noisy.trial(1, 3.0, 1.0, seed=1, replicate_of=0)])
    limited = dataclasses.replace(run, limits=(Limit(metric="a", high=1.5),))
    assert front(run).standings == {0: "front", 1: "replicate"}
    assert front(limited).standings == {0: "outside limits", 1: "outside limits"}


def test_the_first_repetitions_go_to_the_front_until_the_noise_is_known() -> None:
    run = noisy.curve(noise=0.15, seeds=1)
    first = next_replicate(run)
    assert first is not None
    assert first == min(trial.number for trial in front(run).trials)
    near = {name: value + 0.01 for name, value in run.trials[first].metrics.items()}
    again = dataclasses.replace(
        run.trials[first].with_answer(metrics=near), number=12, seed=1, replicate_of=first
    )
    once = dataclasses.replace(run, trials=[*run.trials, again])
    assert next_replicate(once) in {trial.number for trial in front(once).trials} - {first}
    assert next_replicate(run) == first


def test_the_next_repetition_is_of_an_undecided_point_and_none_where_all_is_decided() -> None:
    run = noisy.curve(noise=0.15)
    found = front(run)
    number = next_replicate(run)
    assert number is not None
    assert 0.05 < found.membership[number] < 0.95
    pending = noisy.trial(24, math.nan, math.nan, state="running", replicate_of=number)
    other = next_replicate(dataclasses.replace(run, trials=[*run.trials, pending]))
    assert other not in (None, number)
    assert next_replicate(noisy.curve(noise=0.0)) is None
    assert next_replicate(noisy.curve(noise=1e-6)) is None
    assert next_replicate(toy.run([])) is None


@pytest.mark.parametrize("draw", range(3))
@pytest.mark.parametrize(
    ("shift", "flip"), [(-1.0, (False, False)), (0.0, (True, False)), (64.0, (True, True)),
                        (-64.0, (False, True)), (1024.0, (False, False))],
)  # fmt: skip
def test_what_a_repetition_settles_does_not_depend_on_where_zero_is_or_on_directions(
    draw: int, shift: float, flip: tuple[bool, bool]
) -> None:
    run = cloud(draw)
    goals = tuple(
        Goal(metric=goal.metric, direction="up" if turned else "down")
        for goal, turned in zip(run.goals, flip, strict=True)
    )
    signs = [-1.0 if turned else 1.0 for turned in flip]
    moved = [
        t.with_answer(
            metrics={n: s * t.metrics[n] + shift for n, s in zip("ab", signs, strict=True)}
        )
        for t in run.trials
    ]
    other = dataclasses.replace(run, goals=goals, trials=moved)
    seeds = [2] * 8
    expected = _gains(front(run), seeds)
    assert expected.max() > 1e-6
    assert _gains(front(other), seeds) == pytest.approx(expected, rel=1e-3, abs=1e-12)
    assert next_replicate(other) == next_replicate(run)


def cloud(draw: int) -> Run:
    """Eight points at two seeds, with much noise."""
    rng = np.random.default_rng(draw)
    truth = rng.uniform(size=(8, 2))
    seen = truth + 0.3 * rng.normal(size=(2, 8, 2))
    return noisy.run(
        [
            noisy.trial(8 * seed + point, *map(float, seen[seed, point]), seed=seed,
                        params=dict(zip("xy", map(float, truth[point]), strict=True)),
                        replicate_of=point if seed else None)
            for seed in range(2) for point in range(8)
        ]
    )  # fmt: skip


def test_repeating_what_is_asked_for_settles_the_front() -> None:
    run, rng = noisy.curve(noise=0.2, seeds=2), np.random.default_rng(9)
    truth = noisy.curve(noise=0.0, seeds=1).trials

    def open_points(some: Run) -> float:
        return sum(p * (1 - p) for p in front(some).membership.values())

    before = open_points(run)
    for number in range(24, 36):
        asked = next_replicate(run)
        if asked is None:
            break
        a, b = (truth[asked].metrics[name] + 0.2 * rng.normal() for name in ("a", "b"))
        seed = 2 + sum(t.replicate_of == asked for t in run.trials)
        trial = noisy.trial(number, float(a), float(b), params=truth[asked].params, seed=seed,
                            replicate_of=asked)  # fmt: skip
        run = dataclasses.replace(run, trials=[*run.trials, trial])
    assert open_points(run) < 0.85 * before


def test_what_a_lucky_measurement_of_a_limit_says_is_not_certain() -> None:
    """A point that keeps a limit by less than its error is a member with half a probability."""
    trials = noisy.curve(noise=0.01, seeds=3).trials
    trials = [
        t.with_answer(
            metrics={
                **t.metrics,
                "c": 0.99 + 0.1 * (t.number % 7 - 3) if t.params["x"] == 0 else 0.0,
            }
        )
        for t in trials
    ]
    free = front(noisy.run(trials))
    limited = front(dataclasses.replace(noisy.run(trials), limits=(Limit(metric="c", high=1.0),)))
    assert free.membership[0] > 0.95
    assert 0.2 < limited.membership[0] < 0.9
    assert limited.standings[0] in ("front", "undecided")


def test_points_are_added_until_the_volume_that_is_expected_is_there() -> None:
    rng = np.random.default_rng(0)
    angle = np.linspace(0.1, 1.5, 8)
    true = np.stack([1 - np.cos(angle), 1 - np.sin(angle)], axis=1)
    draws = true + 0.05 * rng.standard_normal((512, 8, 2))
    membership_N = pareto.non_dominated_draws(draws).mean(axis=0)
    one = np.zeros(8, dtype=bool)
    one[3] = True
    kept = with_volume(one, membership_N, draws, (1.0, 1.0))
    assert kept[3]
    assert kept.sum() > 1
    assert (membership_N[kept & ~one] >= ADDED_LEAST).all()
    whole = volume(draws[:, membership_N >= ADDED_LEAST], (1.0, 1.0)).mean()
    worth = volume(draws[:, kept], (1.0, 1.0)).mean()
    assert worth >= 0.94 * whole
    assert (with_volume(kept, membership_N, draws, (1.0, 1.0)) == kept).all()


def test_two_runs_differ_in_volume_beyond_the_noise_or_not() -> None:
    run = noisy.curve(noise=0.02)
    worse = dataclasses.replace(
        run, trials=[t.with_answer(metrics={k: v + 0.5 for k, v in t.metrics.items()})
                     for t in run.trials],
    )  # fmt: skip
    found = hypervolume_difference(run, worse)
    assert found.significant
    assert 0 < found.low < found.mean < found.high
    back = hypervolume_difference(worse, run)
    assert back.mean == pytest.approx(-found.mean)
    assert back.reference == found.reference
    same = hypervolume_difference(run, run)
    assert not same.significant
    assert same.low < 0 < same.high
    assert same.mean == 0


def test_runs_whose_noise_is_unknown_differ_by_what_was_observed() -> None:
    better, worse = toy.run([toy.trial(0, 3.0, 0.3)]), toy.run([toy.trial(0, 3.5, 0.2)])
    found = hypervolume_difference(better, worse)
    assert found.mean == pytest.approx(0.5 * 0.1)
    assert math.isnan(found.low)
    assert not found.significant


def test_runs_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="goals are the same"):
        hypervolume_difference(toy.mixed(), noisy.curve(noise=0.1))
    with pytest.raises(ValueError, match="trial that counts"):
        hypervolume_difference(toy.mixed(), toy.run([]))
