"""How much each parameter matters for each goal: PED-ANOVA on the record (arXiv 2304.10255).

Optuna's evaluator compares where the best trials are with where all are, parameter by parameter. It
gets an in-memory study rebuilt from the record: the settings inside the space, each the mean over
its seeds, each goal turned to be made small.

Of few settings some parameter always looks important: with pure noise, 20 settings and 3 parameters
the largest share is 0.65 in the mean. So what chance gives is shown beside them, the 95 %
quantile of the largest share where the goal's values are shuffled among the settings.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import optuna
from optuna.trial import create_trial

from hpo.analysis.slices import settings
from hpo.core.domains import distributions, inside
from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from hpo.front.errors import CONFIDENCE
from hpo.front.losses import losses

FEWEST_BEST = 5  # Optuna: "preferable to include at least 5 trials above target_quantile".


BEST_FRAC = 0.1  # Optuna's default target_quantile.


SHUFFLES = 40  # Each takes some 0.03 s.


FEWEST = 20  # With FEWEST_BEST the best quarter; assumed.


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Shares of the parameters in one goal, adding up to 1."""

    goal: Goal
    shares: dict[str, float]
    """Path -> share, the greatest first; empty with too few settings."""
    num_settings: int
    """Inside the space and measured; seeds of one setting count once."""
    chance: float = math.nan
    """95 % quantile of the largest share without any effect; NaN with too few settings."""


def importances(run: Run) -> tuple[Importance, ...]:
    """One a goal; none without a searched space."""
    if not run.space:
        return ()
    kept = [trial for trial in settings(run) if _counts(trial, run)]
    if len(kept) < FEWEST:
        return tuple(Importance(goal=goal, shares={}, num_settings=len(kept)) for goal in run.goals)
    # Not above: it brings scikit-learn and pandas, a second of every command's start.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study, found = _study(run, kept), []
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(BEST_FRAC, FEWEST_BEST / len(kept)))

    def shares_of(values: npt.NDArray[np.float64]) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it takes small as good, as is meant
            return get_param_importances(
                study, evaluator=evaluator, target=lambda trial: float(values[trial.number])
            )

    rng = np.random.default_rng(0)
    for goal, values in zip(run.goals, losses(kept, run.goals).T, strict=True):
        shares = shares_of(values)
        null = [max(shares_of(rng.permutation(values)).values()) for _ in range(SHUFFLES)]
        found.append(
            Importance(
                goal=goal,
                shares=dict(sorted(shares.items(), key=lambda each: -each[1])),
                num_settings=len(kept),
                chance=float(np.quantile(null, CONFIDENCE)),
            )
        )
    return tuple(found)


def _study(run: Run, trials: Sequence[Trial]) -> optuna.study.Study:
    """The trials in memory, every goal to be made small."""
    spoken = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(directions=["minimize"] * len(run.goals))
    finally:
        optuna.logging.set_verbosity(spoken)
    values, space = losses(trials, run.goals), distributions(run.space)
    study.add_trials(
        [
            create_trial(
                params={path: trial.params[path] for path in space},
                distributions=space,
                values=[float(value) for value in row],
            )
            for trial, row in zip(trials, values, strict=True)
        ]
    )
    return study


def _counts(trial: Trial, run: Run) -> bool:
    """Whether every goal is measured and every parameter inside the space."""
    known = all(math.isfinite(trial.metrics.get(goal.metric, math.nan)) for goal in run.goals)
    return known and inside(run.space, trial.params)
