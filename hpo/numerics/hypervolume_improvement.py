"""What a point would add to the front: expected gain in hypervolume, exactly, for all goal counts.

The region that the front leaves undominated is cut into boxes: a grid by the front's values in all
goals but the last, each cell open downwards in the last goal up to the lowest front point that is
no worse in the others. For independent normal beliefs the expected gain is a sum over boxes of
products of

    psi(u) - psi(l),  psi(c) = E[(c - y)+] = (c - m) Phi((c - m) / sd) + sd phi((c - m) / sd)

(Yang et al. 2019, "Efficient computation of expected hypervolume improvement"). All losses are to
be made small. Letters: N front points, M points asked about, G goals, B boxes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from hpo.numerics import pareto

Array = npt.NDArray[np.float64]


MOST_CELLS = 512
"""Boxes at most, so that three and four goals stay cheap: the front is thinned to fit; assumed."""


MARGIN = 0.1
"""Share of the front's range by which the reference is behind its worst values, as in BoTorch."""


def reference(Y_NG: Array) -> Array:
    """G values a little behind the front's worst; with a single front point behind all rows."""
    front = Y_NG[pareto.non_dominated(Y_NG)]
    low, high = front.min(axis=0), front.max(axis=0)
    if len(front) == 1:
        high = Y_NG.max(axis=0)
    span = np.where(high > low, high - low, np.maximum(Y_NG.max(axis=0) - low, 1e-9))
    return np.asarray(high + MARGIN * span)


def boxes(Y_NG: Array, corner_G: Array) -> tuple[Array, Array]:
    """Lower and upper bounds, B x G each, of what is below the corner and no row dominates."""
    below = Y_NG[(corner_G > Y_NG).all(axis=1)]
    front = thinned(below[pareto.non_dominated(below)], corner_G) if len(below) else below
    G = len(corner_G)
    edges = [
        np.concatenate([[-np.inf], np.unique(front[:, goal]), [corner_G[goal]]])
        for goal in range(G - 1)
    ]
    mesh = np.meshgrid(*[np.arange(len(edge) - 1) for edge in edges], indexing="ij")
    cells = np.stack([each.ravel() for each in mesh], axis=1) if edges else np.zeros((1, 0), int)
    shape = (len(cells), G - 1)
    low = np.array([edges[g][cells[:, g]] for g in range(G - 1)]).T.reshape(shape)
    high = np.array([edges[g][cells[:, g] + 1] for g in range(G - 1)]).T.reshape(shape)
    covers = (front[None, :, :-1] <= low[:, None, :]).all(axis=2)  # B x N
    tops = np.where(covers, front[None, :, -1], corner_G[-1]).min(axis=1, initial=corner_G[-1])
    lower = np.column_stack([low, np.full(len(cells), -np.inf)])
    return lower, np.column_stack([high, tops])


def thinned(front_NG: Array, corner_G: Array) -> Array:
    """The front, or so many of its points, the widest apart, as the boxes allow."""
    goals = len(corner_G)
    most = len(front_NG) if goals == 1 else int(MOST_CELLS ** (1 / (goals - 1))) - 1
    if len(front_NG) <= most:
        return front_NG
    span = np.maximum(corner_G - front_NG.min(axis=0), 1e-12)
    scaled = front_NG / span
    kept = [int(np.argmin(scaled[:, 0]))]
    gaps = np.full(len(scaled), np.inf)
    while len(kept) < most:
        gaps = np.minimum(gaps, np.abs(scaled - scaled[kept[-1]]).max(axis=1))
        kept.append(int(np.argmax(gaps)))
    return front_NG[sorted(kept)]


def expected_gain(mean_MG: Array, sd_MG: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    """Expected gain in hypervolume, and probability of any, of M points."""
    gain = np.ones((len(mean_MG), len(bounds[0])))
    chance = np.ones_like(gain)
    for goal in range(mean_MG.shape[1]):
        mean, sd = mean_MG[:, goal, None], sd_MG[:, goal, None]
        psi_high, at_high = _psi(bounds[1][None, :, goal], mean, sd)
        psi_low, at_low = _psi(bounds[0][None, :, goal], mean, sd)
        gain *= np.maximum(psi_high - psi_low, 0.0)
        chance *= np.maximum(at_high - at_low, 0.0)
    return gain.sum(axis=1), chance.sum(axis=1)


def _psi(c: Array, mean: Array, sd: Array) -> tuple[Array, Array]:
    """E[(c - y)+] and P(y < c)."""
    with np.errstate(invalid="ignore"):
        z = (c - mean) / sd
        below = ndtr(z)
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        psi = np.where(np.isinf(z), 0.0, (c - mean) * below + sd * density)
    return psi, below
