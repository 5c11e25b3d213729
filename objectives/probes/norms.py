"""Norms of weights and gradient, and the effective learning rate lr / |w| (arXiv 2310.04415).

Weight decay acts on a network with norms by way of |w|: the same rate turns smaller weights
further. The gradient is that of the mean loss on a fixed sample of training text.
"""

from __future__ import annotations

import math

import torch

from objectives.probes.types import ProbeBatch, ProbeResult
from objectives.training import batch


def measure_norms(group: ProbeBatch) -> list[ProbeResult]:
    """|w|, mean |w_i|, |g|; lr / |w| at the last rate and at the peak rate; |w| along the run."""
    values_KP = group.rows()
    gradient_norms = _gradient_norms(group, values_KP)
    found = []
    for subject, values_P, gradient_norm in zip(
        group.subjects, values_KP, gradient_norms, strict=True
    ):
        lr = subject.base.rates_of(subject.job)
        norm = float(torch.linalg.vector_norm(values_P))
        seen = [*subject.base.norms_of(subject.job), [float(subject.job.steps), norm]]
        metrics = {
            "weight_norm": norm,
            "weight_mean_abs": float(values_P.abs().mean()),
            "gradient_norm": gradient_norm,
            "effective_lr_end": effective_lr(lr[-1], norm),
            "effective_lr_peak": effective_lr(lr.max(), norm),
        }
        effective = [[step, effective_lr(lr[int(step) - 1], each)] for step, each in seen]
        curves = {"weight_norm": seen, "effective_lr": effective}
        found.append(ProbeResult(metrics=metrics, curves=curves))
    return found


def effective_lr(lr: float, norm: float) -> float:
    """lr / |w|; infinite where there are no weights left."""
    return float(lr) / norm if norm > 0 else math.inf


def _gradient_norms(group: ProbeBatch, values_KP: torch.Tensor) -> list[float]:
    leaf = values_KP.clone().requires_grad_()
    sample = group.sample("train")
    for ids in group.batches(sample):
        params = batch.split_rows(group.shapes, leaf)
        loss_K = group.program.losses(params, None, batch.TokenBatch(ids))
        (loss_K.sum() * (len(ids) / len(sample))).backward()
    assert leaf.grad is not None
    norms: list[float] = torch.linalg.vector_norm(leaf.grad, dim=1).tolist()
    return norms
