"""The head of functions that are moved below the lanes of a vmap, where they run once for all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class BelowLanes(torch.autograd.Function):
    """Only the vmap rule of a subclass ever runs; ordinary autograd records what is inside it."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        raise AssertionError("called outside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep."""


def in_lanes(tensors: tuple[Tensor, ...]) -> bool:
    """Whether any of them is that of all lanes under a vmap."""
    return any(torch._C._functorch.is_batchedtensor(tensor) for tensor in tensors)
