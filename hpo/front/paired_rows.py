"""Scores row by row: how test rows tell settings apart.

All trials of a run are scored on the same rows in the same order (`Trial.row_scores`), so that a
difference of two of them has one value a row. Letters: P settings, N rows of a task.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hpo.core.metrics import rows_sem
from hpo.core.trial import Trial
from hpo.front.replicates import Setting

Array = npt.NDArray[np.float64]


def row_means(trials: Sequence[Trial], metric: str) -> list[Array]:
    """The trials' mean of each row, an array a task; empty where one lacks them."""
    each = [[np.asarray(task) for task in trial.row_scores.get(metric, [])] for trial in trials]
    if not each or not all(alike(each[0], one) for one in each):
        return []
    return [np.mean(tasks, axis=0) for tasks in zip(*each, strict=True)]


def rows_variance(by_task: Sequence[Array]) -> float:
    """Variance of a mean over tasks of means over rows, by the spread of rows."""
    return sum(float(y_N.var(ddof=1)) / len(y_N) for y_N in by_task) / len(by_task) ** 2


def interplay(found: Sequence[Setting], metric: str) -> float:
    """Variance of a setting from what rows do to it and not to the others, in the mean.

    0 where rows are not known. What is in the spread between seeds already is left out.
    """
    rows = [row_means(point.seeds[:1], metric) for point in found]
    rows = [each for each in rows if each and alike(each, rows[0])]
    if len(rows) < 2:
        return 0.0
    tasks = [np.stack(task) for task in zip(*rows, strict=True)]
    scale = len(rows) / (len(rows) - 1)
    every = [y_PN - y_PN.mean(axis=0) for y_PN in tasks]
    total = float(np.mean([rows_variance([y[p] for y in every]) for p in range(len(rows))]))
    known = repeated_spread([point.every for point in found], metric)
    if not math.isfinite(known):
        known = float(np.mean([within_seeds(point, metric) for point in found]))
    return max(scale * total - known, 0.0)


def repeated_spread(groups: Sequence[Sequence[Trial]], metric: str) -> float:
    """Variance of a trial over rows beside its own setting's at other seeds."""
    found = []
    for group in groups:
        rows = [row_means([trial], metric) for trial in group]
        for first, second in itertools.pairwise(rows):
            if alike(first, second):
                apart = [a - b for a, b in zip(first, second, strict=True)]
                found.append(rows_variance(apart) / 2)
    return float(np.mean(found)) if found else math.nan


def within_seeds(point: Setting, metric: str) -> float:
    """Of the variance over the rows of a setting's mean, what its spread over seeds holds."""
    means = row_means(point.seeds, metric)
    raw = rows_variance(means) if means else math.nan
    left = raw - rows_sem(point.trial, metric) ** 2
    return max(left, 0.0) if math.isfinite(left) else 0.0


def freedom(point: Setting, metric: str) -> float:
    """Degrees of freedom of a spread over rows."""
    tasks = point.trial.row_scores.get(metric, [])
    return float(sum(len(task) - 1 for task in tasks)) if tasks else math.inf


def alike(one: Sequence[Array], other: Sequence[Array]) -> bool:
    """Whether both have rows, the same number in each task, and enough to tell a spread."""
    sizes = [len(task) for task in one]
    return bool(sizes) and sizes == [len(task) for task in other] and min(sizes) > 1
