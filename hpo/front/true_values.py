"""Draws of the points' true losses from all that was measured of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo.core.goals import Goal
from hpo.core.metrics import rows_sem, sem
from hpo.core.trial import Run
from hpo.front.errors import errors_of
from hpo.front.losses import losses
from hpo.front.low_fidelity import Hint, hints
from hpo.front.paired_rows import interplay
from hpo.front.replicates import Setting, deviations, encoded
from hpo.numerics import pareto
from hpo.numerics.noise_fit import Measured
from hpo.numerics.noisy_values import NUM_DRAWS, draw

DRAWN_NUMBERS = 1_000_000


LEAST_DRAWS = 512
"""Draws of a large run: as many as give DRAWN_NUMBERS losses a goal, and at least these."""


MODELLED_POINTS = 1000
"""Points whose true values are modelled; more take too long."""


def true_losses(run: Run, found: Sequence[Setting]) -> pareto.Losses | None:
    """Draws of the points' true losses, D x P x G; None where a goal's noise is unknown.

    Of more than MODELLED_POINTS the ones that fewest others dominate are modelled, and the rest
    keep what was observed: they are far from the front, and a model takes their number cubed.
    """
    Y_NG = losses([point.trial for point in found], run.goals)
    rows = np.sort(np.argsort(pareto.num_dominators(Y_NG), kind="stable")[:MODELLED_POINTS])
    some = [found[row] for row in rows]
    hinted = zip(run.goals, hints(run, some), strict=True)
    measured = [each for goal, hint in hinted if (each := _measured(some, goal, hint)) is not None]
    if not found or len(measured) < len(run.goals):
        return None
    params = encoded(run, some)
    exact = all(each.exact for each in measured)
    num_draws = 1 if exact else min(NUM_DRAWS, max(LEAST_DRAWS, DRAWN_NUMBERS // len(found)))
    draws = np.tile(Y_NG, (num_draws, 1, 1))
    for column, each in enumerate(measured):
        draws[:, rows, column] = draw(each, params, num_draws, seed=column)
    return draws


def _measured(found: Sequence[Setting], goal: Goal, hint: Hint | None) -> Measured | None:
    """All that was measured of a goal; None where its noise is unknown."""
    every = [trial for point in found for trial in point.every]
    _, seed_T = np.unique([trial.seed for trial in every], return_inverse=True)
    sems = np.array([sem(trial, goal.metric) for trial in every])
    known = sems[np.isfinite(sems)]
    between = deviations(point.every for point in found).get(goal.metric)
    rungs, own = (None, {}) if hint is None else (hint.noise, hint.own)
    if between is None and rungs is None and len(known) < len(every):
        return None
    return Measured(
        losses_T=losses(every, [goal])[:, 0],
        point_T=np.repeat(np.arange(len(found)), [len(point.every) for point in found]),
        seed_T=seed_T,
        between=None if between is None else between[0] ** 2,
        within=float(np.mean(known**2)) if len(known) else 0.0,
        hint_P=None if hint is None else goal.sign * hint.values_P,
        rungs=rungs,
        own_T=None if hint is None else goal.sign * np.array([own.get(t.number, 0) for t in every]),
        hint_error_PP=None if hint is None else hint.error_PP,
        rows=interplay(found, goal.metric),
    )


def within_limits(run: Run, found: Sequence[Setting], draws: pareto.Losses) -> pareto.Losses:
    """The draws, infinite where a point is drawn outside of a limit.

    A limited metric's true value has Student's distribution around the observed one, with the error
    of its level; without a known error it is taken as observed.
    """
    kept = draws.copy()
    rng = np.random.default_rng(1)
    for limit in run.limits:
        errors = errors_of(found, limit.metric)
        for row, point in enumerate(found):
            level = errors.level(point)
            if level.error > 0 and math.isfinite(level.error):
                true_D = level.value + level.error * rng.standard_t(level.freedom, len(draws))
                kept[(true_D < limit.low) | (true_D > limit.high), row] = math.inf
    return kept


def estimates(
    goals: Sequence[Goal], points: Sequence[Setting], draws: pareto.Losses
) -> dict[int, dict[str, float]]:
    numbers = [point.trial.number for point in points]
    mean_NG = draws.mean(axis=0)
    # An infinite value is no estimate, and 0 is the spread of what all draws agree on.
    error_NG = np.where(np.isfinite(mean_NG), draws, 0.0).std(axis=0)
    found: dict[int, dict[str, float]] = {number: {} for number in numbers}
    for column, goal in enumerate(goals):
        own = interplay(points, goal.metric)
        for row, number in enumerate(numbers):
            rows = rows_sem(points[row].trial, goal.metric)
            # What rows do to all points alike is in no difference, so not in the draws.
            common = 0.0 if math.isnan(rows) else max(rows**2 - own, 0.0)
            found[number][goal.metric] = goal.sign * float(mean_NG[row, column])
            found[number][f"{goal.metric}_sem"] = math.hypot(
                float(error_NG[row, column]), math.sqrt(common)
            )
    return found
