"""The front of a run: which settings are best, given noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from hpo.front.errors import Estimate
from hpo.front.losses import feasible, losses
from hpo.front.replicates import Setting, confirmed, deviations, points
from hpo.front.reporting import (
    central,
    knee_shares,
    membership,
    reported,
    volume,
    with_volume,
)
from hpo.front.significance import Leads
from hpo.front.true_values import estimates, true_losses, within_limits
from hpo.numerics import pareto

Standing: TypeAlias = Literal[
    "front", "undecided", "dominated", "replicate", "outside limits", "not measured", "partial",
    "pruned", "failed", "running",
]  # fmt: skip
"""replicate: measures another trial's params at another seed; its point is where that does."""


UNDECIDED = (0.05, 0.95)
"""Between these a membership is called undecided; assumed."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """The non-dominated points of a run and what is around them.

    A point is a setting of the params with all its seeds, shown as a trial (see
    `hpo.front.replicates`). Where the noise is known, from repeated trials or from errors measured
    within trials, the front holds the most probable points: as many as keep the mean of their
    memberships at REPORTED_SHARE and each at REPORTED_LEAST, and always one, and those that it
    needs for its volume (see `hpo.front.reporting`). Else it holds what is non-dominated as
    observed. Where limits are measured with errors, a point is a member only as far as it keeps
    them with certainty.
    """

    goals: tuple[Goal, ...]
    points: tuple[Trial, ...]
    """All that compete, by number."""
    trials: tuple[Trial, ...]
    """The reported front, the best by the first goal first."""
    undecided: tuple[Trial, ...]
    """Not reported, and not so improbable that they can be ruled out."""
    dominated: tuple[Trial, ...]
    standings: dict[int, Standing]
    """Trial number -> where it is, for every trial of the run."""
    membership: dict[int, float]
    """Number of a point -> probability that no other point truly dominates it; NaN where the noise
    is unknown."""
    estimates: dict[int, dict[str, float]]
    """Number of a point -> expected true value of each goal's metric, in its unit, and its standard
    error as `{metric}_sem`, over seeds and test rows. Observed values of a front flatter it; these
    do not. Empty where the noise is unknown."""
    confirmed: dict[int, Trial]
    """Number of a point -> mean over the fresh seeds at which it was confirmed, alone."""
    knee: Trial | None
    """The reported point that is most often the knee."""
    knee_region: tuple[tuple[int, float], ...]
    """Points that are the knee with a probability of KNEE_LEAST or more, and that probability, the
    largest first; empty where the noise is unknown."""
    hypervolume: float
    """Volume dominated by the reported points below `reference`, in the product of the goals'
    units; 0 if none counts. The expected one where the noise is known."""
    hypervolume_range: tuple[float, float] | None
    """Central 95 % of its posterior; None where the noise is unknown."""
    reference: tuple[float, ...] | None
    """Worst finite value of each goal over the points that count, without outliers such as a trial
    that diverged (`hpo.numerics.pareto.nadir`), in the goal's own unit. It moves as trials come in:
    compare hypervolumes only under one reference. None if no trial counts."""
    draws: pareto.Losses | None = field(repr=False, compare=False)
    """Possible true losses of `points`, D draws x P points x G goals; None where the noise is
    unknown."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best trial by one goal against the best baseline by the same goal."""

    goal: Goal
    baseline: Trial
    best: Trial
    differences: dict[str, float]
    """Goal metric -> best minus baseline, for every goal of the run."""
    sems: dict[str, float]
    """Goal metric -> standard error of that difference; NaN if unknown."""
    leads: dict[str, Estimate]
    """The same with degrees of freedom, intervals and whether it is significant."""


def counted(run: Run) -> list[Trial]:
    """The points that compete for the front, by number."""
    return [point.trial for point in counted_points(run)]


def counted_points(run: Run) -> list[Setting]:
    """The same with the trials behind them."""
    measured = [trial for trial in run.trials if _unmeasured(trial, run) is None]
    return [each for each in points(run, measured) if feasible(each.trial, run.limits)]


def setting(run: Run, trial: Trial) -> Setting:
    """The setting that a trial measures, with its means over seeds as the front shows them.

    A trial that is no full measurement represents itself.
    """
    measured = [each for each in run.trials if _unmeasured(each, run) is None]
    for point in points(run, measured):
        if any(each.number == trial.number for each in point.every):
            return point
    return Setting(trial=trial, seeds=(trial,), confirmations=())


def front(run: Run) -> Front:
    """The run's front as it is."""
    found = counted_points(run)
    trials = tuple(point.trial for point in found)
    Y_NG = losses(trials, run.goals)
    draws = true_losses(run, found)
    reference = pareto.nadir(Y_NG)
    kept = None if draws is None else within_limits(run, found, draws)
    membership_N = membership(Y_NG, kept)
    on_front = pareto.non_dominated(Y_NG) if kept is None else reported(membership_N)
    if kept is not None and reference is not None:
        on_front = with_volume(on_front, membership_N, kept, reference)
    rows = [int(row) for row in np.flatnonzero(on_front)]
    order = sorted(rows, key=lambda row: (*Y_NG[row], trials[row].number))
    open_N = ~on_front & (membership_N > UNDECIDED[0])
    numbers = [trial.number for trial in trials]
    region = {} if kept is None else knee_shares(kept, membership_N)
    volumes = None if kept is None or reference is None else volume(kept[:, order], reference)
    return Front(
        goals=run.goals,
        points=trials,
        trials=tuple(trials[row] for row in order),
        undecided=tuple(trial for trial, is_open in zip(trials, open_N, strict=True) if is_open),
        dominated=tuple(trials[row] for row in np.flatnonzero(~on_front & ~open_N)),
        standings=_standings(run, found, on_front, open_N),
        membership=dict(zip(numbers, map(float, membership_N), strict=True)),
        estimates={} if draws is None else estimates(run.goals, found, draws),
        confirmed=_confirmed(found),
        knee=_knee(trials, Y_NG, region, order, draws),
        knee_region=tuple((numbers[row], share) for row, share in region.items()),
        hypervolume=_observed(Y_NG[order], reference) if volumes is None else float(volumes.mean()),
        hypervolume_range=None if volumes is None else central(volumes),
        reference=None
        if reference is None
        else tuple(goal.sign * value for goal, value in zip(run.goals, reference, strict=True)),
        draws=draws,
    )


def compare(run: Run, goal: Goal) -> Comparison | None:
    """Best against best baseline by `goal`; None while no baseline counts.

    Differences are paired over seeds and rows, and significance is corrected for the choice of the
    best of all (`hpo.front.significance`).
    """
    found = counted_points(run)
    baselines = [point for point in found if point.trial.baseline is not None]
    if not baselines:
        return None
    baseline, best = _by(baselines, goal)[0], _by(found, goal)[0]
    leads = Leads(found, len(run.goals))
    compared = {
        each.metric: leads.between(best.trial, baseline.trial, each.metric) for each in run.goals
    }
    return Comparison(
        goal=goal,
        baseline=baseline.trial,
        best=best.trial,
        differences={name: each.value for name, each in compared.items()},
        sems={name: each.error for name, each in compared.items()},
        leads=compared,
    )


def _unmeasured(trial: Trial, run: Run) -> Standing | None:
    """Why a trial is no measurement of a point at full fidelity; None if it is."""
    if trial.state != "complete":
        return trial.state
    if trial.fidelity != 1.0:
        return "partial"
    # A record from before they were refused may hold infinite values, which nothing can reach.
    Y_1G = losses([trial], run.goals)
    return "not measured" if (np.isnan(Y_1G) | np.isneginf(Y_1G)).any() else None


def _standings(
    run: Run, found: Sequence[Setting], reported: pareto.Mask, open_N: pareto.Mask
) -> dict[int, Standing]:
    standings: dict[int, Standing] = {
        trial.number: _unmeasured(trial, run) or "outside limits" for trial in run.trials
    }
    for point, on_front, is_open in zip(found, reported, open_N, strict=True):
        standings |= dict.fromkeys((trial.number for trial in point.every), "replicate")
        standings[point.trial.number] = (
            "front" if on_front else "undecided" if is_open else "dominated"
        )
    return standings


def _knee(
    trials: Sequence[Trial],
    Y_NG: pareto.Losses,
    region: dict[int, float],
    order: Sequence[int],
    draws: pareto.Losses | None,
) -> Trial | None:
    if draws is None:
        row = pareto.knee(Y_NG)
    else:
        row = next((row for row in region if row in order), None)
    return None if row is None else trials[row]


def _confirmed(found: Sequence[Setting]) -> dict[int, Trial]:
    pooled = deviations(point.every for point in found)
    fresh = {point.trial.number: confirmed(point, pooled) for point in found}
    return {number: trial for number, trial in fresh.items() if trial is not None}


def _observed(Y_NG: pareto.Losses, reference: Sequence[float] | None) -> float:
    return 0.0 if reference is None else pareto.hypervolume(Y_NG, reference)


def _by(found: Sequence[Setting], goal: Goal) -> list[Setting]:
    return sorted(found, key=lambda point: goal.sign * point.trial.metrics[goal.metric])
