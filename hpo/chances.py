"""What draws of the true losses say of each point: whether it is on the front, and at the knee."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from hpo import pareto

KNEE_LEAST = 0.05
"""Probability of being the knee from which a point is named in its region; assumed."""
VOLUME_DRAWS = 512
"""Draws that volumes and knees are computed in; they cost more than memberships."""
REPORTED_SHARE = 0.9
"""Expected share of the reported points that are truly non-dominated; assumed."""
REPORTED_LEAST = 0.5
"""Membership below which no point is reported beside others; assumed."""


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
