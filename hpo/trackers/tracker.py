"""What all trackers have in common: which trials are tracked, and what is written of each.

1. A trial is tracked when it has ended, as one run: parameters by path, metrics, costs, curves.
2. A note in the run's folder says which are, so that trials that an earlier process measured
   without the tracker, or did not come to track, are tracked when the study goes on.
3. At the end one more run has the front as a table and the report as a file.

Settings beyond that, such as project, server or offline mode, are the tool's own environment
variables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hpo.core import files
from hpo.core.callback import CurvePoint, StudyEnded, TrialBegun
from hpo.core.format import escape_controls
from hpo.core.metrics import OVER_RATES
from hpo.core.trial import Run, Trial


@dataclass(frozen=True, kw_only=True)
class TrackedTrial:
    """What a tool receives of a trial."""

    study: str
    """The group of its run."""
    name: str
    """Of its run."""
    number: int
    state: str
    params: Mapping[str, Any]
    goals: Mapping[str, float]
    """The metrics that are goals; also among `metrics`."""
    metrics: Mapping[str, float]
    """Finite ones, costs as `cost.NAME` among them."""
    curves: Mapping[str, Sequence[tuple[int, float]]]
    """Name -> (step, value), steps rising."""
    text: str
    """Why it failed, its labels and notes."""


@dataclass(frozen=True, kw_only=True)
class TrackedStudy:
    """What a tool receives of a study that has ended."""

    study: str
    description: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """The front: a row a trial, with goals and params."""
    report: Path | None


class Tool(Protocol):
    """A tracking program."""

    def trial(self, trial: TrackedTrial) -> None:
        """Track a trial as a run."""

    def study(self, study: TrackedStudy) -> None:
        """Track the front and the report."""


class Tracker:
    """A callback that tells a tool."""

    def __init__(self, name: str, tool: Tool) -> None:
        self.name, self.tool = name, tool
        self.run: Run | None = None
        self.note = Path()
        self.tracked: set[int] = set()

    def study_begun(self, run: Run, folder: Path) -> None:
        """Track what was measured without."""
        self.run, self.note = run, folder / f"tracked-{self.name}.json"
        self.tracked = _read(self.note)
        for trial in run.trials:
            if trial.state != "running":
                self.trial_ended(trial)

    def trial_begun(self, trial: TrialBegun) -> None:
        """Nothing: a trial is one run, made when it has ended."""

    def curve_point(self, point: CurvePoint) -> None:
        """Nothing: a trial's own curves are in its record."""

    def trial_ended(self, trial: Trial) -> None:
        """Track a trial, once."""
        assert self.run is not None
        if trial.number in self.tracked:
            return
        self.tool.trial(_tracked_trial(self.run, trial))
        self.tracked.add(trial.number)
        files.write(self.note, json.dumps(sorted(self.tracked)))

    def study_ended(self, ended: StudyEnded) -> None:
        """Track the front and the report."""
        self.tool.study(_tracked_study(ended))


def _read(note: Path) -> set[int]:
    try:
        data = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    return {each for each in data if isinstance(each, int)} if isinstance(data, list) else set()


def _tracked_trial(run: Run, trial: Trial) -> TrackedTrial:
    measured = {**trial.metrics, **{f"cost.{name}": value for name, value in trial.cost.items()}}
    metrics = {name: value for name, value in measured.items() if math.isfinite(value)}
    named = f" {trial.name}" if trial.name is not None else ""
    return TrackedTrial(
        study=run.name,
        name=escape_controls(f"trial-{trial.number}{named}"),
        number=trial.number,
        state=trial.state,
        params={**trial.params, "seed": trial.seed, "fidelity": trial.fidelity},
        goals={each.metric: metrics[each.metric] for each in run.goals if each.metric in metrics},
        metrics=metrics,
        curves={
            name: _points(points)
            for name, points in trial.curves.items()
            if not name.startswith(OVER_RATES)
        },
        text=escape_controls("; ".join(filter(None, (trial.failure, *trial.labels, *trial.notes)))),
    )


def _points(curve: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Finite points at whole steps, the last one of each step."""
    found = {round(step): value for step, value in curve if math.isfinite(value)}
    return sorted(found.items())


def _tracked_study(ended: StudyEnded) -> TrackedStudy:
    goals = [goal.metric for goal in ended.run.goals]
    params = list(dict.fromkeys(path for trial in ended.front for path in trial.params))
    return TrackedStudy(
        study=ended.run.name,
        description=ended.run.description,
        columns=["trial", "name", *goals, *params],
        rows=[
            [trial.number, trial.name or "", *(trial.metrics.get(goal) for goal in goals),
             *(trial.params.get(path) for path in params)]
            for trial in ended.front
        ],
        report=ended.report,
    )  # fmt: skip
