"""Where a search starts: Sobol points, expert priors, and the front of an earlier study.

The earlier study's best trials come first, a half of the start-up points at most. Of the rest every
other one is the Sobol point pushed through the priors' quantiles, so that those cover the priors as
evenly as the others cover the space. In the model a prior multiplies what a point promises by its
density to a power that falls with the number of results (Hvarfner et al. 2022, piBO).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from hpo.core.domains import Choice, Domain, Float, Int, inside
from hpo.core.objective import Value
from hpo.core.spec import Prior, StudySpec
from hpo.core.trial import Trial
from hpo.front import losses as scoring
from hpo.numerics import pareto
from hpo.search.unit_cube import Array, Coordinates, sobol_point, sobol_units

START_UP_PER_PARAMETER = 2
"""Sobol points before a model is trusted, a parameter; assumed."""


START_UP_LEAST = 4


LEAST_DENSITY = 1e-3
"""Of a prior against its centre's, so that none forbids anything; assumed."""


def start_up(spec: StudySpec) -> int:
    """Points before the model."""
    return max(START_UP_LEAST, START_UP_PER_PARAMETER * len(spec.space))


def start_point(spec: StudySpec, index: int) -> dict[str, Value]:
    """The index-th point of the search."""
    earlier = earlier_front(spec)
    if index < len(earlier):
        return earlier[index]
    index -= len(earlier)
    if not spec.priors or index % 2:
        return sobol_point(spec.space, spec.seed, index)
    units = sobol_units(len(spec.space), spec.seed, index)
    return {
        path: domain.at(drawn(domain, spec.priors.get(path), float(unit)))
        for (path, domain), unit in zip(spec.space.items(), units, strict=True)
    }


def earlier_front(spec: StudySpec) -> list[dict[str, Value]]:
    """The earlier study's front within this space, evenly thinned to half of the start-up."""
    values = [{path: each.params.get(path) for path in spec.space} for each in spec.warm]
    trials = [
        Trial.measured(index, point, each.metrics, state="complete")
        for index, (each, point) in enumerate(zip(spec.warm, values, strict=True))
        if inside(spec.space, point)
    ]
    trials = [trial for trial in trials if scoring.feasible(trial, spec.limits)]
    if not trials or not spec.space:
        return []
    losses = scoring.losses(trials, spec.goals)
    rows = np.flatnonzero(pareto.non_dominated(losses))
    rows = rows[np.argsort(losses[rows, 0], kind="stable")]
    most = min(len(rows), start_up(spec) // 2)
    picked = (
        rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))] if most else []
    )
    return [trials[row].params for row in picked]


def drawn(domain: Domain, prior: Prior | None, unit: float) -> float:
    """The share of the domain at this quantile of the prior; without one the quantile itself."""
    return unit if prior is None else _distribution(domain, prior).quantile(unit)


def density(spec: StudySpec, coordinates: Coordinates) -> Callable[[Array], Array]:
    """A function of M points: the product of the priors' densities, 1 at their centres."""
    paths = list(spec.space)
    priors = {
        paths.index(path): _distribution(spec.space[path], each)
        for path, each in spec.priors.items()
    }

    def function(X_MD: Array) -> Array:
        found = np.ones(len(X_MD))
        for column, prior in priors.items():
            found *= prior.density(X_MD[:, column])
        return np.maximum(found, LEAST_DENSITY)

    return function


def _distribution(domain: Domain, prior: Prior) -> _Normal | _Preferred:
    centre = domain.share_of(prior.centre)
    if isinstance(domain, Choice):
        return _Preferred(centre, prior.width, len(domain.options))
    assert isinstance(domain, Float | Int)
    low, high = float(domain.low), float(domain.high)
    span = math.log10(high / low) if domain.log else high - low
    return _Normal(centre, prior.width / span if span > 0 else 1.0)


@dataclass(frozen=True)
class _Normal:
    """A prior on the shares of a number: a normal distribution, cut off at the domain's ends."""

    centre: float
    width: float
    """Its standard deviation."""

    def quantile(self, unit: float) -> float:
        low, high = norm.cdf([(end - self.centre) / self.width for end in (0.0, 1.0)])
        found = self.centre + self.width * norm.ppf(low + unit * (high - low))
        return float(np.clip(found, 0.0, 1.0))

    def density(self, share_M: Array) -> Array:
        return np.asarray(np.exp(-0.5 * ((share_M - self.centre) / self.width) ** 2))


@dataclass(frozen=True)
class _Preferred:
    """A prior on the shares of a choice: one option, and all others alike."""

    centre: float
    width: float
    """The probability of all others."""
    num_options: int

    def quantile(self, unit: float) -> float:
        num, width = self.num_options, self.width
        if num == 1 or unit < 1 - width:
            return self.centre
        index = int(self.centre * num)
        other = min(int((unit - 1 + width) / width * (num - 1)), num - 2)
        return (other + (other >= index) + 0.5) / num

    def density(self, share_M: Array) -> Array:
        odds = self.width / max(self.num_options - 1, 1) / (1 - self.width)
        return np.where(np.abs(share_M - self.centre) < 1e-9, 1.0, min(odds, 1.0))
