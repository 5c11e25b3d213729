"""What a run's seeds say of the contrasts that its study planned.

At each seed both arms start from the same initial weights and read the same data, so a contrast is
the mean of the n differences d_s = y_As - y_Bs, with the error sd(d) / sqrt(n) and n - 1 degrees of
freedom; p is two-sided (paired t test). It takes the seeds that the study planned, not those that a
search added where it was undecided, and holds for the test rows that were scored.

p is corrected for all M contrasts of the study, those not measured yet counting as not significant:
by Holm (1979), Bonferroni, or not at all. Power is that of the t test at alpha / M, which the
smallest of M p-values has to meet (`hpo.analysis.power`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from hpo.analysis.paper_claims import values
from hpo.analysis.power import ROUNDING, detectable, power, seeds_needed
from hpo.core.contrasts import Correction, PlannedContrast, PlannedContrasts
from hpo.core.trial import Run
from hpo.front.errors import Estimate

Outcome: TypeAlias = Literal["as expected", "opposite", "not significant", "not measured"]


@dataclass(frozen=True, kw_only=True)
class ContrastFinding:
    """A planned contrast and what was measured of it."""

    contrast: PlannedContrast
    estimate: Estimate
    """Arm minus the other, over `seeds`; its p is not corrected."""
    seeds: tuple[int, ...]
    """Those that both arms have."""
    differences: tuple[float, ...]
    """At each of them."""
    p: float
    """Two-sided, paired; NaN where no spread is known."""
    corrected: float
    """p after the study's correction."""
    outcome: Outcome
    detectable: float
    """The smallest effect that these seeds find with 80 % power, in the metric's unit."""
    power: float
    """For the effect that was expected; NaN where none was named."""
    seeds_needed: int | None
    """For 80 % power at the effect and spread that were found; None where no number is enough."""


def findings(run: Run, planned: PlannedContrasts) -> tuple[ContrastFinding, ...]:
    """Every contrast of the study, in its order."""
    paired = [_paired(run, each) for each in planned.contrasts]
    estimates = [
        _estimate(found, _rounding(run, each))
        for found, each in zip(paired, planned.contrasts, strict=True)
    ]
    ps = [_p(each) for each in estimates]
    level = planned.alpha / (1 if planned.correction == "none" else len(ps))
    return tuple(
        _finding(contrast, found, estimate, p, corrected, planned.alpha, level)
        for contrast, found, estimate, p, corrected in zip(
            planned.contrasts, paired, estimates, ps, correct(ps, planned.correction), strict=True
        )
    )


def correct(ps: Sequence[float], correction: Correction) -> list[float]:
    """p-values corrected for their number; NaN stays and counts as 1."""
    if correction == "none":
        return list(ps)
    order = sorted(range(len(ps)), key=lambda index: (math.isnan(ps[index]), ps[index]))
    found, largest = [math.nan] * len(ps), 0.0
    for place, index in enumerate(order):
        factor = len(ps) if correction == "bonferroni" else len(ps) - place
        if not math.isnan(ps[index]):
            largest = max(largest, min(1.0, factor * ps[index]))
            found[index] = min(1.0, factor * ps[index]) if correction == "bonferroni" else largest
    return found


def _paired(run: Run, contrast: PlannedContrast) -> dict[int, float]:
    """Seed -> difference."""
    found = values(run, (contrast.arm, contrast.minus), contrast.metric)
    one, other = found[contrast.arm], found[contrast.minus]
    return {seed: one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())}


def _rounding(run: Run, contrast: PlannedContrast) -> float:
    """What equal differences of these values may vary by, as floats are rounded."""
    found = values(run, (contrast.arm, contrast.minus), contrast.metric)
    return ROUNDING * max((abs(y) for each in found.values() for y in each.values()), default=0.0)


def _estimate(paired: dict[int, float], rounding: float) -> Estimate:
    d_S = np.array([*paired.values()])
    known = len(d_S) > 1
    error = float(d_S.std(ddof=1)) / math.sqrt(len(d_S)) if known else math.nan
    if known and np.ptp(d_S) <= rounding:
        error = 0.0
    return Estimate(
        value=float(d_S.mean()) if len(d_S) else math.nan,
        error=error,
        freedom=max(0.0, len(d_S) - 1.0),
        pretraining_seeds=known,
        rows=False,
    )


def _p(estimate: Estimate) -> float:
    """Equal differences at all seeds tell no spread, such as scores at chance."""
    return estimate.p if estimate.error > 0 else math.nan


def _finding(
    contrast: PlannedContrast,
    paired: dict[int, float],
    estimate: Estimate,
    p: float,
    corrected: float,
    alpha: float,
    level: float,
) -> ContrastFinding:
    error, freedom = estimate.error, estimate.freedom
    outcome: Outcome = "not significant" if paired else "not measured"
    if corrected < alpha:
        outcome = "as expected" if estimate.value * contrast.sign > 0 else "opposite"
    deviation = error * math.sqrt(len(paired)) if paired else math.nan
    expected = contrast.effect
    return ContrastFinding(
        contrast=contrast,
        estimate=estimate,
        seeds=tuple(paired),
        differences=tuple(paired.values()),
        p=p,
        corrected=corrected,
        outcome=outcome,
        detectable=detectable(error, freedom, level),
        power=math.nan if expected is None else power(expected, error, freedom, level),
        seeds_needed=seeds_needed(estimate.value, deviation, level),
    )
