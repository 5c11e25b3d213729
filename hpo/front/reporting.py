"""What draws of the true losses say of each point: whether it is on the front, and at the knee.

The points that are reported keep two promises. They are the most probable members, as many as keep
the mean of their memberships at REPORTED_SHARE. And what they are worth together is VOLUME_SHARE of
what all points are expected to be worth: further points are added, the one that adds most first,
while they are members with a probability of ADDED_LEAST or more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hpo.numerics import pareto

KNEE_LEAST = 0.05
"""Probability of being the knee from which a point is named in its region; assumed."""


VOLUME_DRAWS = 512
"""Draws that volumes and knees are computed in; they cost more than memberships."""


REPORTED_SHARE = 0.9
"""Expected share of the reported points that are truly non-dominated; assumed."""


REPORTED_LEAST = 0.5
"""Membership below which no point is reported beside others; assumed."""


VOLUME_SHARE = 0.95
"""Of the volume that all points are expected to dominate; assumed."""


ADDED_LEAST = 0.5
"""Membership from which a point may be added for its volume; assumed."""


ADDED_DRAWS = 128
"""Draws in which volumes are compared for that."""


def membership(Y_NG: pareto.Losses, draws: pareto.Losses | None) -> pareto.Losses:
    """Share of the draws in which each point is non-dominated; NaN without draws."""
    if draws is None:
        return np.full(len(Y_NG), math.nan)
    return np.asarray(pareto.non_dominated_draws(draws).mean(axis=0))


def reported(membership_N: pareto.Losses) -> pareto.Mask:
    """The points to report, by their memberships; at least one."""
    order = np.argsort(-membership_N, kind="stable")
    sorted_N = membership_N[order]
    means = np.cumsum(sorted_N) / np.arange(1, len(order) + 1)
    enough = (means >= REPORTED_SHARE) & (sorted_N >= REPORTED_LEAST)
    mask = np.zeros(len(order), dtype=np.bool_)
    mask[order[: max(1, int(enough.sum()))]] = True
    return mask


def knee_shares(draws: pareto.Losses, membership_N: pareto.Losses) -> dict[int, float]:
    """Row -> share of the draws in which it is the knee, the largest first."""
    rows = np.flatnonzero(membership_N > 0)
    some = draws[:VOLUME_DRAWS, rows]
    knees = Counter(pareto.knee(Y_NG) for Y_NG in some)
    shares = {int(rows[row]): n / len(some) for row, n in knees.items() if row is not None}
    kept = {row: share for row, share in shares.items() if share >= KNEE_LEAST}
    return dict(sorted(kept.items(), key=lambda item: (-item[1], item[0])))


def volume(draws_DNG: pareto.Losses, reference: npt.ArrayLike) -> pareto.Losses:
    """Hypervolume of each of the first VOLUME_DRAWS draws."""
    return pareto.hypervolumes(draws_DNG[:VOLUME_DRAWS], reference)


def with_volume(
    mask_N: pareto.Mask,
    membership_N: pareto.Losses,
    draws_DNG: pareto.Losses,
    reference: Sequence[float],
) -> pareto.Mask:
    """The points, and those that are added for their volume."""
    kept = mask_N.copy()
    some = draws_DNG[: ADDED_DRAWS if draws_DNG.shape[2] == 2 else ADDED_DRAWS // 4]
    candidates = np.flatnonzero(membership_N >= ADDED_LEAST)
    wanted = VOLUME_SHARE * float(pareto.hypervolumes(some[:, candidates], reference).mean())
    while len(open_ := [row for row in candidates if not kept[row]]):
        held = float(pareto.hypervolumes(some[:, kept], reference).mean())
        if not held < wanted:
            break
        with_row = [
            float(pareto.hypervolumes(some[:, [*np.flatnonzero(kept), row]], reference).mean())
            for row in open_
        ]
        kept[open_[int(np.argmax(with_row))]] = True
    return kept


def central(values: pareto.Losses) -> tuple[float, float]:
    """Ends of the central 95 %."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
