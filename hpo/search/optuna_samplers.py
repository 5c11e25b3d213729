"""Proposals by Optuna's samplers, from a shadow study in memory.

Each result of each rung is one completed trial with the fidelity as one more parameter, which the
ask fixes at 1: so samplers learn from trials that were stopped, of which they otherwise learn
nothing. What is under way is a running trial. The record itself would not do: Optuna's samplers
model only parameters that all trials have, and a baseline outside the space would leave them none.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.core.domains import distributions, inside
from hpo.core.objective import Value
from hpo.core.spec import StudySpec
from hpo.core.trial import Answer, Trial
from hpo.front.losses import constraints

START_UP_LEAST = 4


POPULATION = 8
"""NSGA-II's generation; Optuna's 50 would leave a proxy study without a second one; assumed."""


GENERATION = "NSGAIISampler:generation"
"""Where NSGA-II looks for a trial's generation; it ignores trials without one."""


FIDELITY = "fidelity"


MOST = {"gp-optuna": 200, "botorch": 200, "tpe": 1000, "nsga2": 1000, "random": 0}
"""Latest results that a sampler is shown; Gaussian processes take cubic time."""


def ask(spec: StudySpec, seed: int, trials: Sequence[Trial]) -> dict[str, Value]:
    """Values for the space's paths."""
    with warnings.catch_warnings():
        # Experimental samplers, infinite values clipped, roulettes without odds: none is an error,
        # and nothing that a person could fix.
        warnings.simplefilter("ignore")
        sampler = _SAMPLERS[spec.sampler](seed)
        space = distributions(spec.space)
        if len(spec.fidelities) > 1:
            space[FIDELITY] = FloatDistribution(spec.fidelities[0], 1.0, log=True)
            sampler = PartialFixedSampler({FIDELITY: 1.0}, sampler)
        ways = [goal.optuna_direction for goal in spec.goals]
        study = optuna.create_study(directions=ways, sampler=sampler)
        study.add_trials(_trials(spec, trials))
        asked = study.ask(space)
    return {path: asked.params[path] for path in spec.space}


def _trials(spec: StudySpec, trials: Sequence[Trial]) -> list[FrozenTrial]:
    """The latest results, and what is under way.

    Generations are counted from the first that is shown: Optuna goes back through them all by
    recursion, which a few hundred would end.
    """
    most = MOST[spec.sampler]
    if not most:
        return []
    space = distributions(spec.space)
    if len(spec.fidelities) > 1:
        space[FIDELITY] = FloatDistribution(spec.fidelities[0], 1.0, log=True)
    rows = list(_rows(spec, trials))[-most:]
    first = rows[0][0] // POPULATION if rows else 0
    found = []
    for num_done, values, fidelity, answer in rows:
        fields: dict[str, Any] = {"state": TrialState.RUNNING}
        if answer is not None:
            fields = {
                "values": [float(answer.metrics[goal.metric]) for goal in spec.goals],
                "constraints": constraints(spec.limits, answer.metrics),
            }
        found.append(
            create_trial(
                params=_at(values, fidelity, space),
                distributions=space,
                system_attrs={GENERATION: num_done // POPULATION - first},
                **fields,
            )
        )
    return found


def _rows(
    spec: StudySpec, trials: Sequence[Trial]
) -> Iterator[tuple[int, Mapping[str, Value], float, Answer | None]]:
    """How many results came before, params, fidelity and what came, None where it is under way."""
    num_done = 0
    for trial in trials:
        values = {path: trial.params.get(path) for path in spec.space}
        if not inside(spec.space, values) or trial.state == "failed":
            continue
        for answer in trial.answers:
            goals = [answer.metrics.get(goal.metric, math.nan) for goal in spec.goals]
            if not any(map(math.isnan, goals)):
                yield num_done, values, answer.fidelity, answer
                num_done += 1
        if trial.in_flight:
            yield num_done, values, trial.asks[-1].fidelity, None


def _at(
    values: Mapping[str, Value], fidelity: float, space: Mapping[str, object]
) -> dict[str, Value]:
    return {**values, FIDELITY: fidelity} if FIDELITY in space else dict(values)


def check(sampler: str) -> None:
    """Raise ValueError if the sampler needs a package that is not installed."""
    needed = ("botorch", "optuna_integration") if sampler == "botorch" else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the sampler 'botorch' needs {' and '.join(missing)}, not installed here; run pip "
            "install 'plasticity-hpo[botorch]', or choose another sampler."
        )


def _botorch(seed: int) -> BaseSampler:
    from optuna_integration import BoTorchSampler

    sampler: BaseSampler = BoTorchSampler(n_startup_trials=START_UP_LEAST, seed=seed)
    return sampler


_SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "gp-optuna": lambda seed: GPSampler(seed=seed, n_startup_trials=START_UP_LEAST),
    "botorch": _botorch,
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=START_UP_LEAST),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
    "random": lambda seed: RandomSampler(seed=seed),
}
