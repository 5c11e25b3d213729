"""What pretraining is worth on each task: scores beside the control that had none.

A trial's `task.NAME.over_scratch` is its score after fine-tuning minus that of
fine-tuned initial weights, `task.NAME.over_scratch_nats` the same of the completion loss, positive
where pretraining helps. A task needs pretraining if some setting is above the control: the lower
end of its 95 % interval (`hpo.front.errors`, of levels) is above 0 in either. There is no
correction for the number of settings, so a task that no setting passes is a clear case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.core.metrics import CONTROL_LOSS, CONTROL_SCORE, OVER_CONTROL, task_metrics
from hpo.core.trial import Trial
from hpo.front.errors import Errors, Estimate, errors_of
from hpo.front.replicates import Setting


@dataclass(frozen=True, kw_only=True)
class TaskWorth:
    """One task: the control, and the setting that is furthest above it."""

    task: str
    scratch: float
    """Score of the control, mean over the seeds of that setting."""
    scratch_nats: float
    """Its completion loss, nats a token."""
    best: Trial
    """The setting with the highest score above the control; of equal ones by the loss."""
    score: Estimate
    """Its score minus the control's."""
    nats: Estimate
    """The control's completion loss minus that of this setting."""
    needs_pretraining: bool
    """Whether any setting is above the control, by score or by loss."""


def pretraining_worth(settings: Sequence[Setting]) -> tuple[TaskWorth, ...]:
    """Every task that has a control, by name; none where no control was measured."""
    names = {name for point in settings for name in point.trial.metrics}
    return tuple(_of_task(task, settings) for task in task_metrics(names, OVER_CONTROL[0]))


def _of_task(task: str, settings: Sequence[Setting]) -> TaskWorth:
    metrics = [f"task.{task}.{name}" for name in OVER_CONTROL]
    measured = [each for each in settings if metrics[0] in each.trial.metrics]
    errors = [errors_of(measured, metric) for metric in metrics]
    best = max(measured, key=lambda each: tuple(each.trial.metrics[name] for name in metrics))
    score, nats = (each.level(best) for each in errors)
    found = best.trial.metrics
    return TaskWorth(
        task=task,
        scratch=found[f"task.{task}.{CONTROL_SCORE}"],
        scratch_nats=found[f"task.{task}.{CONTROL_LOSS}"],
        best=best.trial,
        score=score,
        nats=nats,
        needs_pretraining=any(_above(each, point) for each in errors for point in measured),
    )


def _above(errors: Errors, point: Setting) -> bool:
    """Whether the setting's level is above 0; by its value alone where no seeds tell an error."""
    level = errors.level(point)
    lower = level.value if math.isnan(level.error) else level.interval[0]
    return lower > 0
