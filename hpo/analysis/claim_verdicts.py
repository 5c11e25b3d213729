"""Whether the seeds of a run agree with a claim of a paper.

The points of a table were measured at the same seeds, so their values y_ps (point p, seed s) form
randomized blocks: what a seed does to all points alike is no error of a difference between them.

    s^2 = sum (y_ps - mean_p - mean_s + mean)^2 / ((P - 1) (S - 1))
    value = sum_p w_p mean_s(y_ps),  error = s sqrt(sum_p w_p^2 / S)

s^2 takes the points that have all seeds. Points may spread differently, a diverging one more than
the others, one at chance not at all: the larger of this error and the sum's own standard error over
the seeds is shown. The claim of a direction is significant where |value| exceeds
both, each times Student's two-sided 95 % quantile: the error above at (P - 1) (S - 1) degrees of
freedom, the sum's own at S - 1. The latter test is exact however the points' spreads differ, so at
most one claim in twenty passes by chance; the former keeps a sum that happens to agree over its few
seeds from being certain. Otherwise the verdict is "not significant". Many claims are tested at
once.

That a difference d is none is never claimed because noise hides it. With e the effect that would
else be there, the claim holds where |e| / 2 - d and |e| / 2 + d are both significantly above 0,
and fails where one of them is significantly below; half of the effect is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy import special

from hpo.analysis.power import ROUNDING, detectable
from hpo.core.paper import Contrast, Correlation, Match, Shift

CONFIDENCE = 0.95


Verdict: TypeAlias = Literal["agree", "disagree", "not significant", "not measured"]


Values: TypeAlias = dict[str, dict[int, float]]
"""Point -> seed -> value."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What differences between points vary by from seed to seed."""

    deviation: float = math.nan
    """NaN where it cannot be determined: one seed, or one point."""
    freedom: int = 0

    def error(self, weights: Sequence[float], seeds: int) -> float:
        """Standard error of a weighted sum of means over so many seeds."""
        return self.deviation * math.sqrt(sum(w * w for w in weights) / seeds)

    def enough(self) -> float:
        """Standard errors beyond which a value is significantly different from 0."""
        share = (1 + CONFIDENCE) / 2
        return float(special.stdtrit(self.freedom, share)) if self.freedom else math.inf


@dataclass(frozen=True, kw_only=True)
class WeightedSum:
    """A weighted sum of means over seeds, with its errors: pooled, and over the seeds alone."""

    value: float
    errors: tuple[tuple[float, int], ...]
    """Each with its degrees of freedom; NaN where no spread is known."""

    @property
    def error(self) -> float:
        """The larger one."""
        return max(error for error, _ in self.errors)

    @property
    def enough(self) -> float:
        """What the value must exceed to be significantly different from 0 by both."""
        return max(error * Spread(freedom=freedom).enough() for error, freedom in self.errors)

    @property
    def p(self) -> float:
        """Two-sided, the larger of both; NaN where one is unknown."""
        if not all(error > 0 and freedom > 0 for error, freedom in self.errors):
            return math.nan
        each = (2 * special.stdtr(df, -abs(self.value) / error) for error, df in self.errors)
        return float(max(each))

    @property
    def detectable(self) -> float:
        """The smallest value that is found with 80 % power by both; NaN where one is unknown."""
        alpha = 1 - CONFIDENCE
        return max(detectable(error, freedom, alpha) for error, freedom in self.errors)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim, the paper's value of it and this run's."""

    text: str
    paper: str
    ours: str
    verdict: Verdict
    value: float = math.nan
    error: float = math.nan
    p: float = math.nan
    """Two-sided, of no difference; not corrected for other claims, NaN where there is none."""
    detectable: float = math.nan
    """The smallest value that the seeds find at 95 % with 80 % power."""
    equality: bool = False
    """Whether the claim is that the value is 0, not on which side of it."""


def spread(found: Values) -> Spread:
    """The deviation of points from each other's course over the seeds."""
    seeds = sorted({seed for each in found.values() for seed in each})
    rows = [[each[seed] for seed in seeds] for each in found.values() if len(each) == len(seeds)]
    if len(rows) < 2 or len(seeds) < 2:
        return Spread()
    freedom = (len(rows) - 1) * (len(seeds) - 1)
    y_PS = np.array(rows)
    rest_PS = y_PS - y_PS.mean(1, keepdims=True) - y_PS.mean(0) + y_PS.mean()
    if np.abs(rest_PS).max() <= ROUNDING * np.abs(y_PS).max():
        return Spread(deviation=0.0, freedom=freedom)
    return Spread(deviation=math.sqrt(float((rest_PS**2).sum()) / freedom), freedom=freedom)


def contrast(claim: Contrast, found: Values) -> Finding:
    """The weighted sum over the seeds that all its points have."""
    paper = "" if claim.paper is None else f"{claim.paper:+.3g}"
    shared = _shared(found, list(claim.weights))
    if not shared:
        return _unmeasured(claim.text, paper, claim.metric)
    total = _weighted(found, claim.weights, shared)
    value = _with_error(total.value, total.error)
    return Finding(
        text=claim.text,
        paper=paper,
        ours=f"{value} {claim.metric} over {_seeds(len(shared))}",
        verdict=_verdict(total.value * claim.sign, total.enough),
        value=total.value,
        error=total.error,
        p=total.p,
        detectable=total.detectable,
    )


def match(claim: Match, found: Values) -> Finding:
    """The difference from the point that it is like, against half of the effect."""
    paper, shared = "no difference", _shared(found, claim.points)
    if not shared:
        return _unmeasured(claim.text, paper, claim.metric)
    apart = {claim.point: 1.0, claim.like: -1.0}
    total = _weighted(found, apart, shared)
    effect = _weighted(found, {claim.unlike: 1.0, claim.like: -1.0}, shared)
    half = math.copysign(0.5, effect.value)
    verdicts = list[Verdict]()
    for sign in (-1.0, 1.0):
        sides = {claim.point: sign, claim.unlike: half, claim.like: -half - sign}
        left = _weighted(found, sides, shared)
        verdicts.append(_verdict(left.value, left.enough))
    unsaid: Verdict = "disagree" if "disagree" in verdicts else "not significant"
    return Finding(
        text=claim.text,
        paper=paper,
        ours=f"{_with_error(total.value, total.error)} {claim.metric} from {claim.like!r}, where "
        f"{claim.unlike!r} has {_with_error(effect.value, effect.error)}, over "
        f"{_seeds(len(shared))}",
        verdict="agree" if set(verdicts) == {"agree"} else unsaid,
        value=total.value,
        error=total.error,
        equality=True,
    )


def shift(claim: Shift, before: Values, after: Values) -> Finding:
    """Which point is best by each metric, and whether both choices are significant.

    The best is chosen after the fact, so its lead looks larger than it is.
    """
    known = claim.paper_before is not None and claim.paper_after is not None
    paper = f"{claim.paper_before} before, {claim.paper_after} after" if known else ""
    first = best_point(before, claim.points, -1)
    way = -1 if claim.after_better == "down" else 1
    last = best_point(after, claim.points, way)
    if first is None or last is None:
        return _unmeasured(claim.text, paper, f"{claim.before} and {claim.after}")
    clear = _leads(before, first, last, -1) and _leads(after, last, first, way)
    later = claim.points.index(last) > claim.points.index(first)
    verdict: Verdict = ("agree" if later else "disagree") if clear else "not significant"
    tied = [
        f"{best} ({_ties(found, claim.points, best, sign)})"
        for found, best, sign in ((before, first, -1), (after, last, way))
    ]
    ours = f"best {claim.before} at {tied[0]}; best {claim.after} at {tied[1]}"
    return Finding(text=claim.text, paper=paper, ours=ours, verdict=verdict)


def correlation(claim: Correlation, x: Values, y: Values) -> Finding:
    """Pearson's r over the points' means; significant by Fisher's transformation."""
    paper = "" if claim.paper is None else f"r = {claim.paper:.3g}"
    names = [name for name in claim.points if x.get(name) and y.get(name)]
    x_P = [_mean(x[name], list(x[name])) for name in names]
    y_P = [_mean(y[name], list(y[name])) for name in names]
    if len(names) < 3 or np.ptp(x_P) == 0 or np.ptp(y_P) == 0:
        return _unmeasured(claim.text, paper, f"{claim.x} and {claim.y} at three points or more")
    r = float(np.corrcoef(x_P, y_P)[0, 1])
    error = 1 / math.sqrt(len(names) - 3) if len(names) > 3 else math.inf
    enough = float(special.ndtri((1 + CONFIDENCE) / 2)) * error
    bounded = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    return Finding(
        text=claim.text,
        paper=paper,
        ours=f"r = {r:.3g} over {len(names)} points",
        verdict=_verdict(bounded * claim.sign, enough),
        value=r,
        error=error,
    )


def sentence(finding: Finding) -> str:
    """A finding as a sentence: the claim, both sides, and what follows."""
    paper = f"paper {finding.paper}; " if finding.paper else ""
    what = {
        "agree": "less than half of that" if finding.equality else "same direction",
        "disagree": "more than half of that" if finding.equality else "opposite direction",
        "not significant": "not significant",
        "not measured": "not measured",
    }[finding.verdict]
    return f"{finding.text}: {paper}here {finding.ours}: {what}."


def sem(ys: Sequence[float]) -> float:
    """Standard error of the mean; NaN with fewer than two."""
    return float(np.std(ys, ddof=1)) / math.sqrt(len(ys)) if len(ys) > 1 else math.nan


def _shared(found: Values, names: Sequence[str]) -> list[int]:
    """Seeds that all these points have."""
    return sorted(set.intersection(*(set(found.get(name, {})) for name in names)))


def _weighted(found: Values, weights: Mapping[str, float], seeds: Sequence[int]) -> WeightedSum:
    """A weighted sum over points at these seeds."""
    sums = [sum(w * found[name][seed] for name, w in weights.items()) for seed in seeds]
    known = spread(found)
    pooled = (known.error(list(weights.values()), len(seeds)), known.freedom)
    largest = max(abs(w * found[name][seed]) for name, w in weights.items() for seed in seeds)
    spreads = max(sums) - min(sums) > ROUNDING * largest
    own = [(sem(sums) if spreads else 0.0, len(sums) - 1)] if len(sums) > 1 else []
    return WeightedSum(value=float(np.mean(sums)), errors=(pooled, *own))


def _mean(by_seed: Mapping[int, float], seeds: Sequence[int]) -> float:
    return sum(by_seed[seed] for seed in seeds) / len(seeds)


def best_point(found: Values, points: Sequence[str], sign: int) -> str | None:
    """The point with the largest sign times mean, over the seeds of all measured points."""
    measured = [name for name in points if found.get(name)]
    shared = _shared(found, measured) if measured else []
    if not shared:
        return None
    return max(measured, key=lambda name: sign * _mean(found[name], shared))


def _leads(found: Values, best: str, other: str, sign: int) -> bool:
    """Whether `best` differs significantly from `other`."""
    shared = _shared(found, [best, other])
    if best == other or not shared:
        return False
    lead = _weighted(found, {best: 1.0, other: -1.0}, shared)
    return _verdict(sign * lead.value, lead.enough) == "agree"


def _ties(found: Values, points: Sequence[str], best: str, sign: int) -> str:
    """The points that the best one does not differ significantly from."""
    others = [name for name in points if name != best and found.get(name)]
    tied = [name for name in others if not _leads(found, best, name, sign)]
    if not tied:
        return "significantly different from all others"
    return f"not significantly different from {'any other' if tied == others else ', '.join(tied)}"


def _verdict(agreeing: float, enough: float) -> Verdict:
    """Of a value that is above 0 where it agrees; not significant where no spread is known."""
    if not 0 < enough < math.inf or not abs(agreeing) > enough:
        return "not significant"
    return "agree" if agreeing > 0 else "disagree"


def _unmeasured(text: str, paper: str, metric: str) -> Finding:
    return Finding(text=text, paper=paper, ours=f"no {metric} yet", verdict="not measured")


def _with_error(value: float, error: float) -> str:
    return f"{value:+.3g} ± {error:.2g}" if math.isfinite(error) else f"{value:+.3g}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
