"""Where the parts of a transformer are: attention factors, block matrices, MLPs; told by names.

Known are models whose attention has q_proj, k_proj, v_proj and o_proj (Llama and most others, with
grouped key and value heads), and GPT-2 with its fused c_attn.

L layers, H heads, D width of the model, C channels of a head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from objectives.models.double_precision import in_double
from objectives.probes.types import NotApplicableError

LAYER = re.compile(r"\.(\d+)\.")


DOWN = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "w2")
"""Names of the matrix that leaves an MLP."""


ACTIVATIONS = ("act_fn", "act", "activation_fn")


@dataclass(frozen=True)
class Attention:
    """Factors of every head: its scores are x' query key' x, what it adds is output value' x.

    All [L, H, D, C]. A shared key or value head appears once for each query head. Rotations, biases
    and norms between the factors are left out.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


@dataclass(frozen=True)
class Mlp:
    """The modules of a layer's MLP at which its hidden units are seen."""

    down: nn.Module
    """Its input are the hidden units; with a gate, the gated product."""
    activation: nn.Module | None


def attention_of(config: PreTrainedConfig, params: Mapping[str, Tensor]) -> Attention:
    """The attention factors of a model.

    Raises:
        NotApplicableError: it has none that are known.
    """
    heads = int(getattr(config, "num_attention_heads", None) or 0)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    if not heads:
        raise NotApplicableError(f"a {config.model_type} model has no attention heads")
    layers = [
        _separate(params, name.removesuffix("q_proj.weight"), heads, kv_heads)
        for name in _in_order(params, "q_proj.weight")
    ] or [
        _fused(params, name.removesuffix("c_attn.weight"), heads)
        for name in _in_order(params, "attn.c_attn.weight")
    ]
    if not layers or len({tuple(part.shape for part in layer) for layer in layers}) > 1:
        raise NotApplicableError(
            f"no query, key, value and output projections of one shape in a {config.model_type} "
            "model"
        )
    return Attention(*(torch.stack(parts) for parts in zip(*layers, strict=True)))


def block_matrices(params: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The matrices inside the blocks: name within its layer -> one a layer.

    Raises:
        NotApplicableError: there are no numbered layers.
    """
    found: dict[str, list[Tensor]] = {}
    for name in sorted(params, key=_layer):
        place = LAYER.search(name)
        if place is not None and params[name].dim() == 2:
            found.setdefault(name[place.end() :].removesuffix(".weight"), []).append(params[name])
    if not found:
        raise NotApplicableError("the model has no numbered layers")
    return found


def mlps_of(module: nn.Module) -> list[Mlp]:
    """The MLP of every layer.

    Raises:
        NotApplicableError: none is known.
    """
    parts = dict(module.named_modules())
    found = []
    for name, part in parts.items():
        parent, _, last = name.rpartition(".")
        if last in DOWN and parent.endswith(("mlp", "feed_forward")):
            acts = [parts[f"{parent}.{act}"] for act in ACTIVATIONS if f"{parent}.{act}" in parts]
            found.append(Mlp(part, acts[0] if acts else None))
    if not found:
        raise NotApplicableError("no MLP was found in the model")
    return found


def _separate(
    params: Mapping[str, Tensor], at: str, heads: int, kv_heads: int
) -> tuple[Tensor, ...]:
    """[H, D, C] each, from projections that are stored [out, in]."""
    names = [f"{at}{name}_proj.weight" for name in "qkvo"]
    if any(name not in params for name in names):
        raise NotApplicableError(f"{at}q_proj has no k_proj, v_proj and o_proj beside it")
    query, key, value, output = (in_double(params[name]) for name in names)
    if (
        len(query) * kv_heads != len(key) * heads
        or output.shape[1] * kv_heads != len(value) * heads
    ):
        raise NotApplicableError(f"the projections of {at.rstrip('.')} are not plain heads")
    groups = heads // kv_heads
    return (
        query.unflatten(0, (heads, -1)).mT,
        key.unflatten(0, (kv_heads, -1)).repeat_interleave(groups, 0).mT,
        value.unflatten(0, (kv_heads, -1)).repeat_interleave(groups, 0).mT,
        output.unflatten(1, (heads, -1)).movedim(1, 0),
    )


def _fused(params: Mapping[str, Tensor], at: str, heads: int) -> tuple[Tensor, ...]:
    """[H, D, C] each, from GPT-2's matrices, which are stored [in, out]."""
    parts = in_double(params[f"{at}c_attn.weight"]).chunk(3, dim=1)
    query, key, value = (part.unflatten(1, (heads, -1)).movedim(1, 0) for part in parts)
    output = in_double(params[f"{at}c_proj.weight"]).unflatten(0, (heads, -1)).mT
    return query, key, value, output


def _in_order(params: Mapping[str, Tensor], ending: str) -> list[str]:
    return sorted((name for name in params if name.endswith(f".{ending}")), key=_layer)


def _layer(name: str) -> int:
    place = LAYER.search(name)
    return -1 if place is None else int(place[1])
