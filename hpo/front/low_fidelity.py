"""What the lower rungs say of points measured in full: a smooth curve through their results.

A study with rungs has many cheap results for each expensive one. One goal at a time,
`hpo.numerics.gaussian_process` learns from the results below full fidelity alone, and its mean at
the points, at the highest rung below, is a hint: `hpo.numerics.noisy_values` learns how much of it
to take over. Full results have no part in it, so that none counts twice. Assumed: noise at a rung
is independent of that in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from hpo.front.replicates import Array, Setting, encoded
from hpo.numerics import gaussian_process
from hpo.numerics.gaussian_process import Points

LEAST = 8
"""Results below which there is no hint; assumed."""


MOST = 160
"""Latest results that are fitted from; a Gaussian process takes cubic time."""


def hints(run: Run, found: Sequence[Setting]) -> list[Array | None]:
    """Goal by goal the hint at each of P points; None with fewer than LEAST cheap results."""
    return [_hint(run, found, goal) for goal in run.goals]


def _hint(run: Run, found: Sequence[Setting], goal: Goal) -> Array | None:
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
    known = Points(X[len(found) :], u_N)
    return _smoothed(known, asked, np.array([each[2][goal.metric] for each in below]))


def _smoothed(known: Points, asked: Points, y_N: Array) -> Array:
    is_choice_D = np.zeros(known.X_ND.shape[1], dtype=np.bool_)
    centre, spread = gaussian_process.standardised(y_N)
    exact_N = np.zeros(len(y_N))
    theta = gaussian_process.learn(known, is_choice_D, (y_N - centre) / spread, exact_N)
    mean_P, _ = gaussian_process.condition(known, is_choice_D, y_N, exact_N, theta).at(asked)
    return mean_P


def _cheap(trial: Trial) -> list[tuple[float, dict[str, float]]]:
    """Fidelity below 1 and the metrics there."""
    found = [(rung.fidelity, rung.metrics) for rung in trial.rungs]
    if trial.state != "failed" and trial.fidelity < 1 and trial.metrics:
        found.append((trial.fidelity, trial.metrics))
    return found
