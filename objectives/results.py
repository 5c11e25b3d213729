"""From the record of a trial to its flat result. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from objectives import result_notes, row_errors
from objectives.data.tasks import Task
from objectives.finetuning.checkpoints import NOTHING
from objectives.finetuning.lr_search import Outcome
from objectives.probes import runner
from objectives.training import weight_decay_schedule
from objectives.trial import Trial
from objectives.types import Curve, Result, curve, finite_points

ROUNDING_S = 1e-9
"""Seconds below which a difference of two sums of the same parts is their rounding."""


CURVE_POINTS = 64
"""Of the training loss and of the learning rate."""


class TrialFailed(RuntimeError):
    """A trial has no metrics; the message says why."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.failure)
        self.result = result


EARLY = frozenset(
    (
        "base_loss", "base_bits_per_byte", "base_perplexity", "train_loss", "train_validation_gap",
        "tokens_per_param", "tau_frac", "mid_loss", "base_loss_rows_sem",
        "base_bits_per_byte_rows_sem", "base_perplexity_rows_sem", "train_loss_rows_sem",
        "train_validation_gap_rows_sem", "mid_loss_rows_sem",
    )
)  # fmt: skip
"""What is known of a base before it is fine-tuned."""


def result_of(trial: Trial, time_s: float, peak_bytes: float, num_devices: int = 1) -> Result:
    """The result of a trial at the end of the pipeline.

    `time_s` is its share of the wall time, `peak_bytes` the most memory that was in use,
    `num_devices` how many the bases were pretrained on.
    """
    if trial.base is None:
        return Result(failure=trial.failure)
    cost = _cost(trial) | _stages(trial, num_devices)
    cost |= {"time_s": time_s, "peak_memory_gib": peak_bytes / 2**30}
    curves = _base_curves(trial)
    if trial.failure is not None:
        return Result(
            failure=trial.failure, curves=curves, cost=cost, labels=result_notes.labels(trial)
        )
    pairs = zip(trial.tasks, trial.outcomes, strict=True)
    last = [float(trial.job.steps), trial.measured.losses["curve_loss"]]
    curves["val_loss"] = [*trial.base.validation_of(trial.job), last]
    for task, outcome in pairs:
        curves[f"finetune.{task.name}"] = outcome.curve
        curves[f"finetune_lr.{task.name}"] = finite_points(sorted(map(list, outcome.tried.items())))
    return Result(
        metrics={
            **_base_metrics(trial),
            **_task_metrics(trial),
            **_over_scratch(trial),
            **runner.metrics(trial.probes),
        },
        row_scores=listed_rows(_all_rows(trial)),
        labels=result_notes.labels(trial),
        curves=curves | runner.curves(trial.probes),
        cost=runner.with_cost(cost, trial.probes, trial.flops_per_token),
        notes=[*result_notes.notes(trial), *runner.notes(trial.probes)],
    )


def _base_metrics(trial: Trial) -> dict[str, float]:
    """Metrics of the pretrained model.

    `tau_frac` is the AdamW timescale 1 / (lr wd) over the run's steps (arXiv 2405.13698; left out
    where there is none, as without decay); `tokens_per_param` counts all parameters.
    """
    pre, losses, steps = trial.job.recipe.pretrain, trial.measured.losses, trial.job.steps
    base_loss, train_loss = losses["base_loss"], losses["train_loss"]
    tokens = steps * pre.batch_size * pre.seq_len
    metrics = {
        "base_loss": base_loss,
        "base_bits_per_byte": base_loss / math.log(2) / trial.corpus.bytes_per_token,
        "base_perplexity": math.exp(base_loss),
        "train_loss": train_loss,
        "train_validation_gap": base_loss - train_loss,
        "tokens_per_param": tokens / trial.num_params,
    }
    tau_frac = weight_decay_schedule.tau_frac(pre, steps)
    if tau_frac is not None:
        metrics["tau_frac"] = tau_frac
    if trial.job.second is not None:
        metrics["mid_loss"] = losses["mid_loss"]
    return metrics | rows_errors(_base_rows(trial))


def _task_metrics(trial: Trial) -> dict[str, float]:
    if not trial.outcomes:
        return {}
    sample_loss = trial.measured.losses.get("sample_loss", math.nan)
    sample_rows = trial.measured.rows.get("sample_loss", [])
    return task_metrics(trial.tasks, trial.outcomes, sample_loss, sample_rows)


def task_metrics(
    task_list: Sequence[Task],
    outcomes: Sequence[Outcome],
    sample_loss: float,
    sample_rows: Sequence[float] = (),
) -> dict[str, float]:
    """Metrics of the fine-tunes: each task's, and means over tasks with errors over seeds.

    `finetuned` is the mean score after, `gain` that minus the score before, `loss_gain_nats` the
    drop in completion loss, `forgetting_nats` the rise of the base loss on the same sample.
    """
    metrics: dict[str, float] = {}
    for task, outcome in zip(task_list, outcomes, strict=True):
        name = f"task.{task.name}"
        of_nats, of_score = outcome.choice_errors
        metrics[f"{name}.before"] = outcome.before
        _put(metrics, f"{name}.after", outcome.after, of_score)
        _put(metrics, f"{name}.gain", [score - outcome.before for score in outcome.after], of_score)
        metrics[f"{name}.chance"] = task.chance
        metrics[f"{name}.lr"] = outcome.lr
        metrics[f"{name}.lr_error_nats"] = of_nats
        metrics[f"{name}.loss_before_nats"] = outcome.loss_before
        _put(metrics, f"{name}.loss_after_nats", outcome.loss_after, of_nats)
    before = float(np.mean([outcome.before for outcome in outcomes]))
    loss_before = float(np.mean([outcome.loss_before for outcome in outcomes]))
    of_nats, of_score = (
        _mean_error(errors)
        for errors in zip(*(each.choice_errors for each in outcomes), strict=True)
    )
    _put(metrics, "finetuned", _over_tasks(outcomes, "after"), of_score)
    _put(metrics, "gain", [score - before for score in _over_tasks(outcomes, "after")], of_score)
    loss_after = _over_tasks(outcomes, "loss_after")
    _put(metrics, "finetuned_loss_nats", loss_after, of_nats)
    _put(metrics, "loss_gain_nats", [loss_before - loss for loss in loss_after], of_nats)
    by_rows = row_scores(outcomes, sample_rows)
    metrics |= rows_errors({name: y for name, y in by_rows.items() if name not in TASKS_ALONE})
    for name, short in BY_TASK.items():
        for task, y_SN in zip(task_list, by_rows.get(name, ()), strict=False):
            metrics |= rows_errors({f"task.{task.name}.{short}": [y_SN]})
    if outcomes[0].base_loss_after:
        kept = _over_tasks(outcomes, "base_loss_after")
        _put(metrics, "forgetting_nats", [loss - sample_loss for loss in kept])
    return metrics


OVER_SCRATCH = ("over_scratch", "over_scratch_nats")
"""Score and completion loss against the control's; positive where pretraining helps."""


def _over_scratch(trial: Trial) -> dict[str, float]:
    """What pretraining is worth on each task, where a control was measured."""
    control = trial.control
    if control is None or control.failure is not None or not trial.outcomes:
        return {}
    return over_scratch_metrics(trial.tasks, trial.outcomes, control.outcomes)


def over_scratch_metrics(
    task_list: Sequence[Task], outcomes: Sequence[Outcome], controls: Sequence[Outcome]
) -> dict[str, float]:
    """Scores and losses after fine-tuning beside those of fine-tuning from scratch.

    `scratch` is the control's score, `over_scratch` the score after fine-tuning minus it,
    `over_scratch_nats` the control's completion loss minus that after fine-tuning. Both are paired
    over fine-tuning seeds and test rows.
    """
    metrics: dict[str, float] = {}
    by_task: dict[str, list[Any]] = {name: [] for name in OVER_SCRATCH}
    errors: dict[str, list[float]] = {name: [] for name in OVER_SCRATCH}
    for task, outcome, control in zip(task_list, outcomes, controls, strict=True):
        by_task["over_scratch"].append(np.subtract(outcome.after, control.after))
        by_task["over_scratch_nats"].append(np.subtract(control.loss_after, outcome.loss_after))
        (nats, score), own = control.choice_errors, outcome.choice_errors
        errors["over_scratch"].append(math.hypot(score, own[1]))
        errors["over_scratch_nats"].append(math.hypot(nats, own[0]))
        _put(metrics, f"task.{task.name}.scratch", control.after, score)
        _put(metrics, f"task.{task.name}.scratch_loss_nats", control.loss_after, nats)
        for name, of_tasks in by_task.items():
            _put(metrics, f"task.{task.name}.{name}", of_tasks[-1], errors[name][-1])
    for name, of_tasks in by_task.items():
        _put(metrics, name, np.mean(of_tasks, axis=0), _mean_error(errors[name]))
    with_base, without = row_scores(outcomes), row_scores(controls)
    for name, measured, sign in (
        ("over_scratch", "finetuned", 1),
        ("over_scratch_nats", "finetuned_loss_nats", -1),
    ):
        if measured in with_base and measured in without:
            pairs = zip(with_base[measured], without[measured], strict=True)
            rows = [sign * (one - other) for one, other in pairs]
            alone = {
                f"task.{task.name}.{name}": [y] for task, y in zip(task_list, rows, strict=True)
            }
            metrics |= rows_errors({name: rows, **alone})
    return metrics


BY_TASK = {
    "before": "before", "finetuned": "after", "gain": "gain",
    "loss_before_nats": "loss_before_nats", "finetuned_loss_nats": "loss_after_nats",
}  # fmt: skip
"""Names of `row_scores` -> metrics of each task with such rows."""


TASKS_ALONE = ("before", "loss_before_nats")
"""Of these, which are metrics of a task and have no mean over tasks."""


def row_scores(
    outcomes: Sequence[Outcome], sample_rows: Sequence[float] = ()
) -> dict[str, list[row_errors.Array]]:
    """Metric -> an array seeds x rows for each sample of rows; those that were not recorded lack.

    The samples are the tasks'; for forgetting one, as all tasks have the same text.
    """
    found: dict[str, list[row_errors.Array]] = {}
    if outcomes and all(each.rows_before and each.rows_after for each in outcomes):
        after = [row_errors.from_text(outcome.rows_after) for outcome in outcomes]
        before = [row_errors.from_text([outcome.rows_before]) for outcome in outcomes]
        gain = [one - other for one, other in zip(after, before, strict=True)]
        found |= {"before": before, "finetuned": after, "gain": gain}
    if outcomes and all(each.loss_rows_before and each.loss_rows_after for each in outcomes):
        after = [np.array(outcome.loss_rows_after) for outcome in outcomes]
        before = [np.array([outcome.loss_rows_before]) for outcome in outcomes]
        gain = [other - one for one, other in zip(after, before, strict=True)]
        found |= {"loss_before_nats": before, "finetuned_loss_nats": after, "loss_gain_nats": gain}
    kept = [outcome.base_loss_rows_after for outcome in outcomes]
    if kept and all(kept) and len(sample_rows):
        found["forgetting_nats"] = [np.mean(kept, axis=0) - np.array([sample_rows])]
    return found


def _base_rows(trial: Trial) -> dict[str, list[row_errors.Array]]:
    """The same of metrics of the base, by sequence of text.

    Perplexity is linearised; of the gap the two texts are two samples, of which the mean is taken.
    """
    rows = {name: np.array([y]) for name, y in trial.measured.rows.items() if len(y) > 1}
    found: dict[str, list[row_errors.Array]]
    found = {name: [rows[name]] for name in ("base_loss", "train_loss", "mid_loss") if name in rows}
    if "base_loss" in rows:
        loss, y_1N = trial.measured.losses["base_loss"], rows["base_loss"]
        found["base_bits_per_byte"] = [y_1N / math.log(2) / trial.corpus.bytes_per_token]
        found["base_perplexity"] = [math.exp(loss) * (1 + y_1N - loss)]
        if "train_loss" in rows:
            found["train_validation_gap"] = [2 * y_1N, -2 * rows["train_loss"]]
    return found


def _all_rows(trial: Trial) -> dict[str, list[row_errors.Array]]:
    sample_rows = trial.measured.rows.get("sample_loss", [])
    return row_scores(trial.outcomes, sample_rows) | _base_rows(trial)


def rows_errors(by_rows: Mapping[str, Sequence[row_errors.Array]]) -> dict[str, float]:
    """`<name>_rows_sem` of each metric; none where a sample has one row."""
    found = {f"{name}_rows_sem": row_errors.rows_error(y) for name, y in by_rows.items()}
    return {name: error for name, error in found.items() if math.isfinite(error)}


def listed_rows(by_rows: Mapping[str, Sequence[row_errors.Array]]) -> dict[str, list[list[float]]]:
    """`Result.row_scores`: the mean over seeds of each row."""
    return {
        name: [row_errors.grouped(y_SN.mean(0)) for y_SN in samples]
        for name, samples in by_rows.items()
        if name not in TASKS_ALONE
    }


def _base_curves(trial: Trial) -> dict[str, Curve]:
    base, job = trial.model, trial.job
    steps = np.arange(1, job.steps + 1)
    picked = np.unique(np.linspace(0, len(steps) - 1, CURVE_POINTS).round().astype(int))
    rates = base.rates_of(job)
    lr = [[float(steps[index]), float(rates[index])] for index in picked if index < len(rates)]
    curves = {
        "train_loss": finite_points(curve(base.losses, CURVE_POINTS)),
        "lr": finite_points(lr),
    }
    if job.merge is not None:
        weights = zip(job.merge.steps, job.merge.weights, strict=True)
        curves["merge_weight"] = [[float(step), weight] for step, weight in weights]
    return curves


def _cost(trial: Trial) -> dict[str, float]:
    """What this request took now, and what it found done; shared work is split evenly.

    `flops` counts training only: 6 N + attention for each pretraining token, the same for each
    fine-tuning token (an upper bound for adapters). `device_s` are seconds of training. Of a trial
    that failed the fine-tunes are not counted.
    """
    base, pre = trial.model, trial.job.recipe.pretrain
    failed = trial.failure is not None
    now, tuning = (NOTHING, NOTHING) if failed else (trial.work, trial.measured.tuning)
    control = trial.control
    if control is not None and control.measures is not None and not failed:
        now = now + control.work.share(trial.control_share)
        tuning = tuning + control.measured.tuning
    a_step = pre.batch_size * pre.seq_len
    tokens = base.trained_steps * a_step + now.tokens
    steps = len(base.losses) + base.reference_steps
    return {
        "tokens": tokens,
        "tokens_reused": steps * a_step + tuning.tokens - tokens,
        "device_s": base.trained_s + now.seconds,
        "device_s_saved": seconds_saved(
            base.device_s - base.trained_s, tuning.seconds - now.seconds
        ),
        "flops": trial.flops_per_token * tokens,
    }


def seconds_saved(pretraining: float, finetuning: float) -> float:
    """The sum; nothing where only the last bits of sums in another order are left."""
    saved = pretraining + finetuning
    return 0.0 if abs(saved) < ROUNDING_S else saved


def _stages(trial: Trial, num_devices: int) -> dict[str, float]:
    """What each stage took in this call, in seconds by the clock, lanes sharing them evenly.

    `finetune_s` is of fine-tuning and its scoring, of the control too; nothing of what was found
    done is in them. Probes come on top (`runner.with_cost`).
    """
    base, pre, control = trial.model, trial.job.recipe.pretrain, trial.control
    a_step = pre.batch_size * pre.seq_len
    trained = base.trained_steps * a_step
    shared = 0.0 if control is None else control.finetune_s * trial.control_share
    return {
        "pretrain_tokens": trained,
        "pretrain_tokens_reused": (len(base.losses) + base.reference_steps) * a_step - trained,
        "pretrain_s": base.trained_s / num_devices,
        "finetune_s": trial.finetune_s + shared,
    }


def _over_tasks(outcomes: Sequence[Outcome], name: str) -> list[float]:
    """Mean over tasks, one a seed."""
    scores: Any = [getattr(outcome, name) for outcome in outcomes]
    means: list[float] = np.mean(scores, axis=0).tolist()
    return means


def _mean_error(errors: Sequence[float]) -> float:
    """Of a mean of independent values."""
    return math.hypot(*errors) / len(errors)


def _put(
    metrics: dict[str, float], name: str, over_seeds: Sequence[float], choice_error: float = 0.0
) -> None:
    """The mean over seeds, and its error by their spread and by the choice of the rate."""
    values = np.asarray(over_seeds, float)
    metrics[name] = float(values.mean())
    if len(values) > 1:
        error = float(values.std(ddof=1) / math.sqrt(len(values)))
        metrics[f"{name}_sem"] = math.hypot(error, choice_error)
