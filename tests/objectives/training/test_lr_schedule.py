"""The learning-rate curve against the closed formulas of arXiv 2603.16127, section 3."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from objectives.config.training import Finetune, Pretrain, Schedule, Shape
from objectives.training import lr_schedule
from objectives.training.lr_schedule import SHAPES, multipliers

STEPS, WARMUP, STABLE, FLOOR = 40, 4, 30, 0.1


Formula = Callable[[int], float]


def wsd(t: int) -> float:
    return (1 - FLOOR) * (STEPS - t) / (STEPS - STABLE) + FLOOR if t > STABLE else 1.0


def cosine(t: int) -> float:
    return FLOOR + (1 - FLOOR) / 2 * (1 + math.cos(math.pi * (t - WARMUP) / (STEPS - WARMUP)))


def linear(t: int) -> float:
    return (1 - FLOOR) * (STEPS - t) / (STEPS - WARMUP) + FLOOR


def one_minus_sqrt(t: int) -> float:
    if t <= STABLE:
        return 1.0
    return FLOOR + (1 - FLOOR) * (1 - math.sqrt((t - STABLE) / (STEPS - STABLE)))


def inverse_sqrt(t: int) -> float:
    return math.sqrt(WARMUP / t)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (Schedule(warmup_steps=WARMUP, shape="cosine"), cosine),
        (Schedule(warmup_steps=WARMUP, shape="linear"), linear),
        (Schedule(warmup_steps=WARMUP, shape="linear", decay_frac=0.25), wsd),
        (Schedule(warmup_steps=WARMUP, shape="sqrt", decay_frac=0.25), one_minus_sqrt),
        (Schedule(warmup_steps=WARMUP, shape="inverse_sqrt", floor_ratio=0.0), inverse_sqrt),
        (
            Schedule(warmup_steps=WARMUP, shape="drop", decay_frac=0.25),
            lambda t: FLOOR if t > STABLE else 1.0,
        ),
        (Schedule(warmup_steps=WARMUP, decay_frac=0.0), lambda t: 1.0),
        (Schedule(warmup_steps=WARMUP, floor_ratio=1.0), lambda t: 1.0),
    ],
)
def test_every_curve_is_its_formula(schedule: Schedule, formula: Formula) -> None:
    expected = [t / WARMUP if t <= WARMUP else formula(t) for t in range(1, STEPS + 1)]
    np.testing.assert_allclose(multipliers(schedule, STEPS), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (Schedule(warmup_steps=0, decay_frac=0.0), 3, [1, 1, 1]),
        (Schedule(warmup_steps=2, decay_frac=0.0), 4, [0.5, 1, 1, 1]),
        (Schedule(shape="linear", floor_ratio=0.0), 4, [0.75, 0.5, 0.25, 0]),
        (Schedule(shape="linear", floor_ratio=0.2), 2, [0.6, 0.2]),
        (Schedule(shape="sqrt", floor_ratio=0.0), 4, [0.5, 1 - math.sqrt(0.5), 1 - 0.75**0.5, 0]),
        (Schedule(shape="cosine", floor_ratio=0.0), 2, [0.5, 0]),
        (Schedule(shape="inverse_sqrt", floor_ratio=0.0), 4, [1, 0.5**0.5, 3**-0.5, 0.5]),
        (Schedule(shape="drop", decay_frac=0.5, floor_ratio=0.0), 4, [1, 1, 0, 0]),
        (Schedule(warmup_steps=3), 3, [1 / 3, 2 / 3, 1]),
        (Schedule(warmup_steps=3, decay_frac=0.5, shape="linear"), 4, [1 / 3, 2 / 3, 1, 0.1]),
        (Schedule(warmup_steps=1, decay_frac=1.0, floor_ratio=0.0), 1, [1]),
        (Schedule(), 1, [0.1]),
    ],
)
def test_edges_have_these_values(schedule: Schedule, steps: int, expected: list[float]) -> None:
    np.testing.assert_allclose(multipliers(schedule, steps), expected, atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decaying_curve_never_rises_and_stays_between_floor_and_peak(shape: Shape) -> None:
    for decay_frac in (0.0, 0.1, 0.5, 1.0):
        schedule = Schedule(warmup_steps=5, decay_frac=decay_frac, shape=shape)
        curve = multipliers(schedule, 50)
        assert (np.diff(curve[4:]) <= 0).all()
        assert curve[4:].max() == 1.0
        assert curve[4:].min() >= 0.1 - 1e-15


@pytest.mark.parametrize("shape", ["cosine", "linear", "sqrt", "drop"])
@pytest.mark.parametrize("decay_frac", [0.1, 0.25, 1.0])
def test_the_last_rate_is_the_floor(shape: Shape, decay_frac: float) -> None:
    schedule = Schedule(shape=shape, decay_frac=decay_frac, floor_ratio=0.1)
    assert multipliers(schedule, 40)[-1] == pytest.approx(0.1)


def test_a_longer_run_without_decay_starts_as_the_shorter_one() -> None:
    schedule = Schedule(warmup_steps=4, decay_frac=0.0)
    assert (multipliers(schedule, 30)[:20] == multipliers(schedule, 20)).all()


def test_decay_variants_share_the_trunk_until_they_part() -> None:
    trunk = multipliers(Schedule(warmup_steps=4, decay_frac=0.0), 40)
    for decay_frac, stable in ((0.05, 38), (0.25, 30), (0.5, 20)):
        for shape in ("linear", "sqrt", "cosine"):
            branch = multipliers(
                Schedule(warmup_steps=4, decay_frac=decay_frac, shape=shape), 40
            )  # fmt: skip
            assert (branch[:stable] == trunk[:stable]).all()
            assert branch[stable] < 1


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (Schedule(), 40, 0),
        (Schedule(warmup_steps=7), 40, 7),
        (Schedule(warmup_frac=0.0), 40, 0),
        (Schedule(warmup_frac=0.1), 400, 40),
        (Schedule(warmup_frac=0.1), 60, 6),
        (Schedule(warmup_frac=0.1), 6, 1),
        (Schedule(warmup_frac=0.1), 4, 0),
        (Schedule(warmup_frac=0.99), 10, 9),  # less than the run
        (Schedule(warmup_frac=0.99), 1, 0),
    ],
)
def test_a_warmup_is_as_many_steps_or_a_share_of_the_run(
    schedule: Schedule, steps: int, expected: int
) -> None:
    assert lr_schedule.warmup_steps(schedule, steps) == expected
    same = dataclasses.replace(schedule, warmup_steps=expected, warmup_frac=None)
    assert (multipliers(schedule, steps) == multipliers(same, steps)).all()
    assert lr_schedule.as_trained(schedule, steps) == lr_schedule.as_trained(same, steps)


def test_a_share_stays_one_where_not_all_runs_are_equally_long() -> None:
    frac = Schedule(warmup_frac=0.1)
    assert lr_schedule.as_trained(frac, None) == dataclasses.asdict(frac)
    assert lr_schedule.as_trained(Schedule(warmup_steps=4), None)["warmup_steps"] == 4


@pytest.mark.parametrize("frac", [-0.1, 1.0, 2, math.nan])
def test_a_share_is_at_least_0_and_less_than_the_run(frac: float) -> None:
    with pytest.raises(ValueError, match="warmup_frac of Schedule must be"):
        Schedule(warmup_frac=frac)


def test_the_default_warmup_is_a_tenth_of_any_run() -> None:
    for schedule in (Pretrain().schedule, Finetune().schedule):
        assert [lr_schedule.warmup_steps(schedule, steps) for steps in (6, 60, 600)] == [1, 6, 60]


def test_a_warmup_longer_than_the_run_names_its_path_and_the_remedy() -> None:
    said = (
        r"^mid\.schedule\.warmup_steps is 6 but the run has 5.* or set mid\.schedule\.warmup_frac"
    )
    with pytest.raises(ValueError, match=said):
        multipliers(Schedule(warmup_steps=6), 5, "mid.schedule")


def test_a_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="warmup_steps is 6 but the run has 5 steps"):
        multipliers(Schedule(warmup_steps=6), 5)


def test_every_shape_the_recipe_allows_has_a_formula_here() -> None:
    assert set(SHAPES) == set(get_args(Shape))
