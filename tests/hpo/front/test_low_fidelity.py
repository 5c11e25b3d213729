"""What lower rungs say of points measured in full."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hpo.core.trial import Run, Rung, Trial
from hpo.front.front import counted_points, front
from hpo.front.low_fidelity import LEAST, hints
from hpo.numerics.noisy_values import Measured, draw
from tests.hpo import noisy

NUM_CHEAP, NUM_FULL = 24, 6


def truth(x: float) -> tuple[float, float]:
    return float(np.sin(5 * x)), (1 - x) ** 2


def climbed(noise: float = 0.1, cheap: int = NUM_CHEAP, draw: int = 0) -> Run:
    """Many trials stopped at a third, a few measured in full, three of them at two seeds."""
    rng = np.random.default_rng(draw)
    trials: list[Trial] = []

    def add(x: float, number: int, **fields: object) -> Trial:
        a, b = np.array(truth(x)) + noise * rng.normal(size=2)
        return noisy.trial(number, float(a), float(b), params={"x": x}, **fields)

    for x in np.linspace(0, 1, cheap):
        trials.append(add(float(x), len(trials), state="pruned", fidelity=1 / 3))
    for x in np.linspace(0.05, 0.95, NUM_FULL):
        low = dict(zip("ab", np.array(truth(float(x))) + noise * rng.normal(size=2), strict=True))
        trials.append(add(float(x), len(trials), rungs=[Rung(fidelity=1 / 3, metrics=low)]))
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
        assert np.abs(hint - true[:, goal]).mean() < 0.07  # one is off by 0.08 on average


def test_full_results_have_no_part_in_a_hint() -> None:
    run = climbed()
    moved = [
        dataclasses.replace(t, metrics={"a": 9.0, "b": 9.0}) if t.state == "complete" else t
        for t in run.trials
    ]
    found = counted_points(run)
    for one, other in zip(
        hints(run, found), hints(dataclasses.replace(run, trials=moved), found), strict=True
    ):
        np.testing.assert_array_equal(one, other)


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
        full = [dataclasses.replace(t, rungs=[]) for t in run.trials if t.state == "complete"]
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
