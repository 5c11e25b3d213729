"""The recipe's weight decay: how strong, by which rule, where and when.

A number in its place, `Pretrain(weight_decay=0.3)` or the param `"pretrain.weight_decay": 0.3`, is
short for its `value`.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, ValidationInfo

from objectives.config.config_class import config_class
from objectives.config.paths import Count, NonNegative, Positive, Unit

Coupling = Literal["decoupled", "independent", "l2"]


Course = Literal["constant", "linear", "schedule", "inverse_time"]


Decayed = Literal["all", "matrices_and_embeddings", "matrices"]


Policy = Literal["uniform", "alpha_decay", "awd", "ada_decay", "cautious", "adam_c", "stable"]


ScoreMap = Literal["linear", "sqrt", "log2", "sigmoid"]


UPDATE_POLICIES = ("cautious", "adam_c", "stable")
"""Rules about the update; none is defined for decay that is part of the gradient."""


UNTIMED_POLICIES = ("awd", "stable")
"""Rules that take the strength from norms or moments: 1 / (lr wd) is no timescale under them."""


@config_class
class Multipliers:
    """Factors on the decay of each role; every parameter has one (see
    `objectives.models.parameter_roles`).

    A smaller one for attention is suggested by arXiv 2410.23819: decay of two factors is a
    nuclear-norm penalty on their product.
    """

    attn_qk: NonNegative = 1.0
    """Query and key projections."""
    attn_vo: NonNegative = 1.0
    """Value and output projections."""
    mlp: NonNegative = 1.0
    """Feed-forward layers."""
    embed: NonNegative = 1.0
    """Embeddings, and a head tied to them."""
    head: NonNegative = 1.0
    """An output layer of its own."""
    norm: NonNegative = 1.0
    """Normalisation layers."""


@config_class
class ModuleScores:
    """How alpha_decay and ada_decay turn the scores of linear modules into factors."""

    map: ScoreMap = "linear"
    """Of alpha_decay; ada_decay always has the sigmoid (arXiv 2506.14562, its baselines)."""
    low: NonNegative = 0.6666
    """The linear map's factor of the smallest score; 0.6666 and 5 are the paper's AdamW scripts."""
    high: NonNegative = 5.0
    """The linear map's factor of the largest score."""
    every: Annotated[Count, Unit("steps")] = 500
    """Steps between two looks at the modules, the first before the first step; the paper's."""
    preserve_mean: bool = False
    """Rescale so that the mean factor, weighted by parameters, is 1; not from the paper."""
    min_eigenvalues: Annotated[Count, Unit("eigenvalues")] = 50
    """Modules with fewer keep the plain decay; the paper's code."""

    def __post_init__(self) -> None:
        if self.low == self.high == 0:
            raise ValueError(
                "pretrain.weight_decay.scores.low and pretrain.weight_decay.scores.high must not "
                "both be 0; for no decay set pretrain.weight_decay.value to 0."
            )


@config_class
class WeightDecay:
    """What pulls the weights to zero. Rules and sources are in
    `objectives.training.weight_decay_policies`."""

    value: NonNegative | None = 0.1
    """Strength, in the coupling's own unit; None where `tau_frac` gives it."""
    tau_frac: Annotated[Positive, Unit("share of the run")] | None = None
    """Strength by its timescale 1 / (peak lr * value), a share of the run (arXiv 2405.13698)."""
    coupling: Coupling = "decoupled"
    """decoupled: weights shrink by lr_t * value (torch's AdamW). independent: by s_t * value with
    the schedule's shape s_t = lr_t / lr (arXiv 2309.14322). l2: value * weights joins the clipped
    gradient (torch's Adam)."""
    decayed: Decayed = "all"
    """Which parameters decay; "all" as in arXiv 2602.11137."""
    multipliers: Multipliers = field(default_factory=Multipliers)
    course: Course = "constant"
    """Strength over the run: constant; linear to `final_ratio`; times the schedule's shape;
    or 1 / (1 + t / (timescale_frac * steps)), which nears omega / t (arXiv 2602.05298)."""
    final_ratio: Annotated[NonNegative, Unit("of value")] = 0.0
    """Of the linear course: strength at the last step over `value`."""
    timescale_frac: Annotated[Positive, Unit("share of the run")] = 0.1
    """Of inverse_time, share of the run; omega = value * timescale_frac * steps, and 0.1 is the
    paper's code."""
    policy: Policy = "uniform"
    """The rule by which the strength differs between weights or steps."""
    scores: ModuleScores = field(default_factory=ModuleScores)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.tau_frac is None):
            raise ValueError(
                "exactly one of pretrain.weight_decay.value and pretrain.weight_decay.tau_frac "
                f"must be set, got {self.value} and {self.tau_frac}; set the other to None."
            )
        if self.coupling == "l2" and self.policy in UPDATE_POLICIES:
            raise ValueError(
                f"pretrain.weight_decay.policy {self.policy!r} acts on the update and needs "
                "pretrain.weight_decay.coupling decoupled or independent, got 'l2'."
            )
        if self.tau_frac is not None and not self.timed:
            raise ValueError(
                "pretrain.weight_decay.tau_frac needs a coupling other than l2 and a policy other "
                f"than {' and '.join(UNTIMED_POLICIES)}, got {self.coupling!r} and "
                f"{self.policy!r}; set value instead."
            )

    @property
    def timed(self) -> bool:
        """Whether 1 / (lr * strength) is the timescale on which weights forget."""
        return self.coupling != "l2" and self.policy not in UNTIMED_POLICIES


@config_class
class EffectiveLrOf:
    """A run whose effective rate lr_t / |w_t| is followed: this recipe with another strength of its
    decay. Both None: the rate is the schedule's. See `objectives.pretraining.effective_lr`."""

    value: NonNegative | None = None
    """That run's `pretrain.weight_decay.value`."""
    tau_frac: Annotated[Positive, Unit("share of the run")] | None = None
    """Or its `pretrain.weight_decay.tau_frac`."""

    def __post_init__(self) -> None:
        if self.value is not None and self.tau_frac is not None:
            raise ValueError(
                "at most one of pretrain.effective_lr_of.value and pretrain.effective_lr_of."
                f"tau_frac may be set, got {self.value} and {self.tau_frac}; set one to None."
            )

    @property
    def given(self) -> bool:
        """Whether there is such a run."""
        return self.value is not None or self.tau_frac is not None


def _short_form(given: Any, info: ValidationInfo) -> Any:
    """A number is the value alone."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return given
    return {"value": given} if info.mode == "json" else WeightDecay(value=given)


ShortWeightDecay: TypeAlias = Annotated[WeightDecay, BeforeValidator(_short_form)]
