"""Where along a parameter each goal is best, and whether the goals differ in it.

Draws of what the settings' true losses may be give each goal a best setting, and that a value of
the parameter: their spread is how well the place is known. With the mean m_p of setting p over its
n_p seeds, and the variance v' between seeds without what a seed does to all settings, known with nu
degrees of freedom (`hpo.front.errors`),

    mu_p = m_p + sqrt(v' / n_p) z_p sqrt(nu / chi2_nu),  z_p standard normal.

Settings that are near each other tell nothing of each other here: a model that smooths over a
parameter would have to know its scale, which a value such as no decay does not have. The ratio of
two goals' places is taken draw by draw. Only measured values can be best, so intervals are no finer
than these; other parameters are as they are at the best settings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpo.analysis.slices import as_float, varied
from hpo.core.domains import is_number
from hpo.core.metrics import TIMESCALE
from hpo.core.trial import Run, Trial
from hpo.front.errors import errors_of
from hpo.front.replicates import Setting

Array = npt.NDArray[np.float64]


FEWEST = 3
"""Different values among which a best one is a finding."""


DRAWS = 4096


ENDS = (0.025, 0.5, 0.975)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A value with its central 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Apart:
    """The best value for one goal over that for another."""

    one: str
    other: str
    ratio: Place
    """1 where both are 0, inf where the other is."""

    @property
    def differ(self) -> bool:
        """Whether 1 is outside of the interval."""
        return self.ratio.low > 1 or self.ratio.high < 1


@dataclass(frozen=True, kw_only=True)
class BestValues:
    """One parameter, or the timescale that follows from several."""

    param: str
    goals: dict[str, Place]
    apart: tuple[Apart, ...]
    """Every later goal over every earlier one; none of a parameter with values below 0."""


def best_values(run: Run, settings: Sequence[Setting]) -> tuple[BestValues, ...]:
    """Of every varied number with three values or more.

    None without a second pretraining seed of some setting.
    """
    draws_DPG = _draws(run, settings)
    if draws_DPG is None:
        return ()
    trials = [point.trial for point in settings]
    found = [_best(run, trials, draws_DPG, path, _param(path)) for path in varied(run)]
    found.append(_best(run, trials, draws_DPG, TIMESCALE, _metric(TIMESCALE)))
    return tuple(each for each in found if each is not None)


def _draws(run: Run, settings: Sequence[Setting]) -> Array | None:
    """Losses, all to be small."""
    columns = []
    for place, goal in enumerate(run.goals):
        errors = errors_of(settings, goal.metric)
        if not (errors.repeated and errors.paired.known):
            return None
        rng = np.random.default_rng(place)
        z_DP = rng.standard_normal((DRAWS, len(settings)))
        freedom = errors.paired.freedom
        scale_D = np.sqrt(freedom / rng.chisquare(freedom, DRAWS))
        error_P = np.sqrt([errors.paired.value / len(point.seeds) for point in settings])
        mean_P = goal.sign * np.array([point.trial.metrics[goal.metric] for point in settings])
        columns.append(mean_P + scale_D[:, None] * error_P * z_DP)
    return np.stack(columns, axis=-1)


def _param(path: str) -> Callable[[Trial], float]:
    return lambda trial: (
        as_float(trial.params[path]) if is_number(trial.params.get(path)) else math.nan
    )


def _metric(name: str) -> Callable[[Trial], float]:
    return lambda trial: trial.metrics.get(name, math.nan)


def _best(
    run: Run,
    trials: Sequence[Trial],
    draws_DPG: Array,
    name: str,
    value: Callable[[Trial], float],
) -> BestValues | None:
    x_P = np.array([value(trial) for trial in trials])
    known_P = np.isfinite(x_P)
    if len(np.unique(x_P[known_P])) < FEWEST:
        return None
    best_DG = np.where(known_P[None, :, None], draws_DPG, np.inf).argmin(axis=1)
    x_DG = x_P[best_DG]
    metrics = [goal.metric for goal in run.goals]
    pairs = itertools.combinations(range(len(metrics)), 2) if (x_P[known_P] >= 0).all() else ()
    return BestValues(
        param=name,
        goals={metric: _place(x_DG[:, g]) for g, metric in enumerate(metrics)},
        apart=tuple(
            Apart(one=metrics[b], other=metrics[a], ratio=_place(_ratio(x_DG[:, b], x_DG[:, a])))
            for a, b in pairs
        ),
    )


def _ratio(x_D: Array, y_D: Array) -> Array:
    """1 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((x_D == 0) & (y_D == 0), 1.0, x_D / y_D)


def _place(x_D: Array) -> Place:
    """Values that were measured, not between them."""
    low, middle, high = np.quantile(x_D, ENDS, method="inverted_cdf")
    return Place(value=float(middle), low=float(low), high=float(high))
