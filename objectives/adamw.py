"""AdamW over lanes: each lane has its own rate, decay and clipping norm.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    w <- w - lr wd w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

the decoupled form of torch.optim.AdamW, to which it is equal. K lanes, P parameters of a lane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """AdamW's memory; both [K, P]."""

    first: Tensor
    second: Tensor

    @staticmethod
    def zeros_like(values_KP: Tensor) -> Moments:
        """The memory before the first step."""
        return Moments(torch.zeros_like(values_KP), torch.zeros_like(values_KP))


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What stays the same over a run; per lane where shape [K, 1] is given."""

    beta1: Tensor
    """[K, 1]"""
    beta2: Tensor
    """[K, 1]"""
    eps: Tensor
    """[K, 1]"""
    clip: Tensor
    """[K, 1]; inf leaves the gradient as it is."""
    decayed: Tensor | None
    """[P] of 0 and 1: which parameters decay; None is all."""


def constants(
    lanes: int,
    device: str,
    *,
    beta1: float | Sequence[float] = 0.9,
    beta2: float | Sequence[float] = 0.95,
    eps: float | Sequence[float] = 1e-8,
    clip: float | Sequence[float] = math.inf,
    decayed: Tensor | None = None,
) -> Constants:
    """Constants for K lanes, from one value for all or one a lane."""

    def column(value: float | Sequence[float]) -> Tensor:
        filled = torch.as_tensor(value, dtype=torch.get_default_dtype(), device=device)
        return filled.expand(lanes)[:, None].clone()

    return Constants(
        beta1=column(beta1),
        beta2=column(beta2),
        eps=column(eps),
        clip=column(clip),
        decayed=None if decayed is None else decayed.to(device),
    )


@torch.no_grad()
def step_(
    values_KP: Tensor,
    grads_KP: Tensor,
    moments: Moments,
    constants: Constants,
    *,
    t: int,
    lr_K1: Tensor,
    decay_K1: Tensor,
) -> None:
    """Update `values_KP` and `moments` in place; t counts from 1; `grads_KP` is used up."""
    c = constants
    clip_(grads_KP, c.clip)
    moments.first.lerp_(grads_KP, 1 - c.beta1)
    moments.second.mul_(c.beta2).addcmul_(grads_KP, grads_KP * (1 - c.beta2))
    shrink = lr_K1 * decay_K1
    values_KP.mul_(1 - (shrink if c.decayed is None else shrink * c.decayed))
    denominator = moments.second.sqrt().div_((1 - c.beta2**t).sqrt()).add_(c.eps)
    values_KP.sub_((lr_K1 / (1 - c.beta1**t)) * moments.first / denominator)


def clip_(grads_KP: Tensor, norm_K1: Tensor) -> Tensor:
    """Scale each lane's gradient to at most its norm, in place; returns the norms before.

    [K, 1].
    """
    total: Tensor = torch.linalg.vector_norm(grads_KP, dim=1, keepdim=True)
    grads_KP.mul_((norm_K1 / (total + 1e-6)).clamp(max=1.0))
    return total
