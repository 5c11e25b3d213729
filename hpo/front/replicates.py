"""Trials gathered into points: one setting of the params with all the seeds it was measured at.

Trials repeat each other where one says it replicates the other, or where they measure the same
baseline or grid point at other seeds. A point is written as a trial of its own kind: the number and
params of its first trial, means over its seeds, and standard errors beside them.

A few seeds tell a spread badly, so the spreads of all points are pooled first. With s_p^2 the
variance of point p over its n_p seeds and s^2 = sum (n_p - 1) s_p^2 / sum (n_p - 1), metric by
metric, a point's error is

    sem_p^2 = (d s^2 + (n_p - 1) s_p^2) / ((d + n_p - 1) n_p),  d = PRIOR_FREEDOM

A point at one seed has s itself, or the error measured within the trial (fine-tuning seeds) where
that is larger or nothing is repeated; with neither it has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpo.core.domains import Domain
from hpo.core.metrics import is_error, rows_sem
from hpo.core.objective import Value
from hpo.core.trial import Run, Trial

Array = npt.NDArray[np.float64]


PRIOR_FREEDOM = 4
"""Degrees of freedom that the pooled variance is worth beside a point's own; assumed."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting and the trials that measured it."""

    trial: Trial
    """The first one, with means over `seeds` and their standard errors as metrics."""
    seeds: tuple[Trial, ...]
    """One trial a seed, by number; without confirmations where there are others."""
    confirmations: tuple[Trial, ...]
    """Fresh seeds measured after the point was chosen, so that no choice favours them."""

    @property
    def every(self) -> tuple[Trial, ...]:
        """All that was measured."""
        extra = tuple(trial for trial in self.confirmations if trial not in self.seeds)
        return self.seeds + extra


def points(run: Run, trials: Sequence[Trial]) -> tuple[Setting, ...]:
    """These trials of the run as points, by number."""
    groups: dict[int | str, dict[tuple[int, bool], Trial]] = {}
    by_number = {trial.number: trial for trial in run.trials}
    for trial in sorted(trials, key=lambda trial: trial.number):
        group = groups.setdefault(_identity(trial, by_number), {})
        group.setdefault((trial.seed, trial.confirms), trial)
    raw = [_split(list(group.values())) for group in groups.values()]
    pooled = deviations(seeds + extra for seeds, extra in raw)
    found = [
        Setting(
            trial=_mean_trial(seeds or extra, pooled), seeds=seeds or extra, confirmations=extra
        )
        for seeds, extra in raw
    ]
    return tuple(sorted(found, key=lambda point: point.trial.number))


def confirmed(point: Setting, pooled: dict[str, tuple[float, int]]) -> Trial | None:
    """The point's mean over its fresh seeds alone; None without any."""
    return _mean_trial(point.confirmations, pooled) if point.confirmations else None


def deviations(groups: Iterable[Sequence[Trial]]) -> dict[str, tuple[float, int]]:
    """Metric -> standard deviation between seeds, pooled over groups, and degrees of freedom."""
    squares: dict[str, float] = {}
    freedom: dict[str, int] = {}
    for group in groups:
        for name in _names(group) if len(group) > 1 else ():
            values = _values(group, name)
            if len(values) > 1 and all(map(math.isfinite, values)):
                squares[name] = squares.get(name, 0.0) + float(np.var(values)) * len(values)
                freedom[name] = freedom.get(name, 0) + len(values) - 1
    return {name: (math.sqrt(squares[name] / freedom[name]), freedom[name]) for name in squares}


ZERO_GAP = 0.25
"""Of a log axis: how far 0, such as no weight decay, is taken to be from the axis's smallest value
(assumed)."""


def encoded(run: Run, found: Sequence[Setting]) -> tuple[Array, ...]:
    """The params that differ between points, an array P points x columns for each.

    Numbers of the space are in [0, 1] from low to high, on a log scale where the space has one, on
    which 0 is `ZERO_GAP` before the smallest; other numbers are between their smallest and largest.
    Of anything else each value has a column, in such a unit that two different values are 1 apart.
    """
    paths = dict.fromkeys(path for point in found for path in point.trial.params)
    columns = (
        _columns([point.trial.params.get(path) for point in found], run.space.get(path))
        for path in paths
    )
    return tuple(each for each in columns if np.ptp(each, axis=0).any())


def _columns(values: Sequence[Value], domain: Domain | None) -> Array:
    if not all(_is_number(value) for value in values):
        words = np.array([repr(value) for value in values])
        return np.asarray(math.sqrt(0.5) * (words[:, None] == np.unique(words)))
    x_P = np.array(values, dtype=np.float64)
    log, ends = False, np.array([x_P.min(), x_P.max()])
    if domain is not None and not domain.is_choice:
        log, ends = domain.log, np.array(domain.ends, np.float64)
    if not log or (x_P < 0).any():
        return np.asarray((x_P - ends[0]) / (np.ptp(ends) or 1.0))[:, None]
    low, high = np.log(ends)
    u_P = (np.log(np.where(x_P > 0, x_P, ends[0])) - low) / ((high - low) or 1.0)
    return np.asarray(np.where(x_P > 0, u_P, min(0.0, u_P.min()) - ZERO_GAP))[:, None]


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _identity(trial: Trial, by_number: dict[int, Trial]) -> int | str:
    """What trials of one point share: a name, or the number of the trial they repeat."""
    root = by_number.get(-1 if trial.replicate_of is None else trial.replicate_of)
    while root is not None and root.number < trial.number:
        trial = root
        root = by_number.get(-1 if trial.replicate_of is None else trial.replicate_of)
    return trial.number if trial.name is None else trial.name


def _split(group: list[Trial]) -> tuple[tuple[Trial, ...], tuple[Trial, ...]]:
    return (
        tuple(trial for trial in group if not trial.confirms),
        tuple(trial for trial in group if trial.confirms),
    )


def _mean_trial(group: Sequence[Trial], pooled: dict[str, tuple[float, int]]) -> Trial:
    if len(group) == 1 and not pooled:
        return group[0]
    first = group[0].metrics
    metrics = dict(first)
    for name in _names(group):
        values = _values(group, name)
        if values:
            with np.errstate(invalid="ignore"):  # the mean of inf and -inf is NaN
                metrics[name] = float(np.mean(values)) if len(values) > 1 else values[0]
        rows = [rows_sem(trial, name) for trial in group]
        if all(map(math.isfinite, rows)):
            metrics[f"{name}_rows_sem"] = math.sqrt(float(np.mean(np.square(rows))))
        error = _error(values, first.get(f"{name}_sem", math.nan), pooled.get(name))
        if math.isfinite(error):
            metrics[f"{name}_sem"] = error
    if metrics == first:
        return group[0]
    return group[0].with_answer(metrics=metrics, row_scores=_mean_rows(group))


def _mean_rows(group: Sequence[Trial]) -> dict[str, list[list[float]]]:
    """Scores row by row in the mean over seeds; those that not all have are left out."""
    found = {}
    for name, tasks in group[0].row_scores.items():
        every = [trial.row_scores.get(name, []) for trial in group]
        sizes = [len(task) for task in tasks]
        if all([len(task) for task in each] == sizes for each in every):
            means = [np.mean(task, axis=0) for task in zip(*every, strict=True)]
            found[name] = [list(map(float, mean)) for mean in means]
    return found


def _error(values: Sequence[float], within: float, pooled: tuple[float, int] | None) -> float:
    """Standard error of the mean of one point's values over seeds."""
    if pooled is None or not all(map(math.isfinite, values)) or not values:
        return within
    if len(values) == 1:
        return max(pooled[0], within) if math.isfinite(within) else pooled[0]
    freedom = len(values) - 1
    own = float(np.var(values, ddof=1))
    shrunk = (PRIOR_FREEDOM * pooled[0] ** 2 + freedom * own) / (PRIOR_FREEDOM + freedom)
    return math.sqrt(shrunk / len(values))


def _names(group: Sequence[Trial]) -> list[str]:
    """Metrics, without the standard errors beside them."""
    names = dict.fromkeys(name for trial in group for name in trial.metrics)
    return [name for name in names if not is_error(name, names)]


def _values(group: Sequence[Trial], name: str) -> list[float]:
    found = (trial.metrics.get(name, math.nan) for trial in group)
    return [value for value in found if not math.isnan(value)]
