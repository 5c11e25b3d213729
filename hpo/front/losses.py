"""Trials as rows of losses, all to be minimized, and the limits that they keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hpo.core.goals import Goal, Limit
from hpo.core.metrics import HasMetrics
from hpo.numerics import pareto


def losses(trials: Sequence[HasMetrics], goals: Sequence[Goal]) -> pareto.Losses:
    """Y_NG to be made small: the goals' metrics, negated where up is better, NaN where missing."""
    rows = [
        [goal.sign * trial.metrics.get(goal.metric, math.nan) for goal in goals] for trial in trials
    ]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(goals))


def feasible(trial: HasMetrics, limits: Sequence[Limit]) -> bool:
    """Whether every limited metric is measured and within its bounds, ends included."""
    return all(
        limit.low <= trial.metrics.get(limit.metric, math.nan) <= limit.high for limit in limits
    )


MISSING = 1e9
"""Constraint of a trial without the metric: as infeasible as can be written in a finite number."""


def constraints(limits: Sequence[Limit], metrics: Mapping[str, float]) -> dict[str, float]:
    """Name -> value that is at most 0 where the limit is kept; all of them, always, sorted."""
    found = {}
    for limit in limits:
        value = metrics.get(limit.metric, math.nan)
        if math.isfinite(limit.low):
            found[f"{limit.metric} low"] = _finite(limit.low - value)
        if math.isfinite(limit.high):
            found[f"{limit.metric} high"] = _finite(value - limit.high)
    return dict(sorted(found.items()))


def _finite(value: float) -> float:
    return MISSING if math.isnan(value) else max(-MISSING, min(value, MISSING))
