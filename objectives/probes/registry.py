"""Every probe: how it is measured, what it depends on, and what its metrics are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives.config.probes import ProbeName
from objectives.data.tasks import Task
from objectives.probes import (
    attention_heads,
    attention_ranks,
    continued_training,
    loss_spikes,
    mlp_units,
    norms,
    separability,
    sharpness,
    spectral_exponents,
)
from objectives.probes.types import ProbeBatch, ProbedModel, ProbeResult


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One thing to measure on bases."""

    measure: Callable[[ProbeBatch], list[ProbeResult]]
    """One finding a base, in order."""
    settings: tuple[str, ...] = ()
    """The fields of `recipe.Probes` on which it depends."""
    depends_on: Callable[[ProbedModel, Sequence[Task]], Any] = lambda subject, tasks: None
    """What else it depends on besides the base, its corpus among it; JSON-able."""
    metrics: Mapping[str, str]
    """Name -> what it is."""


_RANKS = {
    "effective": "effective rank exp(-sum p ln p), p = s / sum s, of singular values s",
    "stable": "stable rank sum s^2 / max s^2 of singular values s",
    "over_5_percent": "number of singular values s over 5 % of the largest, own definition",
    "95_of_sum": "least number of singular values s that make 95 % of sum s, own definition",
    "95_of_squares": "least number of singular values s that make 95 % of sum s^2, own definition",
}


PROBES: dict[ProbeName, Probe] = {
    "norms": Probe(
        measure=norms.measure_norms,
        settings=("tokens",),
        depends_on=lambda subject, tasks: subject.job.eval_steps(),
        metrics={
            "weight_norm": "Euclidean norm of all weights",
            "weight_mean_abs": "mean size of a weight",
            "gradient_norm": "Euclidean norm of the gradient on training text",
            "effective_lr_end": "last learning rate / weight_norm",
            "effective_lr_peak": "greatest learning rate / weight_norm",
        },
    ),
    "ranks": Probe(
        measure=attention_ranks.measure_attention_ranks,
        metrics={
            f"{product}_{name}": f"{text}; {factors}, mean over heads and layers"
            for product, factors in (("qk", "W_Q W_K"), ("vo", "W_V W_O"))
            for name, text in _RANKS.items()
        },
    ),
    "alphas": Probe(
        measure=spectral_exponents.measure_spectral_exponents,
        metrics={
            "mean": "PL_Alpha_Hill, mean over the matrices of all blocks",
            "min": "PL_Alpha_Hill of the matrix with the heaviest tail",
            "max": "PL_Alpha_Hill of the matrix with the lightest tail",
        },
    ),
    "spikes": Probe(
        measure=loss_spikes.measure_loss_spikes,
        metrics={
            "count": "spikes of the training loss, own definition",
            "largest_rise_nats": "greatest rise of a step's loss over the median before it",
        },
    ),
    "separability": Probe(
        measure=separability.measure_separability,
        settings=("rows",),
        depends_on=lambda subject, tasks: [[task.name, task.key] for task in tasks],
        metrics={
            "last": "test accuracy of a linear classifier on the last layer, mean over tasks",
            "mean": "test accuracy of a linear classifier, mean over layers and tasks",
            "TASK.last": "test accuracy of a linear classifier on the last layer, of one task",
            "TASK.mean": "test accuracy of a linear classifier, mean over layers, of one task",
        },
    ),
    "units": Probe(
        measure=mlp_units.measure_mlp_units,
        settings=("tokens",),
        metrics={
            "dormant_0.025_frac": "share of MLP units with a ReDo score of at most 0.025",
            "dormant_0.1_frac": "share of MLP units with a ReDo score of at most 0.1",
            "never_active_frac": "share of MLP units that never reach 1 % of their layer's mean",
            "saturated_frac": "share of MLP units with a flat activation on 99 % of tokens",
        },
    ),
    "heads": Probe(
        measure=attention_heads.measure_attention_heads,
        settings=("tokens",),
        metrics={
            "lazy_frac": "share of heads with over 0.9 of the greatest entropy",
            "collapsed_frac": "share of heads with under 0.1 of the greatest entropy",
            "entropy_share": "mean of heads' entropy over the greatest possible",
        },
    ),
    "sharpness": Probe(
        measure=sharpness.measure_trace,
        settings=("tokens", "vectors"),
        metrics={"trace": "trace of the Hessian of the validation loss, nats"},
    ),
    "noise": Probe(
        measure=sharpness.measure_noise,
        settings=("tokens", "noise_draws", "noise_isotropic", "noise_relative"),
        metrics={
            "isotropic_nats": "rise of the validation loss under equal noise on every weight",
            "relative_nats": "rise of the validation loss under noise in proportion to each tensor",
        },
    ),
    "tiny_rate": Probe(
        measure=continued_training.measure_tiny_rate,
        settings=("tiny_rate", "tiny_frac"),
        # Like the losses of the base, not part of its weights.
        depends_on=lambda subject, tasks: subject.job.recipe.pretrain.eval_tokens,
        metrics={
            "loss_nats": "validation loss after further steps at a tiny rate, nats/token",
            "drop_nats": "base_loss minus the loss after further steps at a tiny rate",
        },
    ),
    "lost_updates": Probe(
        measure=continued_training.measure_lost_updates,
        settings=("lost_batches",),
        metrics={
            "end_frac": "share of updates at the last rate that bf16 weights would lose",
            "peak_frac": "share of updates at the peak rate that bf16 weights would lose",
        },
    ),
}
