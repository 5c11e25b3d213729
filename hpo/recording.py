"""How an answer is written into Optuna's record, and when it makes its trial a failed one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from hpo.core.goals import Goal
from hpo.core.history import Answer, Entry
from hpo.core.results import TrialResult
from hpo.core.spec import StudySpec
from hpo.front.losses import constraints
from hpo.storage.record import json_roundtrip


def failure_of(result: TrialResult, wanted: Sequence[Goal]) -> str | None:
    """Why a trial failed; None if it has a finite number for each goal that was asked for."""
    if result.failure is not None:
        return result.failure
    missing = _missing(wanted, result.metrics)
    if not missing:
        return None
    known = [name for name, value in sorted(result.metrics.items()) if math.isfinite(value)]
    return (
        f"the objective gave no number for {' and '.join(missing)}; it gave "
        f"{', '.join(known) or 'nothing'}"
    )


def _missing(goals: Sequence[Goal], metrics: Mapping[str, float]) -> list[str]:
    """Goals without a finite number; an infinite one is named with its value."""
    found = []
    for name in [goal.metric for goal in goals]:
        value = metrics.get(name, math.nan)
        if not math.isfinite(value):
            found.append(name if math.isnan(value) else f"{name} ({value})")
    return found


def write_answer(
    storage: BaseStorage, spec: StudySpec, known: Entry, result: TrialResult, failure: str | None
) -> None:
    """A trial's last answer, and its end where it is one; to be one transaction."""
    answer, trial_id = known.answers[-1], known.trial_id

    def put(**attrs: Any) -> None:
        for name, value in attrs.items():
            storage.set_trial_user_attr(trial_id, name, json_roundtrip(value))

    put(
        metrics=result.metrics,
        curves=result.curves,
        notes=result.notes,
        labels=result.labels,
        cost=known.cost,
    )
    if len(spec.rungs) > 1:
        put(fidelity=answer.fidelity)
    if known.ended is None:
        put(rungs=[_rung(each) for each in known.answers])
        return
    put(order=answer.order, step_cost=answer.cost)
    if failure is not None:
        put(failure=failure)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
        return
    goals = [answer.metrics.get(goal.metric, math.nan) for goal in spec.goals]
    limits = constraints(spec.limits, answer.metrics)
    for key, value in create_trial(values=goals, constraints=limits).system_attrs.items():
        storage.set_trial_system_attr(trial_id, key, value)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, goals)


def _rung(answer: Answer) -> dict[str, Any]:
    return {
        "fidelity": answer.fidelity,
        "metrics": answer.metrics,
        "cost": answer.cost,
        "order": answer.order,
    }
