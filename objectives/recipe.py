"""The recipe: everything one trial does, as one frozen tree of values.

A hyperparameter's name is its dotted path in this tree (`pretrain.schedule.decay_frac`), and there
is no second name but the short forms. `Recipe.with_params` sets paths, `to_dict` and `from_dict`
make the JSON round trip. Types and ranges are checked by pydantic on every construction from
outside, strictly: a string is never taken for a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import Field

from objectives import recipe_tree
from objectives.config_class import config_class
from objectives.decay_recipe import EffectiveLrOf, ShortWeightDecay, WeightDecay
from objectives.field_types import (
    Beta,
    Count,
    CountOrZero,
    Fraction,
    NonNegative,
    Positive,
    Several,
    Value,
    Whole,
)


@config_class
class Stdlib:
    """Text that ships with the running Python: documentation topics, docstrings and source."""

    kind: Literal["stdlib"] = "stdlib"
    max_bytes: Count = 8_000_000
    """Documents are taken in hash order until this many bytes of UTF-8."""
    weight: Positive = 1.0
    """Share of the training sequences, relative to the other sources."""


@config_class
class Files:
    """Local files, folders or patterns: .txt and .md, .jsonl, .json, .csv, .tsv, .parquet; packed
    by gzip, bzip2, xz or zstd.

    A text file is one document; a longer one is cut at blank lines (`objectives.file_rows.texts`),
    and one without blank lines is a document a line.
    """

    kind: Literal["files"] = "files"
    paths: Annotated[tuple[str, ...], Several]
    text_field: str = "text"
    max_bytes: Count | None = None
    weight: Positive = 1.0


@config_class
class HubDataset:
    """A Hugging Face dataset by hub name, or a folder written by `save_to_disk`."""

    kind: Literal["hub"] = "hub"
    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    text_field: str = "text"
    streaming: bool = True
    max_bytes: Count | None = 100_000_000
    weight: Positive = 1.0


Source: TypeAlias = Annotated[Stdlib | Files | HubDataset, Field(discriminator="kind")]


@config_class
class Corpus:
    """Pretraining text, its split and its tokenizer."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1), Several] = (Stdlib(),)
    tokenizer: str | None = None
    """A Hugging Face tokenizer (hub name or folder); None trains a byte-level BPE on the corpus."""
    vocab_size: Annotated[int, Field(ge=257, le=2**53), Whole] = 1024
    """Size of the trained BPE; not used with `tokenizer`."""
    validation_frac: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of documents, picked by their hash, that are held out."""


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
"""The keys of `objectives.models.PRESETS`."""


@config_class
class Model:
    """A causal language model, from a preset's or a Hugging Face config's shape."""

    preset: PresetName | None = "llama-0.2m"
    """A name in `objectives.models.PRESETS`."""
    config: str | None = None
    """A Hugging Face config (hub name or folder) instead of a preset."""
    weights: str | None = None
    """Pretrained weights (hub name or folder) to continue from; None starts at random."""


Optimizer = Literal["adamw", "sgd"]
Shape = Literal["cosine", "linear", "sqrt", "inverse_sqrt", "drop"]


@config_class
class Schedule:
    """One curve for the learning rate: warm up, hold, decay. See `objectives.schedules`.

    Without `warmup_steps` and `warmup_frac` there is no warmup.
    """

    warmup_steps: CountOrZero | None = None
    """The same at every length of the run, so that a longer run can go on from a shorter one."""
    warmup_frac: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    """Share of the run, whatever its length. A path that sets one of the two unsets the other."""
    decay_frac: Fraction = 1.0
    """Share of the run in which the rate decays; 0 is Warmup-Stable-Only, 1 decays from warmup."""
    shape: Shape = "cosine"
    floor_ratio: Fraction = 0.1
    """Final rate over peak rate."""
    decay: Literal["trained", "merged"] = "trained"
    """merged: the rate stays at its peak, and checkpoints on the way are averaged to what the decay
    would give, about; see `objectives.merging`. In pretraining only."""

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
    steps: Count
    """At fidelity 1; other fidelities shorten both phases by as much."""
    schedule: Schedule = field(default_factory=lambda: Schedule(shape="linear", floor_ratio=0.0))
    """Its peak is the first phase's last rate (arXiv 2603.16127, section 3: linear, and floor_ratio
    is the paper's alpha_mid)."""
    weight_decay: NonNegative | None = None
    """The decay's `value` from there on, in its unit; None keeps that of the first phase."""


@config_class
class Pretrain:
    """Pretraining of the base model."""

    steps: Count = 400
    """Optimizer steps at fidelity 1, the full horizon; those of `mid` come on top."""
    batch_size: Count = 16
    """Sequences a step."""
    seq_len: Count = 64
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
    beta2: Beta = 0.95
    eps: Positive = 1e-8
    clip_norm: Positive | None = 1.0
    """Gradient norm at which a step is clipped; None leaves it."""
    accumulation: Count = 1
    """Micro-batches a step; divides batch_size."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: weights in fp32, matrix products under bf16 autocast."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    eval_tokens: Count = 32_768
    """Tokens of the fixed validation sample, and of the fixed training sample."""
    evals: Count = 8
    """Points of the validation curve."""
    curve_tokens: Count = 4096
    """Tokens of the sample for the validation curve; the curve is for looking at, and would else
    cost as much as a short training."""
    merge_points: Count = 32
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


BuiltinTaskName = Literal[
    "code_module", "token_kind", "doc_name", "commands", "list_ops", "arithmetic"
]
"""The keys of `objectives.builtin_tasks.TASKS`."""


@config_class
class BuiltinTask:
    """A task made from the running Python; a name in `objectives.builtin_tasks.TASKS`."""

    kind: Literal["builtin"] = "builtin"
    name: BuiltinTaskName


@config_class
class FileTask:
    """Files with `prompt`, `completion` and, for classification, `label`; or with `messages`.

    JSON Lines, JSON, CSV, TSV or Parquet, also packed; a path may be a folder or a pattern.
    """

    kind: Literal["file"] = "file"
    name: str
    train: str
    validation: str | None = None
    """None holds out a tenth of train, picked by the row's hash."""
    test: str
    prompt: str = "{prompt}"
    """A `str.format` template over the row's fields, such as "Review: {text}\\nSentiment:"."""
    completion: str = "{completion}"
    """Another one, such as " {sentiment}"."""
    label_field: str | None = "label"
    metric: Literal["auto", "accuracy", "exact_match"] = "auto"
    """auto: accuracy where most rows have a label (the others are left out) and each label has one
    text; else exact match. The result's notes say which."""


@config_class
class HubTask:
    """A Hugging Face dataset and templates that turn a row into prompt and completion."""

    kind: Literal["hub"] = "hub"
    name: str
    dataset: str
    config: str | None = None
    revision: str | None = None
    prompt: str
    """A `str.format` template over the row's fields, such as "Review: {text}\\nSentiment:"."""
    completion: str
    label_field: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    test_split: str = "test"
    metric: Literal["auto", "accuracy", "exact_match"] = "auto"


Task: TypeAlias = Annotated[BuiltinTask | FileTask | HubTask, Field(discriminator="kind")]


@config_class
class Lora:
    """Low-rank adapters by PEFT."""

    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Several] = ("all-linear",)
    """Module names as PEFT takes them, or "all-linear"."""


@config_class
class Finetune:
    """Fine-tuning of every base on every task, over a grid of learning rates and seeds."""

    tasks: Annotated[tuple[Task, ...], Field(min_length=1), Several] = (
        BuiltinTask(name="token_kind"),
        BuiltinTask(name="code_module"),
        BuiltinTask(name="list_ops"),
        BuiltinTask(name="commands"),
    )
    method: Literal["lora", "full"] = "lora"
    lora: Lora = field(default_factory=Lora)
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1), Several] = (3e-3, 1e-2, 3e-2)
    """Learning rates tried for each base and task; the best on validation loss is reported."""
    max_extensions: CountOrZero = 3
    """How often the grid grows by its own ratio while the best rate lies at its edge."""
    steps: Count | None = 100
    """Optimizer steps; None asks for `epochs`."""
    epochs: Positive | None = None
    batch_size: Count = 16
    seeds: Count = 2
    """Adapter initialisations and data orders; metrics are means over them."""
    selection_seeds: Count = 1
    """How many of the seeds the learning rate is chosen with; the others run at that rate only."""
    weight_decay: NonNegative = 0.0
    beta1: Beta = 0.9
    beta2: Beta = 0.999
    schedule: Schedule = field(
        default_factory=lambda: Schedule(warmup_frac=0.1, shape="linear", floor_ratio=0.0)
    )
    clip_norm: Positive | None = 1.0
    max_length: Count = 256
    """Rows longer than this many tokens are left out, and counted in the result."""
    train_rows: Count | None = None
    validation_rows: Count = 64
    test_rows: Count = 128


ProbeName = Literal[
    "norms",
    "ranks",
    "alphas",
    "spikes",
    "separability",
    "units",
    "heads",
    "sharpness",
    "noise",
    "tiny_rate",
    "lost_updates",
]


@config_class
class Probes:
    """What is measured on the base besides its losses; see `objectives.probes`.

    Sizes are ours, for models of up to some millions of parameters.
    """

    run: Annotated[tuple[ProbeName, ...], Several] = ("norms", "ranks", "spikes")
    """The probes; the cheap ones by default. Each runs once for a base and its settings."""
    forgetting_tokens: CountOrZero = 8192
    """Tokens on which the base loss after fine-tuning is compared with before; 0 leaves it out."""
    tokens: Count = 2048
    """Tokens of the fixed sample for norms, units, heads, sharpness and noise."""
    rows: Count = 256
    """separability: training rows of each labelled task."""
    vectors: Count = 16
    """sharpness: random vectors; arXiv 2603.16127 takes 50."""
    noise_draws: Count = 8
    """noise: random draws a scale."""
    noise_isotropic: Positive = 0.003
    """noise: standard deviation where it is the same for every weight."""
    noise_relative: Positive = 0.05
    """noise: standard deviation over each tensor's root mean square."""
    tiny_rate: Positive = 5e-5
    """tiny_rate: the constant rate; our default peak / 60 as in arXiv 2310.04415, 1e-5 at 6e-4."""
    tiny_frac: Annotated[float, Field(gt=0, le=1)] = 0.2
    """tiny_rate: further steps over the run's; 10,000 of 50,000 in arXiv 2310.04415."""
    lost_batches: Count = 32
    """lost_updates: training batches from which AdamW's memory is gathered."""


SHORT_FORMS = {"pretrain.weight_decay": "pretrain.weight_decay.value"}
"""Subtrees that a number may stand for -> the path that it sets."""


@config_class
class Recipe:
    """Everything one trial does."""

    model: Model = field(default_factory=Model)
    corpus: Corpus = field(default_factory=Corpus)
    pretrain: Pretrain = field(default_factory=Pretrain)
    finetune: Finetune = field(default_factory=Finetune)
    probes: Probes = field(default_factory=Probes)

    def __post_init__(self) -> None:
        pre, fine = self.pretrain, self.finetune
        if pre.batch_size % pre.accumulation:
            raise ValueError(
                f"pretrain.accumulation must divide pretrain.batch_size, got {pre.accumulation} "
                f"and {pre.batch_size}; choose a divisor."
            )
        if (fine.steps is None) == (fine.epochs is None):
            raise ValueError(
                "exactly one of finetune.steps and finetune.epochs must be set, got "
                f"{fine.steps} and {fine.epochs}; set the other to None."
            )
        if (self.model.preset is None) == (self.model.config is None):
            raise ValueError(
                "exactly one of model.preset and model.config must be set, got "
                f"{self.model.preset!r} and {self.model.config!r}; set the other to None."
            )
        if fine.selection_seeds > fine.seeds:
            raise ValueError(
                f"finetune.selection_seeds must be at most finetune.seeds, got "
                f"{fine.selection_seeds} and {fine.seeds}."
            )
        if pre.mid is not None and pre.schedule.decay == "merged":
            raise ValueError(
                "pretrain.schedule.decay must be 'trained' where pretrain.mid follows, got "
                "'merged'; a mean of checkpoints has no AdamW memory to go on with, so merge "
                "pretrain.mid.schedule, or set pretrain.mid to None."
            )
        _check_followed(pre)
        if fine.schedule.decay == "merged":
            raise ValueError(
                "finetune.schedule.decay must be 'trained', got 'merged'; only a pretraining "
                "schedule can be merged."
            )
        if len(set(fine.lrs)) < len(fine.lrs):
            raise ValueError(f"finetune.lrs must be different, got {fine.lrs}.")
        if len(set(self.probes.run)) < len(self.probes.run):
            raise ValueError(f"probes.run must name each probe once, got {self.probes.run}.")
        names = [task.name for task in fine.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"finetune.tasks must have different names, got {names}; rename one.")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-able data."""
        return recipe_tree.to_dict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Recipe:
        """The recipe from `to_dict`'s data.

        Raises:
            ValueError: an unknown path, a wrong type, a value out of range.
        """
        return recipe_tree.from_dict(Recipe, data, SHORT_FORMS)

    def paths(self) -> dict[str, Value]:
        """Every hyperparameter: dotted path -> value."""
        return recipe_tree.paths(self)

    def with_params(self, params: Mapping[str, Any]) -> Recipe:
        """A copy with the given paths set, to leaves or to whole subtrees of JSON-able data.

        A number for `pretrain.weight_decay` sets its `value` and leaves the fields beside it.

        Raises:
            ValueError: an unknown path (the nearest ones are named), a wrong type or range, one
                hyperparameter by two names.
        """
        return recipe_tree.with_params(self, params, SHORT_FORMS)


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
            f"pretrain.effective_lr_of.tau_frac says nothing with coupling "
            f"{pre.weight_decay.coupling!r} and policy {pre.weight_decay.policy!r}; set "
            "pretrain.effective_lr_of.value instead."
        )
