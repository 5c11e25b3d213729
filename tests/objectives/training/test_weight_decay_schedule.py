"""Strength over the run: couplings, courses, timescale, and what keys know of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from objectives.config.data import Stdlib
from objectives.config.recipe import Recipe
from objectives.config.training import MidTraining, Pretrain, Schedule
from objectives.config.weight_decay import WeightDecay
from objectives.pretraining import job
from objectives.training import lr_schedule, weight_decay_schedule

STEPS, LR = 40, 0.02


FLAT = Schedule(decay_frac=0.0)


SHAPE = lr_schedule.multipliers(Schedule(warmup_steps=4, shape="linear"), STEPS)


T = np.arange(1, STEPS + 1)


def pre(**decay: Any) -> Pretrain:
    return Pretrain(steps=STEPS, lr=LR, weight_decay=WeightDecay(**decay))


def strengths(**decay: Any) -> np.ndarray[Any, Any]:
    return weight_decay_schedule.strengths(pre(**decay), LR * SHAPE)


def test_the_default_is_the_value_at_every_step() -> None:
    assert (strengths(value=0.3) == 0.3).all()
    assert (strengths(value=0.3, coupling="l2") == 0.3).all()


def test_independent_decay_shrinks_by_the_value_times_the_schedules_shape() -> None:
    shrink = LR * SHAPE * strengths(value=1e-3, coupling="independent")
    np.testing.assert_allclose(shrink, 1e-3 * SHAPE, rtol=1e-14)
    other = Pretrain(lr=1.0, weight_decay=WeightDecay(value=1e-3, coupling="independent"))
    at_other_rate = SHAPE * weight_decay_schedule.strengths(other, SHAPE)
    np.testing.assert_allclose(at_other_rate, shrink, rtol=1e-14)


@pytest.mark.parametrize(
    ("fields", "course"),
    [
        ({"course": "constant"}, np.ones(STEPS)),
        ({"course": "linear"}, 1 - T / STEPS),
        ({"course": "linear", "final_ratio": 3.0}, 1 + 2 * T / STEPS),
        ({"course": "schedule"}, SHAPE),
        ({"course": "inverse_time"}, 1 / (1 + T / 4)),
        ({"course": "inverse_time", "timescale_frac": 2.0}, 1 / (1 + T / 80)),
    ],
)
def test_courses_are_their_formulas(fields: dict[str, Any], course: Any) -> None:
    np.testing.assert_allclose(strengths(value=0.2, **fields), 0.2 * course, rtol=1e-14)


def test_inverse_time_is_omega_over_t_of_the_papers_code() -> None:
    omega, run = 4.0, 100_000
    value = omega / (run / 10)
    long = Pretrain(weight_decay=WeightDecay(value=value, course="inverse_time"))
    found = weight_decay_schedule.strengths(long, np.full(run, long.lr))
    t = np.arange(1, run + 1)
    np.testing.assert_allclose(found, omega / (run / 10 + t), rtol=1e-12)


@pytest.mark.parametrize("coupling", ["decoupled", "independent"])
def test_tau_frac_gives_the_strength_with_that_timescale(coupling: Any) -> None:
    given = pre(value=None, tau_frac=0.25, coupling=coupling)
    assert weight_decay_schedule.strength(given, 80) == pytest.approx(1 / (LR * 0.25 * 80))
    assert weight_decay_schedule.tau_frac(given, 80) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"value": 0.5}, 1 / (LR * 0.5 * STEPS)),
        ({"value": 0.5, "coupling": "independent"}, 1 / (0.5 * STEPS)),
        ({"value": 0.5, "policy": "cautious"}, 1 / (LR * 0.5 * STEPS)),
        ({"value": 0.0}, None),
        ({"value": 0.5, "coupling": "l2"}, None),
        ({"value": 0.5, "policy": "awd"}, None),
        ({"value": 0.5, "policy": "stable"}, None),
    ],
)
def test_the_timescale_is_reported_where_there_is_one(
    fields: dict[str, Any], expected: float | None
) -> None:
    assert weight_decay_schedule.tau_frac(pre(**fields), STEPS) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "knows"),
    [
        ({}, False),
        ({"course": "schedule"}, False),
        ({"course": "linear"}, True),
        ({"course": "inverse_time"}, True),
        ({"value": None, "tau_frac": 0.3}, True),
    ],
)
def test_some_strengths_depend_on_the_horizon(fields: dict[str, Any], knows: bool) -> None:
    assert weight_decay_schedule.knows_horizon(WeightDecay(**fields)) is knows


SCORES = {"policy": "alpha_decay"}


PRINTS: list[tuple[dict[str, Any], dict[str, Any], bool, bool]] = [
    ({}, {"value": 0.2}, False, False),
    ({}, {"coupling": "independent"}, False, False),
    ({}, {"coupling": "l2"}, True, False),
    ({}, {"policy": "cautious"}, True, False),
    ({}, {"decayed": "matrices"}, False, True),
    ({}, {"multipliers": {"head": 0.0}}, False, True),
    ({}, {"scores": {"low": 0.1}}, False, False),
    ({}, {"scores": {"every": 7}}, False, False),
    (SCORES, {**SCORES, "scores": {"low": 0.1}}, False, True),
    (SCORES, {**SCORES, "scores": {"high": 9.0}}, False, True),
    (SCORES, {**SCORES, "scores": {"every": 7}}, True, False),
    (SCORES, {**SCORES, "scores": {"map": "sqrt"}}, True, True),
    (SCORES, {**SCORES, "scores": {"preserve_mean": True}}, True, False),
    (SCORES, {**SCORES, "scores": {"min_eigenvalues": 8}}, True, False),
]


@pytest.mark.parametrize(("one", "other", "program", "lane"), PRINTS)
def test_prints_change_with_what_matters_where_it_matters(
    one: dict[str, Any], other: dict[str, Any], program: bool, lane: bool
) -> None:
    both = [
        Recipe().with_params({f"pretrain.weight_decay.{k}": v for k, v in each.items()}).pretrain
        for each in (one, other)
    ]
    assert (
        weight_decay_schedule.program_fingerprint(both[0])
        != weight_decay_schedule.program_fingerprint(both[1])
    ) is program
    assert (
        weight_decay_schedule.lane_fingerprint(both[0])
        != weight_decay_schedule.lane_fingerprint(both[1])
    ) is lane


def test_adam_c_knows_the_peak_rate_which_a_warmup_does_not_tell() -> None:
    for policy, differ in (("uniform", False), ("adam_c", True)):
        one, other = (
            Pretrain(lr=lr, weight_decay=WeightDecay(policy=policy))  # type: ignore[arg-type]
            for lr in (0.1, 0.2)
        )
        assert (
            weight_decay_schedule.lane_fingerprint(one)
            != weight_decay_schedule.lane_fingerprint(other)
        ) is differ


@pytest.mark.parametrize("course", ["constant", "linear"])
@pytest.mark.parametrize("coupling", ["decoupled", "independent"])
def test_a_second_phase_has_its_own_value_on_the_course_of_both(course: Any, coupling: Any) -> None:
    decay = WeightDecay(value=0.2, coupling=coupling, course=course)
    mid = MidTraining(sources=(Stdlib(),), steps=10, weight_decay=0.6)
    both = Pretrain(steps=30, lr=LR, weight_decay=decay, schedule=FLAT, mid=mid)
    kept = dataclasses.replace(both, mid=dataclasses.replace(mid, weight_decay=None))
    changed, same = (job.PretrainJob(Recipe(pretrain=pre), 0, 40).decay for pre in (both, kept))
    np.testing.assert_allclose(changed[:-1] / same[:-1], [1.0] * 30 + [3.0] * 9)
    alone = Pretrain(lr=LR, weight_decay=decay)
    assert (same == weight_decay_schedule.strengths(alone, np.full(40, LR))).all()
