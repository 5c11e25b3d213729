"""Ranks: the processes that train one trial together, each on its own device, in step.

Every rank runs the same program in the same order. What only one of them can know (what is stored,
how late it is, whether to stop) rank 0 says and the others hear. Sums over tensors go by
torch.distributed's default group; a single rank does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from objectives.training import out_of_memory


class OutOfMemory(Exception):
    """Memory ran out on one of several ranks; all of them begin again with fewer lanes."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that decides and writes."""
        return self.rank == 0

    @contextlib.contextmanager
    def raise_oom_everywhere(self) -> Iterator[None]:
        """Work that one of several ranks cannot try again by itself: without memory it fails."""
        try:
            yield
        except Exception as error:
            if self.count == 1 or not out_of_memory.is_out_of_memory(error):
                raise
            raise OutOfMemory(str(error)) from None

    def sum_(self, x: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        if self.count > 1:
            dist.all_reduce(x)
        return x

    def mean_(self, x: Tensor) -> Tensor:
        """The mean over the ranks, in place."""
        return self.sum_(x).div_(self.count) if self.count > 1 else x

    def min(self, value: int) -> int:
        """The least of the ranks' values."""
        if self.count == 1:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return int(found)

    def broadcast_int(self, value: int) -> int:
        """Rank 0's value."""
        if self.count == 1:
            return value
        found = torch.tensor(value)
        dist.broadcast(found, 0)
        return int(found)

    def broadcast_str(self, value: str) -> str:
        """Rank 0's text."""
        if self.count == 1:
            return value
        content = value.encode()
        found = torch.zeros(self.broadcast_int(len(content)), dtype=torch.uint8)
        if self.first and content:
            found.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(found, 0)
        return bytes(found.tolist()).decode()


ALONE = ProcessGroup()
