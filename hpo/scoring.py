"""What the trials of a run amount to: losses, the front, comparisons with the baselines.

Only complete trials at full fidelity count. A trial outside the study's limits, or without a number
for every goal, is reported and left out of the front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from hpo import pareto
from hpo.record import Run, Trial
from hpo.spec import Goal, Limit

Standing: TypeAlias = Literal[
    "front", "dominated", "outside limits", "not measured", "partial", "pruned", "failed", "running"
]


@dataclass(frozen=True, kw_only=True)
class Front:
    """The non-dominated trials of a run and what stands around them."""

    goals: tuple[Goal, ...]
    trials: tuple[Trial, ...]
    """Non-dominated, the best by the first goal first."""
    dominated: tuple[Trial, ...]
    standings: dict[int, Standing]
    """Trial number -> where it stands, for every trial of the run."""
    knee: Trial | None
    hypervolume: float
    """Volume dominated below `reference`, in the product of the goals' units; 0 if none counts."""
    reference: tuple[float, ...] | None
    """Worst finite value of each goal over the trials that count, in the goal's own unit. It moves
    as trials come in: compare hypervolumes only under one reference. None if no trial counts."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best trial by one goal against the best baseline by the same goal."""

    goal: Goal
    baseline: Trial
    best: Trial
    differences: dict[str, float]
    """Goal metric -> best minus baseline, for every goal of the run."""
    sems: dict[str, float]
    """Goal metric -> standard error of that difference; NaN if either side has none."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Where `gain` and the absolute `finetuned` order trials differently."""

    num_trials: int
    tau: float
    """Kendall's tau-b between the two orders: 1 the same, -1 reversed; NaN if undefined."""
    pairs: tuple[tuple[int, int], ...]
    """(a, b): a has more gain than b, and b is better after fine-tuning. Largest conflicts first,
    by the product of the two differences."""
    top_by_gain: tuple[Trial, ...]
    top_by_finetuned: tuple[Trial, ...]


def losses(trials: Sequence[Trial], goals: Sequence[Goal]) -> pareto.Losses:
    """Y_NG to be made small: the goals' metrics, negated where up is better, NaN where missing."""
    rows = [
        [_sign(goal) * trial.metrics.get(goal.metric, math.nan) for goal in goals]
        for trial in trials
    ]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(goals))


def feasible(trial: Trial, limits: Sequence[Limit]) -> bool:
    """Whether every limited metric is measured and within its bounds, ends included."""
    return all(
        limit.low <= trial.metrics.get(limit.metric, math.nan) <= limit.high for limit in limits
    )


def counted(run: Run) -> list[Trial]:
    """The trials that compete for the front."""
    return [trial for trial in run.trials if _excluded(trial, run) is None]


def front(run: Run) -> Front:
    """The run's front as it stands."""
    trials = counted(run)
    Y_NG = losses(trials, run.goals)
    mask = pareto.non_dominated(Y_NG)
    order = sorted(np.flatnonzero(mask), key=lambda row: (*Y_NG[row], trials[row].number))
    knee = pareto.knee(Y_NG)
    reference = _nadir(Y_NG)
    numbers = {trials[row].number for row in order}
    standings: dict[int, Standing] = {
        trial.number: _excluded(trial, run) or ("front" if trial.number in numbers else "dominated")
        for trial in run.trials
    }
    return Front(
        goals=run.goals,
        trials=tuple(trials[row] for row in order),
        dominated=tuple(trial for trial in trials if trial.number not in numbers),
        standings=standings,
        knee=None if knee is None else trials[knee],
        hypervolume=0.0 if reference is None else pareto.hypervolume(Y_NG, reference),
        reference=None
        if reference is None
        else tuple(_sign(goal) * value for goal, value in zip(run.goals, reference, strict=True)),
    )


def compare(run: Run, goal: Goal) -> Comparison | None:
    """Best against best baseline by `goal`; None while no baseline counts.

    Standard errors of the two trials are taken as independent: sqrt(a^2 + b^2). Shared seeds make
    the true one smaller as a rule; choosing the best of many trials makes its lead look larger.
    """
    trials = counted(run)
    baselines = [trial for trial in trials if trial.baseline is not None]
    if not baselines:
        return None
    baseline, best = _by(baselines, goal)[0], _by(trials, goal)[0]
    metrics = [each.metric for each in run.goals]
    return Comparison(
        goal=goal,
        baseline=baseline,
        best=best,
        differences={name: best.metrics[name] - baseline.metrics[name] for name in metrics},
        sems={name: math.hypot(sem(best, name), sem(baseline, name)) for name in metrics},
    )


def disagreements(run: Run, top: int = 3) -> Disagreement:
    """Compare the orders by `gain` and by `finetuned` over trials that have both."""
    trials = [trial for trial in counted(run) if _has_both(trial)]
    gain = np.array([trial.metrics["gain"] for trial in trials])
    after = np.array([trial.metrics["finetuned"] for trial in trials])
    more_gain = gain[:, None] - gain[None, :]
    more_after = after[:, None] - after[None, :]
    conflict = np.where(more_gain > 0, -more_gain * more_after, 0.0)
    pairs = np.argwhere(conflict > 0)
    worst_first = np.argsort(-conflict[conflict > 0], kind="stable")
    return Disagreement(
        num_trials=len(trials),
        tau=_kendall(np.sign(more_gain), np.sign(more_after)),
        pairs=tuple((trials[a].number, trials[b].number) for a, b in pairs[worst_first]),
        top_by_gain=tuple(_by(trials, Goal(metric="gain", direction="up"))[:top]),
        top_by_finetuned=tuple(_by(trials, Goal(metric="finetuned", direction="up"))[:top]),
    )


def sem(trial: Trial, metric: str) -> float:
    """Standard error of a trial's metric, in the metric's unit; NaN if it has none."""
    return trial.metrics.get(f"{metric}_sem", math.nan)


def _sign(goal: Goal) -> float:
    return 1.0 if goal.direction == "down" else -1.0


def _excluded(trial: Trial, run: Run) -> Standing | None:
    if trial.state != "complete":
        return trial.state
    if trial.fidelity != 1.0:
        return "partial"
    if np.isnan(losses([trial], run.goals)).any():
        return "not measured"
    return None if feasible(trial, run.limits) else "outside limits"


def _nadir(Y_NG: pareto.Losses) -> tuple[float, ...] | None:
    finite = Y_NG[np.isfinite(Y_NG).all(axis=1)]
    return tuple(float(worst) for worst in finite.max(axis=0)) if len(finite) else None


def _by(trials: Sequence[Trial], goal: Goal) -> list[Trial]:
    return sorted(trials, key=lambda trial: _sign(goal) * trial.metrics[goal.metric])


def _has_both(trial: Trial) -> bool:
    return all(math.isfinite(trial.metrics.get(name, math.nan)) for name in ("gain", "finetuned"))


def _kendall(first: pareto.Losses, second: pareto.Losses) -> float:
    """Tau-b (Kendall 1945) from the signs of all pairwise differences, N x N each."""
    scale = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / scale if scale else math.nan
