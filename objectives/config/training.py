"""Pretraining and fine-tuning of a recipe."""

from __future__ import annotations

from dataclasses import field, fields, replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from objectives.config.config_class import config_class
from objectives.config.data import BuiltinTask, Source, Task, TaskOverride
from objectives.config.paths import (
    Beta,
    Count,
    CountOrZero,
    Fraction,
    NonNegative,
    Positive,
    Several,
    Unit,
)
from objectives.config.weight_decay import EffectiveLrOf, ShortWeightDecay, WeightDecay

Optimizer = Literal["adamw", "sgd"]


Shape = Literal["cosine", "linear", "sqrt", "inverse_sqrt", "drop"]


@config_class
class Schedule:
    """One curve for the learning rate: warm up, hold, decay. See `objectives.training.lr_schedule`.

    Without `warmup_steps` and `warmup_frac` there is no warmup.
    """

    warmup_steps: Annotated[CountOrZero, Unit("steps")] | None = None
    """The same at every length of the run, so that a longer run can go on from a shorter one."""
    warmup_frac: (
        Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), Unit("share of the run")] | None
    ) = None
    """Share of the run, whatever its length. A path that sets one of the two unsets the other."""
    decay_frac: Annotated[Fraction, Unit("share of the run")] = 1.0
    """Share of the run in which the rate decays; 0 is Warmup-Stable-Only, 1 decays from warmup."""
    shape: Shape = "cosine"
    """The curve of the decay; a shape `drop` is at the floor at once."""
    floor_ratio: Annotated[Fraction, Unit("of the peak rate")] = 0.1
    """Final rate over peak rate."""
    decay: Literal["trained", "merged"] = "trained"
    """merged: the rate stays at its peak, and checkpoints on the way are averaged to what the decay
    would give, about; see `objectives.training.checkpoint_averaging`. In pretraining only."""

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_frac is not None:
            raise ValueError(
                "at most one of a schedule's warmup_steps and warmup_frac can be set, got "
                f"{self.warmup_steps} and {self.warmup_frac}; leave one out."
            )


@config_class
class MidTraining:
    """A second phase on other text, from the rate at which the first one ended."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1), Several]
    """Its text; tokenizer and held-out share are those of the corpus, so that a document which is
    in both is held out of both or of none."""
    steps: Annotated[Count, Unit("steps")]
    """At fidelity 1; other fidelities shorten both phases by as much."""
    schedule: Schedule = field(default_factory=lambda: Schedule(shape="linear", floor_ratio=0.0))
    """Its peak is the first phase's last rate (arXiv 2603.16127, section 3: linear, and floor_ratio
    is the paper's alpha_mid)."""
    weight_decay: NonNegative | None = None
    """The decay's `value` from there on, in its unit; None keeps that of the first phase."""


@config_class
class Pretrain:
    """Pretraining of the base model."""

    steps: Annotated[Count, Unit("steps")] = 400
    """Optimizer steps at fidelity 1, the full horizon; those of `mid` come on top."""
    batch_size: Annotated[Count, Unit("sequences")] = 16
    """Sequences a step."""
    seq_len: Annotated[Count, Unit("tokens")] = 64
    """Tokens a sequence."""
    lr: Positive = 3e-3
    """Peak learning rate."""
    weight_decay: ShortWeightDecay = field(default_factory=WeightDecay)
    """A number is short for its `value`."""
    schedule: Schedule = field(default_factory=lambda: Schedule(warmup_frac=0.1))
    effective_lr_of: EffectiveLrOf = field(default_factory=EffectiveLrOf)
    """Another run, which this one takes lr_t / |w_t| from instead of lr_t (arXiv 2310.04415)."""
    mid: MidTraining | None = None
    """A second phase; the optimizer's memory is carried over into it (assumed)."""
    optimizer: Optimizer = "adamw"
    """sgd: gradient descent with momentum `beta1`, as torch's SGD; it has no beta2 and eps."""
    beta1: Beta = 0.9
    """Adam's decay of the gradient's mean; momentum of sgd."""
    beta2: Beta = 0.95
    """Adam's decay of the squared gradient's mean."""
    eps: Positive = 1e-8
    """Added to Adam's denominator."""
    clip_norm: Positive | None = 1.0
    """Gradient norm at which a step is clipped; None leaves it."""
    accumulation: Annotated[Count, Unit("micro-batches")] = 1
    """Micro-batches a step; divides batch_size."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: weights in fp32, matrix products under bf16 autocast."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    eval_tokens: Annotated[Count, Unit("tokens")] = 32_768
    """Tokens of the fixed validation sample, and of the fixed training sample."""
    evals: Annotated[Count, Unit("points")] = 8
    """Points of the validation curve."""
    curve_tokens: Annotated[Count, Unit("tokens")] = 4096
    """Tokens of the sample for the validation curve; the curve is for looking at, and would else
    cost as much as a short training."""
    merge_points: Annotated[Count, Unit("checkpoints")] = 32
    """Evenly spaced ones of `steps`, at which weights are kept for a merged decay; assumed."""
    keep_trunk: bool = False
    """Keep weights and AdamW's memory at all these steps while the rate is at its peak: decays that
    are asked for later then train only their own steps, and merged ones none."""


class Optimization(Protocol):
    """What schedule, decay and optimizer read of a recipe's `pretrain`, whatever is trained."""

    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> WeightDecay: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def eps(self) -> float: ...
    @property
    def clip_norm(self) -> float | None: ...


@config_class
class Lora:
    """Low-rank adapters by PEFT."""

    rank: Annotated[Count, Unit("dimensions")] = 8
    """Rank of the adapters."""
    alpha: Positive = 16.0
    """Scale of the adapters: their product is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1), Unit("probability")] = 0.0
    """Probability that an adapter's input is dropped in training."""
    targets: Annotated[tuple[str, ...], Several] = ("all-linear",)
    """Module names as PEFT takes them, or "all-linear"."""
    modules_to_save: Annotated[tuple[Literal["embeddings", "norms", "head"], ...], Several] = ()
    """Modules trained in full beside the adapters, at the same rate and weight decay: PEFT's
    `modules_to_save`, by kind. A head tied to the embeddings is one tensor with them, whichever is
    named."""


@config_class
class Finetune:
    """Fine-tuning of every base on every task, over a grid of learning rates and seeds."""

    tasks: Annotated[tuple[Task, ...], Field(min_length=1), Several] = (
        BuiltinTask(name="token_kind"),
        BuiltinTask(name="code_module"),
        BuiltinTask(name="list_ops"),
        BuiltinTask(name="commands"),
    )
    """Tasks to fine-tune on, each on its own."""
    method: Literal["lora", "full"] = "lora"
    """Low-rank adapters on a frozen base, or all weights."""
    lora: Lora = field(default_factory=Lora)
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1), Several] = (3e-3, 1e-2, 3e-2)
    """Learning rates tried for each base and task; the best on validation loss is reported."""
    max_extensions: Annotated[CountOrZero, Unit("extensions")] = 3
    """How often the grid grows by its own ratio while the best rate is at its edge."""
    refine: Annotated[CountOrZero, Unit("rounds")] = 1
    """Rounds in which rates between those of the grid are tried around the best one: where a
    parabola in log rate has its vertex, or at a ratio of 1.41 to both sides; 0 leaves the grid."""
    give_up_above: NonNegative | None = 0.2
    """Share by which a rate's training loss may be above the least one after a third of the steps;
    beyond, the rate is given up. None trains every rate to the end."""
    steps: Annotated[Count, Unit("steps")] | None = 100
    """Optimizer steps; None asks for `epochs`."""
    epochs: Annotated[Positive, Unit("epochs")] | None = None
    """Passes over the training rows, instead of `steps`."""
    batch_size: Annotated[Count, Unit("rows")] = 16
    """Rows a step."""
    seeds: Annotated[Count, Unit("seeds")] = 2
    """Adapter initialisations and data orders; metrics are means over them."""
    selection_seeds: Annotated[Count, Unit("seeds")] = 1
    """How many of the seeds the learning rate is chosen with; the others run at that rate only."""
    weight_decay: NonNegative = 0.0
    """AdamW's decay of what is trained."""
    beta1: Beta = 0.9
    """Adam's decay of the gradient's mean."""
    beta2: Beta = 0.999
    """Adam's decay of the squared gradient's mean."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(warmup_frac=0.1, shape="linear", floor_ratio=0.0)
    )
    clip_norm: Positive | None = 1.0
    """Gradient norm at which a step is clipped; None leaves it."""
    max_length: Annotated[Count, Unit("tokens")] = 256
    """Rows longer than this many tokens are left out, and counted in the result."""
    train_rows: Annotated[Count, Unit("rows")] | None = None
    """Training rows that are used, the first ones; None takes all."""
    validation_rows: Annotated[Count, Unit("rows")] = 64
    """Validation rows, on which the learning rate is chosen."""
    test_rows: Annotated[Count, Unit("rows")] = 128
    """Test rows, which give the scores."""
    from_scratch: Literal["same", "full", "off"] = "same"
    """Fine-tune the initial weights as well, once a seed, to tell what pretraining is worth on a
    task: by the same method; all weights whatever the method, a stricter control; or not at all."""


def of_task(fine: Finetune, override: TaskOverride | None) -> Finetune:
    """Fine-tuning on one task: the recipe's, with the task's own settings."""
    if override is None:
        return fine
    given = ((each.name, getattr(override, each.name)) for each in fields(override))
    own: dict[str, Any] = {name: value for name, value in given if value is not None}
    return replace(fine, **own | ({"epochs": None} if "steps" in own else {}))


def longest_row(fine: Finetune) -> int:
    """Tokens that a row of any task may have."""
    return max(of_task(fine, task.override).max_length for task in fine.tasks)


def _check_followed(pre: Pretrain) -> None:
    """Raise ValueError if the effective rate of another run is asked for where there is none."""
    if not pre.effective_lr_of.given:
        return
    if "merged" in (pre.schedule.decay, pre.mid.schedule.decay if pre.mid else ""):
        raise ValueError(
            "pretrain.schedule.decay must be 'trained' where pretrain.effective_lr_of is set, got "
            "'merged'; a merged decay has no rate that another run could follow."
        )
    if pre.effective_lr_of.tau_frac is not None and not pre.weight_decay.timed:
        raise ValueError(
            f"pretrain.effective_lr_of.tau_frac has no effect with coupling "
            f"{pre.weight_decay.coupling!r} and policy {pre.weight_decay.policy!r}; set "
            "pretrain.effective_lr_of.value instead."
        )
