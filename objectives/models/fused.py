"""Steps of a model in fewer passes over memory, for training on a CPU.

Eager code reads and writes an activation of all lanes for every operation, and autograd keeps more
of them than a derivative needs. Here a norm takes 8 passes forth and back instead of 17, and a
loss leaves out the copy of its log-probabilities. Equal up to rounding; first derivatives only.

    y = w x r,  r = (mean x^2 + eps)^(-1/2);   dx = r (w dy - x r mean(w dy x r)),  dw = sum dy x r
    nats = -log p_t,  p = softmax(logits);     dlogits = (p - 1_t) dnats

N rows, V tokens, C channels; any leading axes.
"""

from __future__ import annotations

import contextlib
import contextvars
import types
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.llama.modeling_llama import LlamaRMSNorm

LEAST_P = 1e-30
"""Probability below which its logarithm is taken from the logits, as it may have underflowed."""


_ON: contextvars.ContextVar[bool] = contextvars.ContextVar("fused", default=False)


@contextlib.contextmanager
def first_order(on: bool = True) -> Iterator[None]:
    """No derivative of a derivative is asked for; not `on`: one may be, or a graph is traced."""
    token = _ON.set(on)
    try:
        yield
    finally:
        _ON.reset(token)


def applies(x: Tensor) -> bool:
    """Whether this activation is computed here: float32 on a CPU, where `first_order` says so."""
    return _ON.get() and x.dtype == torch.float32 and x.device.type == "cpu"


def install(module: nn.Module) -> None:
    """Have the norms of a model compute as here, where it applies."""
    for part in module.modules():
        if type(part) is LlamaRMSNorm:
            part.forward = types.MethodType(_forward, part)


def _forward(self: Any, hidden_states: Tensor) -> Tensor:
    if applies(hidden_states):
        return rms_norm(hidden_states, self.weight, self.variance_epsilon)
    plain: Tensor = LlamaRMSNorm.forward(self, hidden_states)
    return plain


def rms_norm(x: Tensor, weight_C: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last axis (arXiv 1910.07467)."""
    return _norm(x, weight_C.view(*[1] * (x.dim() - 1), -1), eps)


def nats(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Cross entropy of each row; [N]."""
    if not applies(logits_NV):
        return F.cross_entropy(logits_NV, targets_N, reduction="none")
    return _nats(logits_NV, targets_N)


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    kind = _NormOfLanes if _batched(x, weight) else _Norm
    y: Tensor = kind.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return y


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    kind = _NatsOfLanes if _batched(logits, targets) else _Nats
    found: Tensor = kind.apply(logits, targets)  # type: ignore[no-untyped-call]
    return found


def _batched(*parts: Tensor) -> bool:
    return any(bool(torch._C._functorch.is_batchedtensor(part)) for part in parts)


def _lanes_first(x: Tensor, dim: int | None) -> Tensor:
    """The lane axis in front; of size 1 where all lanes share it."""
    found: Tensor = x[None] if dim is None else x.movedim(dim, 0)
    return found


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        y: Tensor = normed * weight
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, scale, weight = ctx.saved_tensors
        each = grad * normed
        of_weight = each.sum_to_size(weight.shape)
        mean = each.mul_(weight).sum(-1, keepdim=True).div_(-normed.shape[-1])
        return (grad * weight).addcmul_(normed, mean).mul_(scale), of_weight, None


class _Nats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets.expand(logits.shape[:-1])[..., None]
        p = logits.softmax(-1)
        ctx.save_for_backward(p, targets)
        of_target = p.gather(-1, targets).squeeze(-1)
        found = of_target.log().neg_()
        if bool((small := of_target < LEAST_P).any()):
            rows = logits[small].log_softmax(-1)
            found[small] = -rows.gather(-1, targets[small]).squeeze(-1)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        p, targets = ctx.saved_tensors
        of_logits = p * grad[..., None]
        of_logits.scatter_add_(-1, targets, grad[..., None].neg())
        return of_logits, None


class _OfLanes(torch.autograd.Function):
    """Only its vmap rule ever runs."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        raise AssertionError("called outside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep."""


class _NormOfLanes(_OfLanes):
    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, int]:
        return _norm(_lanes_first(x, in_dims[0]), _lanes_first(weight, in_dims[1]), eps), 0


class _NatsOfLanes(_OfLanes):
    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], logits: Tensor, targets: Tensor
    ) -> tuple[Tensor, int]:
        return _nats(_lanes_first(logits, in_dims[0]), _lanes_first(targets, in_dims[1])), 0
