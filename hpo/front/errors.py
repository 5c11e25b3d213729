"""Errors of levels and of differences: the one model of variance behind every ±.

A metric y is measured of setting p at pretraining seed s, with fine-tuning seeds f, on test rows r:

    y = mu_p + b_s + B_ps + F_psf + R_r + I_pr

b_s is what a pretraining seed does to all settings alike, B_ps the rest of its spread, F the spread
of fine-tuning seeds, R what the rows do to all settings alike and I what they do to this one; for a
loss on text the rows are its validation sequences. The aim is mu_p, over other seeds and rows. Of a
mean over n seeds:

- A **level** has the error sqrt(v / n + rows^2). v is the spread between pretraining seeds, which
  holds B, b and F. `<metric>_rows_sem` is what the sample of rows adds, R and I; it does not shrink
  with seeds, as all trials are scored on the same rows.
- A **difference** of two settings is paired: R cancels, so does b where both have the same seeds.
  Left are sqrt(v' (1/n + 1/m) + u (...) + interplay), v' the spread between seeds without b, u that
  of b where the seeds differ, and the variance over rows of the difference row by row, less what of
  it is in v' already.

Few seeds tell a spread badly. v is pooled over all settings with nu = sum (n_p - 1) degrees of
freedom, and a setting's own variance s_p^2 counts beside it with n_p - 1 against PRIOR_FREEDOM. The
larger of v and the mean square of the errors within trials (fine-tuning seeds) is taken, as v holds
those. Intervals are Student's with the degrees of freedom of Welch and Satterthwaite. Where no
setting has a second pretraining seed, v is what fine-tuning seeds say, the estimate does not
include pretraining seeds, and nothing is called significant (`hpo.front.significance`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from hpo.core.metrics import rows_sem, sem
from hpo.core.trial import Trial
from hpo.front import paired_rows
from hpo.front.replicates import PRIOR_FREEDOM, Setting

Array = npt.NDArray[np.float64]


CONFIDENCE = 0.95


LEAST_PAIRED = 3
"""Degrees of freedom from which the spread without a seed's common part is used; with fewer the
whole spread is taken, which is larger. Assumed."""


MOST_PAIRED = 200
"""Repeated settings in a least-squares fit, which takes their number cubed."""


@dataclass(frozen=True, kw_only=True)
class Variance:
    """A variance and how well it is known."""

    value: float = math.nan
    freedom: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything tells it."""
        return math.isfinite(self.value) and self.freedom > 0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its standard error."""

    value: float
    error: float
    """NaN where it is unknown."""
    freedom: float
    """Degrees of freedom of the error."""
    pretraining_seeds: bool
    """Whether the error holds the spread between pretraining seeds."""
    rows: bool
    """Whether it holds what the finite sample of test rows does."""
    significant: bool | None = None
    """By `hpo.front.significance`; None where that is not known, or was not asked."""

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % interval; NaN where the error is unknown."""
        reach = self.error * student(self.freedom) if math.isfinite(self.error) else math.nan
        return self.value - reach, self.value + reach

    @property
    def p(self) -> float:
        """Two-sided, of no difference from 0; NaN where the error is unknown."""
        if not math.isfinite(self.error) or not self.freedom > 0:
            return math.nan
        if self.error == 0:
            return float(self.value == 0)
        return float(2 * special.stdtr(self.freedom, -abs(self.value) / self.error))


def student(freedom: float) -> float:
    """Standard errors to the ends of Student's 95 % interval."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) if freedom > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class Errors:
    """The variances of one metric over a run's settings."""

    metric: str
    seeds: Variance
    """v: of one trial, pooled over settings."""
    paired: Variance
    """v': the same without what a seed does to all settings."""
    common: float
    """u: variance of what a seed does to all settings; 0 where `paired` is `seeds`."""
    repeated: bool
    """Whether some setting has a second pretraining seed."""
    row_spread: float
    """Of a trial, from what rows do to it at its seed alone; NaN where no repetition tells it."""

    def level(self, point: Setting) -> Estimate:
        """The setting's mean over its seeds."""
        seeds = self._own(point)
        rows = rows_sem(point.trial, self.metric)
        parts = (
            [seeds]
            if math.isnan(rows)
            else [seeds, Variance(value=rows**2, freedom=paired_rows.freedom(point, self.metric))]
        )
        return self._estimate(point.trial.metrics.get(self.metric, math.nan), parts)

    def difference(self, one: Setting, other: Setting) -> Estimate:
        """The first setting minus the second, paired over seeds and rows."""
        value = one.trial.metrics.get(self.metric, math.nan) - other.trial.metrics.get(
            self.metric, math.nan
        )
        if one.trial.number == other.trial.number:
            return self._estimate(0.0, [Variance(value=0.0, freedom=math.inf)])
        n, m = len(one.seeds), len(other.seeds)
        spread = self.paired.value * (1 / n + 1 / m) + self.common * _unshared(one, other)
        parts = [Variance(value=spread, freedom=self.paired.freedom)]
        if not self.repeated:
            own = [self._own(each) for each in (one, other)]
            parts = own if all(each.known for each in own) else parts
        interplay = self._interplay(one, other)
        if math.isfinite(interplay):
            parts.append(Variance(value=interplay, freedom=paired_rows.freedom(one, self.metric)))
        return self._estimate(value, parts)

    def _own(self, point: Setting) -> Variance:
        """Of the setting's mean over seeds: its own spread beside the pooled one."""
        if not self.seeds.known:
            return Variance()
        values = [each.metrics.get(self.metric, math.nan) for each in point.seeds]
        n, own, freedom = len(values), math.nan, len(values) - 1
        if self.repeated and n > 1:
            own = float(np.var(values, ddof=1))
        elif not self.repeated:
            own, freedom = sem(point.trial, self.metric) ** 2, 1
        if not math.isfinite(own):
            return Variance(value=self.seeds.value / n, freedom=self.seeds.freedom)
        share = freedom / (PRIOR_FREEDOM + freedom)
        value = (1 - share) * self.seeds.value + share * own
        pooled = _welch(
            [
                Variance(value=(1 - share) * self.seeds.value, freedom=self.seeds.freedom),
                Variance(value=share * own, freedom=freedom),
            ]
        )
        return Variance(value=value / n, freedom=pooled)

    def _interplay(self, one: Setting, other: Setting) -> float:
        """What rows do to the two settings differently, beyond the spread of seeds."""
        first, second = (paired_rows.row_means(each.seeds, self.metric) for each in (one, other))
        if not paired_rows.alike(first, second):
            return math.nan
        found = paired_rows.rows_variance([a - b for a, b in zip(first, second, strict=True)])
        if self.repeated and math.isfinite(self.row_spread):
            known = self.row_spread * (1 / len(one.seeds) + 1 / len(other.seeds))
        else:
            known = paired_rows.within_seeds(one, self.metric) + paired_rows.within_seeds(
                other, self.metric
            )
        return max(found - known, 0.0)

    def _estimate(self, value: float, parts: Sequence[Variance]) -> Estimate:
        known = all(each.known for each in parts)
        return Estimate(
            value=value,
            error=math.sqrt(sum(each.value for each in parts)) if known else math.nan,
            freedom=_welch(parts) if known else 0.0,
            pretraining_seeds=self.repeated,
            rows=len(parts) > 1,
        )


def errors_of(found: Sequence[Setting], metric: str) -> Errors:
    """What the settings tell of a metric's variance."""
    groups = [
        [t for t in point.every if math.isfinite(t.metrics.get(metric, math.nan))]
        for point in found
    ]
    groups = [group for group in groups if group]
    between, paired = _between(groups, metric), _paired(groups, metric)
    within = _within(groups, metric)
    repeated = between.known
    seeds = between if repeated and not between.value < within.value else within
    if not repeated or paired.freedom < LEAST_PAIRED:
        paired, common = seeds, 0.0
    else:
        common = max(between.value - paired.value, 0.0)
        paired = within if paired.value < within.value else paired
    return Errors(
        metric=metric,
        seeds=seeds,
        paired=paired,
        common=common,
        repeated=repeated,
        row_spread=paired_rows.repeated_spread(groups, metric),
    )


def _between(groups: Sequence[Sequence[Trial]], metric: str) -> Variance:
    """Between seeds of one setting, pooled."""
    several = [[t.metrics[metric] for t in group] for group in groups if len(group) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return Variance()
    squares = sum(float(np.var(values)) * len(values) for values in several)
    return Variance(value=squares / freedom, freedom=freedom)


def _paired(groups: Sequence[Sequence[Trial]], metric: str) -> Variance:
    """Left of a least-squares fit of settings and seeds; of many settings the first."""
    several = [group for group in groups if len(group) > 1][:MOST_PAIRED]
    rows = [(p, t.seed, t.metrics[metric]) for p, group in enumerate(several) for t in group]
    if not rows:
        return Variance()
    point_T, seeds, y_T = (np.array(column) for column in zip(*rows, strict=True))
    _, seed_T = np.unique(seeds, return_inverse=True)
    design = np.zeros((len(rows), len(several) + seed_T.max() + 1))
    design[np.arange(len(rows)), point_T] = 1.0
    design[np.arange(len(rows)), len(several) + seed_T] = 1.0
    solution, _, rank, _ = np.linalg.lstsq(design, y_T, rcond=None)
    freedom = len(rows) - int(rank)
    if freedom < 1:
        return Variance()
    return Variance(value=float(((y_T - design @ solution) ** 2).sum()) / freedom, freedom=freedom)


def _within(groups: Sequence[Sequence[Trial]], metric: str) -> Variance:
    """By the errors within trials, where all have one."""
    sems = np.array([sem(trial, metric) for group in groups for trial in group])
    if not len(sems) or not np.isfinite(sems).all():
        return Variance(value=-math.inf)
    return Variance(value=float(np.mean(sems**2)), freedom=len(sems))


def _unshared(one: Setting, other: Setting) -> float:
    """By how much of a seed's common part the two means differ, in variances of it."""
    weights: dict[int, float] = {}
    for point, sign in ((one, 1.0), (other, -1.0)):
        for trial in point.seeds:
            weights[trial.seed] = weights.get(trial.seed, 0.0) + sign / len(point.seeds)
    return sum(weight**2 for weight in weights.values())


def _welch(parts: Sequence[Variance]) -> float:
    """Degrees of freedom of a sum of variances (Welch 1947)."""
    total = sum(each.value for each in parts)
    below = sum(each.value**2 / each.freedom for each in parts if each.freedom > 0)
    return total**2 / below if below > 0 else max((each.freedom for each in parts), default=0.0)
