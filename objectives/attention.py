"""Causal attention for lanes: the lane axis is folded into the batch.

torch's fused attention has no batching rule on the CPU and none for its backward pass on CUDA, so
under `vmap` it would fall back to a loop. Lanes only ever need causal attention over right-padded
rows, where no mask exists that depends on the lane; so the lane axis becomes more batch, and the
fused kernel runs once for all lanes. Registered with transformers under NAME.

H heads, T tokens, D channels of a head; a leading axis B is the batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "lanes"


def attention_forward(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function transformers calls in every attention layer; returns [B, T, H, D].

    Raises:
        ValueError: the model asks for attention other than plain causal.
    """
    if attention_mask is not None or softcap is not None or not getattr(module, "is_causal", True):
        raise ValueError("only plain causal attention without a mask can run as lanes.")
    if sliding_window is not None and sliding_window < query_BHTD.shape[-2]:
        raise ValueError(
            f"sequences of {query_BHTD.shape[-2]} tokens exceed the model's sliding window of "
            f"{sliding_window}; shorten the sequences."
        )
    groups = query_BHTD.shape[-3] // key_BHTD.shape[-3]
    if groups > 1:
        key_BHTD = key_BHTD.repeat_interleave(groups, dim=-3)
        value_BHTD = value_BHTD.repeat_interleave(groups, dim=-3)
    out = _fold(query_BHTD, key_BHTD, value_BHTD, scaling, dropout)
    return out.transpose(1, 2).contiguous(), None


def _fold(query: Tensor, key: Tensor, value: Tensor, scale: float | None, dropout: float) -> Tensor:
    batched = torch._C._functorch.is_batchedtensor
    if batched(query) or batched(key) or batched(value):
        folded: Tensor = _FoldLanes.apply(query, key, value, scale, dropout)  # type: ignore[no-untyped-call]
        return folded
    return F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, dropout_p=dropout
    )


class _FoldLanes(torch.autograd.Function):
    """Only its vmap rule ever runs; the attention inside it is recorded by ordinary autograd."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        raise AssertionError("called outside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        dropout: float,
    ) -> tuple[Tensor, int]:
        lanes = info.batch_size
        query, key, value = (
            x.expand(lanes, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip((query, key, value), in_dims[:3], strict=True)
        )
        batch = query.shape[1]
        query, key, value = (x.flatten(0, 1) for x in (query, key, value))
        out = _fold(query, key, value, scale, dropout)
        return out.view(lanes, batch, *out.shape[1:]), 0


AttentionInterface.register(NAME, attention_forward)
