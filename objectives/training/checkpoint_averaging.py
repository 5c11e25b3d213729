"""Decay by merging: about what a decay would give, from the checkpoints of a constant rate.

Scaling the updates between the checkpoints theta_n, ..., theta_{n+k} of a run by w_1, ..., w_k is
the same as taking a weighted mean of them (WSM, arXiv 2507.17634):

    theta_n + sum_{i=1..k} w_i (theta_{n+i} - theta_{n+i-1}) = sum_{j=0..k} c_j theta_{n+j}
    c_0 = 1 - w_1,   c_j = w_j - w_{j+1},   c_k = w_k          for 1 >= w_1 >= ... >= w_k >= 0

Equal c are a linear w. The equation is exact, with weight decay as without, because the shrinking
of a step is a part of its update. It is not the decayed run: its updates were taken along the
constant rate's path, with the gradients, moments and shrinking that belong there.

Checkpoints are some steps apart. Then w_i is the mean of the curve over these steps: exact for
updates that do not change in between; our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""A rise of the curve up to this is taken for rounding; assumed, far above it and below any use."""


Array = NDArray[np.float64]


@dataclass(frozen=True)
class Merge:
    """A weighted mean of checkpoints."""

    steps: tuple[int, ...]
    """Rising; 0 is the model before its first step."""
    weights: tuple[float, ...]
    """Positive; their sum is 1."""


def coefficients(curve_k: Array) -> Array:
    """Weights of the checkpoints, [k + 1], for the factors w_1..w_k of the updates between them.

    Raises:
        ValueError: the factors rise somewhere or leave [0, 1].
    """
    bounded = np.concatenate([[1.0], curve_k, [0.0]])
    weights: Array = bounded[:-1] - bounded[1:]
    if not (weights >= -ROUNDING).all():
        place = int(np.argmin(weights))
        raise ValueError(
            "pretrain.schedule.decay 'merged' needs a curve that never rises and stays between 0 "
            f"and 1, got {bounded[place]:g} and then {bounded[place + 1]:g}; choose a falling "
            "shape, or train the decay."
        )
    return weights.clip(min=0.0)


def plan(ratio_S: Array, every: int) -> Merge | None:
    """The mean that represents a decay, given the decayed rate over the trained one at each step.

    Checkpoints are those at multiples of `every`, from the last one before the decay on, and the
    end. None where nothing decays. Shape of the ratio: [S].

    Raises:
        ValueError: the ratio rises somewhere or leaves [0, 1].
    """
    changed = np.flatnonzero(ratio_S != 1)
    if not changed.size:
        return None
    steps = [*range(int(changed[0]) // every * every, len(ratio_S), every), len(ratio_S)]
    curve_k = np.array([ratio_S[start:end].mean() for start, end in pairwise(steps)])
    weights = coefficients(curve_k)
    used = np.flatnonzero(weights)
    return Merge(tuple(steps[place] for place in used), tuple(weights[used].tolist()))
