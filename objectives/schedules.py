"""The learning-rate schedule: one curve for every shape.

    warm up      t <= T_w               t / T_w
    hold         T_w < t <= T_s         1
    decay        T_s < t <= T           floor + (1 - floor) * shape(x),  x = (t - T_s) / (T - T_s)

with steps t = 1..T, T_s = max(T_w, T - round(decay_frac * T)), floor = final rate over peak rate.
decay_frac = 0 is Warmup-Stable-Only, 0.25 the paper's WSD, 1 the classic cosine or linear curve
(arXiv 2603.16127, section 3). A merged decay is trained without falling: what follows T_s stays 1,
and the falling curve says how checkpoints are averaged (`objectives.merging`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from objectives.recipe import Schedule

Array = NDArray[np.float64]


def multipliers(schedule: Schedule, steps: int) -> Array:
    """Rate over peak rate at each of the `steps` updates as they are trained; shape [steps].

    Raises:
        ValueError: the warmup does not fit into the run.
    """
    if schedule.decay == "merged":
        return decayed(dataclasses.replace(schedule, decay_frac=0.0), steps)
    return decayed(schedule, steps)


def decayed(schedule: Schedule, steps: int) -> Array:
    """The same with the decay, whether it is trained or merged; shape [steps].

    Raises:
        ValueError: the warmup does not fit into the run.
    """
    warmup = schedule.warmup_steps
    if warmup > steps:
        raise ValueError(
            f"schedule.warmup_steps is {warmup} but the run has {steps} steps; "
            "shorten the warmup or lengthen the run."
        )
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
