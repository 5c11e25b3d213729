"""Errors of levels and differences against closed forms and simulated truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hpo.core.trial import Trial
from hpo.front import paired_rows
from hpo.front.errors import errors_of
from hpo.front.replicates import points
from tests.bench import errors as bench
from tests.hpo import toy


def trial(number: int, gain: float, **fields: Any) -> Trial:
    names = [name for name in fields if name.endswith("_sem")]
    metrics = {"gain": gain, **{name: fields.pop(name) for name in names}}
    params = fields.pop("params", {"x": float(number)})
    return Trial.measured(number=number, state="complete", params=params, metrics=metrics, **fields)


GAINS = {0: [0.2, 0.3], 1: [0.5]}


def measured(gains: dict[int, list[float]], **metrics: float) -> list[Trial]:
    """Setting -> gains at seeds 0, 1, ...; a setting's first trial is replicated by the others."""
    trials: list[Trial] = []
    for values in gains.values():
        first = len(trials)
        for seed, value in enumerate(values):
            more: dict[str, Any] = {} if seed == 0 else {"replicate_of": first}
            trials.append(trial(len(trials), gain=value, seed=seed, **metrics, **more))
    return trials


def settings(trials: list[Trial]) -> Any:
    return points(toy.run(trials), trials)


def test_a_difference_of_two_single_seeds_has_the_pooled_spread_of_the_repeated() -> None:
    found = settings(measured(GAINS))
    errors = errors_of(found, "gain")
    spread = math.sqrt(0.005)  # of 0.2 and 0.3
    difference = errors.difference(found[1], found[0])
    assert difference.value == pytest.approx(0.25)
    assert difference.error == pytest.approx(spread * math.sqrt(1 + 1 / 2))
    assert difference.freedom == pytest.approx(1)
    low, high = difference.interval
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * difference.error)
    assert difference.pretraining_seeds


def test_what_a_seed_does_to_all_settings_cancels_in_differences() -> None:
    shifts = np.array([0.0, 0.4, -0.3, 0.2])
    noise = 0.01 * np.random.default_rng(0).standard_normal((3, 4))
    found = settings(measured({p: list(0.1 * p + shifts + noise[p]) for p in range(3)}))
    errors = errors_of(found, "gain")
    assert errors.paired.freedom == 6
    assert errors.paired.value == pytest.approx(0.01**2, rel=1)
    assert errors.seeds.value == pytest.approx(shifts.var(ddof=1), rel=0.2)
    assert errors.difference(found[2], found[0]).error < 0.02 < errors.level(found[0]).error


def test_rows_count_in_levels_and_cancel_in_differences() -> None:
    rows = np.random.default_rng(0).random(50)
    trials = [
        trial(n, gain=float(rows.mean()) + 0.1 * n, gain_sem=0.01, gain_rows_sem=0.05,
              row_scores={"gain": [list(rows + 0.1 * n)]})
        for n in range(2)
    ]  # fmt: skip
    found = settings(trials)
    errors = errors_of(found, "gain")
    assert errors.level(found[0]).error == pytest.approx(math.hypot(0.01, 0.05))
    assert errors.difference(found[1], found[0]).error == pytest.approx(math.hypot(0.01, 0.01))


def test_rows_that_move_against_each_other_widen_a_difference() -> None:
    rows = np.repeat([0.0, 1.0], 25)
    trials = [
        trial(n, gain=0.5, gain_sem=0.0, gain_rows_sem=0.0714, row_scores={"gain": [list(y)]})
        for n, y in enumerate((rows, 1 - rows))
    ]
    found = settings(trials)
    difference = errors_of(found, "gain").difference(found[0], found[1])
    assert difference.error == pytest.approx(
        (rows - (1 - rows)).std(ddof=1) / math.sqrt(50), rel=1e-3
    )
    assert difference.rows
    assert not difference.pretraining_seeds


def test_without_anything_repeated_nothing_is_known() -> None:
    found = settings(measured({0: [0.1], 1: [5.0]}))
    errors = errors_of(found, "gain")
    assert math.isnan(errors.level(found[0]).error)
    assert math.isnan(errors.difference(found[1], found[0]).p)


def test_the_interplay_of_settings_and_rows_is_found() -> None:
    rng = np.random.default_rng(0)
    own = 0.2 * rng.standard_normal((12, 400))
    trials = [
        trial(n, gain=0.0, row_scores={"gain": [list(own[n] + rng.standard_normal(1))]})
        for n in range(12)
    ]
    found = paired_rows.interplay(settings(trials), "gain")
    assert found == pytest.approx(0.2**2 / 400, rel=0.1)


def test_intervals_of_simulated_studies_hold_the_truth() -> None:
    """A small part of `tests.bench.errors`, on seeds of its own."""
    found = [bench.outcome(12, 0.15, np.random.default_rng([90, n])) for n in range(6)]
    for of in (lambda each: each.levels, lambda each: each.differences):
        assert 0.85 <= np.mean([hit for each in found for hit in of(each)]) <= 1
    assert np.mean([hit for each in found for hit in each.naive_levels]) < 0.8
