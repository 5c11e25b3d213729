"""Token batches of lanes and the layout of rows in lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from objectives.training.sharding import REPLICATED, Sharding


@dataclass(frozen=True)
class Layout:
    """How R rows of at most T tokens are packed in one line of L tokens; see
    `objectives.training.packing`."""

    position_ids: Tensor
    """[1, L] place of each token of the line in its row"""
    row_to_line: Tensor
    """[R, T] place in the line of each token of the rows"""
    line_to_row: Tensor
    """[1, L] place in the R * T tokens of the rows of each token of the line"""


@dataclass(frozen=True)
class TokenBatch:
    """Token rows, and which of their targets count.

    Shared by all lanes: ids [B, T + 1]. Without `positions` all T targets count. With them, the
    targets at `positions` [B, C] count by `weights` [B, C], and nothing is computed for the others.
    Packed by a `layout`: ids [1, L] are a line of B rows, `positions` [B, C] are places in the line
    and `targets` [B, C] the tokens to be predicted there.
    With each lane's own data a leading axis K (under frozen bases: A) is before all of these.
    """

    ids: Tensor
    positions: Tensor | None = None
    weights: Tensor | None = None
    targets: Tensor | None = None
    layout: Layout | None = None
    draw: torch.Generator | None = None
    """What dropout draws from; parts of a batch draw from it in turn."""

    def split(self, parts: int) -> list[TokenBatch]:
        """`parts` batches along B; a packed one stays whole."""
        if parts == 1:
            return [self]
        assert self.layout is None
        pieces = [
            [None] * parts if x is None else x.chunk(parts, dim=-2)
            for x in (self.ids, self.positions, self.weights)
        ]
        return [
            TokenBatch(ids, positions, weights, draw=self.draw)
            for ids, positions, weights in zip(*pieces, strict=True)
        ]

    @property
    def data(self) -> tuple[Tensor, ...]:
        """What goes through the model."""
        if self.positions is None:
            return (self.ids,)
        if self.layout is None or self.targets is None:
            return (self.ids, self.positions)
        packed = self.layout
        return (
            self.ids,
            self.positions,
            self.targets,
            packed.position_ids,
            packed.row_to_line,
            packed.line_to_row,
        )


class StackedParams:
    """The trained parameters of K lanes as rows of one matrix, with views by name.

    `values` and `grads` are [K, P]. `views` are leaves of the graph, `grad_views` where their
    gradients go. Where parameters are sharded these are the parts of them that are here.
    """

    def __init__(
        self, shapes: Mapping[str, torch.Size], values_KP: Tensor, sharding: Sharding = REPLICATED
    ) -> None:
        """`shapes` of whole parameters."""
        self.sharding = sharding
        self.shapes = sharding.shapes(shapes)
        self.values = values_KP
        self.grads = torch.zeros_like(values_KP)
        self.views = {
            name: view.detach().requires_grad_()
            for name, view in split_rows(self.shapes, self.values).items()
        }
        self.grad_views = list(split_rows(self.shapes, self.grads).values())
        self.sync_module()

    def sync_module(self) -> None:
        """Have the next pass see the values as they are now."""
        self.sharding.sync_module(list(self.views.values()))

    def add_gradient(self, loss: Tensor, *, first: bool) -> None:
        """Write the gradient of a loss into `grads`, or add it where it is not the first."""
        self.sharding.add_gradient(loss, list(self.views.values()), self.grad_views, first=first)

    @property
    def lanes(self) -> int:
        """K."""
        return self.values.shape[0]


def split_rows(shapes: Mapping[str, torch.Size], rows_KP: Tensor) -> dict[str, Tensor]:
    """Name -> view [K, *shape] of the rows."""
    parts = rows_KP.split([shape.numel() for shape in shapes.values()], dim=1)
    return {
        name: part.unflatten(1, shape) if len(shape) else part.squeeze(1)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def join_rows(lanes: Sequence[Mapping[str, Tensor]], names: Iterable[str] | None = None) -> Tensor:
    """The parameters of some lanes as rows: [K, P], in the order of `names` or of the first lane.

    Lanes that were read from files have an order of their own.
    """
    order = list(lanes[0] if names is None else names)
    return torch.stack([torch.cat([lane[name].reshape(-1) for name in order]) for lane in lanes])


def stack(lanes: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name -> [K, *shape]."""
    return {name: torch.stack([lane[name] for lane in lanes]) for name in lanes[0]}
