"""Names, units and standard errors of metrics.

The only file that knows names such as gain, finetuned and `task.NAME.after`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hpo.core.format import with_sem
from hpo.core.trial import Run, Trial

OVER_RATES = "finetune_lr."
"""Begins the name of a curve over learning rates, and not over steps or layers."""


class HasMetrics(Protocol):
    """A trial, or an answer of one."""

    @property
    def metrics(self) -> Mapping[str, float]: ...


def sem(trial: HasMetrics, metric: str) -> float:
    """Standard error of a trial's metric over seeds, in the metric's unit; NaN if it has none."""
    return trial.metrics.get(f"{metric}_sem", math.nan)


def rows_sem(trial: HasMetrics, metric: str) -> float:
    """What the finite sample of test rows adds to it; NaN if that is not known."""
    return trial.metrics.get(f"{metric}_rows_sem", math.nan)


def level_sem(trial: HasMetrics, metric: str) -> float:
    """Standard error of the value itself, over seeds and test rows; NaN if no seeds tell it.

    Not of differences: all trials are scored on the same rows, so that most of what those add
    cancels (`hpo.front.errors`).
    """
    rows = rows_sem(trial, metric)
    return math.hypot(sem(trial, metric), 0.0 if math.isnan(rows) else rows)


def is_error(name: str, names: Collection[str]) -> bool:
    """Whether a metric is the standard error of another one among `names`."""
    return any(
        name.endswith(end) and name.removesuffix(end) in names for end in ("_rows_sem", "_sem")
    )


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How fine-tuning is read: by the scores of its tasks, or by the loss on their answers."""

    gain: str
    after: str
    sign: int
    """1 where more of `after` is better, -1 where less is."""
    ends: tuple[str, str]
    """Of a task's metrics before and after, behind `task.NAME.`."""
    axis: str


SCORE = Measure(gain="gain", after="finetuned", sign=1, ends=("before", "after"), axis="task score")


LOSS = Measure(
    gain="loss_gain_nats",
    after="finetuned_loss_nats",
    sign=-1,
    ends=("loss_before_nats", "loss_after_nats"),
    axis="loss on answers (nats/token)",
)


def measure(run: Run) -> Measure:
    """The loss where goals ask for it and for no score: on generated text scores stay at zero."""
    goals = {goal.metric for goal in run.goals}
    return (
        LOSS if goals & {LOSS.gain, LOSS.after} and not goals & {SCORE.gain, SCORE.after} else SCORE
    )


UNITS = {
    "base_loss": "nats/token",
    "base_bits_per_byte": "bits/byte",
    "train_loss": "nats/token",
    "mid_loss": "nats/token",
    "finetuned_loss_nats": "nats/token",
    "loss_gain_nats": "nats/token",
    "forgetting_nats": "nats/token",
    "training_loss": "nats/image",
    "validation_loss": "nats/image",
    "probe.noise.isotropic_nats": "nats/token",
    "probe.noise.relative_nats": "nats/token",
    "probe.sharpness.trace": "nats",
    "probe.spikes.largest_rise_nats": "nats/token",
    "probe.tiny_rate.drop_nats": "nats/token",
    "probe.tiny_rate.loss_nats": "nats/token",
}


def meanings(run: Run) -> dict[str, str]:
    """Metric -> what it is, as far as the objective given when the run was started."""
    given = run.reproduce.get("meanings", {})
    return {name: str(text) for name, text in given.items()} if isinstance(given, dict) else {}


def measured(trial: Trial, metric: str) -> str:
    """A trial's metric with its standard error, over seeds and test rows."""
    return with_sem(trial.metrics.get(metric, math.nan), level_sem(trial, metric))


def named(metric: str) -> str:
    """A metric's name with its unit."""
    return f"{metric} ({UNITS[metric]})" if metric in UNITS else metric


def metric_names(run: Run) -> list[str]:
    """Every metric some trial has, without standard errors: goals, plain ones, probes, tasks."""
    seen = {name for trial in run.trials for name in trial.metrics}
    plain = {name for name in seen if not name.endswith("_sem")}
    first = [goal.metric for goal in run.goals]
    how = measure(run)
    first += [name for name in (how.gain, how.after) if name in plain and name not in first]
    last = {"probe": 1, "task": 2}
    rest = sorted(plain - set(first), key=lambda name: (last.get(name.split(".")[0], 0), name))
    return first + rest


def score_names(run: Run) -> list[str]:
    """The metrics of every table: the goals, and what fine-tuning gains and gives, if measured."""
    goals, how = [goal.metric for goal in run.goals], measure(run)
    return goals + [
        name
        for name in (how.gain, how.after)
        if name not in goals and any(name in trial.metrics for trial in run.trials)
    ]


def param_names(run: Run, trials: Iterable[Trial]) -> dict[str, str]:
    """Path -> its shortest unambiguous ending, for what is searched or set by these trials."""
    paths = list(dict.fromkeys([*run.space, *(path for trial in trials for path in trial.params)]))
    endings = Counter(end for path in paths for end in _endings(path))
    return {path: next(e for e in _endings(path) if endings[e] == 1 or e == path) for path in paths}


CONTROL_SCORE, CONTROL_LOSS = "scratch", "scratch_loss_nats"
"""Of a task, after `task.NAME.`: what fine-tuning gives from the initial weights."""


TIMESCALE = "tau_frac"
"""AdamW's timescale 1 / (rate x decay) as a share of the run: rate, decay and steps in one."""


OVER_CONTROL = ("over_scratch", "over_scratch_nats")
"""Score above the control's, and completion loss below it; higher is better."""


def task_metrics(names: Iterable[str], end: str) -> list[str]:
    """Tasks that have a metric `task.NAME.end`."""
    found = (name.removeprefix("task.") for name in names if name.startswith("task."))
    return sorted(name.removesuffix(f".{end}") for name in found if name.endswith(f".{end}"))


def task_names(run: Run) -> list[str]:
    """The tasks that some trial was measured on."""
    names = {name for trial in run.trials for name in trial.metrics if name.startswith("task.")}
    return sorted({name.removeprefix("task.").rpartition(".")[0] for name in names})


GENERIC = frozenset({"value", "name", "kind"})
"""Last parts of a path that say nothing without the part before."""


def _endings(path: str) -> list[str]:
    parts = path.split(".")
    shortest = 2 if parts[-1] in GENERIC and len(parts) > 1 else 1
    return [".".join(parts[start:]) for start in range(len(parts) - shortest, -1, -1)]
