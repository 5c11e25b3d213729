"""What fits: when memory runs out, half as many lanes go on, and nothing finished is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def in_chunks(items: Sequence[T], most: int, run: Callable[[Sequence[T]], None]) -> None:
    """Call `run` on consecutive chunks of at most `most` items, halved whenever memory runs out.

    `run` keeps what it has finished, so a chunk that is tried again in halves goes on.

    Raises:
        MemoryError: a single item does not fit.
    """
    at = 0
    while at < len(items):
        chunk = items[at : at + most]
        try:
            run(chunk)
        except torch.OutOfMemoryError:
            if len(chunk) == 1:
                raise MemoryError(
                    "one lane does not fit into the device's memory; raise pretrain.accumulation, "
                    "set pretrain.activation_checkpointing, or take a smaller batch or model."
                ) from None
            most = max(1, len(chunk) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        at += len(chunk)
