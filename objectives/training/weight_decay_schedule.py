"""Weight decay over the run: its strength at each step, and what of it the weights depend on.

The strength is given in torch's terms: a step shrinks weights by lr_t * strength_t, or with
coupling l2 adds strength_t * weights to the gradient. Independent decay (arXiv 2309.14322), which
shrinks by value * s_t with the schedule's shape s_t = lr_t / lr, is that with value / lr.

    course          strength_t / strength, t = 1..T
    constant        1
    linear          1 + (final_ratio - 1) t / T
    schedule        s_t
    inverse_time    1 / (1 + t / (timescale_frac T))     (arXiv 2602.05298, as in its code)

Which parameters it acts on, and by which rule, is in `objectives.training.weight_decay_policies`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.config.training import Optimization
from objectives.config.weight_decay import WeightDecay

Array = NDArray[np.float64]


def strength(pre: Optimization, steps: int) -> float:
    """What multiplies the rate (or with l2 the weights) where the course is at 1.

    `tau_frac` is 1 / (lr strength) as a share of the steps (arXiv 2405.13698, 2505.13738).
    """
    decay = pre.weight_decay
    if decay.tau_frac is not None:
        return 1 / (pre.lr * decay.tau_frac * steps)
    assert decay.value is not None
    return _in_torchs_terms(pre, decay.value)


def _in_torchs_terms(pre: Optimization, value: float) -> float:
    return value / pre.lr if pre.weight_decay.coupling == "independent" else value


def strengths(
    pre: Optimization, rates: Array, later: float | None = None, first_steps: int = 0
) -> Array:
    """The strength at each step of a run with these rates; [S].

    A second phase, from `first_steps` on, may have a value of its own, `later`; the course spans
    both.
    """
    decay = pre.weight_decay
    level = np.full(len(rates), strength(pre, len(rates)))
    if later is not None:
        level[first_steps:] = _in_torchs_terms(pre, later)
    return level * DECAY_SCHEDULES[decay.course](decay, rates / pre.lr)


def tau_frac(pre: Optimization, steps: int) -> float | None:
    """The timescale 1 / (lr strength) over the steps; None where there is none.

    At the peak rate and before the course; under other policies than uniform it is the nominal one.
    """
    nominal = strength(pre, steps)
    if nominal == 0 or not pre.weight_decay.timed:
        return None
    return 1 / (pre.lr * nominal * steps)


def knows_horizon(decay: WeightDecay) -> bool:
    """Whether the strength depends on how long the run is, even while the rate does not."""
    return decay.tau_frac is not None or decay.course in ("linear", "inverse_time")


def program_fingerprint(pre: Optimization) -> list[Any]:
    """What lanes of one program share."""
    decay, scores = pre.weight_decay, pre.weight_decay.scores
    found: list[Any] = [decay.policy, decay.coupling == "l2"]
    if decay.policy in SCORED_POLICIES:
        shape = scores.map if decay.policy == "alpha_decay" else "sigmoid"
        found += [shape, scores.every, scores.preserve_mean, scores.min_eigenvalues]
    return found


def lane_fingerprint(pre: Optimization) -> list[Any]:
    """What else weights depend on besides the strengths; lanes of one program may differ in it."""
    decay, scores = pre.weight_decay, pre.weight_decay.scores
    found: list[Any] = [decay.decayed, dataclasses.asdict(decay.multipliers)]
    if decay.policy == "alpha_decay" and scores.map == "linear":
        found += [scores.low, scores.high]
    if decay.policy == "adam_c":
        found.append(pre.lr)
    return found


SCORED_POLICIES = ("alpha_decay", "ada_decay")


def _constant(decay: WeightDecay, shape: Array) -> Array:
    return np.ones(len(shape))


def _linear(decay: WeightDecay, shape: Array) -> Array:
    return 1 + (decay.final_ratio - 1) * np.arange(1, len(shape) + 1) / len(shape)


def _schedule(decay: WeightDecay, shape: Array) -> Array:
    return shape


def _inverse_time(decay: WeightDecay, shape: Array) -> Array:
    return 1 / (1 + np.arange(1, len(shape) + 1) / (decay.timescale_frac * len(shape)))


DECAY_SCHEDULES: dict[str, Callable[[WeightDecay, Array], Array]] = {
    "constant": _constant,
    "linear": _linear,
    "schedule": _schedule,
    "inverse_time": _inverse_time,
}
