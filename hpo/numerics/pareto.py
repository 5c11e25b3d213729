"""Pareto dominance, exactly, over a matrix of losses.

Every function takes losses Y_NG: N trials, G goals, all to be made small. A row that holds a NaN
was not measured: it never dominates and is never on a front. Infinities are ordinary values of the
order. Equal rows do not dominate each other: duplicates are kept, as in Optuna's `best_trials`.

Hypervolume: slabs along the last goal, each as deep as the gap to the next row and as wide as the
volume, in the other goals, of the rows before it; a plain sweep for G = 2 (While et al. 2006,
"A faster algorithm for calculating hypervolume").
"""

from __future__ import annotations

from bisect import bisect_right, insort

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]


Mask = npt.NDArray[np.bool_]


def non_dominated(Y_NG: npt.ArrayLike) -> Mask:
    """Which rows no other row dominates: N booleans.

    In lexicographic order only earlier rows can dominate: a block of rows at a time is held against
    the front so far and against itself, so that memory grows with N, not with its square.
    """
    Y = _matrix(Y_NG)
    mask = np.zeros(len(Y), dtype=np.bool_)
    rows = np.flatnonzero(_measured(Y))
    rows = rows[np.lexsort(Y[rows].T[::-1])]
    front = rows[:0]
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        some = some[~_dominates(Y[front], Y[some]).any(axis=0)]
        some = some[~_dominates(Y[some], Y[some]).any(axis=0)]
        front = np.concatenate([front, some])
    mask[front] = True
    return mask


def non_dominated_draws(Y_DNG: Losses) -> Mask:
    """Which rows no other row of the same draw dominates: D draws x N booleans. No NaN."""
    low_NG, high_NG = Y_DNG.min(axis=0), Y_DNG.max(axis=0)
    beaten = np.zeros(Y_DNG.shape[1], dtype=np.bool_)
    for row in np.flatnonzero(non_dominated(high_NG)):
        beaten |= (high_NG[row] < low_NG).all(axis=1)
    open_N = np.flatnonzero(~beaten)  # the others are dominated in every draw
    mask = np.zeros(Y_DNG.shape[:2], dtype=np.bool_)
    some = Y_DNG[:, open_N]
    mask[:, open_N] = _sweep(some) if some.shape[2] == 2 else [non_dominated(Y) for Y in some]
    return mask


def ranks(Y_NG: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Non-domination ranks: 0 on the front, 1 on the front of the rest, and so on; N integers.

    Rows with a NaN share the last rank, one after the worst measured row's.
    """
    Y = _matrix(Y_NG)
    measured = _measured(Y)
    rank = _staircases(Y[measured]) if Y.shape[1] <= 2 else _peeled(Y[measured])
    out = np.full(len(Y), rank.max(initial=-1) + 1, dtype=np.int64)
    out[measured] = rank
    return out


def _staircases(Y_NG: Losses) -> npt.NDArray[np.int64]:
    """Ranks for one or two goals.

    In lexicographic order a row is dominated at the ranks whose lowest value in the second goal so
    far is no higher than its own; these lowest values rise with the rank, so they are bisected.
    """
    order = np.lexsort(Y_NG.T[::-1])
    rank = np.empty(len(Y_NG), dtype=np.int64)
    lowest: list[float] = []
    previous: list[float] = []
    place = 0
    for row, values in zip(order.tolist(), Y_NG[order].tolist(), strict=True):
        if values != previous:  # equal rows share their fate
            own = values[1] if len(values) == 2 else 0.0
            place = bisect_right(lowest, own)
            lowest[place : place + 1] = [own]
        previous, rank[row] = values, place
    return rank


def _peeled(Y_NG: Losses) -> npt.NDArray[np.int64]:
    """Ranks for any number of goals, front by front."""
    rank = np.full(len(Y_NG), -1, dtype=np.int64)
    level = 0
    while len(left := np.flatnonzero(rank < 0)):
        rank[left[non_dominated(Y_NG[left])]] = level
        level += 1
    return rank


def num_dominators(Y_NG: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """How many rows dominate each row, N integers.

    A row with a NaN counts as dominated by all others.
    """
    Y = _matrix(Y_NG)
    count = np.full(len(Y), len(Y) - 1, dtype=np.int64)
    rows = np.flatnonzero(_measured(Y))
    if Y.shape[1] <= 2:
        count[rows] = _num_before(Y[rows])
        return count
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        count[some] = _dominates(Y[rows], Y[some]).sum(axis=0)
    return count


def _num_before(Y_NG: Losses) -> npt.NDArray[np.int64]:
    """`num_dominators` for one or two goals: of the rows that are lexicographically before a row,
    those that are no higher in the second goal.
    """
    count = np.empty(len(Y_NG), dtype=np.int64)
    seen: list[float] = []
    """The second goal's values so far, in order."""
    equal: list[int] = []
    previous: list[float] = []
    order = np.lexsort(Y_NG.T[::-1])
    for row, values in zip(order.tolist(), Y_NG[order].tolist(), strict=True):
        if values != previous:
            for _ in equal:
                insort(seen, previous[-1])
            equal, previous = [], values
        count[row] = bisect_right(seen, values[-1])
        equal.append(row)
    return count


def hypervolume(Y_NG: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume that the rows dominate below the reference point (G values), exactly.

    A row that is not strictly below the reference in every goal adds nothing. Infinite where a row
    that counts, or the reference, is infinite. Raises ValueError if the reference does not have G
    values or holds a NaN.
    """
    Y = _matrix(Y_NG)
    corner = np.asarray(reference, dtype=np.float64)
    if corner.shape != (Y.shape[1],) or np.isnan(corner).any():
        raise ValueError(
            f"a reference point needs one number for each of {Y.shape[1]} goals, got {reference!r}."
        )
    below = Y[(corner > Y).all(axis=1)]
    if not len(below):
        return 0.0
    if np.isinf(below).any() or np.isinf(corner).any():
        return float("inf")
    return _volume(below[non_dominated(below)], corner)


def hypervolumes(Y_DNG: Losses, reference: npt.ArrayLike) -> Losses:
    """The hypervolume of each of D draws of N rows under one reference point."""
    corner = np.asarray(reference, dtype=np.float64)
    if Y_DNG.shape[2] != 2 or not (np.isfinite(corner).all() and not np.isneginf(Y_DNG).any()):
        return np.array([hypervolume(Y_NG, corner) for Y_NG in Y_DNG])
    inside = np.minimum(Y_DNG, corner)  # a row on the border adds nothing
    order = np.argsort(inside[..., 1], axis=1)
    first, last = (np.take_along_axis(inside[..., goal], order, 1) for goal in (0, 1))
    depths = np.diff(last, axis=1, append=np.full((len(last), 1), corner[1]))
    widths = corner[0] - np.minimum.accumulate(first, axis=1)
    return np.asarray((depths * widths).sum(axis=1))


def nadir(Y_NG: npt.ArrayLike) -> tuple[float, ...] | None:
    """Worst finite value of each goal, a reference point; None without a finite row.

    Values farther from the goal's median than FENCE times the median distance from it are left out,
    so that one row that diverged does not make all others look alike; those of the front stay.
    """
    Y = _matrix(Y_NG)
    finite = Y[np.isfinite(Y).all(axis=1)]
    if not len(finite):
        return None
    middle = np.median(finite, axis=0)
    apart = np.abs(finite - middle)
    fence = middle + FENCE * np.median(apart, axis=0)
    inside = (finite <= fence) | (np.median(apart, axis=0) == 0) | non_dominated(finite)[:, None]
    return tuple(float(worst) for worst in np.where(inside, finite, -np.inf).max(axis=0))


FENCE = 15.0  # Of normal values one in 10^23 is as far; of a skewed search few are; assumed.


def knee(Y_NG: npt.ArrayLike) -> int | None:
    """Row of the front where giving up a little of one goal stops buying much of another.

    The front's finite rows are scaled to [0, 1] in each goal. G = 2: the row farthest from the
    chord between the two extremes, on the side of the ideal point (Das 1999, "On characterizing
    the knee of the Pareto curve"). G > 2: the row nearest to the ideal point. The first row of
    several equal ones.

    None where there is no knee: no finite row on the front, or, for G = 2, different rows of which
    none is below the chord (two points, or a front that bulges away from the ideal).
    """
    Y = _matrix(Y_NG)
    rows = np.flatnonzero(non_dominated(Y) & np.isfinite(Y).all(axis=1))
    if not len(rows):
        return None
    front = Y[rows]
    low, high = front.min(axis=0), front.max(axis=0)
    if (low == high).all():
        return int(rows[0])
    # Halved before the difference: the span of two finite numbers may overflow.
    span = high / 2 - low / 2
    scaled = (front / 2 - low / 2) / np.where(span > 0, span, 1.0)
    if Y.shape[1] != 2:
        return int(rows[np.argmin(np.linalg.norm(scaled, axis=1))])
    depth = 1.0 - scaled.sum(axis=1)
    best = int(np.argmax(depth))
    return int(rows[best]) if depth[best] > _ON_THE_CHORD else None


_ON_THE_CHORD = 1e-12  # Rounding of the scaled sum; assumed.


_BLOCK = 512  # Rows compared at a time; assumed.


def _matrix(Y_NG: npt.ArrayLike) -> Losses:
    Y = np.asarray(Y_NG, dtype=np.float64)
    if Y.ndim != 2 or not Y.shape[1]:
        raise ValueError(f"losses need the shape (trials, goals), got {Y.shape}.")
    return Y


def _measured(Y_NG: Losses) -> Mask:
    return np.asarray(~np.isnan(Y_NG).any(axis=1))


def _dominates(Y_NG: Losses, Z_MG: Losses) -> Mask:
    """N x M: row i is nowhere worse than row j and somewhere better. Needs rows without NaN."""
    no_worse = np.ones((len(Y_NG), len(Z_MG)), dtype=np.bool_)
    better = np.zeros_like(no_worse)
    for mine, theirs in zip(Y_NG.T, Z_MG.T, strict=True):
        no_worse &= mine[:, None] <= theirs[None, :]
        better |= mine[:, None] < theirs[None, :]
    return no_worse & better


def _sweep(Y_DN2: Losses) -> Mask:
    """Non-dominated rows of each draw, two goals: in order, each must undercut all before it."""
    order = np.lexsort((Y_DN2[..., 1], Y_DN2[..., 0]), axis=-1)
    first, second = (np.take_along_axis(Y_DN2[..., goal], order, -1) for goal in (0, 1))
    least = np.minimum.accumulate(second, axis=-1)
    undercuts = np.ones(first.shape, dtype=np.bool_)
    undercuts[:, 1:] = second[:, 1:] < least[:, :-1]
    new = np.ones_like(undercuts)  # equal rows are together and share their fate
    new[:, 1:] = (first[:, 1:] != first[:, :-1]) | (second[:, 1:] != second[:, :-1])
    start = np.maximum.accumulate(np.where(new, np.arange(first.shape[1]), 0), axis=-1)
    mask = np.empty_like(undercuts)
    np.put_along_axis(mask, order, np.take_along_axis(undercuts, start, -1), -1)
    return mask


def _volume(Y_NG: Losses, corner: Losses) -> float:
    """Volume below the corner of rows that are all strictly below it."""
    if Y_NG.shape[1] == 1:
        return float(corner[0] - Y_NG.min())
    order = np.argsort(Y_NG[:, -1], kind="stable")
    last = Y_NG[order, -1]
    depths = np.diff(np.append(last, corner[-1]))
    if Y_NG.shape[1] == 2:
        return float(depths @ (corner[0] - np.minimum.accumulate(Y_NG[order, 0])))
    slabs = [
        depth * _volume(Y_NG[order[: above + 1], :-1], corner[:-1])
        for above, depth in enumerate(depths)
        if depth > 0
    ]
    return float(sum(slabs))
