"""What training asks of a store of finished stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")


class Stages(Protocol):
    """What training asks of a store; see `objectives.store.store.Store`."""

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder if it is there and whole."""

    def read(self, stage: str, key: str, reader: Callable[[Path], T]) -> T | None:
        """What is read from the entry's folder if it is there and whole."""

    def keys(self, stage: str) -> Iterator[str]:
        """Keys of the entries of a stage."""

    def put(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], None],
        *,
        seconds: float | None = None,
    ) -> object:
        """Keep a stage."""

    def supersede(self, stage: str, key: str) -> None:
        """Drop an entry that is of no more use to this process."""
