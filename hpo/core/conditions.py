"""The conditions that trials were measured under: what decides results and no setting shows.

A study's settings name its files and packages, not what is in them. An objective can say what it
reads and computes with (`Objective.conditions`): a short text for each corpus, task and library,
equal exactly when the thing is. The study keeps every set of conditions in the order in which they
were first used, and each trial the number of its set, its group. Only trials of one group are
compared: front, baselines, proposals and claims are of the group that was measured last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from hpo.core.history import Begin, Decision, History
from hpo.core.objective import StatesConditions
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial

ATTRIBUTE = "conditions"
"""User attribute of the study: the conditions of each group, in order."""


LATEST = "group"
"""User attribute of the study: the group that it measured last."""


MOST_NAMED = 4


Conditions: TypeAlias = dict[str, str]


class ConditionsChanged(ValueError):
    """Trials would be measured under other conditions than those they are compared with."""


def of_objective(objective: object) -> Conditions:
    """What an objective says of its conditions; nothing where it has no such method."""
    if not isinstance(objective, StatesConditions):
        return {}
    return {str(name): str(value) for name, value in objective.conditions().items()}


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs, such as `corpus (3f2a -> 91bc), numpy (2.4.6 -> 2.5.0)`."""
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    texts = [f"{name} ({before.get(name, 'none')} -> {now.get(name, 'none')})" for name in names]
    more = [f"and {len(texts) - MOST_NAMED} more"] if len(texts) > MOST_NAMED else []
    return ", ".join([*texts[:MOST_NAMED], *more])


def group_of(
    known: Sequence[Conditions], now: Conditions, *, measured: bool, accept: bool
) -> tuple[list[Conditions], int]:
    """All groups, and the number of the one that new trials belong to.

    Args:
        known: Conditions of the groups so far.
        now: Conditions that the next trial would be measured under.
        measured: Whether any trial has been measured.
        accept: Whether other conditions begin a group of their own.

    Raises:
        ConditionsChanged: the conditions are new, and that is not accepted.
    """
    if not known or not measured:
        return [now], 0
    if now in known:
        return list(known), list(known).index(now)
    if accept:
        return [*known, now], len(known)
    raise ConditionsChanged(
        f"what the study's trials were measured with has changed: {difference(known[-1], now)}. "
        "Restore it, or add --accept-changes: new trials then form a group of their own, which "
        "front and baselines are taken from."
    )


@dataclass(frozen=True)
class GroupView:
    """The trials of one group as a study of their own, numbered from 0."""

    history: History
    numbers: tuple[int, ...]
    """Number in the group -> number in the study."""

    @classmethod
    def of(cls, history: History, group: int) -> GroupView:
        """The trials of this group."""
        trials = [trial for trial in history.trials if trial.group == group]
        indices = {trial.number: index for index, trial in enumerate(trials)}
        renumbered = [
            replace(trial, number=index, replicate_of=indices.get(trial.replicate_of or 0))
            if trial.replicate_of is not None
            else replace(trial, number=index)
            for index, trial in enumerate(trials)
        ]
        return cls(History(renumbered), tuple(trial.number for trial in trials))

    def in_study(self, decision: Decision, next_number: int) -> Decision:
        """A decision of the group with the study's numbers."""
        if not isinstance(decision, Begin):
            return replace(decision, number=self.numbers[decision.number])
        original = decision.replicate_of
        replicate_of = None if original is None else self.numbers[original]
        return replace(decision, number=next_number, replicate_of=replicate_of)


def group_spec(spec: StudySpec, trials: Sequence[Trial], group: int) -> StudySpec | None:
    """The study with the trials that are left for a group; None if there are none.

    Trials of other groups count among the study's trials, unless nothing was measured of them.
    """
    others = sum(trial.group != group and bool(trial.answers) for trial in trials)
    if others == 0:
        return spec
    return replace(spec, trials=spec.trials - others) if spec.trials > others else None


def trial_attribute(group: int) -> dict[str, Any]:
    """How a trial's group is written; the first is left out."""
    return {"group": group} if group else {}
