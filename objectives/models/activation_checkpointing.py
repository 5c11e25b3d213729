"""Activation checkpointing for lanes: a layer keeps its inputs and computes the rest again.

transformers' own computes a layer again outside vmap, where its parameters are no longer a lane's.
Here a layer is made a function of tensors alone, its parameters among them. Under vmap that
function is moved below the lanes, as attention is: one checkpoint around all lanes of the layer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from objectives.models import draws
from objectives.models.below_lanes import BelowLanes, in_lanes

Run = Callable[..., tuple[Tensor, ...]]


def install(module: nn.Module) -> None:
    """Make the module's layers forget their inner activations, in place.

    Raises:
        ValueError: the model has no layers that are known to be computable again.
    """
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"{type(module).__name__} has no layers for activation checkpointing; set "
            "pretrain.activation_checkpointing to false."
        )
    for layer in layers:
        layer.forward = functools.partial(_forward, layer, _Plain(layer))


class _Plain(nn.Module):
    """A layer with the forward pass of its class."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return type(self.layer).forward(self.layer, *args, **kwargs)


def _forward(layer: nn.Module, plain: _Plain, *args: Any, **kwargs: Any) -> Any:
    if not layer.training:
        return plain(*args, **kwargs)
    params = dict(plain.named_parameters())
    leaves, spec = tree_flatten((args, kwargs))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    out_spec: Any = None

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal out_spec
        given = list(leaves)
        for place, tensor in zip(places, tensors[len(params) :], strict=True):
            given[place] = tensor
        inputs, named = tree_unflatten(given, spec)
        lane = dict(zip(params, tensors, strict=False))
        out, out_spec = tree_flatten(functional_call(plain, lane, inputs, named))
        return tuple(out)

    out = _recompute(run, *params.values(), *(leaves[place] for place in places))
    return tree_unflatten(list(out), out_spec)


def _recompute(run: Run, *tensors: Tensor) -> tuple[Tensor, ...]:
    if in_lanes(tensors):
        below: tuple[Tensor, ...] = _RecomputeLanes.apply(run, *tensors)  # type: ignore[no-untyped-call]
        return below
    out: tuple[Tensor, ...] = checkpoint(
        run,
        *tensors,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=draws.repeated,
    )
    return out


class _RecomputeLanes(BelowLanes):
    """One checkpoint around all lanes."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], run: Run, *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        lanes = vmap(run, in_dims=in_dims[1:], randomness="same")  # as in lanes.py
        out = _recompute(lanes, *tensors)
        return out, (0,) * len(out)
