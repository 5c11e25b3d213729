"""The learning-rate schedule: one curve for every shape.

    warm up      t <= T_w               t / T_w
    hold         T_w < t <= T_s         1
    decay        T_s < t <= T           floor + (1 - floor) * shape(x),  x = (t - T_s) / (T - T_s)

with steps t = 1..T, T_w = warmup_steps or min(round(warmup_frac * T), T - 1),
T_s = max(T_w, T - round(decay_frac * T)), floor = final rate over peak rate.
decay_frac = 0 is Warmup-Stable-Only, 0.25 the paper's WSD, 1 the classic cosine or linear curve
(arXiv 2603.16127, section 3). A merged decay is trained without falling: what follows T_s stays 1,
and the falling curve says how checkpoints are averaged
(`objectives.training.checkpoint_averaging`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.config.training import Schedule

Array = NDArray[np.float64]


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Steps of warmup in a run of so many; those that are given may be more than the run has."""
    if schedule.warmup_frac is None:
        return schedule.warmup_steps or 0
    return min(round(schedule.warmup_frac * steps), steps - 1)


def check_schedule(schedule: Schedule, steps: int, path: str) -> None:
    """Raise ValueError if the warmup of the schedule at this path does not fit into the run."""
    warmup = warmup_steps(schedule, steps)
    if warmup > steps:
        raise ValueError(
            f"{path}.warmup_steps is {warmup} but the run has {steps} steps; shorten the warmup, "
            f"lengthen the run, or set {path}.warmup_frac, a share of the run."
        )


def as_trained(schedule: Schedule, steps: int | None) -> dict[str, Any]:
    """JSON-able, equal for equal curves that differ in how their warmup is given.

    Where the number of steps is None, as not all runs have the same, a share stays a share.
    """
    data = dataclasses.asdict(schedule)
    if steps is None and schedule.warmup_frac is not None:
        return data
    del data["warmup_frac"]
    return data | {"warmup_steps": warmup_steps(schedule, steps or 0)}


def multipliers(schedule: Schedule, steps: int, path: str = "schedule") -> Array:
    """Rate over peak rate at each of the `steps` updates as they are trained; shape [steps].

    `path` is the schedule's in the recipe, for errors.

    Raises:
        ValueError: the warmup does not fit into the run.
    """
    if schedule.decay == "merged":
        return decayed(dataclasses.replace(schedule, decay_frac=0.0), steps, path)
    return decayed(schedule, steps, path)


def decayed(schedule: Schedule, steps: int, path: str = "schedule") -> Array:
    """Multipliers with the decay, whether it is trained or merged; shape [steps].

    Raises:
        ValueError: the warmup does not fit into the run.
    """
    check_schedule(schedule, steps, path)
    warmup = warmup_steps(schedule, steps)
    t = np.arange(1, steps + 1, dtype=np.float64)
    curve = np.ones(steps)
    if warmup:
        curve = np.minimum(t / warmup, 1.0)
    hold_end = max(warmup, steps - round(schedule.decay_frac * steps))
    decaying = t > hold_end
    shape = SHAPES[schedule.shape](t[decaying], hold_end, steps)
    curve[decaying] = schedule.floor_ratio + (1 - schedule.floor_ratio) * shape
    return curve


def _progress(t: Array, start: int, end: int) -> Array:
    return (t - start) / (end - start)


def _cosine(t: Array, start: int, end: int) -> Array:
    return (1 + np.cos(np.pi * _progress(t, start, end))) / 2


def _linear(t: Array, start: int, end: int) -> Array:
    return 1 - _progress(t, start, end)


def _sqrt(t: Array, start: int, end: int) -> Array:
    return 1 - np.sqrt(_progress(t, start, end))


def _inverse_sqrt(t: Array, start: int, end: int) -> Array:
    """Does not reach the floor within the run: (start / t)^(1/2), independent of the horizon."""
    return np.sqrt(max(start, 1) / t)


def _drop(t: Array, start: int, end: int) -> Array:
    """At the floor at once: a step schedule (arXiv 2310.04415, vision)."""
    return np.zeros(len(t))


SHAPES: dict[str, Callable[[Array, int, int], Array]] = {
    "cosine": _cosine,
    "linear": _linear,
    "sqrt": _sqrt,
    "inverse_sqrt": _inverse_sqrt,
    "drop": _drop,
}
