"""The recipe: everything one trial does, as one frozen tree of values.

A hyperparameter's name is its dotted path in this tree (`pretrain.schedule.decay_frac`), and there
is no second name but the short forms. `Recipe.with_params` sets paths, `to_dict` and `from_dict`
make the JSON round trip. Types and ranges are checked by pydantic on every construction from
outside, strictly: a string is never taken for a number.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from objectives.config import config_errors
from objectives.config.config_class import config_class
from objectives.config.data import Corpus
from objectives.config.probes import Probes
from objectives.config.training import Finetune, Pretrain, _check_followed, of_task
from objectives.config.tree import RecipeTree

MOST_LETTERS = 200
"""Of a task's name, which metrics are called by."""


PresetName = Literal[
    "llama-0.06m",
    "llama-0.2m",
    "llama-1m",
    "llama-4m",
    "llama-10m",
    "llama-30m",
    "llama-60m",
    "llama-135m",
    "llama-350m",
    "llama-0.5b",
    "llama-1b",
    "llama-3.2-1b",
    "gpt2-0.2m",
    "gpt2-124m",
]
"""The keys of `objectives.models.causal_lm.PRESETS`."""


@config_class
class Model:
    """A causal language model, from a preset's or a Hugging Face config's shape."""

    preset: PresetName | None = "llama-0.2m"
    """A name in `objectives.models.causal_lm.PRESETS`."""
    config: str | None = None
    """A Hugging Face config (hub name or folder) instead of a preset."""
    weights: str | None = None
    """Pretrained weights (hub name or folder) to continue from; None starts at random."""


@config_class
class Recipe(RecipeTree):
    """Everything one trial does."""

    model: Model = field(default_factory=Model)
    corpus: Corpus = field(default_factory=Corpus)
    pretrain: Pretrain = field(default_factory=Pretrain)
    finetune: Finetune = field(default_factory=Finetune)
    probes: Probes = field(default_factory=Probes)

    def __post_init__(self) -> None:
        if (self.model.preset is None) == (self.model.config is None):
            raise ValueError(
                "exactly one of model.preset and model.config must be set, got "
                f"{self.model.preset!r} and {self.model.config!r}; set the other to None."
            )
        _check_pretrain(self.pretrain)
        _check_finetune(self.finetune)
        if len(set(self.probes.run)) < len(self.probes.run):
            raise ValueError(f"probes.run must name each probe once, got {self.probes.run}.")


def _check_pretrain(pre: Pretrain) -> None:
    if pre.batch_size % pre.accumulation:
        raise ValueError(
            f"pretrain.accumulation must divide pretrain.batch_size, got {pre.accumulation} "
            f"and {pre.batch_size}; choose a divisor."
        )
    if pre.mid is not None and pre.schedule.decay == "merged":
        raise ValueError(
            "pretrain.schedule.decay must be 'trained' where pretrain.mid follows, got "
            "'merged'; a mean of checkpoints has no AdamW memory to go on with, so merge "
            "pretrain.mid.schedule, or set pretrain.mid to None."
        )
    _check_followed(pre)


def _check_finetune(fine: Finetune) -> None:
    if (fine.steps is None) == (fine.epochs is None):
        raise ValueError(
            "exactly one of finetune.steps and finetune.epochs must be set, got "
            f"{fine.steps} and {fine.epochs}; set the other to None."
        )
    if fine.selection_seeds > fine.seeds:
        raise ValueError(
            f"finetune.selection_seeds must be at most finetune.seeds, got "
            f"{fine.selection_seeds} and {fine.seeds}."
        )
    if fine.schedule.decay == "merged":
        raise ValueError(
            "finetune.schedule.decay must be 'trained', got 'merged'; only a pretraining "
            "schedule can be merged."
        )
    if len(set(fine.lrs)) < len(fine.lrs):
        raise ValueError(f"finetune.lrs must be different, got {fine.lrs}.")
    for place, task in enumerate(fine.tasks):
        lrs = of_task(fine, task.override).lrs
        if len(set(lrs)) < len(lrs):
            raise ValueError(f"finetune.tasks.{place}.override.lrs must be different, got {lrs}.")
    names = [task.name for task in fine.tasks]
    for place, name in enumerate(names):
        if not name.strip() or not name.isprintable() or len(name) > MOST_LETTERS:
            raise ValueError(
                f"finetune.tasks.{place}.name must be a text of 1 to {MOST_LETTERS} printable "
                f"characters, got {config_errors.shown(name)}."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"finetune.tasks must have different names, got {names}; rename one.")
