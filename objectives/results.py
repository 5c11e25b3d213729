"""From what was measured on a base and its fine-tunes to a flat result. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from objectives.config.recipe import Recipe
from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning.lr_search import Outcome
from objectives.pretraining.job import PretrainJob
from objectives.training import weight_decay_schedule
from objectives.types import Result


class TrialFailed(RuntimeError):
    """A trial has no metrics; the message says why."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.failure)
        self.result = result


DIVERGED_LOSS_RATIO = 2.0
"""A base whose loss ends above this many times ln(vocabulary) has diverged; assumed."""


EARLY = frozenset(
    (
        "base_loss", "base_bits_per_byte", "base_perplexity", "train_loss", "train_validation_gap",
        "tokens_per_param", "tau_frac", "mid_loss",
    )
)  # fmt: skip
"""What is known of a base before it is fine-tuned."""


def base_metrics(
    recipe: Recipe,
    steps: int,
    *,
    base_loss: float,
    train_loss: float,
    bytes_per_token: float,
    num_params: int,
) -> dict[str, float]:
    """Metrics of the pretrained model.

    `tau_frac` is the AdamW timescale 1 / (lr wd) over the run's steps (arXiv 2405.13698; left out
    where there is none, as without decay); `tokens_per_param` counts all parameters.
    """
    pre = recipe.pretrain
    tokens = steps * pre.batch_size * pre.seq_len
    metrics = {
        "base_loss": base_loss,
        "base_bits_per_byte": base_loss / math.log(2) / bytes_per_token,
        "base_perplexity": math.exp(base_loss),
        "train_loss": train_loss,
        "train_validation_gap": base_loss - train_loss,
        "tokens_per_param": tokens / num_params,
    }
    tau_frac = weight_decay_schedule.tau_frac(pre, steps)
    return metrics if tau_frac is None else metrics | {"tau_frac": tau_frac}


def task_metrics(
    task_list: Sequence[Task], outcomes: Sequence[Outcome], sample_loss: float
) -> dict[str, float]:
    """Metrics of the fine-tunes: each task's, and means over tasks with errors over seeds.

    `finetuned` is the mean score after, `gain` that minus the score before, `loss_gain_nats` the
    drop in completion loss, `forgetting_nats` the rise of the base loss on the same sample.
    """
    metrics: dict[str, float] = {}
    for task, outcome in zip(task_list, outcomes, strict=True):
        name = f"task.{task.name}"
        metrics[f"{name}.before"] = outcome.before
        _put(metrics, f"{name}.after", outcome.after)
        _put(metrics, f"{name}.gain", [score - outcome.before for score in outcome.after])
        metrics[f"{name}.chance"] = task.chance
        metrics[f"{name}.lr"] = outcome.lr
        metrics[f"{name}.loss_before_nats"] = outcome.loss_before
        _put(metrics, f"{name}.loss_after_nats", outcome.loss_after)
    before = float(np.mean([outcome.before for outcome in outcomes]))
    loss_before = float(np.mean([outcome.loss_before for outcome in outcomes]))
    _put(metrics, "finetuned", _over_tasks(outcomes, "after"))
    _put(metrics, "gain", [score - before for score in _over_tasks(outcomes, "after")])
    loss_after = _over_tasks(outcomes, "loss_after")
    _put(metrics, "finetuned_loss_nats", loss_after)
    _put(metrics, "loss_gain_nats", [loss_before - loss for loss in loss_after])
    if outcomes[0].base_loss_after:
        kept = _over_tasks(outcomes, "base_loss_after")
        _put(metrics, "forgetting_nats", [loss - sample_loss for loss in kept])
    return metrics


def divergence(lost_at: int, steps: int, of_reference: bool) -> str:
    """Why there is no base; `lost_at` is a step from 0, the horizon's number where the weights that
    the last step left are not finite.
    """
    what = (
        f"weights are not finite after the last step, {steps}"
        if lost_at >= steps
        else f"loss not finite at step {lost_at + 1}"
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
            f"pretraining diverged: base loss {loss:.3g} nats, more than "
            f"{DIVERGED_LOSS_RATIO:g} times that of guessing; lower pretrain.lr"
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


def labels(job: PretrainJob) -> list[str]:
    """What sets the job's base apart from one that was trained as its schedule says."""
    return [] if job.merge is None else ["merged"]


def notes(
    job: PretrainJob,
    corpus: TokenDataset,
    task_list: Sequence[Task],
    outcomes: Sequence[Outcome],
    *,
    unmeasured: int = 0,
) -> list[str]:
    """What a reader of the result should know; `unmeasured` points lack on the validation curve."""
    found = []
    if unmeasured:
        found.append(
            f"the validation curve lacks {unmeasured} points: the base was pretrained before, with "
            "other pretrain.evals or pretrain.curve_tokens"
        )
    if job.merge is not None:
        found.append(
            f"merged, not trained: the base is the mean of {len(job.merge.steps)} checkpoints of "
            f"the run without this decay, steps {job.merge.steps[0]} to {job.merge.steps[-1]}, "
            "which only approximates the decay"
        )
    goes_on = job.second is None or job.goes_on(corpus)
    phases = [("run", corpus, job.steps if goes_on else job.first_steps)]
    if job.second is not None and not goes_on:
        phases.append(("second phase", job.second, job.steps - job.first_steps))
    for name, text, steps in phases:
        pre = job.recipe.pretrain
        epochs = text.epochs(steps * pre.batch_size * pre.seq_len, pre.seq_len)
        if epochs > 1:
            found.append(f"the {name} sees its training text {epochs:.1f} times")
        found += text.notes
    for task, outcome in zip(task_list, outcomes, strict=True):
        found += task.notes
        if task.left_out:
            found.append(f"task {task.name}: {task.left_out} rows were too long and left out")
        if outcome.at_edge and len(outcome.tried) > 1:
            found.append(
                f"task {task.name}: the best learning rate {outcome.lr:g} is still at the edge "
                "of the grid; raise finetune.max_extensions"
            )
    return found


def _over_tasks(outcomes: Sequence[Outcome], name: str) -> list[float]:
    """Mean over tasks, one a seed."""
    scores: Any = [getattr(outcome, name) for outcome in outcomes]
    means: list[float] = np.mean(scores, axis=0).tolist()
    return means


def _put(metrics: dict[str, float], name: str, over_seeds: Sequence[float]) -> None:
    values = np.asarray(over_seeds, float)
    metrics[name] = float(values.mean())
    if len(values) > 1:
        metrics[f"{name}_sem"] = float(values.std(ddof=1) / math.sqrt(len(values)))
