"""A trial: what was asked of it and what it gave; the one shape that search, front and report read.

A trial is asked at one fidelity after another, and each answer follows its question. All else is
read off them: the metrics are those of the last answer, the cost is that of all answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

from hpo.core.contrasts import PlannedContrasts
from hpo.core.domains import Domain
from hpo.core.goals import Goal, Limit
from hpo.core.objective import Value
from hpo.core.paper import Paper
from hpo.core.spec import StudySpec

State: TypeAlias = Literal["complete", "pruned", "failed", "running"]
"""pruned: stopped at a rung; what it measured there is kept."""


Kind: TypeAlias = Literal["planned", "proposed", "replicate", "confirmation"]
"""planned: a baseline or a grid point, at any seed. replicate: another seed of an earlier trial.
confirmation: another seed of a trial of the reported front, after the choice."""


@dataclass(frozen=True, order=True)
class Ask:
    """A question: measure the trial at this fidelity."""

    wave: int
    index: int
    """Within the wave."""
    fidelity: float
    seen: int
    """Answers that had come when it was decided."""
    base_only: bool = False
    """Without what comes after pretraining."""


@dataclass(frozen=True)
class Answer:
    """What a trial gave at a fidelity."""

    fidelity: float
    order: int
    """Among all answers of the study."""
    metrics: dict[str, float]
    """Flat; the standard error of `gain` is beside it as `gain_sem`."""
    cost: dict[str, float] = field(default_factory=dict)
    base_only: bool = False
    row_scores: dict[str, list[list[float]]] = field(default_factory=dict)
    """Metric -> a list a task of a value a test row, in the same order in all trials; of a trial
    that was measured in full."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial."""

    number: int
    params: Mapping[str, Value]
    seed: int = 0
    state: State = "running"
    asks: tuple[Ask, ...] = ()
    answers: tuple[Answer, ...] = ()
    """In order; of a failed trial the last may be the failure."""
    stopped_at: int | None = None
    """The wave before which it was pruned."""
    baseline: str | None = None
    """The baseline's name; None for another trial."""
    point: str | None = None
    """The grid point's name; None for a baseline or a proposed trial."""
    replicate_of: int | None = None
    """Number of the trial whose params this one measures at another seed; None for itself."""
    confirms: bool = False
    """Whether it repeats a trial of the reported front at a fresh seed, after the choice."""
    group: int = 0
    """Number of the conditions that it is measured under; see `hpo.core.conditions`."""
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    """Curve name -> points [step, value], of the last answer."""
    failure: str | None = None
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Shown beside the number wherever the trial is named."""
    trial_id: int = field(default=-1, compare=False, repr=False)
    """The storage's."""

    @classmethod
    def measured(
        cls,
        number: int,
        params: Mapping[str, Value],
        metrics: Mapping[str, float] | None = None,
        *,
        cost: Mapping[str, float] | None = None,
        fidelity: float = 1.0,
        row_scores: Mapping[str, list[list[float]]] | None = None,
        rungs: Sequence[Answer] = (),
        **fields: Any,
    ) -> Trial:
        """A trial that no controller asked for, with one question for each answer.

        Args:
            metrics: Of the last answer; None while it is awaited.
            rungs: The answers before.
            fields: All other fields of a trial.
        """
        last = Answer(fidelity, number, dict(metrics or {}), dict(cost or {}), False)
        last = replace(last, row_scores=dict(row_scores or {}))
        asks = tuple(Ask(number, 0, each.fidelity, number) for each in (*rungs, last))
        answers = tuple(rungs) if metrics is None else (*rungs, last)
        return cls(number=number, params=params, asks=asks, answers=answers, **fields)

    def with_answer(self, **changes: Any) -> Trial:
        """The trial with other values of its last answer."""
        return replace(self, answers=(*self.answers[:-1], replace(self.answers[-1], **changes)))

    @property
    def kind(self) -> Kind:
        """Why it was begun."""
        if self.confirms:
            return "confirmation"
        if self.name is not None:
            return "planned"
        return "proposed" if self.replicate_of is None else "replicate"

    @property
    def name(self) -> str | None:
        """Of the baseline or grid point; None for a proposed trial."""
        return self.baseline if self.baseline is not None else self.point

    @property
    def ended(self) -> bool:
        """Whether it goes on no more."""
        return self.state != "running"

    @property
    def in_flight(self) -> bool:
        """Asked and not answered yet."""
        return not self.ended and len(self.asks) > len(self.answers)

    @property
    def waiting(self) -> bool:
        """Answered at its rung, and neither promoted nor ended."""
        return not self.ended and 0 < len(self.asks) == len(self.answers)

    @property
    def results(self) -> tuple[Answer, ...]:
        """The answers, without the failure that ended it."""
        failed = self.state == "failed" and len(self.answers) == len(self.asks)
        return self.answers[:-1] if failed else self.answers

    @property
    def rungs(self) -> tuple[Answer, ...]:
        """Answers at the fidelities passed on the way."""
        return self.answers[:-1]

    @property
    def fidelity(self) -> float:
        """The highest that was measured; of a trial without an answer the one asked for first."""
        first = self.asks[0].fidelity if self.asks else 1.0
        return self.answers[-1].fidelity if self.answers else first

    @property
    def metrics(self) -> dict[str, float]:
        """At the highest fidelity that was measured."""
        return self.answers[-1].metrics if self.answers else {}

    @property
    def row_scores(self) -> dict[str, list[list[float]]]:
        """Of the last answer; see `Answer.row_scores`."""
        return self.answers[-1].row_scores if self.answers else {}

    @cached_property
    def cost(self) -> dict[str, float]:
        """Of all answers: added up, and of a peak the largest."""
        total: dict[str, float] = {}
        for answer in self.answers:
            for name, value in answer.cost.items():
                known = total.get(name, 0.0)
                total[name] = max(known, value) if "peak" in name else known + value
        return total


@dataclass(frozen=True, kw_only=True)
class Run:
    """A study's record."""

    name: str
    description: str
    goals: tuple[Goal, ...]
    limits: tuple[Limit, ...]
    trials: list[Trial]
    planned: int
    """Trials the run was asked for."""
    space: Mapping[str, Domain]
    """Recipe path -> domain."""
    reproduce: dict[str, Any]
    """What reproduces the run: recipe, study settings, seed, versions, device, revision."""
    paper: Paper | None = None
    contrasts: PlannedContrasts | None = None
    contrasts_after: int = 0
    """Results that had come when the contrasts were stated; 0 is before the run."""
    """What a paper found, to show beside the results."""
    conditions: list[dict[str, str]] = field(default_factory=list)
    """Of each group of trials: what they read and were computed with."""
    group: int = 0
    """The group whose trials these are."""
    num_others: int = 0
    """Trials of other groups, which are not compared with these."""
    begun: datetime | None = field(default=None, compare=False)
    """Local time at which the first trial was started; None where the record does not say."""
    ended: datetime | None = field(default=None, compare=False)
    """Local time at which the last result was recorded."""
    study: str | None = field(default=None, compare=False)
    """The study's name or file, as it was given to the command that started the run."""

    @classmethod
    def of(cls, spec: StudySpec, trials: Sequence[Trial]) -> Run:
        """These trials of a study."""
        return cls(
            name=spec.name,
            description=spec.description,
            goals=spec.goals,
            limits=spec.limits,
            trials=list(trials),
            planned=spec.trials,
            space=spec.space,
            reproduce={},
        )

    def complete(self) -> list[Trial]:
        """The trials that were measured to the end."""
        return [trial for trial in self.trials if trial.state == "complete"]

    def __repr__(self) -> str:
        """One line: the whole record is long."""
        states = Counter(trial.state for trial in self.trials)
        counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "no trials"
        goals = ", ".join(f"{goal.metric} {goal.direction}" for goal in self.goals)
        return f"<Run {self.name!r}: {counts} of {self.planned} trials; goals {goals}>"
