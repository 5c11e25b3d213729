"""What each parameter is for: attention's queries and keys, values and outputs, MLP, embeddings...

Roles partition the parameters. They are found by type and position: embeddings, the output layer
and norms by their modules; the rest by being in an attention or an MLP part of a layer, and
attention's projections by their names. A projection that holds queries, keys and values as one
matrix has more than one role, so roles are given for every element of a lane's row.

P parameters of a lane in the order of `named_parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

ROLES = ("attn_qk", "attn_vo", "mlp", "embed", "head", "norm")


QK, VO, MLP, EMBED, HEAD, NORM = range(len(ROLES))


QK_NAMES = {"q_proj", "k_proj", "query", "key", "q", "k", "wq", "wk", "q_lin", "k_lin"}


VO_NAMES = {
    "v_proj", "o_proj", "out_proj", "value", "dense", "c_proj", "v", "o", "wv", "wo", "v_lin",
    "out_lin",
}  # fmt: skip


ATTENTION, FEED_FORWARD = ("attn", "attention"), ("mlp", "ffn", "feed_forward", "moe", "expert")


@dataclass(frozen=True)
class Matrix:
    """A linear layer's weight and where it is in a lane's row."""

    name: str
    start: int
    shape: torch.Size
    layer: str
    """Of the modules in one layer this is the same."""

    @property
    def span(self) -> slice:
        """Its place in the row."""
        return slice(self.start, self.start + self.shape.numel())


def of_parameters(module: nn.Module) -> Tensor:
    """The place in ROLES of every element of a lane's row; int8 [P].

    Raises:
        ValueError: a parameter whose role is unknown; it is named.
    """
    owners = _owners(module)
    head = module.get_output_embeddings()  # type: ignore[operator]
    parts = []
    for name, parameter in module.named_parameters():
        role = _role(name, parameter, owners[id(parameter)], head, module.config)
        row = role.expand(parameter.shape).reshape(-1)
        parts.append(row.to(torch.int8))
    return torch.cat(parts)


def is_normalised(module: nn.Module) -> Tensor:
    """Which elements belong to weights whose output a norm follows; bool [P].

    All but norms and the output layer, whether of its own or tied to the embeddings: in a pre-norm
    transformer what they add to the residual stream is normalised before it is used. Our reading of
    arXiv 2506.02285, which names the output layer as one that is not.
    """
    head = module.get_output_embeddings()  # type: ignore[operator]
    of_head = {id(parameter) for parameter in head.parameters()}
    tied = [
        torch.full((parameter.numel(),), id(parameter) in of_head)
        for parameter in module.parameters()
    ]
    return (of_parameters(module) < HEAD) & ~torch.cat(tied)


def linear_matrices(module: nn.Module) -> list[Matrix]:
    """Weights of all linear layers in module order, each once; also a head tied to embeddings."""
    starts, at = {}, 0
    for parameter in module.parameters():
        starts[id(parameter)] = at
        at += parameter.numel()
    found: dict[int, Matrix] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | Conv1D):
            layer = next((piece for piece in name.split(".") if piece.isdigit()), "")
            start, shape = starts[id(part.weight)], part.weight.shape
            found.setdefault(id(part.weight), Matrix(name, start, shape, layer))
    return list(found.values())


def is_norm(part: nn.Module) -> bool:
    """Whether a module is a norm, by its type."""
    return isinstance(part, nn.LayerNorm) or "norm" in type(part).__name__.lower()


def _owners(module: nn.Module) -> dict[int, list[tuple[str, nn.Module]]]:
    """The modules that hold each parameter, more than one where it is tied."""
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for path, part in module.named_modules():
        for parameter in part.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((path, part))
    return owners


def _role(
    name: str,
    parameter: Tensor,
    owners: list[tuple[str, nn.Module]],
    head: nn.Module,
    config: Any,
) -> Tensor:
    """The role of a parameter's elements, broadcastable to its shape."""
    parts = [part for _, part in owners]
    path, part = owners[0]
    if any(isinstance(each, nn.Embedding) for each in parts):
        return torch.tensor(EMBED)
    if any(each is head for each in parts):
        return torch.tensor(HEAD)
    if is_norm(part):
        return torch.tensor(NORM)
    *place, last = path.lower().split(".")
    in_layer = any(piece.isdigit() for piece in place)
    if in_layer and _is_within(place, ATTENTION):
        return _attention_role(name, last, parameter, part, config)
    linear = isinstance(part, nn.Linear | Conv1D)
    if in_layer and (linear or _is_within([*place, last], FEED_FORWARD)):
        return torch.tensor(MLP)
    raise _unknown(name)


def _attention_role(
    name: str, last: str, parameter: Tensor, part: nn.Module, config: Any
) -> Tensor:
    if last in QK_NAMES:
        return torch.tensor(QK)
    if last in VO_NAMES:
        return torch.tensor(VO)
    split = FUSED.get((config.model_type, last))
    if split is None:
        raise _unknown(name)
    turned = isinstance(part, Conv1D) or parameter.dim() == 1
    size = parameter.shape[-1] if turned else parameter.shape[0]
    outputs = torch.full((size,), VO)
    outputs[split(size, config)] = QK
    return outputs if turned else outputs[:, None]


def _is_within(place: list[str], words: tuple[str, ...]) -> bool:
    return any(word in piece for piece in place for word in words)


def _unknown(name: str) -> ValueError:
    return ValueError(
        f"the role of parameter {name} is not known (roles are {', '.join(ROLES)}); leave "
        "pretrain.weight_decay.multipliers at 1 and do not use policy adam_c, or take another model"
        " layout."
    )


def _thirds(outputs: int, config: Any) -> Tensor:
    """Queries, keys, values one after the other."""
    return torch.arange(outputs) < outputs // 3 * 2


def _head_by_head(outputs: int, config: Any) -> Tensor:
    """Queries, keys and values of one head, then of the next."""
    a_head = outputs // int(config.num_attention_heads)
    return torch.arange(outputs).remainder(a_head).lt(a_head // 3 * 2)


def _grouped(outputs: int, config: Any) -> Tensor:
    """All queries, then fewer keys and as many values."""
    heads, groups = int(config.num_attention_heads), int(config.num_key_value_heads)
    return torch.arange(outputs) < outputs // (heads + 2 * groups) * (heads + groups)


FUSED: Mapping[tuple[str, str], Callable[[int, Any], Tensor]] = {
    ("gpt2", "c_attn"): _thirds,
    ("mpt", "wqkv"): _thirds,
    ("gpt_neox", "query_key_value"): _head_by_head,
    ("bloom", "query_key_value"): _head_by_head,
    ("phi3", "qkv_proj"): _grouped,
}
"""(Model type, projection) -> which outputs are queries and keys; bool [outputs]."""
