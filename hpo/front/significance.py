"""Decisions under noise: what to repeat next, which differences are significant, which of two runs
is ahead.

All of it reads the draws of the true losses that `hpo.front.front.front` was made from.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from hpo.front.front import Front
from hpo.front.true_values import LEAST_DRAWS
from hpo.numerics import pareto
from hpo.numerics.noisy_values import NUM_SETTINGS

CONFIDENCE = 0.95


LEAST_FREEDOM = 3
"""Repetitions, over all points, before the noise counts as known well enough to stop; assumed."""


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
    significant: bool
    """At 95 % for all differences of the list together (Holm)."""


def differences(found: Front) -> tuple[Difference, ...]:
    """Every pair of the reported points in every goal; empty where the noise is unknown."""
    every = [goal.metric for goal in found.goals]
    pairs = itertools.combinations([trial.number for trial in found.trials], 2)
    return _differences(found, [(a, b, metric) for a, b in pairs for metric in every])


def from_baselines(found: Front) -> tuple[Difference, ...]:
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
    return _differences(found, pairs)


def _differences(found: Front, asked: Sequence[tuple[int, int, str]]) -> tuple[Difference, ...]:
    """Of each pair of points in a metric, the better one first, judged together."""
    if found.draws is None:
        return ()
    rows = {trial.number: row for row, trial in enumerate(found.points)}
    columns = {goal.metric: column for column, goal in enumerate(found.goals)}
    raw, p_values = [], list[float]()
    for a, b, metric in asked:
        column = columns[metric]
        one, two = found.draws[:, rows[a], column], found.draws[:, rows[b], column]
        better, other = (a, b) if one.mean() <= two.mean() else (b, a)
        lead = 0.0 if one.mean() == two.mean() else abs(float(one.mean() - two.mean()))
        value = -lead * found.goals[column].sign
        error = float((one - two).std()) if math.isfinite(lead) else 0.0
        p_values.append(two_sided(one - two) if math.isfinite(lead) else 0.0)
        raw.append(
            Difference(
                metric=metric,
                better=better,
                other=other,
                value=value,
                error=error,
                significant=False,
            )
        )
    flags = holm(p_values)
    return tuple(
        dataclasses.replace(each, significant=yes) for each, yes in zip(raw, flags, strict=True)
    )


def two_sided(difference_D: pareto.Losses) -> float:
    """Twice the probability that the difference has the other sign than in the mean.

    Draws come in NUM_SETTINGS blocks of one setting of the variances and lengths each, within which
    they are normal. The tail is the mean of the blocks' normal tails: a mixture over uncertain
    variances has heavier ones than a normal of its standard deviation, and draws alone are too few
    to count so far out.
    """
    mean = float(difference_D.mean())
    if not difference_D.std() > 0:
        return 0.0 if mean else 1.0
    blocks = np.array_split(difference_D, NUM_SETTINGS if len(difference_D) >= LEAST_DRAWS else 1)
    tails = [
        float(special.ndtr(-math.copysign(1, mean) * block.mean() / max(block.std(), 1e-300)))
        for block in blocks
    ]
    return min(1.0, 2 * float(np.mean(tails)))


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    flags = [False] * len(p_values)
    for step, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - step):
            break
        flags[place] = True
    return flags


def significantly_better(found: Front, number: int, other: int, metric: str) -> bool:
    """Whether one point's true value is better than another's at 95 %, this pair alone.

    Raises:
        ValueError: the front has no such point or goal.
    """
    by_number = {trial.number: trial for trial in found.points}
    if not {number, other} <= by_number.keys():
        raise ValueError(f"points to compare must be among {sorted(by_number)}.")
    known = [goal.metric for goal in found.goals]
    if metric not in known:
        raise ValueError(f"a comparison needs a goal of the run, one of {known}, got {metric!r}.")
    (each,) = _differences(found, [(number, other, metric)]) or (None,)
    return each is not None and each.better == number and each.significant
