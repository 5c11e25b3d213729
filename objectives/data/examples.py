"""The row: what a task is made of, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One question with its answer.

    The prompt ends in a cue without trailing space and the completion starts with the space, so
    that a byte-level BPE cuts the text at the same place whatever the completion is.
    """

    prompt: str
    completion: str
    label: str | None = None
