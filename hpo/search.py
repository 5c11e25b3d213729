"""What to measure next: a proposal is a function of (study seed, trial number, results seen).

Baselines and grid come first, then a scrambled Sobol sequence, then a model of the results. The
sampler is made anew for every trial with a seed drawn from the study's and the trial's number, so a
resumed study proposes what the uninterrupted one would have, and no two trials share a stream.

It asks a shadow study in memory and not the record itself: Optuna's samplers model only parameters
that all trials have, and a baseline outside the space would leave them none.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState
from scipy.stats import qmc

from hpo.record import Trial
from hpo.spec import Choice, Domain, Float, Int, Limit, StudySpec, Value

START_UP_PER_PARAMETER = 2
"""Sobol points before a model is trusted, a parameter; assumed."""
START_UP_LEAST = 4
POPULATION = 8
"""NSGA-II's generation; Optuna's 50 would leave a proxy study without a second one; assumed."""
GENERATION = "NSGAIISampler:generation"
"""Where NSGA-II looks for a trial's generation; it ignores trials without one."""
MISSING = 1e9
"""Constraint of a trial without the metric: as infeasible as can be said in a finite number."""


def propose(spec: StudySpec, number: int, trials: Sequence[Trial]) -> dict[str, Value]:
    """Values for the space's paths in trial `number`, given the trials recorded before it.

    A model learns from a shadow study in memory. It holds the finished trials that lie in the space
    with their values as recorded, and the running ones as pending.
    """
    place = number - len(spec.planned)
    if place < 0:
        return planned_values(spec, number)
    if place < start_up(spec) and spec.sampler in ("gp", "tpe"):
        return sobol_point(spec.space, spec.seed, place)
    seed = int(np.random.SeedSequence([spec.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        # Experimental samplers, infinite values clipped, roulettes without odds: none is an error,
        # and nothing that a person could mend.
        warnings.simplefilter("ignore")
        asked = _shadow(spec, trials, _MODELS[spec.sampler](seed)).ask(distributions(spec.space))
    return dict(asked.params)


def _shadow(spec: StudySpec, trials: Sequence[Trial], sampler: BaseSampler) -> optuna.Study:
    down, up = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
    ways = [down if goal.direction == "down" else up for goal in spec.goals]
    study = optuna.create_study(directions=ways, sampler=sampler)
    num_done = 0
    for trial in trials:
        values = {path: trial.params.get(path) for path in spec.space}
        goals = [trial.metrics.get(goal.metric, math.nan) for goal in spec.goals]
        if not inside(spec.space, values) or trial.state == "failed":
            continue
        done = trial.state == "complete"
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if done else TrialState.RUNNING,
                params=values,
                distributions=distributions(spec.space),
                values=[float(goal) for goal in goals] if done else None,
                constraints=constraints(spec.limits, trial.metrics) if done else None,
                system_attrs={GENERATION: num_done // POPULATION},
            )
        )
        num_done += done
    return study


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


def start_up(spec: StudySpec) -> int:
    """Sobol points before the model."""
    return max(START_UP_LEAST, START_UP_PER_PARAMETER * len(spec.space))


def distributions(space: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    return {path: _distribution(domain) for path, domain in space.items()}


def planned_values(spec: StudySpec, number: int) -> dict[str, Value]:
    """The value of a baseline or grid point at every path of the space."""
    params = spec.planned[number].point.params
    defaults = spec.objective.values()
    return {path: params.get(path, defaults.get(path)) for path in spec.space}


def inside(space: Mapping[str, Domain], values: Mapping[str, Value]) -> bool:
    """Whether every value lies in its domain."""
    return all(_contains(domain, values[path]) for path, domain in space.items())


def sobol_point(space: Mapping[str, Domain], seed: int, place: int) -> dict[str, Value]:
    """The place-th point of the study's scrambled Sobol sequence."""
    if not space:
        return {}
    engine = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(seed))
    if place:
        engine.fast_forward(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # balance only matters for integration
        units = engine.random(1)[0]
    return {
        path: _at(domain, float(unit))
        for (path, domain), unit in zip(space.items(), units, strict=True)
    }


def _at(domain: Domain, unit: float) -> Value:
    """The value at a share of the domain."""
    if isinstance(domain, Choice):
        return domain.options[min(int(unit * len(domain.options)), len(domain.options) - 1)]
    if isinstance(domain, Float):
        if domain.log:
            low, high = math.log(domain.low), math.log(domain.high)
            return min(max(math.exp(low + unit * (high - low)), domain.low), domain.high)
        return min(domain.low + unit * (domain.high - domain.low), domain.high)
    if domain.log:
        low, high = math.log(domain.low), math.log(domain.high + 1)
        return min(max(int(math.exp(low + unit * (high - low))), domain.low), domain.high)
    return min(domain.low + int(unit * (domain.high - domain.low + 1)), domain.high)


def _contains(domain: Domain, value: Value) -> bool:
    if isinstance(domain, Choice):
        return value in domain.options
    kinds = int if isinstance(domain, Int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return domain.low <= value <= domain.high


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, Float):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return IntDistribution(domain.low, domain.high, log=domain.log)


_MODELS: dict[str, Callable[[int], BaseSampler]] = {
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=START_UP_LEAST),
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=START_UP_LEAST),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
    "random": lambda seed: RandomSampler(seed=seed),
}
