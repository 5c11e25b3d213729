"""A base as it was trained, in the terms that trainers share, and what none of them has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from transformers import PreTrainedConfig

from objectives.config.training import Pretrain, Schedule
from objectives.config.weight_decay import Decayed
from objectives.pretraining.job import PretrainJob
from objectives.training import lr_schedule, weight_decay_schedule

NOT_OF_ANY = (
    "the corpus and its tokenizer are not named: take those of recipe.json and base/",
    "initial weights and data order are the target's own, so losses will not be the same numbers",
)
"""True of every target."""


@dataclass(frozen=True)
class Written:
    """A target's file."""

    text: str
    unsupported: list[str]
    """What the file cannot express, a sentence each."""


@dataclass(frozen=True)
class TrainingPlan:
    """A base as it was trained."""

    job: PretrainJob
    config: PreTrainedConfig

    @property
    def pre(self) -> Pretrain:
        """The recipe's pretraining."""
        return self.job.recipe.pretrain

    @property
    def schedule(self) -> Schedule:
        """Of the first phase."""
        return self.pre.schedule

    @property
    def steps(self) -> int:
        """Of the first phase."""
        return self.job.first_steps

    @property
    def warmup_steps(self) -> int:
        """Steps in which the rate rises."""
        return lr_schedule.warmup_steps(self.schedule, self.steps)

    @property
    def decay_steps(self) -> int:
        """Steps in which the rate falls; 0 where it stays at its peak."""
        if self.schedule.floor_ratio == 1:
            return 0
        most = self.steps - self.warmup_steps
        return min(round(self.schedule.decay_frac * self.steps), most)

    @property
    def from_warmup(self) -> bool:
        """Whether the rate falls from the end of the warmup on."""
        return self.decay_steps == self.steps - self.warmup_steps

    @property
    def tokens_a_step(self) -> int:
        """Tokens of a step."""
        return self.pre.batch_size * self.pre.seq_len

    @property
    def decay(self) -> float:
        """Weight decay as torch's AdamW takes it; 0 where it is part of the gradient."""
        if self.pre.weight_decay.coupling == "l2":
            return 0.0
        return weight_decay_schedule.strength(self.pre, self.job.steps)

    @property
    def not_the_rate(self) -> list[str]:
        """What a rate that is known before the run cannot be."""
        if self.job.reference is None:
            return []
        return [
            "a rate that keeps lr / |w| of the run with another decay "
            "(pretrain.effective_lr_of): here it is the schedule's"
        ]

    def unsupported(self, decayed: Decayed | None) -> list[str]:
        """What no target has; `decayed` is the set that this one decays, None if it cannot say."""
        decay, found = self.pre.weight_decay, [*NOT_OF_ANY, *self.not_the_rate]
        if self.pre.mid is not None:
            found.append("the second phase (pretrain.mid) is left out: these are the first's steps")
        if self.schedule.decay == "merged":
            found.append("the decay was merged of checkpoints; here it would be trained")
        if self.pre.optimizer == "sgd":
            found.append("the recipe trains by SGD with momentum; the optimizer here is another")
        if decay.coupling == "l2":
            found.append(
                f"the decay of {decay.value} is part of the gradient (Adam with L2); decoupled "
                "decay is something else, so none is set"
            )
        if decay.coupling == "independent":
            found.append("decay independent of the rate is given for this peak rate only")
        if decay.course != "constant":
            found.append(f"the decay's course {decay.course!r}: here it is constant")
        if decay.policy != "uniform":
            found.append(f"the decay policy {decay.policy!r}: here all modules get the same")
        if set(dataclasses.asdict(decay.multipliers).values()) != {1.0}:
            found.append("decay multipliers by role (pretrain.weight_decay.multipliers)")
        if decayed is not None and decay.decayed != decayed:
            found.append(f"the recipe decays {decay.decayed!r}, the target {decayed!r}")
        return found
