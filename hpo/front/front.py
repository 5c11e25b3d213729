"""What draws of the true losses say of each point: whether it is on the front, and at the knee."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hpo.core.goals import Goal
from hpo.core.metrics import sem
from hpo.core.trial import Run, Trial
from hpo.front.losses import feasible, losses
from hpo.front.low_fidelity import hints
from hpo.front.replicates import Setting, confirmed, deviations, encoded, points
from hpo.numerics import pareto
from hpo.numerics.noisy_values import NUM_DRAWS, Measured, draw

KNEE_LEAST = 0.05
"""Probability of being the knee from which a point is named in its region; assumed."""


VOLUME_DRAWS = 512
"""Draws that volumes and knees are computed in; they cost more than memberships."""


REPORTED_SHARE = 0.9
"""Expected share of the reported points that are truly non-dominated; assumed."""


REPORTED_LEAST = 0.5
"""Membership below which no point is reported beside others; assumed."""


def membership(Y_NG: pareto.Losses, draws: pareto.Losses | None) -> pareto.Losses:
    """Share of the draws in which each point is non-dominated; NaN without draws."""
    if draws is None:
        return np.full(len(Y_NG), math.nan)
    return np.asarray(pareto.non_dominated_draws(draws).mean(axis=0))


def reported(membership_N: pareto.Losses) -> pareto.Mask:
    """The points to report, by their memberships; at least one."""
    order = np.argsort(-membership_N, kind="stable")
    sorted_N = membership_N[order]
    means = np.cumsum(sorted_N) / np.arange(1, len(order) + 1)
    enough = (means >= REPORTED_SHARE) & (sorted_N >= REPORTED_LEAST)
    mask = np.zeros(len(order), dtype=np.bool_)
    mask[order[: max(1, int(enough.sum()))]] = True
    return mask


def knee_shares(draws: pareto.Losses, membership_N: pareto.Losses) -> dict[int, float]:
    """Row -> share of the draws in which it is the knee, the largest first."""
    rows = np.flatnonzero(membership_N > 0)
    some = draws[:VOLUME_DRAWS, rows]
    knees = Counter(pareto.knee(Y_NG) for Y_NG in some)
    shares = {int(rows[row]): n / len(some) for row, n in knees.items() if row is not None}
    kept = {row: share for row, share in shares.items() if share >= KNEE_LEAST}
    return dict(sorted(kept.items(), key=lambda item: (-item[1], item[0])))


Standing: TypeAlias = Literal[
    "front", "undecided", "dominated", "replicate", "outside limits", "not measured", "partial",
    "pruned", "failed", "running",
]  # fmt: skip
"""replicate: measures another trial's params at another seed; its point is where that does."""


DRAWN_NUMBERS = 1_000_000


LEAST_DRAWS = 512
"""Draws of a large run: as many as give DRAWN_NUMBERS losses a goal, and at least these."""


MODELLED_POINTS = 1000
"""Points whose true values are modelled; more take too long."""


UNDECIDED = (0.05, 0.95)
"""Between these a membership is called undecided; assumed."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """The non-dominated points of a run and what is around them.

    A point is a setting of the params with all its seeds, shown as a trial (see
    `hpo.front.replicates`). Where the noise is known, from repeated trials or from errors measured
    within trials, the front holds the most probable points: as many as keep the mean of their
    memberships at REPORTED_SHARE and each at REPORTED_LEAST, and always one. Else it holds what is
    non-dominated as observed.
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
    """Number of a point -> expected true value of each goal's metric, in its unit, and standard
    deviation as `{metric}_sem`. Observed values of a front flatter it; these do not. Empty where
    the noise is unknown."""
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
    """Worst finite value of each goal over the points that count, in the goal's own unit. It moves
    as trials come in: compare hypervolumes only under one reference. None if no trial counts."""
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
    """Goal metric -> standard error of that difference; NaN if either side has none."""


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
    membership_N = membership(Y_NG, draws)
    on_front = pareto.non_dominated(Y_NG) if draws is None else reported(membership_N)
    rows = [int(row) for row in np.flatnonzero(on_front)]
    order = sorted(rows, key=lambda row: (*Y_NG[row], trials[row].number))
    open_N = ~on_front & (membership_N > UNDECIDED[0])
    numbers = [trial.number for trial in trials]
    region = {} if draws is None else knee_shares(draws, membership_N)
    reference = _nadir(Y_NG)
    volumes = None if draws is None or reference is None else volume(draws[:, order], reference)
    return Front(
        goals=run.goals,
        points=trials,
        trials=tuple(trials[row] for row in order),
        undecided=tuple(trial for trial, is_open in zip(trials, open_N, strict=True) if is_open),
        dominated=tuple(trials[row] for row in np.flatnonzero(~on_front & ~open_N)),
        standings=_standings(run, found, on_front, open_N),
        membership=dict(zip(numbers, map(float, membership_N), strict=True)),
        estimates={} if draws is None else _estimates(run.goals, numbers, draws),
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


def true_losses(run: Run, found: Sequence[Setting]) -> pareto.Losses | None:
    """Draws of the points' true losses, D x P x G; None where a goal's noise is unknown.

    Of more than MODELLED_POINTS the ones that fewest others dominate are modelled, and the rest
    keep what was observed: they are far from the front, and a model takes their number cubed.
    """
    Y_NG = losses([point.trial for point in found], run.goals)
    rows = np.sort(np.argsort(pareto.num_dominators(Y_NG), kind="stable")[:MODELLED_POINTS])
    some = [found[row] for row in rows]
    measured = [each for goal in run.goals if (each := _measured(some, goal)) is not None]
    if not found or len(measured) < len(run.goals):
        return None
    params = encoded(run, some)
    exact = all(each.exact for each in measured)
    if not exact:
        hinted = zip(measured, hints(run, some), strict=True)
        measured = [replace(each, hint_P=hint) for each, hint in hinted]
    num_draws = 1 if exact else min(NUM_DRAWS, max(LEAST_DRAWS, DRAWN_NUMBERS // len(found)))
    draws = np.tile(Y_NG, (num_draws, 1, 1))
    for column, each in enumerate(measured):
        draws[:, rows, column] = draw(each, params, num_draws, seed=column)
    return draws


def _measured(found: Sequence[Setting], goal: Goal) -> Measured | None:
    """All that was measured of a goal; None where its noise is unknown."""
    every = [trial for point in found for trial in point.every]
    _, seed_T = np.unique([trial.seed for trial in every], return_inverse=True)
    sems = np.array([sem(trial, goal.metric) for trial in every])
    known = sems[np.isfinite(sems)]
    between = deviations(point.every for point in found).get(goal.metric)
    if between is None and len(known) < len(every):
        return None
    return Measured(
        losses_T=losses(every, [goal])[:, 0],
        point_T=np.repeat(np.arange(len(found)), [len(point.every) for point in found]),
        seed_T=seed_T,
        between=None if between is None else between[0] ** 2,
        within=float(np.mean(known**2)) if len(known) else 0.0,
    )


def volume(draws_DNG: pareto.Losses, reference: npt.ArrayLike) -> pareto.Losses:
    """Hypervolume of each of the first VOLUME_DRAWS draws."""
    return pareto.hypervolumes(draws_DNG[:VOLUME_DRAWS], reference)


def central(values: pareto.Losses) -> tuple[float, float]:
    """Ends of the central 95 %."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


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


def _estimates(
    goals: Sequence[Goal], numbers: Sequence[int], draws: pareto.Losses
) -> dict[int, dict[str, float]]:
    mean_NG = draws.mean(axis=0)
    # An infinite value is no estimate, and 0 is the spread of what all draws agree on.
    error_NG = np.where(np.isfinite(mean_NG), draws, 0.0).std(axis=0)
    found: dict[int, dict[str, float]] = {number: {} for number in numbers}
    for column, goal in enumerate(goals):
        for row, number in enumerate(numbers):
            found[number][goal.metric] = goal.sign * float(mean_NG[row, column])
            found[number][f"{goal.metric}_sem"] = float(error_NG[row, column])
    return found


def _confirmed(found: Sequence[Setting]) -> dict[int, Trial]:
    pooled = deviations(point.every for point in found)
    fresh = {point.trial.number: confirmed(point, pooled) for point in found}
    return {number: trial for number, trial in fresh.items() if trial is not None}


def _observed(Y_NG: pareto.Losses, reference: Sequence[float] | None) -> float:
    return 0.0 if reference is None else pareto.hypervolume(Y_NG, reference)


def _nadir(Y_NG: pareto.Losses) -> tuple[float, ...] | None:
    finite = Y_NG[np.isfinite(Y_NG).all(axis=1)]
    return tuple(float(worst) for worst in finite.max(axis=0)) if len(finite) else None


def _by(trials: Sequence[Trial], goal: Goal) -> list[Trial]:
    return sorted(trials, key=lambda trial: goal.sign * trial.metrics[goal.metric])
