"""What lower rungs say of points measured in full."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hpo.core.trial import Answer, Run, Trial
from hpo.front.front import counted_points, front
from hpo.front.low_fidelity import LEAST, hints
from hpo.numerics import gaussian_process, gaussian_process_fit
from hpo.numerics.gaussian_process import Points
from hpo.numerics.noise_fit import Measured
from hpo.numerics.noisy_values import draw
from tests.hpo import noisy

NUM_CHEAP, NUM_FULL = 24, 6


def truth(x: float) -> tuple[float, float]:
    return float(np.sin(5 * x)), (1 - x) ** 2


def add_rung(trial: Trial, rung: Answer) -> Trial:
    metrics = {name: trial.metrics[name] for name in "ab"}
    return noisy.trial(trial.number, **metrics, params=trial.params, rungs=[rung])


def climbed(noise: float = 0.1, cheap: int = NUM_CHEAP, draw: int = 0) -> Run:
    """Many trials stopped at a third, a few measured in full, three of them at two seeds.

    Of the noise of those that went on 0.9 is theirs at both fidelities.
    """
    rng = np.random.default_rng(draw)
    trials: list[Trial] = []

    def add(x: float, number: int, **fields: object) -> Trial:
        a, b = np.array(truth(x)) + noise * rng.normal(size=2)
        return noisy.trial(number, float(a), float(b), params={"x": x}, **fields)

    for x in np.linspace(0, 1, cheap):
        trials.append(add(float(x), len(trials), state="pruned", fidelity=1 / 3))
    for x in np.linspace(0.05, 0.95, NUM_FULL):
        full, true = add(float(x), len(trials)), np.array(truth(float(x)))
        own = np.array([full.metrics["a"], full.metrics["b"]]) - true
        mixed = true + 0.9 * own + math.sqrt(1 - 0.9**2) * noise * rng.normal(size=2)
        low = dict(zip("ab", map(float, mixed), strict=True))
        rung = Answer(1 / 3, len(trials), low)
        trials.append(add_rung(full, rung))
    for of in range(cheap, cheap + 3):
        x = float(trials[of].params["x"])  # type: ignore[arg-type]
        trials.append(add(x, len(trials), seed=1, replicate_of=of))
    return noisy.run(trials)


def test_a_hint_is_nearer_to_the_truth_than_one_measurement() -> None:
    run = climbed()
    found = counted_points(run)
    assert len(found) == NUM_FULL
    true = np.array([truth(float(point.trial.params["x"])) for point in found])  # type: ignore[arg-type]
    for goal, hint in enumerate(hints(run, found)):
        assert hint is not None
        assert np.abs(hint.values_P - true[:, goal]).mean() < 0.07  # one is off by 0.08 on average


def test_full_results_have_no_part_in_a_hint() -> None:
    run = climbed()
    moved = [
        t.with_answer(metrics={"a": 9.0, "b": 9.0}) if t.state == "complete" else t
        for t in run.trials
    ]
    found = counted_points(run)
    for one, other in zip(
        hints(run, found), hints(dataclasses.replace(run, trials=moved), found), strict=True
    ):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.values_P, other.values_P)


def test_what_is_left_out_of_a_surface_has_no_part_in_its_mean() -> None:
    rng = np.random.default_rng(0)
    points = Points(rng.random((12, 2)), np.ones(12))
    is_choice_D, y_N, exact_N = np.zeros(2, dtype=bool), rng.random(12), np.zeros(12)
    theta = gaussian_process_fit.learn(points, is_choice_D, y_N, exact_N)
    surface = gaussian_process.condition(points, is_choice_D, y_N, exact_N, theta)
    rows = np.array([2, 7])
    rest = np.setdiff1d(np.arange(12), rows)
    without = gaussian_process._conditioned(
        Points(points.X_ND[rest], points.u_N[rest]), surface.y_N[rest], surface.noise_N[rest],
        is_choice_D, theta, (surface.centre, surface.spread),
    )  # fmt: skip
    at = Points(rng.random((1, 2)), np.ones(1))
    np.testing.assert_allclose(surface.mean_without(at, [rows]), without.at(at)[0])
    np.testing.assert_allclose(surface.mean_without(at, [rows[:0]]), surface.at(at)[0])


def test_a_points_own_lower_rungs_have_no_part_in_its_hint() -> None:
    """A trial that continues shares its noise with them: a lucky one is not confirmed by itself."""
    run = climbed()
    found = counted_points(run)
    number = found[3].trial.number

    def shifted(by: float) -> float:
        trials = [
            dataclasses.replace(
                t, answers=(Answer(1 / 3, 0, {"a": t.metrics["a"] + by, "b": 0.0}), t.answers[-1])
            )
            if t.number == number
            else t
            for t in run.trials
        ]
        moved = dataclasses.replace(run, trials=trials)
        hint = hints(moved, counted_points(moved))[0]
        assert hint is not None
        return float(hint.values_P[3])

    assert abs(shifted(0.2) - shifted(-0.2)) < 0.1 * 0.4  # lengths and noise learn of it only


def test_many_cheap_results_tell_the_noise_of_one() -> None:
    found = [hints(climbed(noise=0.1, draw=n), counted_points(climbed(noise=0.1, draw=n)))
             for n in range(3)]  # fmt: skip
    noises = [math.sqrt(hint.noise) for pair in found for hint in pair if hint and hint.noise]
    assert len(noises) == 6
    assert 0.07 < np.mean(noises) < 0.13


def test_too_few_cheap_results_give_none() -> None:
    few = climbed(cheap=LEAST - NUM_FULL - 1)
    assert hints(few, counted_points(few)) == [None, None]
    plain = noisy.curve(noise=0.1)
    assert hints(plain, counted_points(plain)) == [None, None]


def test_with_hints_the_front_is_known_better() -> None:
    def error(some: Run) -> float:
        found = front(some)
        off = []
        for point in found.points:
            true = dict(zip("ab", truth(float(point.params["x"])), strict=True))  # type: ignore[arg-type]
            off += [abs(found.estimates[point.number][name] - true[name]) for name in true]
        return float(np.mean(off))

    with_hints, without = [], []
    for place in range(4):
        run = climbed(noise=0.3, draw=place)
        full = [dataclasses.replace(t, answers=t.answers[-1:]) for t in run.complete()]
        with_hints.append(error(run))
        without.append(error(dataclasses.replace(run, trials=full)))
    assert np.mean(with_hints) < 0.85 * np.mean(without)


@pytest.mark.parametrize("factor", [1.0, -20.0])
def test_a_hint_counts_in_any_unit_and_a_useless_one_hardly(factor: float) -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(size=30)
    measured = Measured(
        losses_T=true + rng.normal(0, 0.7, 30), point_T=np.arange(30),
        seed_T=np.zeros(30, dtype=np.int64), between=None, within=0.49,
    )  # fmt: skip

    def error(hint_P: np.ndarray | None) -> float:
        draws_DP = draw(dataclasses.replace(measured, hint_P=hint_P), ())
        return float(np.abs(draws_DP.mean(axis=0) - true).mean())

    without = error(None)
    assert error(factor * (true + rng.normal(0, 0.2, 30)) + 5) < 0.6 * without
    assert error(factor * rng.normal(size=30)) < 1.25 * without
    assert error(np.full(30, 2.0)) == without


def lucky(seed: int, noise: float = 0.4) -> tuple[Run, np.ndarray]:
    """The best of many cheap trials went on, with the same noise in full; and their true values."""
    rng = np.random.default_rng(seed)
    x_N = rng.random(48)
    off_N2 = noise * rng.normal(size=(48, 2))
    low = np.array([truth(float(x)) for x in x_N]) + off_N2
    best = np.sort(np.argsort(low.sum(axis=1))[:10])
    trials: list[Trial] = []
    for n, x in enumerate(map(float, x_N)):
        a, b = map(float, low[n])
        if n in best:
            rung = Answer(1 / 3, n, {"a": a, "b": b})
            trials.append(noisy.trial(n, a, b, params={"x": x}, rungs=[rung]))
        else:
            trials.append(noisy.trial(n, a, b, params={"x": x}, state="pruned", fidelity=1 / 3))
    for n in map(int, best[:3]):
        x = float(x_N[n])
        a, b = np.array(truth(x)) + noise * rng.normal(size=2)
        again = noisy.trial(
            len(trials), float(a), float(b), params={"x": x}, seed=1, replicate_of=n
        )
        trials.append(again)
    return noisy.run(trials), np.array([truth(float(x_N[n])) for n in best])


def test_trials_that_went_on_because_they_were_lucky_are_not_overstated() -> None:
    stated, observed = [], []
    for seed in range(6):
        run, true_P2 = lucky(seed)
        found = front(run)
        means = [[found.estimates[t.number][name] for name in "ab"] for t in found.points]
        stated.append((np.array(means) - true_P2).mean())
        seen = [[t.metrics[name] for name in "ab"] for t in found.points]
        observed.append((np.array(seen) - true_P2).mean())
    assert np.mean(observed) < -0.15
    assert abs(np.mean(stated)) < 0.06


def test_a_diverged_cheap_result_moves_no_estimate() -> None:
    run = climbed()
    bad = noisy.trial(99, 1e6, 1e6, params={"x": 0.99}, state="pruned", fidelity=1 / 3)
    lost = dataclasses.replace(run, trials=[*run.trials, bad])
    assert front(lost).estimates == front(run).estimates
