"""The recipe of an image classifier: what one vision trial does, as one frozen tree of values.

A hyperparameter has the name that it has for language models: `pretrain.lr`,
`pretrain.weight_decay`, `pretrain.schedule` are the same types with the same short forms, and are
read by the same code.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from objectives.config.config_class import config_class
from objectives.config.paths import (
    Beta,
    Count,
    CountOrZero,
    NonNegative,
    Positive,
    Several,
    Unit,
    Whole,
)
from objectives.config.training import Optimizer, Schedule
from objectives.config.tree import RecipeTree
from objectives.config.weight_decay import Multipliers, ShortWeightDecay, WeightDecay

POLICIES = ("uniform", "awd", "cautious", "stable")
"""Decay policies that do not ask for a transformer's roles or linear modules."""


BOTTLENECK = 4
"""How many times narrower a bottleneck layer is inside; transformers' ResNet, and the paper's."""


@config_class
class Digits:
    """Scikit-learn's handwritten digits: 1,797 images of 8 x 8, ten classes; nothing is read."""

    kind: Literal["digits"] = "digits"
    train_rows: Annotated[Count, Unit("images")] | None = None
    """The first so many training images; None takes all."""


@config_class
class Cifar10:
    """CIFAR-10 from a folder with its binary version: data_batch_*.bin and test_batch.bin."""

    kind: Literal["cifar10"] = "cifar10"
    folder: str
    """Folder with the files."""
    train_rows: Annotated[Count, Unit("images")] | None = None
    """The first so many training images; None takes all."""


@config_class
class HubImages:
    """A Hugging Face dataset of labelled images, all of one size: hub name, or a local folder."""

    kind: Literal["hub"] = "hub"
    name: str
    """Name on the hub, or a folder."""
    config: str | None = None
    """Configuration of the dataset."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""
    train_split: str = "train"
    """Split with the training images."""
    validation_split: str = "test"
    """Split with the validation images."""
    image_field: str = "img"
    """Field of a row that has the image."""
    label_field: str = "label"
    """Field of a row that has the class."""
    train_rows: Annotated[Count, Unit("images")] | None = None
    """The first so many training images; None takes all."""


Images: TypeAlias = Annotated[Digits | Cifar10 | HubImages, Field(discriminator="kind")]


@config_class
class ResNet:
    """A ResNet of transformers' config, with the stem of small images; see `classifier`."""

    widths: Annotated[tuple[Count, ...], Field(min_length=1), Several, Unit("channels")] = (
        8,
        16,
        32,
    )
    """Channels of each stage; each but the first halves the image's side. The stem has those of
    the first."""
    depths: Annotated[tuple[Count, ...], Field(min_length=1), Several, Unit("blocks")] = (1, 1, 1)
    """Blocks of each stage; (2, 2, 2, 2) with widths 64, 128, 256, 512 is ResNet-18."""
    layer: Literal["basic", "bottleneck"] = "basic"
    """Kind of block."""


@config_class
class Training:
    """Training of the classifier. Defaults of the optimizer are arXiv 2310.04415's: plain SGD."""

    steps: Annotated[Count, Unit("steps")] = 1000
    """Optimizer steps at fidelity 1."""
    batch_size: Annotated[int, Field(ge=2, le=2**53), Whole, Unit("images")] = 64
    """Images a step; two at least, or batch normalisation has nothing to normalise by."""
    lr: Positive = 0.1
    """Peak learning rate."""
    weight_decay: ShortWeightDecay = field(default_factory=lambda: WeightDecay(value=0.0))
    """A number is short for its `value`."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(decay_frac=0.5, shape="drop", floor_ratio=0.001)
    )
    optimizer: Optimizer = "sgd"
    """sgd: gradient descent with momentum `beta1`; adamw has beta2 and eps."""
    beta1: Beta = 0.0
    """Momentum of sgd."""
    beta2: Beta = 0.999
    """Adam's decay of the squared gradient's mean."""
    eps: Positive = 1e-8
    """Added to Adam's denominator."""
    clip_norm: Positive | None = None
    """Gradient norm at which a step is clipped; None leaves it."""
    statistics_rows: Annotated[Count, Unit("images")] = 2048
    """Training images over which the statistics of batch normalisation are taken for evaluation."""
    evals: Annotated[Count, Unit("points")] = 8
    """Points of the curves of validation loss, error and norms."""
    eval_rows: Annotated[Count, Unit("images")] | None = None
    """Images of each of the two fixed samples, training and validation; None takes all."""


ProbeName = Literal["norms", "sharpness"]


@config_class
class VisionProbes:
    """What is measured along training besides losses and errors."""

    run: Annotated[tuple[ProbeName, ...], Several] = ("norms", "sharpness")
    """The probes that are run."""
    points: Annotated[Count, Unit("steps")] = 4
    """sharpness: evenly spaced steps at which it is measured, the last step among them."""
    vectors: Annotated[Count, Unit("vectors")] = 16
    """sharpness: random vectors."""
    rows: Annotated[Count, Unit("images")] = 512
    """sharpness: training images; the paper's 5,000 are of CIFAR-10."""
    batch_size: Annotated[int, Field(ge=2, le=2**53), Whole, Unit("images")] = 128
    """sharpness: images normalised together; the paper's is 50."""
    flow_steps: Annotated[CountOrZero, Unit("steps")] = 100
    """sharpness: steps at `flow_rate` without decay that a copy of the model takes before it is
    measured, the gradient flow of arXiv 2310.04415; 0 measures where training is."""
    flow_rate: NonNegative = 1e-3
    """The paper has 1e-4 and 1e-3, for 100 epochs."""


@config_class
class VisionRecipe(RecipeTree):
    """Everything one vision trial does."""

    model: ResNet = field(default_factory=ResNet)
    images: Images = field(default_factory=Digits)
    """Where the images come from."""
    pretrain: Training = field(default_factory=Training)
    probes: VisionProbes = field(default_factory=VisionProbes)

    def __post_init__(self) -> None:
        pre, model, probes = self.pretrain, self.model, self.probes
        if len(model.widths) != len(model.depths):
            raise ValueError(
                "model.widths and model.depths must name the same stages, got "
                f"{model.widths} and {model.depths}; give both as many numbers."
            )
        if model.layer == "bottleneck" and min(model.widths) < BOTTLENECK:
            raise ValueError(
                f"model.widths must be at least {BOTTLENECK} with model.layer 'bottleneck', which "
                f"narrows each by that factor, got {model.widths}; widen them."
            )
        if pre.schedule.decay == "merged":
            raise ValueError(
                "pretrain.schedule.decay must be 'trained' for a classifier of images, got "
                "'merged'; checkpoints are merged for language models only."
            )
        if pre.weight_decay.policy not in POLICIES:
            raise ValueError(
                "pretrain.weight_decay.policy must be one of "
                f"{', '.join(POLICIES)} for a classifier of images, got "
                f"{pre.weight_decay.policy!r}; the others look at a transformer's modules."
            )
        if pre.weight_decay.multipliers != Multipliers():
            raise ValueError(
                "pretrain.weight_decay.multipliers must all be 1 for a classifier of images: its "
                "parameters have none of a transformer's roles."
            )
        if len(set(probes.run)) < len(probes.run):
            raise ValueError(f"probes.run must name each probe once, got {probes.run}.")
