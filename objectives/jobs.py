"""Pretraining jobs: rate and decay of every step, and the keys that say what depends on what."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives import merging, models, schedules, sources
from objectives.corpus import Corpus
from objectives.merging import Merge
from objectives.recipe import Model, Recipe
from objectives.store import key_of


@dataclass(frozen=True)
class Job:
    """One base model to pretrain."""

    recipe: Recipe
    seed: int
    steps: int
    """The horizon at the request's fidelity."""
    device: str = "cpu"
    """Its kind is part of every key: devices round differently."""

    @functools.cached_property
    def lr(self) -> NDArray[np.float64]:
        """Learning rate of each step; [S]."""
        pre = self.recipe.pretrain
        return pre.lr * schedules.multipliers(pre.schedule, self.steps)

    @functools.cached_property
    def decay(self) -> NDArray[np.float64]:
        """Weight decay of each step, before the rate multiplies it; [S]."""
        return np.full(self.steps, self.recipe.pretrain.weight_decay)

    @functools.cached_property
    def merge(self) -> Merge | None:
        """How checkpoints are averaged; None where the decay is trained, or nothing decays."""
        pre = self.recipe.pretrain
        if pre.schedule.decay == "trained":
            return None
        ratio = pre.lr * schedules.decayed(pre.schedule, self.steps) / self.lr
        return merging.plan(ratio, self._merge_every)

    def program_key(self, corpus: Corpus) -> str:
        """Equal for jobs that can be lanes of one program."""
        pre = self.recipe.pretrain
        extra = [pre.activation_checkpointing, pre.eval_tokens]
        return key_of("program-1", self._weights_depend_on(corpus), extra)

    def trunk_key(self, corpus: Corpus) -> str:
        """Equal for jobs whose weights are equal as long as their rates and decays are."""
        pre = self.recipe.pretrain
        constants = [pre.beta1, pre.beta2, pre.eps, pre.clip_norm]
        return key_of("trunk-1", self._weights_depend_on(corpus), constants, self.seed)

    def key(self, corpus: Corpus, step: int) -> str:
        """The stage "pretrained up to `step`"."""
        course = np.stack([self.lr[:step], self.decay[:step]]).tobytes()
        digest = hashlib.sha256(course).hexdigest()
        return f"{step:09d}-{key_of(self.trunk_key(corpus), digest)}"

    def base_key(self, corpus: Corpus) -> str:
        """The stage of the base that is fine-tuned and scored."""
        trained = self.key(corpus, self.steps)
        if self.merge is None:
            return trained
        return key_of("merged-1", trained, self.merge.steps, self.merge.weights)

    def kept_steps(self) -> set[int]:
        """Steps on the way at which weights are kept to be merged, by this job or by later ones."""
        kept = set(self.merge.steps) - {0} if self.merge else set[int]()
        if self.recipe.pretrain.keep_trunk:
            grid = range(self._merge_every, self.steps, self._merge_every)
            kept |= {step for step in grid if self.may_go_on(step)}
        return kept

    @property
    def _merge_every(self) -> int:
        """Steps between two checkpoints: the same grid at every fidelity."""
        pre = self.recipe.pretrain
        return max(1, pre.steps // pre.merge_points)

    def eval_steps(self) -> list[int]:
        """Points of the validation curve on the way: the same grid at every fidelity."""
        every = max(1, self.recipe.pretrain.steps // self.recipe.pretrain.evals)
        return list(range(every, self.steps, every))

    def may_go_on(self, step: int) -> bool:
        """Whether a longer horizon would continue from here: the rate has not begun to fall."""
        return bool(self.lr[step - 1] == self.lr[:step].max())

    def _weights_depend_on(self, corpus: Corpus) -> list[Any]:
        pre = self.recipe.pretrain
        return [
            _model_print(self.recipe.model, corpus.vocab_size),
            [corpus.key, corpus.weights],
            [pre.batch_size, pre.seq_len, pre.accumulation, pre.precision, pre.decayed],
            self.device.split(":")[0],
        ]


def partings(jobs: Sequence[Job], corpus: Corpus) -> set[int]:
    """Steps at which two jobs that were one lane until then part."""
    steps = set()
    for index, one in enumerate(jobs):
        for other in jobs[:index]:
            if one.trunk_key(corpus) == other.trunk_key(corpus):
                shared = min(one.steps, other.steps)
                same = (one.lr[:shared] == other.lr[:shared]) & (
                    one.decay[:shared] == other.decay[:shared]
                )
                steps.add(shared if same.all() else int(same.argmin()))
    return steps


def stops(jobs: Sequence[Job]) -> set[int]:
    """Steps at which something is measured, kept or ends."""
    return {0}.union(*({*job.eval_steps(), *job.kept_steps(), job.steps} for job in jobs))


def check_length(recipe: Recipe, vocab_size: int) -> None:
    """Raise ValueError if sequences are longer than the positions the model has."""
    config = models.build_config(recipe.model, vocab_size)
    longest = max(recipe.pretrain.seq_len, recipe.finetune.max_length)
    most = getattr(config, "max_position_embeddings", longest)
    if longest > most:
        raise ValueError(
            f"pretrain.seq_len and finetune.max_length must be at most the model's {most} "
            f"positions, got {longest}; shorten them or take another model.config."
        )


def _model_print(model: Model, vocab_size: int) -> list[Any]:
    """What the initial weights depend on besides the seed: shape, and any pretrained weights."""
    if model.config is None and model.weights is None:
        return _preset_print(model, vocab_size)
    return _read_print(model, vocab_size)


def _read_print(model: Model, vocab_size: int) -> list[Any]:
    """Read anew each time: a folder may have changed."""
    config = models.build_config(model, vocab_size)
    shape = {name: value for name, value in config.to_diff_dict().items() if name[0] != "_"}
    weights = model.weights
    if weights is None or not Path(weights).is_dir():
        return [shape, weights]
    files = sources.matching_files((f"{weights}/*.safetensors",))
    return [shape, [sources.checksum(path) for path in files]]


_preset_print = functools.lru_cache(maxsize=64)(_read_print)
