"""Pretraining jobs: rate and decay of every step, and the keys that say what depends on what."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from objectives.config.execution import Execution, Kind
from objectives.config.locations import located
from objectives.config.recipe import Recipe
from objectives.config.training import Schedule, longest_row
from objectives.config.weight_decay import EffectiveLrOf
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm, library_fingerprints
from objectives.pretraining.stage_keys import model_fingerprint
from objectives.store.store import key_of
from objectives.training import checkpoint_averaging, lr_schedule, weight_decay_schedule
from objectives.training.checkpoint_averaging import Merge
from objectives.types import Request

Curve = Callable[[Schedule, int, str], NDArray[np.float64]]
"""Of a schedule, a number of steps and the schedule's path, which errors name."""


@dataclass(frozen=True, eq=False)
class PretrainJob:
    """One base model to pretrain."""

    recipe: Recipe
    seed: int
    steps: int
    """The horizon at the request's fidelity, with the second phase if there is one."""
    device: str = "cpu"
    """Its kind is part of every key: devices round differently."""
    devices: int = 1
    """How many of that kind train it, each as a rank of its own."""
    sharding: Kind = "replicate"
    """How its parameters are placed on several; with their number a part of every key, as sums over
    ranks round differently."""
    second: TokenDataset | None = None
    """Text of the second phase."""
    reference_norms: NDArray[np.float64] | None = None
    """[S] norms of all weights of the reference before each step, once they are known; NaN at the
    first step, where the weights are the same."""

    @functools.cached_property
    def reference(self) -> PretrainJob | None:
        """The run whose effective rate this one follows; None where the rate is the schedule's."""
        pre = self.recipe.pretrain
        of = pre.effective_lr_of
        if not of.given:
            return None
        decay = dataclasses.replace(pre.weight_decay, value=of.value, tau_frac=of.tau_frac)
        its = dataclasses.replace(pre, weight_decay=decay, effective_lr_of=EffectiveLrOf())
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, pretrain=its))

    @property
    def first_steps(self) -> int:
        """Steps of the first phase; all of them where there is no second one."""
        pre = self.recipe.pretrain
        if pre.mid is None:
            return self.steps
        share = pre.mid.steps / (pre.steps + pre.mid.steps)
        return self.steps - max(1, round(self.steps * share))

    @functools.cached_property
    def lr(self) -> NDArray[np.float64]:
        """Learning rate of each step by the schedule; [S].

        Raises:
            ValueError: a warmup does not fit, or there is no rate for the second phase.
        """
        return self._rates(lr_schedule.multipliers)

    @functools.cached_property
    def decay(self) -> NDArray[np.float64]:
        """Weight decay of each step, before the rate multiplies it; [S]."""
        pre = self.recipe.pretrain
        later = None if pre.mid is None else pre.mid.weight_decay
        return weight_decay_schedule.strengths(pre, self.lr, later, self.first_steps)

    @functools.cached_property
    def lr_wd_trajectory(self) -> NDArray[np.float64]:
        """All that weights depend on step by step; [2, S], or [3, S] with the reference's decay."""
        rows = [self.lr, self.decay]
        return np.stack(rows if self.reference is None else [*rows, self.reference.decay])

    def equal_steps(self, other: PretrainJob, most: int) -> int:
        """Of the first `most` steps, those before rate or decay of the two jobs differ."""
        one, two = self.lr_wd_trajectory[:, :most], other.lr_wd_trajectory[:, :most]
        same = (one == two).all(0)
        return most if same.all() else int(same.argmin())

    def applied_lr(self, norms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rates that were taken in the first s steps, by the weights' norms after each; [s]."""
        rates = self.lr[: len(norms)]
        if self.reference_norms is None:
            return rates
        before = np.concatenate([[np.nan], norms])[: len(norms)]
        ratio = before / self.reference_norms[: len(norms)]
        return rates * np.where(np.isnan(ratio), 1.0, ratio)

    @functools.cached_property
    def merge(self) -> Merge | None:
        """How checkpoints are averaged; None where the decay is trained, or nothing decays."""
        pre = self.recipe.pretrain
        last = pre.schedule if pre.mid is None else pre.mid.schedule
        if last.decay == "trained":
            return None
        return checkpoint_averaging.plan(
            self._rates(lr_schedule.decayed) / self.lr, self._merge_every
        )

    def program_key(self, corpus: TokenDataset) -> str:
        """Equal for jobs that can be lanes of one program."""
        pre = self.recipe.pretrain
        extra = [pre.activation_checkpointing, pre.curve_tokens]
        return key_of("program-5", self._weights_depend_on(corpus), extra)

    def trunk_key(self, corpus: TokenDataset) -> str:
        """Equal for jobs whose weights are equal as long as their rates and decays are."""
        followed = [] if self.reference is None else [self.reference.trunk_key(corpus)]
        _, _, *own = self.training_fingerprint
        return key_of("trunk-5", self._weights_depend_on(corpus), *own, *followed)

    @property
    def training_fingerprint(self) -> list[Any]:
        """What weights depend on besides model, text and the course of rate and decay."""
        pre = self.recipe.pretrain
        return [
            [pre.batch_size, pre.seq_len, pre.accumulation, pre.precision, pre.optimizer],
            weight_decay_schedule.program_fingerprint(pre),
            [pre.beta1, pre.beta2, pre.eps, pre.clip_norm],
            weight_decay_schedule.lane_fingerprint(pre),
            self.seed,
        ]

    def key(self, corpus: TokenDataset, step: int) -> str:
        """The stage "pretrained up to `step`"."""
        digest = hashlib.sha256(self.lr_wd_trajectory[:, :step].tobytes()).hexdigest()
        second = [] if step <= self.first_steps else [self.second_fingerprint]
        return f"{step:09d}-{key_of(self.trunk_key(corpus), digest, *second)}"

    @property
    def second_fingerprint(self) -> list[Any] | None:
        """What is read from when on in the second phase, and how; None without one."""
        if self.recipe.pretrain.mid is None:
            return None
        assert self.second is not None
        return ["order-2", self.first_steps, self.second.key, self.second.weights]

    def text_at(self, corpus: TokenDataset, step: int) -> Place:
        """What a step (from 0) trains on. Steps beyond the horizon go on with the last text.

        A second phase on the same text goes on where the first one stopped. On other text it has
        an order of its own: what both texts share does not come in the first phase's order again.
        """
        if self.second is None or step < self.first_steps:
            return Place(corpus, step, 0)
        if self.goes_on(corpus):
            return Place(corpus, step, 0)
        return Place(self.second, step - self.first_steps, 1)

    def goes_on(self, corpus: TokenDataset) -> bool:
        """Whether the second phase trains on the text of the first one."""
        second = self.second
        return second is not None and (second.key, second.weights) == (corpus.key, corpus.weights)

    def base_key(self, corpus: TokenDataset) -> str:
        """The stage of the base that is fine-tuned and scored."""
        trained = self.key(corpus, self.steps)
        if self.merge is None:
            return trained
        return key_of("merged-1", trained, self.merge.steps, self.merge.weights)

    def checkpoint_steps(self) -> set[int]:
        """Steps on the way at which weights are kept to be merged, by this job or by later ones."""
        merged = set(self.merge.steps) - {0} if self.merge else set[int]()
        return merged | self.trunk_steps()

    def trunk_steps(self) -> set[int]:
        """Steps at which `pretrain.keep_trunk` keeps the trunk for later branches."""
        if not self.recipe.pretrain.keep_trunk:
            return set()
        grid = range(self._merge_every, self.steps, self._merge_every)
        at_peak = self.lr == np.maximum.accumulate(self.lr)
        return {step for step in grid if at_peak[step - 1]}

    def resumable_steps(self) -> set[int]:
        """Steps from which other runs can go on once this one is trained."""
        turning = {self.first_steps} - {self.steps}
        return (
            self.trunk_steps()
            | turning
            | ({self.steps} if self.extends_beyond(self.steps) else set())
        )

    @property
    def _merge_every(self) -> int:
        """Steps between two checkpoints: the same grid at every fidelity."""
        pre = self.recipe.pretrain
        return max(1, pre.steps // pre.merge_points)

    def eval_steps(self) -> list[int]:
        """Points of the validation curve on the way: the same grid at every fidelity."""
        every = max(1, self.recipe.pretrain.steps // self.recipe.pretrain.evals)
        return list(range(every, self.steps, every))

    def extends_beyond(self, step: int) -> bool:
        """Whether a longer horizon would continue from here: the rate has not begun to fall."""
        if weight_decay_schedule.knows_horizon(self.recipe.pretrain.weight_decay):
            return False
        if self.reference is not None and not self.reference.extends_beyond(step):
            return False
        return bool(self.lr[step - 1] == self.lr[:step].max())

    def _rates(self, curve: Curve) -> NDArray[np.float64]:
        """Rates of both phases by this form of the curve; the second starts where the first ends.

        eta(T_pre) ((1 - alpha) (T_pre + T_mid - t) / T_mid + alpha) where it is linear without
        warmup (arXiv 2603.16127, section 3).
        """
        pre = self.recipe.pretrain
        if pre.mid is None:
            return pre.lr * curve(pre.schedule, self.steps, "pretrain.schedule")
        if not self.first_steps:
            raise ValueError(
                f"pretrain.mid needs a first phase, but the run has {self.steps} steps in all; "
                "lengthen it."
            )
        first = pre.lr * curve(pre.schedule, self.first_steps, "pretrain.schedule")
        if first[-1] == 0:
            raise ValueError(
                "pretrain.mid needs a rate to go on from, but the first phase ends at 0; raise "
                "pretrain.schedule.floor_ratio above 0."
            )
        second = curve(pre.mid.schedule, self.steps - self.first_steps, "pretrain.mid.schedule")
        return np.concatenate([first, first[-1] * second])

    def _weights_depend_on(self, corpus: TokenDataset) -> list[Any]:
        batch, program, *_ = self.training_fingerprint
        return [
            model_fingerprint(self.recipe.model, corpus.vocab_size),
            [corpus.key, corpus.weights],
            batch,
            program,
            self.placement,
            library_fingerprints.of_pretraining(causal_lm.family_of(self.recipe.model)),
        ]

    @property
    def placement(self) -> str:
        """The kind of device, and how a run is placed on several."""
        kind = self.device.split(":")[0]
        return kind if self.devices == 1 else f"{kind} x {self.devices}, {self.sharding}"


class Place(NamedTuple):
    """Where in its text a step is."""

    text: TokenDataset
    step: int
    """Steps that trained on the text before, in this order of it."""
    phase: int
    """Its order is drawn with it."""


def branch_points(jobs: Sequence[PretrainJob], corpus: TokenDataset) -> set[int]:
    """Steps at which two jobs that were one lane until then part."""
    steps = set()
    for index, one in enumerate(jobs):
        for other in jobs[:index]:
            if one.trunk_key(corpus) == other.trunk_key(corpus):
                shared = min(one.steps, other.steps)
                same = (one.lr_wd_trajectory[:, :shared] == other.lr_wd_trajectory[:, :shared]).all(
                    0
                )
                parted = shared if same.all() else int(same.argmin())
                steps.add(min(parted, _texts_part(one, other)))
    return steps


def _texts_part(one: PretrainJob, other: PretrainJob) -> int:
    """The step from which two jobs of one trunk read different text, or one of them ends."""
    if one.second_fingerprint == other.second_fingerprint:
        return min(one.steps, other.steps)
    return min(one.first_steps, other.first_steps)


def segment_boundaries(jobs: Sequence[PretrainJob]) -> set[int]:
    """Steps at which something is measured, kept or ends."""
    return {0}.union(
        *({*job.eval_steps(), *job.checkpoint_steps(), job.first_steps, job.steps} for job in jobs)
    )


def check_length(recipe: Recipe, vocab_size: int) -> None:
    """Raise ValueError if sequences are longer than the positions the model has."""
    config = causal_lm.build_config(recipe.model, vocab_size)
    longest = max(recipe.pretrain.seq_len, longest_row(recipe.finetune))
    most = causal_lm.max_positions(config)
    if most is not None and longest > most:
        raise ValueError(
            f"pretrain.seq_len and finetune.max_length must be at most the model's {most} "
            f"positions, got {longest}; shorten them or take another model.config."
        )


def job_of(recipe: Recipe, request: Request, execution: Execution) -> PretrainJob:
    """The base that a request asks for.

    Raises:
        ValueError: a fidelity or params that cannot be.
    """
    fidelity = request["fidelity"]
    if not 0 < fidelity <= 1:
        raise ValueError(f"fidelity must be in (0, 1], got {fidelity}.")
    changed = located(recipe.with_params(request["params"]), execution.folder)
    pre = changed.pretrain
    horizon = pre.steps + (0 if pre.mid is None else pre.mid.steps)
    steps = max(1, round(horizon * fidelity))
    where = execution.device_name, execution.devices, execution.sharding
    return PretrainJob(changed, request["seed"], steps, *where)
