"""Probes of plasticity in a plain `transformers.Trainer`, in its logs.

    trainer = Trainer(model, args, ...)
    probes = Recipe.from_file("recipe/recipe.json").probes
    trainer.add_callback(ProbeCallback(trainer, rows, probes=probes, every=500))

1. Every `every` steps, and at the end, the probes of `objectives.probes` are measured on the
   weights as they are, by the same code and settings as on bases pretrained here.
2. `Trainer.log` gets `probe.norms.weight_norm` and so on: they are in the log history, and in every
   tracker of `report_to`.
3. Training is not changed: weights are read, no random number is drawn, dropout is off.

`spikes` needs the loss of every step, `logging_steps=1`. `separability`, `tiny_rate` and
`lost_updates` need the tasks and the corpus of a study; such a probe is a warning, once.

N rows, T tokens of a row.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedConfig, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Arguments

from objectives.config.probes import Probes
from objectives.config.recipe import Recipe
from objectives.config.training import Pretrain
from objectives.models import causal_lm
from objectives.pretraining.checkpoints import BaseModel, Parameters
from objectives.pretraining.job import PretrainJob
from objectives.probes import runner
from objectives.probes.types import ProbeBatch, ProbedModel, ProbeResult
from objectives.training.lanes import LaneModel

Ids = NDArray[np.int64]


class ProbeCallback(TrainerCallback):  # type: ignore[misc]
    """Measures probes while a Trainer trains, and logs them by it."""

    def __init__(
        self,
        trainer: Trainer,
        rows: Any,
        *,
        train_rows: Any = None,
        probes: Probes | None = None,
        every: int = 0,
    ) -> None:
        """Take the Trainer, and the text to measure on.

        Args:
            trainer: its `log` gets the values.
            rows: token ids [N, T] of validation text, without padding, as a list, array or tensor;
                the first and others, evenly spaced, of `probes.tokens` tokens in all are used.
            train_rows: the same of training text, for the norm of the gradient; default: `rows`.
            probes: which probes, and their settings; default: those of a recipe.
            every: steps between two measurements; 0 measures at the end only.

        Raises:
            ValueError: rows that are no such table, or `every` below 0.
        """
        if every < 0:
            raise ValueError(f"every must be at least 0 steps, got {every}; 0 is the end only.")
        self.trainer = trainer
        self.probes = Probes() if probes is None else probes
        self.every = every
        validation = _table(rows, "rows")
        train = validation if train_rows is None else _table(train_rows, "train_rows")
        self.text = {"validation": validation, "train": train}
        self.program: _Program | None = None
        self.rates: list[float] = []
        """Of each step that was taken."""
        self.measured_at = -1
        self.warned: set[str] = set()

    def on_train_begin(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the program; of a resumed run's earlier rates only the greatest logged one counts.

        Raises:
            ValueError: the Trainer's model is no plain causal language model of one device.
        """
        self.program = _Program(kwargs["model"])
        logged = [entry["learning_rate"] for entry in state.log_history if "learning_rate" in entry]
        self.rates = [max(logged, default=0.0)] * state.global_step
        self.measured_at = -1

    def on_optimizer_step(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the rate that the step had."""
        self.rates.append(float(kwargs["optimizer"].param_groups[0]["lr"]))

    def on_step_end(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure where it is time to."""
        if self.every and state.global_step % self.every == 0:
            due = control.should_log
            self._measure(kwargs["model"], args, state)
            control.should_log = due  # `log` clears it, and the step's own loss is still to come

    def on_train_end(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the last weights."""
        if self.rates and self.measured_at != state.global_step:
            self._measure(kwargs["model"], args, state)

    def _measure(self, model: nn.Module, args: Arguments, state: TrainerState) -> None:
        """All probes on the weights as they are, logged."""
        self.measured_at = state.global_step
        if not state.is_world_process_zero:
            return
        assert self.program is not None
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        group = _group(self, model, self.program, losses)
        found = {name: self._one(name, group, args) for name in self.probes.run}
        cached = {name: runner.CachedProbe(result, now=True) for name, result in found.items()}
        for note in runner.notes(cached):
            if note not in self.warned:
                logging.getLogger(__name__).warning(note)
                self.warned.add(note)
        values = runner.metrics(cached)
        if values:
            self.trainer.log(values)

    def _one(self, name: Any, group: ProbeBatch, args: Arguments) -> ProbeResult:
        if name == "spikes" and args.logging_steps != 1:
            why = "not measured, it needs the loss of every step; train with logging_steps=1"
            return ProbeResult(notes=[why])
        return runner.measure(name, group)[0]


class _Program:
    """A Trainer's model as a program without parameters, which probes run."""

    def __init__(self, model: nn.Module) -> None:
        """Build it from the model's config, without dropout."""
        self.config: PreTrainedConfig = model.config
        self.device = str(next(model.parameters()).device)
        try:
            self.module = causal_lm.build_module(self.config, self.device).eval()
        except ValueError as error:
            raise ValueError(
                f"probes are of causal language models, got a {type(model).__name__} ({error}); "
                "train it without ProbeCallback."
            ) from None
        if _shapes(self.module) != _shapes(model):
            raise ValueError(
                f"probes need the parameters of a plain {type(self.module).__name__}, and those of "
                "the Trainer's model have other names or shapes, such as those of an adapter or a "
                "shard; train it without ProbeCallback."
            )
        self.lanes = LaneModel(self.module)


@dataclass(frozen=True, eq=False, kw_only=True)
class _TrainerBatch(ProbeBatch):
    """One model that a Trainer trains, and the text that its user gave."""

    own: _Program
    text: dict[str, Ids]

    @property
    def config(self) -> PreTrainedConfig:
        """Of the Trainer's model."""
        return self.own.config

    @property
    def module(self) -> nn.Module:
        """The model as a program without parameters."""
        return self.own.module

    @property
    def program(self) -> LaneModel:
        """One for all measurements: each leaves a hook in the module."""
        return self.own.lanes

    def sample(self, split: str = "validation") -> Ids:
        """Evenly spaced rows of the text; [N, T]."""
        rows = self.text[split]
        count = min(len(rows), -(-self.recipe.probes.tokens // (rows.shape[1] - 1)))
        picked: Ids = rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]
        return picked


def _group(
    callback: ProbeCallback, model: nn.Module, program: _Program, losses: Sequence[float]
) -> ProbeBatch:
    """The model's weights as a base of one lane; parameters are views of its own."""
    pretrain = Pretrain(seq_len=callback.text["validation"].shape[1] - 1)
    recipe = Recipe(pretrain=pretrain, probes=callback.probes)
    job = PretrainJob(recipe, seed=0, steps=len(callback.rates), device=program.device)
    params: Parameters = {
        name: p.detach().to(torch.get_default_dtype()) for name, p in model.named_parameters()
    }
    base = BaseModel(
        key="",
        params=params,
        losses=np.array(losses, dtype=np.float64),
        validation=[],
        curve_tokens=0,
        diverged_at=None,
        device_s=0.0,
        rates=np.array(callback.rates),
    )
    subjects = [ProbedModel(job, base, loss=float("nan"))]
    return _TrainerBatch(
        subjects=subjects, corpus=None, tasks=(), report=lambda event: None, own=program,
        text=callback.text,
    )  # fmt: skip


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in module.named_parameters()}


def _table(rows: Any, name: str) -> Ids:
    """Token ids; [N, T].

    Raises:
        ValueError: they are no table of whole numbers with two columns or more.
    """
    try:
        found = np.asarray(rows)
    except ValueError:  # rows of several lengths
        found = np.empty(0)
    if found.ndim != 2 or found.shape[1] < 2 or not len(found) or found.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be token ids [N, T] with N >= 1 and T >= 2, got shape {found.shape} of "
            f"{found.dtype}; cut the text into rows of one length."
        )
    return found.astype(np.int64)
