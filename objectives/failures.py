"""Why a trial has no metrics, in one sentence; pure functions of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from objectives.data.tasks import Task
from objectives.finetuning.lr_search import Outcome

DIVERGED_LOSS_RATIO = 2.0
"""A base whose loss ends above this many times ln(vocabulary) has diverged; assumed."""


def divergence(diverged_at: int, steps: int, of_reference: bool) -> str:
    """Why there is no base; `diverged_at` counts from 0, `steps` where weights are not finite after
    the last step.
    """
    what = (
        f"weights are not finite after the last step, {steps}"
        if diverged_at >= steps
        else f"loss not finite at step {diverged_at + 1}"
    )
    if of_reference:
        return (
            "the run that pretrain.effective_lr_of names diverged, so there is no effective rate "
            f"to follow: {what}; lower pretrain.lr"
        )
    return f"pretraining diverged: {what}; lower pretrain.lr"


def unfit_base(losses: Mapping[str, float], vocab_size: int) -> str | None:
    """Why a base with these losses counts as diverged, None if it does not."""
    loss = losses["base_loss"]
    if math.isfinite(loss) and not loss <= DIVERGED_LOSS_RATIO * math.log(vocab_size):
        return (
            f"pretraining diverged: base loss {loss:.3g} nats, more than {DIVERGED_LOSS_RATIO:g} "
            "times that of guessing; lower pretrain.lr"
        )
    for name, value in losses.items():
        if not math.isfinite(value):
            return f"pretraining diverged: {name} of the base is {value}; lower pretrain.lr"
    return None


def unfit_tunes(task_list: Sequence[Task], outcomes: Sequence[Outcome]) -> str | None:
    """Why a base's fine-tunes give no scores, None if they do."""
    pairs = list(zip(task_list, outcomes, strict=True))
    dead = [task.name for task, each in pairs if not math.isfinite(min(each.tried.values()))]
    if dead:
        return f"fine-tuning on {', '.join(dead)} diverged at every learning rate"
    reasons = (_unfit(task.name, outcome) for task, outcome in pairs)
    return next((reason for reason in reasons if reason is not None), None)


def _unfit(name: str, outcome: Outcome) -> str | None:
    if math.isnan(outcome.lr):
        best = min(outcome.tried, key=lambda rate: outcome.tried[rate])
        return (
            f"fine-tuning on {name} diverged at the chosen learning rate {best:g} with one of the "
            "further seeds; lower finetune.lrs, or raise finetune.selection_seeds"
        )
    for what, values in _scores(outcome).items():
        if not all(map(math.isfinite, values)):
            return f"the {what} fine-tuning on {name} is not finite; lower finetune.lrs"
    return None


def is_finite(outcome: Outcome) -> bool:
    """Whether all that was scored is a number."""
    return all(math.isfinite(value) for values in _scores(outcome).values() for value in values)


def _scores(outcome: Outcome) -> dict[str, list[float]]:
    return {
        "score before": [outcome.before],
        "loss before": [outcome.loss_before],
        "score after": outcome.after,
        "loss after": outcome.loss_after,
        "base loss after": outcome.base_loss_after,
    }
