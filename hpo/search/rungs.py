"""Whether and where trials are compared before their end: what the costs of stages say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.search import cost_model
from hpo.search.cost_model import CostModel


def has_late_goals(spec: StudySpec) -> bool:
    """Whether some goals are known after pretraining and others only after fine-tuning."""
    early = [goal.metric in spec.objective.early() for goal in spec.goals]
    return any(early) and not all(early)


def rungs_in_use(
    spec: StudySpec, prices: CostModel, usable: Callable[[float], bool]
) -> tuple[float, ...]:
    """Fidelities at which trials may begin or go on.

    Those that the study names. Left to choose, those below the end at which a whole question costs
    no more than half a trial, as soon as the costs are known; before, and where there are none,
    only the end.
    """
    if spec.rungs != "auto":
        return spec.fidelities
    return tuple(
        rung
        for rung in spec.fidelities
        if rung == 1 or (prices.by_stage and prices.pays(rung) and usable(rung))
    )


def first_fidelity(
    spec: StudySpec, trials: Sequence[Trial], usable: Callable[[float], bool]
) -> float:
    """Where a start-up point is measured: at the lowest rung at which a whole question pays.

    While no cost is known, in full where fine-tuning comes on top of pretraining.
    """
    if spec.sampler != "gp" or spec.fidelities == (1.0,):
        return spec.fidelities[0]
    prices = cost_model.learnt(trials, spec.currency)
    rungs = rungs_in_use(spec, prices, usable)
    if spec.finetune_at_rungs == "always" or not has_late_goals(spec):
        return rungs[0]
    if not any(trial.results for trial in trials):
        return 1.0
    return next(rung for rung in rungs if rung == 1 or not prices.separate or prices.pays(rung))
