"""What a run has measured, as plain data: the one shape that front, tables and report read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from hpo.core.goals import Goal, Limit
from hpo.core.objective import Value
from hpo.core.paper import Paper

State: TypeAlias = Literal["complete", "pruned", "failed", "running"]
"""pruned: stopped at a rung; what it measured there is kept."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What a trial had measured at one fidelity below its last."""

    fidelity: float
    metrics: dict[str, float]
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial as recorded."""

    number: int
    state: State
    params: dict[str, Value]
    baseline: str | None = None
    """The baseline's name; None for another trial."""
    point: str | None = None
    """The grid point's name; None for a baseline or a proposed trial."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Flat; the standard error of `gain` is beside it as `gain_sem`."""
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    """Curve name -> points [step, value]."""
    row_scores: dict[str, list[list[float]]] = field(default_factory=dict)
    """Metric -> a list a task of a value a test row, in the same order in all trials."""
    cost: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Stand beside the number wherever the trial is named."""
    seed: int = 0
    fidelity: float = 1.0
    """The highest that was measured; `metrics` are those at it."""
    rungs: list[Rung] = field(default_factory=list)
    """Fidelities passed on the way, in order."""
    replicate_of: int | None = None
    """Number of the trial whose params this one measures at another seed; None for itself."""
    group: int = 0
    """Number of the conditions that it was measured under."""
    confirms: bool = False
    """Whether it repeats a trial of the reported front at a fresh seed, after the choice."""

    @property
    def name(self) -> str | None:
        """Of the baseline or grid point; None for a proposed trial."""
        return self.baseline if self.baseline is not None else self.point


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
    space: dict[str, Any]
    """Recipe path -> domain as data, {"kind": "float", "low": ..., "high": ..., "log": ...}."""
    reproduce: dict[str, Any]
    """What reproduces the run: recipe, study settings, seed, versions, device, revision."""
    paper: Paper | None = None
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

    def complete(self) -> list[Trial]:
        """The trials that were measured to the end."""
        return [trial for trial in self.trials if trial.state == "complete"]

    def __repr__(self) -> str:
        """One line: the whole record is long."""
        states = Counter(trial.state for trial in self.trials)
        counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "no trials"
        goals = ", ".join(f"{goal.metric} {goal.direction}" for goal in self.goals)
        return f"<Run {self.name!r}: {counts} of {self.planned} trials; goals {goals}>"
