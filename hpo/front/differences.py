"""Differences between the points of a front, and from the best baseline, as expected.

The values are those of the true values' posterior, which corrects them for the choice of the best;
whether a difference is significant is decided by `hpo.front.significance`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.front.front import Front
from hpo.front.significance import Leads


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One goal's metric between two points."""

    metric: str
    better: int
    """Number of the point that is better as expected."""
    other: int
    value: float
    """Expected true value of the better one minus that of the other, in the metric's unit."""
    error: float
    """Standard deviation of that difference."""
    significant: bool | None
    """Whether the better one's lead as measured is; None where that is unknown."""


def differences(found: Front, leads: Leads) -> tuple[Difference, ...]:
    """Every pair of the reported points in every goal; empty where the noise is unknown."""
    every = [goal.metric for goal in found.goals]
    pairs = itertools.combinations([trial.number for trial in found.trials], 2)
    return _differences(found, leads, [(a, b, metric) for a, b in pairs for metric in every])


def from_baselines(found: Front, leads: Leads) -> tuple[Difference, ...]:
    """The best point by each goal against the best baseline by the same goal, as expected.

    A goal whose best is a baseline, or a run without one, gives nothing.
    """
    pairs = []
    for goal in found.goals if found.draws is not None else ():
        ranked = sorted(
            found.points, key=lambda t: goal.sign * found.estimates[t.number][goal.metric]
        )
        baselines = [trial for trial in ranked if trial.baseline is not None]
        if baselines and baselines[0] is not ranked[0]:
            pairs.append((ranked[0].number, baselines[0].number, goal.metric))
    return _differences(found, leads, pairs)


def _differences(
    found: Front, leads: Leads, asked: Sequence[tuple[int, int, str]]
) -> tuple[Difference, ...]:
    """Of each pair of points in a metric, the better one first."""
    if found.draws is None:
        return ()
    rows = {trial.number: row for row, trial in enumerate(found.points)}
    goals = {goal.metric: (column, goal) for column, goal in enumerate(found.goals)}
    made = []
    for a, b, metric in asked:
        column, goal = goals[metric]
        one, two = found.draws[:, rows[a], column], found.draws[:, rows[b], column]
        better, other = (a, b) if one.mean() <= two.mean() else (b, a)
        lead = 0.0 if one.mean() == two.mean() else abs(float(one.mean() - two.mean()))
        seen = leads.between(found.points[rows[better]], found.points[rows[other]], metric)
        made.append(
            Difference(
                metric=metric,
                better=better,
                other=other,
                value=-lead * goal.sign,
                error=float((one - two).std()) if math.isfinite(lead) else 0.0,
                significant=seen.significant and seen.value * goal.sign < 0,
            )
        )
    return tuple(made)
