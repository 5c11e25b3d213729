"""Identities of texts that were read, so that what was made of them is found without them.

Keys of stages come from a text's own bytes, or its commit. A trial is exported long after, when the
text may be on another machine: an entry of the stage `texts` says, for the sources of a corpus as
they are described, which text they were. A file that was edited in between has several; which one a
trial was trained on shows in which one's stages are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from objectives.config import data as recipe
from objectives.store import contents
from objectives.store.entries import write_json
from objectives.store.stages import Stages
from objectives.store.store import Store, key_of

STAGE = "texts"


FILE = "text.json"


T = TypeVar("T")


class NotStoredError(Exception):
    """A stage is not in the store."""


@dataclass(frozen=True)
class _Known:
    """What an entry holds."""

    sources: str
    """Key of their descriptions."""
    prints: list[list[Any]]


class Stored:
    """A store from which stages are taken and never made."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def cached(
        self, stage: str, key: str, write: Callable[[Path], None], read: Callable[[Path], T]
    ) -> T:
        """What is read from an entry that is there.

        Raises:
            NotStoredError: it is not.
        """
        found = self.store.read(stage, key, read)
        if found is None:
            raise NotStoredError
        return found


def remember(sources: Sequence[recipe.Source], prints: list[list[Any]], store: Stages) -> None:
    """Note which text the sources are now."""
    described = _described(sources)
    key = key_of("texts-1", described, prints)
    if store.get(STAGE, key) is None:
        data = {"sources": described, "prints": prints}
        store.put(STAGE, key, lambda folder: write_json(folder / FILE, data))


def known(sources: Sequence[recipe.Source], store: Stages) -> list[list[list[Any]]]:
    """Identities that these sources were found to have, in no order."""
    described = _described(sources)
    found = [store.read(STAGE, key, _read) for key in store.keys(STAGE)]
    return [each.prints for each in found if each is not None and each.sources == described]


def _described(sources: Sequence[recipe.Source]) -> str:
    return key_of([asdict(source) for source in sources])


def _read(folder: Path) -> _Known:
    return contents.record(folder, FILE, _Known)
