"""Spectral exponents: how heavy-tailed the eigenvalues of each matrix in the blocks are.

PL_Alpha_Hill of arXiv 2506.14562, as in `objectives.training.spectral`. A small alpha is a heavy
tail. Fused matrices (GPT-2's c_attn) count as one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from objectives.models.double_precision import in_double
from objectives.probes.architecture import block_matrices
from objectives.probes.types import ProbeBatch, ProbeResult, by_layer
from objectives.training import spectral


def exponents(weights_BMN: Tensor) -> Tensor:
    """The exponent of each matrix; [B]. NaN where the spectrum has no tail."""
    falling = torch.linalg.svdvals(in_double(weights_BMN)).square()
    return spectral.hill_alpha(falling.flip(-1))


def measure_spectral_exponents(group: ProbeBatch) -> list[ProbeResult]:
    """Mean, least and greatest over all matrices; by layer, each matrix's own."""
    found = []
    for params in group.params:
        alphas = {
            name: [float(exponents(matrix[None])) for matrix in layers]
            for name, layers in block_matrices(params).items()
            if min(layers[0].shape) > 1
        }
        every = [a for layers in alphas.values() for a in layers if math.isfinite(a)]
        lost = sum(len(layers) for layers in alphas.values()) - len(every)
        metrics = (
            {"mean": sum(every) / len(every), "min": min(every), "max": max(every)} if every else {}
        )
        found.append(
            ProbeResult(
                metrics=metrics,
                curves={f"{name}_by_layer": by_layer(layers) for name, layers in alphas.items()},
                notes=[f"{lost} matrices have no spectral tail and are left out"] if lost else [],
            )
        )
    return found
