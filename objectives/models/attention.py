"""Causal attention for lanes: the lane axis is folded into the batch.

torch's fused attention has no batching rule on the CPU and none for its backward pass on CUDA, so
under `vmap` it would fall back to a loop. Lanes only ever need causal attention over right-padded
rows, where no mask exists that depends on the lane; so the lane axis becomes more batch, and the
fused kernel runs once for all lanes. Registered with transformers under NAME.

Rows that are packed in lines (`objectives.training.packing`) are taken apart before it and put
together after it: `rows_in_lines` says how, as transformers has no way to hand it through every
model.

H heads, T tokens, D channels of a head; a leading axis B is the batch. L tokens of a line, R rows
of it.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from objectives.models.below_lanes import BelowLanes, in_lanes

NAME = "lanes"


NO_EFFECT = frozenset(
    {
        "position_ids", "use_cache", "cache_position", "past_key_values", "logits_to_keep",
        "output_attentions", "output_hidden_states", "output_router_logits", "return_dict",
    }
)  # fmt: skip
"""Arguments that transformers hands through to attention and that attention does not use. Any other
one that has a value would change the result, and is refused."""


KNOWN = {"s_aux": "sinks (s_aux)"}


_LAYOUT: contextvars.ContextVar[tuple[Tensor, ...]] = contextvars.ContextVar("layout", default=())


@contextlib.contextmanager
def rows_in_lines(*layout: Tensor) -> Iterator[None]:
    """Attend within rows: `forth` [R, T] and `back` [1, L] of a Layout; nothing for plain rows."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


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
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function transformers calls in every attention layer; returns [B, T, H, D].

    Raises:
        ValueError: the model asks for attention other than plain causal.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is not None or softcap is not None or not causal:
        raise ValueError("only plain causal attention without a mask can run as lanes.")
    unknown = [name for name, value in others.items() if value is not None]
    if not NO_EFFECT.issuperset(unknown):
        name = next(each for each in unknown if each not in NO_EFFECT)
        raise ValueError(f"attention with {KNOWN.get(name, name)} cannot run as lanes.")
    layout = _LAYOUT.get()
    longest = layout[0].shape[-1] if layout else query_BHTD.shape[-2]
    if sliding_window is not None and sliding_window < longest:
        raise ValueError(
            f"sequences of {longest} tokens exceed the model's sliding window of "
            f"{sliding_window}; shorten the sequences."
        )
    groups = query_BHTD.shape[-3] // key_BHTD.shape[-3]
    if groups > 1:
        key_BHTD = key_BHTD.repeat_interleave(groups, dim=-3)
        value_BHTD = value_BHTD.repeat_interleave(groups, dim=-3)
    lines = query_BHTD.shape[:1]
    layout = tuple(index.expand(*lines, *index.shape) for index in layout)
    out = _fold(scaling, dropout, query_BHTD, key_BHTD, value_BHTD, *layout)
    return out.transpose(1, 2).contiguous(), None


def _fold(scale: float | None, dropout: float, *parts: Tensor) -> Tensor:
    """Attention over query, key, value [B, H, T, D], and the layout's two indices [B, ...]."""
    if in_lanes(parts):
        folded: Tensor = _FoldLanes.apply(scale, dropout, *parts)  # type: ignore[no-untyped-call]
        return folded
    query, key, value, *layout = parts
    if layout:
        forth, back = _in_all_lines(*layout)
        query, key, value = (
            _apart(part, forth, back, len(layout[0])) for part in (query, key, value)
        )
    out = F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, dropout_p=dropout
    )
    return _together(out, forth, back, len(layout[0])) if layout else out


def _in_all_lines(forth_BRT: Tensor, back_B1L: Tensor) -> tuple[Tensor, Tensor]:
    """Positions counted through all B lines: [B * R, T] and [B * L]."""
    lines, rows, width = forth_BRT.shape
    line = torch.arange(lines, device=forth_BRT.device)[:, None, None]
    forth = forth_BRT + line * back_B1L.shape[-1]
    back = back_B1L + line * (rows * width)
    return forth.flatten(0, 1), back.flatten()


def _apart(x_BHLD: Tensor, forth: Tensor, back: Tensor, lines: int) -> Tensor:
    """Lines -> rows, [B * R, H, T, D]."""
    _, heads, _, width = x_BHLD.shape
    flat = x_BHLD.transpose(1, 2).reshape(-1, heads * width)
    taken: Tensor = _Take.apply(flat, forth.flatten(), back)  # type: ignore[no-untyped-call]
    return taken.view(*forth.shape, heads, width).transpose(1, 2)


def _together(x_RHTD: Tensor, forth: Tensor, back: Tensor, lines: int) -> Tensor:
    """Rows -> lines, [B, H, L, D]."""
    _, heads, _, width = x_RHTD.shape
    flat = x_RHTD.transpose(1, 2).reshape(-1, heads * width)
    taken: Tensor = _Take.apply(flat, back, forth.flatten())  # type: ignore[no-untyped-call]
    return taken.view(lines, -1, heads, width).transpose(1, 2)


class _Take(torch.autograd.Function):
    """Rows of x at `index`; its gradient is taken at `back`, the inverse of `index`.

    An index_select's own gradient adds into place, which is slow on a CPU and not deterministic on
    a GPU. It is not needed: each place that matters is taken once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _FoldLanes(BelowLanes):
    """Attention, with the lanes as more batch."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        scale: float | None,
        dropout: float,
        *parts: Tensor,
    ) -> tuple[Tensor, int]:
        lanes, batch = info.batch_size, 0
        folded = []
        for x, dim in zip(parts, in_dims[2:], strict=True):
            spread = x.expand(lanes, *x.shape) if dim is None else x.movedim(dim, 0)
            batch = spread.shape[1]
            folded.append(spread.flatten(0, 1))
        out = _fold(scale, dropout, *folded)
        return out.unflatten(0, (lanes, batch)), 0


AttentionInterface.register(NAME, attention_forward)
