"""A study's history, read from Optuna's record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from hpo.core import rows
from hpo.core.history import Answer, Ask, Ended, Entry, History
from hpo.core.param_rows import Recorded, check_params
from hpo.core.spec import StudySpec


def check(frozen: Iterable[FrozenTrial], settings: Mapping[str, Any]) -> None:
    """Check recorded params against the settings that `storage.record.spec_data` has made.

    Raises:
        DamagedRow: a value is not one that its trial can have.
    """
    trials = sorted(map(_recorded, frozen), key=lambda trial: trial.number)
    check_params(trials, settings)


def _recorded(frozen: FrozenTrial) -> Recorded:
    attrs = rows.checked(frozen.user_attrs, rows.OF_TRIAL)
    baseline = attrs.get("baseline")
    return Recorded(
        number=frozen.number,
        params=attrs.get("params", frozen.params),
        asked="asked" in attrs,
        name=attrs.get("point") if baseline is None else baseline,
        replicate_of=attrs.get("replicate_of"),
        indexed=frozen.params,
    )


def read(frozen: Iterable[FrozenTrial], spec: StudySpec) -> History:
    """The history from Optuna's record.

    Raises:
        DamagedRow: a row has another shape than this program writes, or another program has added a
            trial.
    """
    trials = list(frozen)
    rows.check_numbers([each.number for each in trials])
    return History([_entry(each, spec) for each in trials])


def _entry(frozen: FrozenTrial, spec: StudySpec) -> Entry:
    attrs = rows.checked(frozen.user_attrs, rows.OF_TRIAL)
    ended: dict[TrialState, Ended] = {
        TrialState.COMPLETE: "complete",
        TrialState.FAIL: "failed",
        TrialState.PRUNED: "pruned",
    }
    number = frozen.number
    state = ended.get(frozen.state)
    if "asked" not in attrs:
        raise rows.DamagedRow(f"trial {number} is not one that this program has begun")
    asks = tuple(_ask(*each) for each in attrs["asked"])
    answers = [
        Answer(
            each["fidelity"],
            each["order"],
            rows.numbers(each["metrics"]),
            rows.numbers(each["cost"]),
            ask.base_only,
        )
        for each, ask in zip(attrs.get("rungs", []), asks, strict=False)
    ]
    if state in ("complete", "failed"):
        step = attrs.get("step_cost", attrs.get("cost", {}))
        order = attrs.get("order", number)
        last, metrics = asks[-1], attrs.get("metrics", {})
        scores = attrs.get("row_scores", {})
        answers.append(Answer(last.fidelity, order, metrics, step, last.base_only, scores))
    baseline, point = attrs.get("baseline"), attrs.get("point")
    kind: Any = "searched" if attrs.get("replicate_of") is None else "repeated"
    # Confirmations may be before planned trials that were added later, so names decide.
    if baseline is not None or point is not None:
        kind = "planned"
    return Entry(
        number=number,
        params=attrs.get("params", {}),
        seed=attrs.get("seed", spec.seed),
        asks=asks,
        answers=tuple(answers),
        ended=state,
        stopped_at=attrs.get("stopped_at"),
        kind="confirms" if attrs.get("confirms") else kind,
        replicate_of=attrs.get("replicate_of"),
        baseline=baseline,
        point=point,
        group=attrs.get("group", 0),
        trial_id=frozen._trial_id,
    )


def _ask(wave: int, place: int, fidelity: float, seen: int, base_only: int = 0) -> Ask:
    return Ask(wave, place, fidelity, seen, bool(base_only))
