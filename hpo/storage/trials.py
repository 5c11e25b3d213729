"""Trials as this program writes them into Optuna's storage and reads them again.

User attributes of a trial: `asked`, its questions [wave, index, fidelity, answers seen] with a 1 at
the end where only the base is asked for; `rungs`, its answers below full fidelity; `metrics`,
`step_cost`, `order`, those of the last answer; `cost`, of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from hpo.core import rows
from hpo.core.history import History
from hpo.core.param_rows import check_params
from hpo.core.spec import StudySpec
from hpo.core.trial import Answer, Ask, State, Trial
from hpo.storage.settings import named_params, space_of, spec_data

STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


def read_trials(stored: Sequence[FrozenTrial], settings: Mapping[str, Any]) -> list[Trial]:
    """All trials of a study with these settings.

    Raises:
        DamagedRow: a row has another shape than this program writes, or a value is not one that its
            trial can have.
    """
    goals = [metric for metric, _ in settings["goals"]]
    trials = [_trial(each, goals) for each in stored]
    indexed = [each.params for each in stored]
    check_params(trials, indexed, space_of(settings), named_params(settings))
    return trials


def read_history(frozen: Iterable[FrozenTrial], spec: StudySpec) -> History:
    """The history of a study from Optuna's record.

    Raises:
        DamagedRow: a row has another shape than this program writes, or another program has added a
            trial.
    """
    stored = list(frozen)
    rows.check_numbers([each.number for each in stored])
    for each in stored:
        if "asked" not in each.user_attrs:
            raise rows.DamagedRow(f"trial {each.number} is not one that this program has begun")
    return History(read_trials(stored, spec_data(spec)))


def _trial(frozen: FrozenTrial, goals: Sequence[str]) -> Trial:
    """One trial; the values of one that another program added are those of the goals."""
    attrs = rows.checked(frozen.user_attrs, rows.OF_TRIAL)
    if frozen.state == TrialState.COMPLETE:
        if "metrics" in attrs:
            rows.check_goals(frozen.number, frozen.user_attrs["metrics"], goals)
        else:
            attrs["metrics"] = dict(zip(goals, frozen.values, strict=True))
    asks = tuple(_ask(*each) for each in attrs.get("asked", []))
    return Trial(
        number=frozen.number,
        params=attrs.get("params", frozen.params),
        seed=attrs.get("seed", 0),
        state=STATES[frozen.state],
        asks=asks,
        answers=tuple(_answers(frozen, attrs, asks)),
        stopped_at=attrs.get("stopped_at"),
        baseline=attrs.get("baseline"),
        point=attrs.get("point"),
        replicate_of=attrs.get("replicate_of"),
        confirms=attrs.get("confirms", False),
        group=attrs.get("group", 0),
        curves=attrs.get("curves", {}),
        failure=attrs.get("failure"),
        notes=attrs.get("notes", []),
        labels=attrs.get("labels", []),
        trial_id=frozen._trial_id,
    )


def _ask(wave: int, index: int, fidelity: float, seen: int, base_only: int = 0) -> Ask:
    return Ask(wave, index, fidelity, seen, bool(base_only))


def ask_data(ask: Ask) -> list[float]:
    """How a question is written."""
    return [ask.wave, ask.index, ask.fidelity, ask.seen, *([1] if ask.base_only else [])]


def rung_data(answer: Answer) -> dict[str, Any]:
    """How an answer below full fidelity is written."""
    return {
        "fidelity": answer.fidelity,
        "metrics": answer.metrics,
        "cost": answer.cost,
        "order": answer.order,
    }


def _answers(frozen: FrozenTrial, attrs: Mapping[str, Any], asks: Sequence[Ask]) -> list[Answer]:
    """Those at lower rungs, and the one that ended the trial."""
    base_only = [ask.base_only for ask in asks]
    found = [
        Answer(
            each["fidelity"],
            each["order"],
            rows.numbers(each["metrics"]),
            rows.numbers(each["cost"]),
            alone,
        )
        for each, alone in zip(attrs.get("rungs", []), base_only, strict=False)
    ]
    ended_by_it = frozen.state == TrialState.FAIL and ("order" in attrs or not asks)
    if ended_by_it or frozen.state == TrialState.COMPLETE:
        found.append(
            Answer(
                asks[-1].fidelity if asks else attrs.get("fidelity", 1.0),
                attrs.get("order", frozen.number),
                attrs.get("metrics", {}),
                attrs.get("step_cost", attrs.get("cost", {})),
                base_only[-1] if asks else False,
                attrs.get("row_scores", {}),
            )
        )
    return found
