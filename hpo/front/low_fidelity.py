"""What the lower rungs say of points measured in full: a smooth curve through their results.

A study with rungs has many cheap results for each expensive one. One goal at a time,
`hpo.numerics.gaussian_process` learns from the results below full fidelity alone. Its mean at the
points, at the highest rung below, is a hint, of which `hpo.numerics.noisy_values` learns how much
to take over; the noise that it learns is that of one result.

Full results have no part in it, so that none counts twice. Nor have a point's own lower rungs: a
trial that continues shares seed, data and trajectory with them, so that their noise is its own.
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

LEAST = 8
"""Results below which there is no hint; assumed."""


LEAST_FOR_NOISE = 24
"""Results from which their noise is taken for that of a trial in full; assumed."""


MOST = 160
"""Latest results that are fitted from; a Gaussian process takes cubic time."""


@dataclass(frozen=True)
class Hint:
    """What cheap results say in one goal."""

    values_P: Array
    """Of each point, in the metric's unit."""
    noise: float | None
    """Variance of one result; None with fewer than LEAST_FOR_NOISE."""


def hints(run: Run, found: Sequence[Setting]) -> list[Hint | None]:
    """Goal by goal; None with fewer than LEAST cheap results."""
    return [_hint(run, found, goal) for goal in run.goals]


def _hint(run: Run, found: Sequence[Setting], goal: Goal) -> Hint | None:
    below = [(trial, at, metrics) for trial in run.trials for at, metrics in _cheap(trial)]
    below = [each for each in below if math.isfinite(each[2].get(goal.metric, math.nan))][-MOST:]
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
    surface = _fitted(Points(X[len(found) :], u_N), np.array([m[goal.metric] for _, _, m in below]))
    numbers = np.array([trial.number for trial, _, _ in below])
    own = [np.flatnonzero(np.isin(numbers, [t.number for t in each.every])) for each in found]
    noise = surface.noise if len(below) >= LEAST_FOR_NOISE else None
    return Hint(surface.mean_without(asked, own), noise)


def _fitted(known: Points, y_N: Array) -> gaussian_process.Surface:
    is_choice_D = np.zeros(known.X_ND.shape[1], dtype=np.bool_)
    centre, spread = gaussian_process.standardised(y_N)
    exact_N = np.zeros(len(y_N))
    theta = gaussian_process_fit.learn(known, is_choice_D, (y_N - centre) / spread, exact_N)
    return gaussian_process.condition(known, is_choice_D, y_N, exact_N, theta)


def _cheap(trial: Trial) -> list[tuple[float, dict[str, float]]]:
    """Fidelity below 1 and the metrics there."""
    found = [(rung.fidelity, rung.metrics) for rung in trial.rungs]
    if trial.state != "failed" and trial.fidelity < 1 and trial.metrics:
        found.append((trial.fidelity, trial.metrics))
    return found
