"""Lanes: K models trained as one program.

The parameters of K models are rows of one matrix. The forward pass is `torch.func.vmap` over an
ordinary transformers (or PEFT) module called with those parameters; the gradient is ordinary
autograd of the summed lane losses, outside vmap. Lanes are independent, so the gradient of the sum
holds each lane's own gradient. One model is the case K = 1 of the same code.

Adapters on frozen bases are two nested levels: G bases, each shared by A adapters, K = G * A. A
base is passed once to its adapters, never copied.

K lanes, G bases, A adapters a base, P parameters of a lane in one row, B batch, T tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from objectives.models import attention, draws
from objectives.training.batch import TokenBatch

RANDOMNESS = "same"
"""All lanes of a step drop the same units: what a lane draws must not depend on its company."""


LossPass = Callable[[dict[str, Tensor], Mapping[str, Tensor] | None, tuple[Tensor, ...]], Tensor]


Lane = Callable[..., tuple[Tensor, ...]]
"""(trained, frozen, *data) of one lane -> its outputs"""


Weights = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]
"""(trained, frozen) parameters of one lane -> those of the module"""


def _together(params: Mapping[str, Tensor], frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**frozen, **params}


class LaneModel:
    """A module and how to run it for all lanes at once.

    Logits are only computed where targets count: a hook before the output layer picks the hidden
    states at the batch's positions. Fine-tuning on short completions is cheaper by most of the
    vocabulary's share.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        bf16: bool = False,
        compiled: bool = False,
        weights: Weights | None = None,
        owns_params: bool = False,
    ) -> None:
        """`bf16`: matrix products under bf16 autocast; `compiled`: the training pass compiled.

        `weights` makes the module's parameters of one lane from what is trained and what is frozen;
        without it they are both as they are. `owns_params`: the module has its parameters itself,
        those of the only lane, and what is given to a pass does not matter.
        """
        self.module = module
        self.bf16 = bf16
        self.owns_params = owns_params
        self.weights = weights or _together
        self._positions_BC: Tensor | None = None
        self._loss_pass = _Compiled(self._nats) if compiled else self._nats
        head = module.get_output_embeddings()  # type: ignore[operator]
        head.register_forward_pre_hook(self._pick_positions)

    def losses(
        self, params: Mapping[str, Tensor], frozen: Mapping[str, Tensor] | None, batch: TokenBatch
    ) -> Tensor:
        """Mean nats a counted target; [K] (or [G * A] with `frozen`)."""
        with self._precision(batch), draws.drawing_from(batch.draw):
            nats = self._loss_pass(dict(params), frozen, batch.data)
        if batch.weights is None:
            return nats.mean((-1, -2))
        weights = _align(batch.weights, nats)
        return (nats * weights).sum((-1, -2)) / weights.sum((-1, -2)).clamp(min=1)

    def scores(
        self, params: Mapping[str, Tensor], frozen: Mapping[str, Tensor] | None, batch: TokenBatch
    ) -> tuple[Tensor, Tensor]:
        """For each row: summed nats of its counted targets, and whether each of them is the argmax.

        Both [K, B]. Without dropout.
        """
        self.module.eval()
        try:
            with torch.no_grad(), self._precision(batch):
                nats, hits = self._over(self._lane_scores, dict(params), frozen, batch.data)
        finally:
            self.module.train()
        if batch.weights is None:
            return nats.sum(-1), hits.all(-1)
        weights = _align(batch.weights, nats)
        return (nats * weights).sum(-1), (hits | (weights == 0)).all(-1)

    def _precision(self, batch: TokenBatch) -> contextlib.AbstractContextManager[None]:
        if not self.bf16:
            return contextlib.nullcontext()
        # what is remembered of sharded weights would stay when torch lets the weights go
        return torch.autocast(
            batch.ids.device.type, torch.bfloat16, cache_enabled=not self.owns_params
        )

    def _nats(
        self,
        params: dict[str, Tensor],
        frozen: Mapping[str, Tensor] | None,
        data: tuple[Tensor, ...],
    ) -> Tensor:
        return self._over(self._lane_nats, params, frozen, data)[0]

    def _over(
        self,
        lane: Lane,
        params: dict[str, Tensor],
        frozen: Mapping[str, Tensor] | None,
        data: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        return (
            single_lane(lane, {}, data)
            if self.owns_params
            else vmap_lanes(lane, params, frozen, data)
        )

    def _lane_nats(
        self, params: dict[str, Tensor], frozen: dict[str, Tensor], *data: Tensor
    ) -> tuple[Tensor]:
        """One lane: nats of every counted target, [B, C]."""
        return (_nats(*self._logits(params, frozen, *data)),)

    def _lane_scores(
        self, params: dict[str, Tensor], frozen: dict[str, Tensor], *data: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One lane: nats and argmax hits of every counted target, [B, C] each."""
        logits_BCV, targets_BC = self._logits(params, frozen, *data)
        return _nats(logits_BCV, targets_BC), logits_BCV.argmax(-1) == targets_BC

    def _logits(
        self,
        params: dict[str, Tensor],
        frozen: dict[str, Tensor],
        ids_BT1: Tensor,
        positions_BC: Tensor | None = None,
        targets_BC: Tensor | None = None,
        places_1L: Tensor | None = None,
        *layout: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, C, V] and targets [B, C] at the positions; all T of them without positions."""
        weights = self.weights(params, frozen)
        if positions_BC is None or targets_BC is None or places_1L is None:
            inputs, targets = {"input_ids": ids_BT1[:, :-1]}, ids_BT1[:, 1:]
            if positions_BC is not None:
                targets = targets.gather(1, positions_BC)
            self._positions_BC = positions_BC
        else:
            inputs, targets = {"input_ids": ids_BT1, "position_ids": places_1L}, targets_BC
            self._positions_BC = positions_BC.reshape(1, -1)
        with attention.rows_in_lines(*layout):
            if self.owns_params:
                logits = self.module(**inputs).logits
            else:
                logits = functional_call(self.module, weights, (), inputs).logits
        self._positions_BC = None
        half = logits.dtype in (torch.bfloat16, torch.float16)
        logits = logits.float() if half else logits
        return logits.reshape(*targets.shape, -1), targets

    def _pick_positions(self, head: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        if self._positions_BC is None:
            return None
        (hidden_BTC,) = args
        index = self._positions_BC[..., None].expand(-1, -1, hidden_BTC.shape[-1])
        return (hidden_BTC.gather(1, index),)


class _Compiled:
    """The training pass as a compiled graph, one for each set of shapes.

    torch.compile breaks off at the attention's own vmap rule and would compile next to nothing of a
    pass over lanes. So the pass is traced first, lanes and all, into a graph of plain operations.
    """

    def __init__(self, run: LossPass) -> None:
        self.run = run
        self.graphs: dict[Any, Callable[..., Tensor]] = {}

    def __call__(
        self,
        params: dict[str, Tensor],
        frozen: Mapping[str, Tensor] | None,
        data: tuple[Tensor, ...],
    ) -> Tensor:
        shapes = tuple(x.shape for x in (*params.values(), *data))
        if shapes not in self.graphs:
            self.graphs[shapes] = self._compile(params, frozen, data)
        # casts to bf16 are in the graph
        with torch.autocast(data[0].device.type, enabled=False):
            return self.graphs[shapes](list(params.values()), frozen, data)

    def _compile(
        self,
        params: dict[str, Tensor],
        frozen: Mapping[str, Tensor] | None,
        data: tuple[Tensor, ...],
    ) -> Callable[..., Tensor]:
        names = list(params)

        def run(
            values: list[Tensor], frozen: Mapping[str, Tensor] | None, data: tuple[Tensor, ...]
        ) -> Tensor:
            return self.run(dict(zip(names, values, strict=True)), frozen, data)

        # As leaves of a graph, as in training: only then does fused attention on CUDA keep what its
        # backward pass needs.
        leaves = [p.detach().requires_grad_() for p in params.values()]
        graph = make_fx(run)(leaves, frozen, data)
        compiled: Callable[..., Tensor] = torch.compile(graph, dynamic=False, fullgraph=True)
        return compiled


def _nats(logits_BCV: Tensor, targets_BC: Tensor) -> Tensor:
    flat = F.cross_entropy(logits_BCV.flatten(0, 1), targets_BC.flatten(), reduction="none")
    return flat.view(targets_BC.shape)


def _align(weights: Tensor, nats_KBC: Tensor) -> Tensor:
    """Weights for every lane: shared ones, or each adapter's repeated over the bases."""
    if weights.dim() == 2:
        return weights.expand_as(nats_KBC)
    return weights.repeat(nats_KBC.shape[0] // weights.shape[0], 1, 1)


def _alone_on_gpu(params: dict[str, Tensor]) -> bool:
    """One lane needs no vmap. On a CPU it keeps it, and the same bits in any company."""
    first = next(iter(params.values()))
    return first.is_cuda and first.shape[0] == 1


def single_lane(
    lane: Lane, params: dict[str, Tensor], data: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Run the only lane as it is; every output gets a leading axis of 1."""
    return tuple(x[None] for x in lane(params, {}, *(x.reshape(x.shape[-2:]) for x in data)))


def vmap_lanes(
    lane: Lane,
    params: dict[str, Tensor],
    frozen: Mapping[str, Tensor] | None,
    data: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Run `lane(params, frozen, *data)` for all K lanes; every output gets a leading axis K."""
    if frozen is None and _alone_on_gpu(params):
        return single_lane(lane, {name: p[0] for name, p in params.items()}, data)
    over_data = tuple(0 if x.dim() == 3 else None for x in data)
    adapters = vmap(lane, in_dims=(0, None, *over_data), randomness=RANDOMNESS)
    if frozen is None:
        out: tuple[Tensor, ...] = adapters(params, {}, *data)
        return out
    bases = next(iter(frozen.values())).shape[0]
    nested = {name: p.unflatten(0, (bases, -1)) for name, p in params.items()}
    over_bases = vmap(adapters, in_dims=(0, 0, *[None] * len(data)), randomness=RANDOMNESS)
    out = over_bases(nested, dict(frozen), *data)
    return tuple(x.flatten(0, 1) for x in out)
