"""What is done where memory runs out: fewer lanes at once, in the end one trial without a result.

Every stage goes through one of these. Each keeps what it has finished, so a retry only does what is
left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


R = TypeVar("R")


NO_BLOCK = ("can't allocate memory", "MPS backend out of memory")
"""What torch's allocators for CPUs and Apple's GPUs say, in a RuntimeError like any other."""


ONE_LANE = (
    "one lane does not fit into the device's memory; raise pretrain.accumulation, set "
    "pretrain.activation_checkpointing, or take a smaller batch or model."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that a GPU's or this machine's memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in NO_BLOCK)


def with_fewer(most: int, run: Callable[[int], R], advice: str = ONE_LANE) -> tuple[R, int]:
    """`run(n)` and n, for the first n of `most`, `most // 2`, ... 1 at which memory is enough.

    Raises:
        MemoryError: n = 1 does not fit; with `advice`.
    """
    assert most >= 1
    while True:
        try:
            return run(most), most
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if most == 1:
                raise MemoryError(advice) from None
            most //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def in_chunks(items: Sequence[T], most: int, run: Callable[[Sequence[T]], None]) -> None:
    """Call `run` on consecutive chunks of at most `most` items, halved whenever memory runs out.

    Raises:
        MemoryError: a single item does not fit.
    """
    assert most >= 1
    at = 0
    while at < len(items):

        def some(count: int, start: int = at) -> None:
            run(items[start : start + count])

        _, most = with_fewer(min(most, len(items) - at), some)
        at += most


def apart(
    items: Sequence[T], run: Callable[[Sequence[T]], None], failed: Callable[[T, str], None]
) -> None:
    """Call `run` on all items; where memory runs out, on each half, down to single items.

    An item that does not fit by itself is given to `failed` with the reason.
    """
    try:
        run(items)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            failed(items[0], str(error))
            return
        half = len(items) // 2
        for some in (items[:half], items[half:]):
            apart(some, run, failed)
