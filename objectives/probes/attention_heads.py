"""Attention heads that look everywhere or nowhere in particular, by the entropy of their attention.

A head's share is its mean entropy over that of even attention to all it may see, ln(t + 1) at
position t. Above 0.9 it is lazy, below 0.1 collapsed (arXiv 2606.24752 as quoted). Means over a
fixed validation text; the first position, which sees only itself, is left out. Which positions the
paper takes was not found.

K lanes, L layers, N rows, H heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from objectives.models import attention
from objectives.probes.types import NotApplicableError, ProbeBatch, ProbeResult, by_layer
from objectives.training.lanes import vmap_lanes

LAZY, COLLAPSED = 0.9, 0.1


def entropy_share(attention_NHTT: Tensor) -> Tensor:
    """Mean entropy over the greatest possible one; [H]."""
    positions = attention_NHTT.shape[-1]
    entropy_H = torch.special.entr(attention_NHTT[..., 1:, :]).sum(-1).mean((0, 2))
    most = torch.arange(2, positions + 1, device=entropy_H.device).log().mean()
    share_H: Tensor = entropy_H / most
    return share_H


def measure_attention_heads(group: ProbeBatch) -> list[ProbeResult]:
    """Shares of lazy and collapsed heads, the mean entropy share; by layer too."""
    shares_KLH = _shares(group).cpu()
    found = []
    for shares_LH in shares_KLH:
        values = {
            "lazy_frac": (shares_LH > LAZY).float(),
            "collapsed_frac": (shares_LH < COLLAPSED).float(),
            "entropy_share": shares_LH,
        }
        curves = {
            f"{name}_by_layer": by_layer(v_LH.mean(1).tolist()) for name, v_LH in values.items()
        }
        metrics = {name: float(v_LH.mean()) for name, v_LH in values.items()}
        found.append(ProbeResult(metrics=metrics, curves=curves))
    return found


def _shares(group: ProbeBatch) -> Tensor:
    """Of every head; [K, L, H]."""
    module, sample = group.module, group.sample()

    def lane(own: dict[str, Tensor], _: dict[str, Tensor], ids_NT: Tensor) -> tuple[Tensor]:
        inputs = {"input_ids": ids_NT, "output_attentions": True}
        seen = functional_call(module, own, (), inputs).attentions
        if not seen or seen[0] is None:
            raise NotApplicableError("the model does not give its attention")
        return (torch.stack([entropy_share(layer) for layer in seen]),)

    params, total = group.stacked(), torch.zeros(())
    with torch.no_grad(), _eager(module):
        for ids in group.batches(sample):
            (part,) = vmap_lanes(lane, params, None, (ids[:, :-1],))
            total = total.to(part) + part * (len(ids) / len(sample))
    return total


@contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Attention that computes its probabilities; fused attention never has them."""
    model: Any = module
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(attention.NAME)
