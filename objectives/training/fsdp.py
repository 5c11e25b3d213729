"""Fully sharded training of one lane: torch's FSDP2 over decoder layers and what is around them.

Every rank holds an equal part of each parameter, cut along its first dimension, with the gradient
and the optimizer's memory of that part. A layer's parameters are gathered for its forward and its
backward pass and let go after each; gradients are averaged as they are scattered.

The part of a rank is a row of its own, like a lane's parameters elsewhere, so the loop and the
optimizer are the same. After each step it is copied into the module, where torch keeps its parts
padded. The module is made without memory: no device ever holds it whole.

P parameters that are here, Q all of them; one lane, K = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from transformers.modeling_layers import GradientCheckpointingLayer

from objectives.training.process_group import ProcessGroup


@dataclass(frozen=True)
class Part:
    """One parameter's part on this rank."""

    shape: torch.Size
    """Of the whole parameter."""
    start: int
    """Of the whole parameter in a row [Q]."""
    first: int
    """The first of its leading indices that are here."""
    count: int
    """How many are."""
    here: slice
    """Where they are in the row [P]."""

    @property
    def span(self) -> slice:
        """Where they are in a row [Q]."""
        each = self.shape[1:].numel()
        begin = self.start + self.first * each
        return slice(begin, begin + self.count * each)

    @property
    def local(self) -> torch.Size:
        """The shape of what is here."""
        return torch.Size((self.count, *self.shape[1:]))


class Shards:
    """A module cut into parts, and this rank's part of it."""

    def __init__(self, module: nn.Module, ranks: ProcessGroup, device: str) -> None:
        """Cut the module, whose parameters are on meta, in place.

        Raises:
            ValueError: the module has no decoder layers that are known as such.
        """
        self.module, self.ranks = module, ranks
        self.parts = cut_parts(module, ranks)
        self.mesh: DeviceMesh = init_device_mesh(torch.device(device).type, (ranks.count,))
        layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
        if not layers:
            raise ValueError(
                f"{type(module).__name__} has no layers that fsdp could cut; use sharding "
                "replicate."
            )
        for part in [*layers, module]:
            fully_shard(part, mesh=self.mesh, reshard_after_forward=True)
        empty = {
            name: nn.Parameter(self._whole(torch.zeros(part.local, device=device), part))
            for name, part in self.parts.items()
        }
        module.load_state_dict(empty, strict=False, assign=True)  # a tied one is there once
        places = [name.rpartition(".") for name in self.parts]
        self.places = [(module.get_submodule(owner), name) for owner, _, name in places]

    def shapes(self, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
        """Shapes of the local parts of parameters."""
        return {name: self.parts[name].local for name in shapes}

    def sync_module(self, values: Sequence[Tensor]) -> None:
        """Copy the values of the one lane into the module."""
        with torch.no_grad():
            held = [_local(p) for p in self._parameters()]
            torch._foreach_copy_(held, [value[0] for value in values])

    def add_gradient(
        self, loss: Tensor, values: Sequence[Tensor], grads: Sequence[Tensor], *, first: bool
    ) -> None:
        """Write the gradient of a loss, or add it where it is not the first of a step.

        The gradients are means over the ranks already.
        """
        loss.backward()
        with torch.no_grad():
            found = [_local(p.grad)[None] for p in self._parameters()]
            write = torch._foreach_copy_ if first else torch._foreach_add_
            write(list(grads), found)
        self.module.zero_grad()

    def reduced(self, loss_K: Tensor, grads_KP: Tensor) -> Tensor:
        """Average the step's gradients over all ranks' rows; returns their mean losses."""
        return self.ranks.mean_(loss_K)

    def total(self, x: Tensor) -> Tensor:
        """Sum over ranks of what was summed over the local parameters."""
        return self.ranks.sum_(x)

    def norm(self, x_KP: Tensor) -> Tensor:
        """Norm over all parameters; [K]."""
        return self.total(torch.linalg.vector_norm(x_KP, dim=1).square()).sqrt()

    def mean(self, x_KP: Tensor) -> Tensor:
        """Mean over all parameters; [K, 1]."""
        count = sum(part.shape.numel() for part in self.parts.values())
        return self.total(x_KP.sum(1, keepdim=True)) / count

    def shard(self, x_Q: Tensor) -> Tensor:
        """This rank's part of each parameter; [..., P]."""
        return torch.cat([x_Q[..., part.span] for part in self.parts.values()], -1)

    def local_slice(self, span: slice) -> slice:
        """Where in P this rank's part of the parameter is."""
        return self._at(span).here

    def unshard(self, x_KP: Tensor, span: slice) -> Tensor:
        """The parameter gathered from all ranks; [1, n]."""
        part = self._at(span)
        return self._gathered(x_KP[0], part)[None]

    def gather_to_rank0(self, x_P: Tensor) -> Tensor | None:
        """A whole row on the CPU of the first rank; one parameter is gathered at a time."""
        found = []
        for part in self.parts.values():
            whole = self._gathered(x_P, part)
            if self.ranks.first:
                found.append(whole.cpu())
        return torch.cat(found) if found else None

    def _parameters(self) -> list[Tensor]:
        """The module's, in the order of the parts; torch puts others in their place."""
        return [getattr(owner, name) for owner, name in self.places]

    def _at(self, span: slice) -> Part:
        (part,) = (each for each in self.parts.values() if each.start == span.start)
        assert span.stop - span.start == part.shape.numel()
        return part

    def _gathered(self, x_P: Tensor, part: Part) -> Tensor:
        whole: Tensor = self._whole(x_P[part.here].view(part.local), part).full_tensor()
        return whole.flatten()

    def _whole(self, local: Tensor, part: Part) -> DTensor:
        """The parameter of which this is here."""
        stride = torch.empty(part.shape, device="meta").stride()
        return DTensor.from_local(
            local, self.mesh, [Shard(0)], run_check=False, shape=part.shape, stride=stride
        )


def cut_parts(module: nn.Module, ranks: ProcessGroup) -> dict[str, Part]:
    """Of each parameter, tied ones once; cut as torch.chunk would."""
    found: dict[str, Part] = {}
    start = at = 0
    for name, parameter in module.named_parameters():
        rows = parameter.shape[0]
        each = -(-rows // ranks.count)
        first = min(rows, ranks.rank * each)
        count = min(rows, first + each) - first
        size = count * parameter.shape[1:].numel()
        found[name] = Part(parameter.shape, start, first, count, slice(at, at + size))
        start, at = start + parameter.numel(), at + size
    return found


def _local(x: Tensor | None) -> Tensor:
    """What is here of a parameter or its gradient."""
    assert isinstance(x, DTensor)
    return x.to_local()
