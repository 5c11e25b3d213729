"""What the lower rungs say of points measured in full: a smooth curve through their results.

A study with rungs has many cheap results for each expensive one. One goal at a time,
`hpo.numerics.gaussian_process` learns from the results below full fidelity alone, averaged over
NUM_SURFACES lengths and variances from their posterior. Two things follow:

1. Its mean at the points, at the highest rung below, is a hint, of which
   `hpo.numerics.noisy_values` learns how much to take over; the noise that it learns is that of one
   result. Full results have no part in it, so that none counts twice. Nor have a point's own lower
   rungs: a trial that continues shares seed, data and trajectory with them, so that their noise is
   its own.
2. What a trial's own lower rungs differ from the curve by is an estimate of that noise. Trials go
   on because they look good below, so those measured in full were lucky as a rule, and share their
   luck in full: without this all of them are overstated, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from hpo.front.replicates import Array, Setting, encoded
from hpo.numerics import gaussian_process, gaussian_process_fit
from hpo.numerics.gaussian_process import Points
from hpo.numerics.noisy_values import fenced
from hpo.numerics.normal_points import normal_points

LEAST = 8
"""Results below which there is no hint; assumed."""


LEAST_FOR_NOISE = 24
"""Results from which their noise is taken for that of a trial in full; assumed."""


MOST = 160
"""Latest results that are fitted from; a Gaussian process takes cubic time."""


NUM_SURFACES = 4
"""Draws of the lengths and variances."""


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What cheap results say in one goal."""

    values_P: Array
    """Of each point, in the metric's unit."""
    noise: float | None
    """Variance of one result; None with fewer than LEAST_FOR_NOISE."""
    error_PP: Array
    """Covariance of the curve at the points."""
    own: dict[int, float]
    """Number of a trial -> expected noise in its results below full fidelity, in their mean."""


def hints(run: Run, found: Sequence[Setting]) -> list[Hint | None]:
    """Goal by goal; None with fewer than LEAST cheap results."""
    return [_hint(run, found, goal) for goal in run.goals]


def _hint(run: Run, found: Sequence[Setting], goal: Goal) -> Hint | None:
    below = _below(run, goal)
    if len(below) < LEAST or not found:
        return None
    tried = [Setting(trial=trial, seeds=(trial,), confirmations=()) for trial, _, _ in below]
    columns = encoded(run, [*found, *tried])
    if not columns:
        return None
    X = np.concatenate(columns, axis=1)
    fidelities = np.array([at for _, at, _ in below])
    u_N = np.log(fidelities) / math.log(fidelities.min())
    asked = Points(X[: len(found)], np.full(len(found), u_N.min()))
    known = Points(X[len(found) :], u_N)
    y_N = np.array([m[goal.metric] for _, _, m in below])
    surfaces = _surfaces(known, y_N)
    numbers = np.array([trial.number for trial, _, _ in below])
    own = [np.flatnonzero(np.isin(numbers, [t.number for t in each.every])) for each in found]
    noise = float(np.mean([each.noise for each in surfaces]))
    off_N = y_N - np.mean([each.at(known)[0] for each in surfaces], axis=0)
    joint = [each.joint(asked) for each in surfaces]
    spread_PP = np.cov(np.array([mean_P for mean_P, _ in joint]).T, ddof=0)
    return Hint(
        values_P=np.mean([each.mean_without(asked, own) for each in surfaces], axis=0),
        noise=noise if len(below) >= LEAST_FOR_NOISE else None,
        error_PP=np.mean([cov_PP for _, cov_PP in joint], axis=0) + spread_PP,
        own={int(number): float(off_N[numbers == number].mean()) for number in np.unique(numbers)},
    )


def _surfaces(known: Points, y_N: Array) -> list[gaussian_process.Surface]:
    is_choice_D = np.zeros(known.X_ND.shape[1], dtype=np.bool_)
    centre, spread = gaussian_process.standardised(y_N)
    exact_N = np.zeros(len(y_N))
    given = known, is_choice_D, (y_N - centre) / spread, exact_N
    mode = gaussian_process_fit.learn(*given)
    draws_SP = normal_points(NUM_SURFACES, len(mode))
    thetas = gaussian_process_fit.theta_draws(mode, *given, draws_SP)
    return [gaussian_process.condition(known, is_choice_D, y_N, exact_N, each) for each in thetas]


def _below(run: Run, goal: Goal) -> list[tuple[Trial, float, dict[str, float]]]:
    """Trial, fidelity and metrics of the latest results; a run that diverged is on no curve."""
    found = [(trial, at, metrics) for trial in run.trials for at, metrics in _cheap(trial)]
    found = [each for each in found if math.isfinite(each[2].get(goal.metric, math.nan))][-MOST:]
    loss_N = goal.sign * np.array([metrics[goal.metric] for _, _, metrics in found])
    return [found[row] for row in np.flatnonzero(loss_N == fenced(loss_N))] if found else []


def _cheap(trial: Trial) -> list[tuple[float, dict[str, float]]]:
    """Fidelity below 1 and the metrics there."""
    found = [(rung.fidelity, rung.metrics) for rung in trial.rungs]
    if trial.state != "failed" and trial.fidelity < 1 and trial.metrics:
        found.append((trial.fidelity, trial.metrics))
    return found
