"""When a study is done before its trials are: a limit is reached, or nothing is gained any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.core import metrics
from hpo.core.format import duration
from hpo.core.history import History
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.front import losses as scoring
from hpo.numerics import pareto

LEAST_ALIKE = 2
"""Failures from which a common reason is taken to be no trial's own."""


LEAST_GAIN = 1e-3
"""Share of the hypervolume below which a gain is none, however exact; assumed."""


@dataclass(frozen=True)
class StopReason:
    """Why no new wave starts although trials are left."""

    text: str
    """Such as "The budget of 2s is used up"; of failures, the reason that they share."""
    limit: str | None
    """Name of the limit, as in StudySpec or `wall`; None where every trial fails."""


def reason(
    spec: StudySpec,
    history: History,
    *,
    group: int = 0,
    failures: Sequence[tuple[str, bool]] = (),
    time_is_up: bool = False,
) -> StopReason | None:
    """Why no new wave should start; None if one should.

    Budgets are of all trials, patience is of the trials of one group (`hpo.core.conditions`).

    Args:
        failures: The latest in a row, each with its reason and whether the objective raised it.
        time_is_up: Whether the time that the caller may take has passed.
    """
    common = common_failure(spec, history, failures, group)
    if common is not None:
        return StopReason(common, None)
    if time_is_up:
        return StopReason("The time is up", "wall")
    if spec.budget_s is not None and history.spent("time_s") >= spec.budget_s:
        return StopReason(f"The budget of {duration(spec.budget_s)} is used up", "budget_s")
    if spec.max_flops is not None and history.spent("flops") >= spec.max_flops:
        return StopReason(f"The {spec.max_flops:.3g} training FLOPs are used up", "max_flops")
    compared = [trial for trial in history.trials if trial.group == group]
    if spec.patience is not None and stalled(spec, compared, spec.patience):
        gained = f"The last {spec.patience} full trials gained no hypervolume beyond the noise"
        return StopReason(gained, "patience")
    return None


def common_failure(
    spec: StudySpec, history: History, failures: Sequence[tuple[str, bool]], group: int = 0
) -> str | None:
    """The reason for which everything fails, so that no more trials should be paid for.

    That is where nothing of the group was ever measured and all failed for the same reason, or
    where the objective raised the same for a whole wave of trials in a row.

    Args:
        failures: The latest in a row, each with its reason and whether the objective raised it.
    """
    measured = any(trial.results for trial in history.trials if trial.group == group)
    many = max(LEAST_ALIKE, spec.wave) if measured else LEAST_ALIKE
    late = failures[-many:] if measured else failures
    if len(late) < many or len({reason for reason, _ in late}) > 1:
        return None
    return late[-1][0] if not measured or all(raised for _, raised in late) else None


def stalled(spec: StudySpec, trials: list[Trial], patience: int) -> bool:
    """Whether the last so many full trials gained no hypervolume beyond their standard errors.

    Each of them counts with its losses made worse by its standard error, under the reference of
    all: what remains of its gain is beyond the noise of one trial.
    """
    found = [e for e in trials if e.state == "complete" and e.kind in ("planned", "proposed")]
    found.sort(key=lambda trial: trial.answers[-1].order)
    kept = [trial for trial in found if scoring.feasible(trial, spec.limits)]
    if len(kept) <= patience:
        return False
    losses = scoring.losses(kept, spec.goals)
    sems = np.array([[metrics.sem(t, goal.metric) for goal in spec.goals] for t in kept])
    finite = losses[np.isfinite(losses).all(axis=1)]
    if not len(finite):
        return True
    corner = finite.max(axis=0) + 0.1 * np.maximum(np.ptp(finite, axis=0), 1e-12)
    late = losses.copy()
    late[-patience:] += np.where(np.isfinite(sems), sems, 0.0)[-patience:]
    before = pareto.hypervolume(losses[:-patience], corner)
    after = pareto.hypervolume(late, corner)
    return not math.isfinite(after) or after <= before * (1 + LEAST_GAIN)
