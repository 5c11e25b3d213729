"""This project's search as an Optuna sampler, for a study of one's own.

    study = optuna.create_study(directions=[...], sampler=PlasticitySampler(seed=0))

Sobol points, then the model of `hpo.search.model` at full fidelity: expected gain in hypervolume
for any number of goals, constraints and trials under way included. Rungs, repetitions and what a
run's record is for belong to `hpo run`. A proposal is a function of the seed, the trial's number
and the trials that the study has by then; the sampler itself keeps nothing, so threads may share
it.

As with Optuna's own model-based samplers, only parameters that all finished trials have in common
are modelled; any other is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.core.domains import Choice, Domain, Int, as_domain
from hpo.core.goals import Goal, Limit
from hpo.core.objective import Objective, Params, Request, Value
from hpo.core.results import MOST_SIZE
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.search import strategy


class PlasticitySampler(BaseSampler):
    """The search of `hpo run` at full fidelity.

    Args:
        seed: of all proposals; None draws one.
    """

    def __init__(self, seed: int | None = None) -> None:
        drawn = np.random.SeedSequence(seed).generate_state(1)[0] if seed is None else seed
        self.seed = int(drawn)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Parameters that all finished trials share, without those of a single value."""
        found = IntersectionSearchSpace().calculate(study)
        return {name: each for name, each in found.items() if not each.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for the shared parameters."""
        if not search_space:
            return {}
        codes = {name: _code(each) for name, each in search_space.items()}
        trials = study.get_trials(deepcopy=False)[: trial.number]
        limits = sorted({name for each in trials for name in each.constraints})
        spec = StudySpec(
            name="sampler",
            objective=cast(Objective, _NoObjective()),
            space={name: code.domain for name, code in codes.items()},
            goals=tuple(_goal(index, way) for index, way in enumerate(study.directions)),
            limits=tuple(Limit(metric=_limit(name), high=0.0) for name in limits),
            trials=trial.number + 1,
            replicate_share=0.0,
            seed=self.seed,
        )
        known = [_known(each, codes) for each in trials]
        proposed = strategy.propose(spec, trial.number, known)
        return {name: code.decoded(proposed[name]) for name, code in codes.items()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value at random for a parameter that not all trials have."""
        key = [self.seed, trial.number, *param_name.encode()]
        drawn = RandomSampler(seed=int(np.random.SeedSequence(key).generate_state(1)[0]))
        return drawn.sample_independent(study, trial, param_name, param_distribution)


def _never(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("Optuna's user calls the objective")


class _NoObjective:
    """In place of an objective that Optuna's user calls."""

    configure = describe = evaluate = machine = with_params = staticmethod(_never)

    def check(self, params: Params) -> None:
        """Optuna has checked them."""

    def values(self) -> Mapping[str, Value]:
        return {}

    def early(self) -> frozenset[str]:
        return frozenset()

    def reused(self, request: Request, done: Request) -> float:
        return 0.0


@dataclass(frozen=True)
class _Code:
    """A distribution as a domain of this package: choices and stepped numbers by their index."""

    distribution: BaseDistribution
    domain: Domain

    def encoded(self, value: Any) -> Value:
        each = self.distribution
        if isinstance(each, CategoricalDistribution):
            return int(each.to_internal_repr(value))
        if isinstance(each, FloatDistribution | IntDistribution) and _stepped(each):
            return cast(int, round((value - each.low) / cast(float, each.step)))
        return cast(Value, value)

    def decoded(self, value: Value) -> Any:
        each = self.distribution
        if isinstance(each, CategoricalDistribution):
            return each.to_external_repr(cast(int, value))
        if isinstance(each, FloatDistribution | IntDistribution) and _stepped(each):
            return min(each.low + cast(int, value) * cast(float, each.step), each.high)
        return value


def _code(each: BaseDistribution) -> _Code:
    if isinstance(each, CategoricalDistribution):
        return _Code(each, Choice(options=tuple(range(len(each.choices)))))
    assert isinstance(each, FloatDistribution | IntDistribution)
    if _stepped(each):
        steps = math.floor((each.high - each.low) / cast(float, each.step) + 1e-8)
        return _Code(each, Int(low=0, high=steps))
    return _Code(each, as_domain("", each))


def _stepped(each: FloatDistribution | IntDistribution) -> bool:
    return each.step is not None and not (isinstance(each, IntDistribution) and each.step == 1)


def _goal(index: int, way: StudyDirection) -> Goal:
    return Goal(
        metric=f"goal {index}", direction="up" if way == StudyDirection.MAXIMIZE else "down"
    )


def _limit(name: str) -> str:
    return f"limit {name}"


def _bounded(value: float) -> float:
    """The value, or the largest that the model can compute with; of an infinite one nothing."""
    return max(-MOST_SIZE, min(value, MOST_SIZE)) if math.isfinite(value) else value


def _known(trial: FrozenTrial, codes: Mapping[str, _Code]) -> Trial:
    """An Optuna trial in this project's terms; without one of the parameters it is not modelled."""
    done = trial.state == TrialState.COMPLETE
    values = [_bounded(value) for value in trial.values] if done else []
    metrics = {_goal(index, StudyDirection.MINIMIZE).metric: v for index, v in enumerate(values)}
    metrics |= {_limit(name): value for name, value in trial.constraints.items()}
    return Trial.measured(
        trial.number,
        {
            name: code.encoded(trial.params[name])
            for name, code in codes.items()
            if trial.distributions.get(name) == code.distribution
        },
        metrics if done else None,
        state="complete" if done else "failed" if trial.state.is_finished() else "running",
    )
