"""The mirror of a store: what is fetched from it, sent to it, and not fetched again.

States on the way (`IN_PROGRESS`) are never shared: what is superseded within a minute is not worth
the way.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from objectives.store.maintenance import IN_PROGRESS
from objectives.store.remote import Mirror, Unreachable

Put = Callable[[str, str, Callable[[Path], None], float | None], Path]
"""Keeps an entry in the local store: its stage and key, what writes it, its seconds."""


class StoreError(RuntimeError):
    """The store's folder cannot be used; the message says how to fix it."""


class Sharing:
    """A store's side of the mirror."""

    def __init__(self, mirror: Mirror | None, root: Path) -> None:
        self.mirror, self.root = mirror, root
        self.refused: set[str] = set()
        """Entries of the mirror whose content was found damaged."""

    def keys(self, stage: str) -> set[str]:
        """Keys of the entries of a stage on the mirror."""
        if self.mirror is None or stage == IN_PROGRESS:
            return set()
        with self._answering():
            return set(self.mirror.keys(stage))

    def fetched(self, stage: str, key: str, put: Put) -> Path | None:
        """The entry copied from the mirror; None if it is not there or not whole."""
        mirror = self.mirror
        if mirror is None or stage == IN_PROGRESS or f"{stage}/{key}" in self.refused:
            return None
        with self._answering():
            manifest = mirror.manifest(stage, key)
            if manifest is None:
                return None

            def write(folder: Path) -> None:
                if not mirror.fetch(stage, key, manifest, folder):
                    raise _NotFetchedError

            try:
                return put(stage, key, write, manifest.seconds)
            except _NotFetchedError:
                warnings.warn(
                    f"a {stage} stage on the shared store {mirror.shown} is damaged; it is "
                    "computed again.",
                    stacklevel=2,
                )
                return None

    def send(self, stage: str, key: str, entry: Path) -> None:
        """Copy an entry to the mirror. It is whole here, so that a fault there stops no work."""
        if self.mirror is None or stage == IN_PROGRESS:
            return
        try:
            self.mirror.send(stage, key, entry)
        except (Unreachable, OSError) as error:
            warnings.warn(
                f"a {stage} stage was not shared: {error}; it is kept in {self.root} and used from "
                "there.",
                stacklevel=2,
            )

    def refuse(self, stage: str, key: str, sums: Mapping[str, str]) -> None:
        """Fetch an entry with these checksums, whose content is damaged, not again."""
        if self.mirror is None or stage == IN_PROGRESS:
            return
        with self._answering():
            shared = self.mirror.manifest(stage, key)
        if shared is not None and shared.sums == sums:
            self.refused.add(f"{stage}/{key}")
            self.mirror.give_up(stage, key)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """To go on without the mirror would do the work of other machines again: it stops."""
        try:
            yield
        except Unreachable as error:
            raise StoreError(
                f"{error}: is it reachable, and may it be read? What is finished is kept in "
                f"{self.root}; run the same command to go on, or leave out --share."
            ) from None


class _NotFetchedError(Exception):
    """Ends the copying of an entry that is not what its manifest says."""
