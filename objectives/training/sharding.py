"""How trained parameters are placed on devices, and what that asks of a step.

    replicate  every rank holds all of them; gradients of the ranks' rows are averaged
    fsdp       every rank holds a part of each, see `objectives.training.fsdp`

The loop and the optimizer work on rows of parameters and ask only here for what reaches over all of
a lane's parameters: a norm, a whole matrix, the place of a matrix in the row.

K lanes, P parameters of a lane that are here, Q all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from objectives.training.process_group import ALONE, ProcessGroup


class Sharding(Protocol):
    """Where the parameters of a lane are."""

    @property
    def ranks(self) -> ProcessGroup:
        """The processes that hold them."""

    def shapes(self, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
        """Of what is here, by the shapes of whole parameters."""

    def sync_module(self, values: Sequence[Tensor]) -> None:
        """Compute with these values, [K, ...] a parameter, from here on."""

    def add_gradient(
        self, loss: Tensor, values: Sequence[Tensor], grads: Sequence[Tensor], *, first: bool
    ) -> None:
        """Write the gradient of a loss, or add it where it is not the first of a step."""

    def reduced(self, loss_K: Tensor, grads_KP: Tensor) -> Tensor:
        """Make the step's gradients those of all ranks' rows; returns their mean losses."""

    def total(self, x: Tensor) -> Tensor:
        """The sum of what was summed over the parameters here."""

    def norm(self, x_KP: Tensor) -> Tensor:
        """Over all parameters; [K]."""

    def mean(self, x_KP: Tensor) -> Tensor:
        """Over all parameters; [K, 1]."""

    def shard(self, x_Q: Tensor) -> Tensor:
        """This rank's part of rows [..., Q]; [..., P]."""

    def local_slice(self, span: slice) -> slice:
        """Where in P a parameter is that has this place in Q."""

    def unshard(self, x_KP: Tensor, span: slice) -> Tensor:
        """All of the parameter that has this place in Q; [K, n]."""

    def gather_to_rank0(self, x_P: Tensor) -> Tensor | None:
        """A whole row [Q] on the CPU, for the rank that writes; None for the others."""


@dataclass(frozen=True)
class Replicated:
    """All parameters are here."""

    ranks: ProcessGroup = ALONE

    def shapes(self, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
        """The given shapes, as nothing is sharded."""
        return dict(shapes)

    def sync_module(self, values: Sequence[Tensor]) -> None:
        """The values are given to each pass."""

    def add_gradient(
        self, loss: Tensor, values: Sequence[Tensor], grads: Sequence[Tensor], *, first: bool
    ) -> None:
        """Write the gradient of a loss, or add it where it is not the first of a step."""
        found = torch.autograd.grad(loss, list(values))
        write = torch._foreach_copy_ if first else torch._foreach_add_
        write(list(grads), found)

    def reduced(self, loss_K: Tensor, grads_KP: Tensor) -> Tensor:
        """Average the step's gradients over all ranks' rows; returns their mean losses.

        Ranks have equally many rows.
        """
        self.ranks.mean_(grads_KP)
        return self.ranks.mean_(loss_K)

    def total(self, x: Tensor) -> Tensor:
        """The given value, as every rank has all parameters."""
        return x

    def norm(self, x_KP: Tensor) -> Tensor:
        """Norm over all parameters; [K]."""
        found: Tensor = torch.linalg.vector_norm(x_KP, dim=1)
        return found

    def mean(self, x_KP: Tensor) -> Tensor:
        """Mean over all parameters; [K, 1]."""
        return x_KP.mean(1, keepdim=True)

    def shard(self, x_Q: Tensor) -> Tensor:
        """The whole rows."""
        return x_Q

    def local_slice(self, span: slice) -> slice:
        """The slice itself, as P is Q."""
        return span

    def unshard(self, x_KP: Tensor, span: slice) -> Tensor:
        """The parameter's columns; [K, n]."""
        return x_KP[:, span]

    def gather_to_rank0(self, x_P: Tensor) -> Tensor | None:
        """The row on the CPU, for the first rank alone."""
        return x_P.detach().cpu() if self.ranks.first else None


REPLICATED = Replicated()
