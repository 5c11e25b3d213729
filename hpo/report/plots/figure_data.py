"""What the report's figures show, as plain data; `hpo.report.plots.draw` draws each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hpo.core import format, metrics
from hpo.core.goals import Goal
from hpo.core.metrics import Measure, level_sem
from hpo.core.trial import Run, Trial
from hpo.front.front import Front
from hpo.report import findings
from hpo.report.results import Results

Group: TypeAlias = Literal[
    "front",
    "undecided",
    "dominated",
    "replicate",
    "outside limits",
    "not measured",
    "partial",
    "pruned",
    "failed",
]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trial in the plane of two metrics; errors are standard errors or None."""

    trial: int
    group: Group
    x: float
    y: float
    x_error: float | None
    y_error: float | None
    membership: float | None
    """Probability of belonging to the front; None where the noise is unknown."""
    baseline: str | None
    tag: str
    """The trial's labels, as they are behind its name."""
    hover: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FrontData:
    """Trials in the plane of two metrics, the front's in the order of the first goal."""

    x: str
    y: str
    points: tuple[Point, ...]
    knee: int | None
    missing: tuple[int, ...]
    """Trials without a number for both metrics."""
    goals: tuple[Goal, ...]
    joined: bool
    """Whether the axes are the study's only goals: then a line along the front means something."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One trial's values over steps."""

    trial: int
    label: str
    shown: bool
    """Drawn before anyone selects: the front and the baselines."""
    baseline: bool
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TaskGain:
    """One trial on one task: its score, or loss on answers, before and after fine-tuning."""

    task: str
    before: float
    after: float
    error: float | None


@dataclass(frozen=True, kw_only=True)
class GainData:
    """Scores by task; chance as task -> level."""

    axis: str
    tasks: tuple[str, ...]
    chance: dict[str, float]
    trials: tuple[tuple[Trial, bool, tuple[TaskGain, ...]], ...]
    """Trial, drawn before anyone selects, its tasks."""


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A quantity at the points of a paper's table, one side of it."""

    title: str
    paper: bool
    """Whether these are the paper's numbers."""
    axis: str
    points: tuple[str, ...]
    values: tuple[float | None, ...]
    errors: tuple[float | None, ...]


def paper_dots(results: Results) -> tuple[Dots, ...]:
    """Every quantity of the paper's tables: the paper's numbers where known, then the study's."""
    found = []
    for side in results.paper_sides:
        for place, quantity in enumerate(side.quantities):
            points = tuple(row.point for row in side.rows)
            cells = [row.cells[place] for row in side.rows]
            if quantity.paper:
                numbers = tuple(cell.paper for cell in cells)
                none = (None,) * len(cells)
                found.append(
                    Dots(
                        title=side.title,
                        paper=True,
                        axis=quantity.paper_name,
                        points=points,
                        values=numbers,
                        errors=none,
                    )
                )
            found.append(
                Dots(
                    title=side.title,
                    paper=False,
                    axis=findings.column(quantity),
                    points=points,
                    values=tuple(_finite_or_none(cell.mean) for cell in cells),
                    errors=tuple(_finite_or_none(cell.sem) for cell in cells),
                )
            )
    return tuple(found)


def plane(run: Run) -> tuple[str, str]:
    """The metrics of the front's axes: the first two goals, or the goal and what it leaves open."""
    names = [goal.metric for goal in run.goals]
    how = metrics.measure(run)
    names += [name for name in (how.gain, "base_loss", how.after) if name not in names]
    return names[0], names[1]


def front_data(results: Results, x: str, y: str) -> FrontData:
    """Every trial that has both metrics, and what is known of it."""
    run, front = results.run, results.front
    order = {trial.number: place for place, trial in enumerate(front.trials)}
    trials = sorted(joined(results), key=lambda t: (order.get(t.number, -1), t.number))
    placed = [trial for trial in trials if _finite(trial, x) and _finite(trial, y)]
    placed = [trial for trial in placed if front.standings[trial.number] != "running"]
    numbers = {trial.number for trial in placed}
    how = metrics.measure(run)
    return FrontData(
        x=x,
        y=y,
        points=tuple(_point(trial, front, x, y, how) for trial in placed),
        knee=None if front.knee is None else front.knee.number,
        missing=tuple(trial.number for trial in run.trials if trial.number not in numbers),
        goals=run.goals,
        joined=[goal.metric for goal in run.goals] == [x, y],
    )


def joined(results: Results) -> list[Trial]:
    """The run's trials; one that represents a point has the means and errors over its seeds."""
    points = {trial.number: trial for trial in results.front.points}
    return [points.get(trial.number, trial) for trial in results.run.trials]


def curve_names(run: Run) -> list[str]:
    """The curves some trial has: validation, training, others, fine-tuning, probes."""
    seen = {name for trial in run.trials for name in trial.curves}
    first = {"val_loss": 0, "train_loss": 1}
    last = {"finetune": 1, "finetune_lr": 2, "probe": 3}
    return sorted(
        seen, key=lambda name: (last.get(name.split(".")[0], 0), first.get(name, 2), name)
    )


def last_step(run: Run, name: str) -> float:
    """The last step or layer of a curve over all trials."""
    curves = [trial.curves.get(name) for trial in run.trials]
    return max((points[-1][0] for points in curves if points), default=0.0)


def curve_data(results: Results, name: str) -> tuple[Curve, ...]:
    """One curve of every trial that has it, all points kept."""
    return tuple(
        Curve(
            trial=trial.number,
            label=format.title(trial),
            shown=shown(trial, results.front),
            baseline=trial.baseline is not None,
            steps=tuple(point[0] for point in trial.curves[name]),
            values=tuple(rounded(point[1]) for point in trial.curves[name]),
        )
        for trial in results.run.trials
        if trial.curves.get(name)
    )


def gain_data(results: Results) -> GainData:
    """Before and after by task for every trial that has both."""
    run, front = results.run, results.front
    how, tasks = metrics.measure(run), tuple(metrics.task_names(run))
    levels = (
        {}
        if how == metrics.LOSS
        else {
            task: trial.metrics[f"task.{task}.chance"]
            for task in tasks
            for trial in run.trials
            if _finite(trial, f"task.{task}.chance")
        }
    )
    rows = ((trial, shown(trial, front), _task_gains(trial, tasks, how)) for trial in run.trials)
    trials = tuple(row for row in rows if row[2])
    return GainData(axis=how.axis, tasks=tasks, chance=levels, trials=trials)


def _point(trial: Trial, front: Front, x: str, y: str, how: Measure) -> Point:
    group = front.standings[trial.number]
    assert group != "running"
    return Point(
        trial=trial.number,
        group=group,
        x=trial.metrics[x],
        y=trial.metrics[y],
        x_error=_error(trial, x),
        y_error=_error(trial, y),
        membership=_finite_or_none(front.membership.get(trial.number, math.nan)),
        baseline=trial.baseline,
        tag=format.tag(trial),
        hover=_hover(trial, front, how),
    )


def _hover(trial: Trial, front: Front, how: Measure) -> tuple[str, ...]:
    standing = front.standings[trial.number]
    knee = ", knee" if front.knee is not None and trial.number == front.knee.number else ""
    lines = [f"{format.title(trial)} ({standing}{knee})"]
    share = front.membership.get(trial.number, math.nan)
    lines += [] if math.isnan(share) else [f"on the front: {format.percent(share)}"]
    lines += [f"{path} = {format.setting(value)}" for path, value in trial.params.items()]
    plain = [
        name
        for name in trial.metrics
        if not name.endswith("_sem") and not name.startswith(("task.", "probe."))
    ]
    lines += [f"{name}: {metrics.measured(trial, name)}" for name in plain]
    for gain in _task_gains(trial, tuple(metrics.task_metrics(trial.metrics, how.ends[1])), how):
        after = metrics.measured(trial, f"task.{gain.task}.{how.ends[1]}")
        lines.append(f"{gain.task}: {format.number(gain.before, 3)} → {after}")
    return tuple(lines)


def _task_gains(trial: Trial, tasks: tuple[str, ...], how: Measure) -> tuple[TaskGain, ...]:
    found = []
    for task in tasks:
        before, after = (f"task.{task}.{end}" for end in how.ends)
        if _finite(trial, before) and _finite(trial, after):
            found.append(
                TaskGain(
                    task=task,
                    before=trial.metrics[before],
                    after=trial.metrics[after],
                    error=_error(trial, after),
                )
            )
    return tuple(found)


def shown(trial: Trial, front: Front) -> bool:
    """Whether figures of single trials draw it before anyone selects."""
    return front.standings[trial.number] == "front" or trial.baseline is not None


def _finite(trial: Trial, metric: str) -> bool:
    return math.isfinite(trial.metrics.get(metric, math.nan))


def _error(trial: Trial, metric: str) -> float | None:
    return _finite_or_none(level_sem(trial, metric))


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def rounded(value: float) -> float:
    """Six significant digits: more than a loss has, and half the bytes."""
    return float(f"{value:.6g}")
