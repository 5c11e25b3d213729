"""The store: a folder of finished stages, addressed by what they depend on.

An entry is a folder `stage/key` with its files and a manifest of their sizes and checksums. It is
written beside its place, flushed to disk, and renamed: a reader sees all of it or none. A damaged
entry, be it by its files (`entries.py`) or by what they hold (`contents.py`), is set aside under
`damaged/` and counts as missing, so it is computed again. Any number of processes may share a
store: of those that compute the same key the first one's entry stays, the others drop theirs. What
killed processes left half written is removed when it is a day old.

A store may have a budget, within which it keeps itself by dropping what is least useful
(`maintenance.py`), and a mirror that machines share (`sharing.py`): what is not here is fetched
from there, what is made here is sent there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from objectives.store import entries, folders, leases, maintenance, partials
from objectives.store.entries import MANIFEST, DamagedError, Signature, read_json, write_json
from objectives.store.leases import Lease
from objectives.store.remote import Mirror
from objectives.store.sharing import Sharing, StoreError
from objectives.store.stages import Stages

ABANDONED_S = 86_400.0
"""Age from which a half-written entry counts as left by a dead process; assumed: no stage writes
nothing for a day."""


SETTLED_S = 2.0
"""Files that were changed more recently are read again at the next look; assumed: longer than any
file system's clock takes from one tick to the next."""


T = TypeVar("T")


__all__ = ["MANIFEST", "Stages", "Store", "StoreError", "key_of", "read_json", "write_json"]


def key_of(*parts: Any) -> str:
    """A key from JSON-able parts: equal exactly when they are equal."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Finished stages in one folder.

    Until it is closed, no process that keeps to a budget takes out what it has touched.
    """

    def __init__(
        self, root: Path, *, budget: float | None = None, mirror: Mirror | None = None
    ) -> None:
        """`budget` in bytes; None is without limit.

        Raises:
            StoreError: the folder cannot be made or written, or is the mirror's.
        """
        self.root, self.budget, self.mirror = root.absolute(), budget, mirror
        self._whole: dict[str, Signature] = {}
        """Entries as they were when they were last read and found whole."""
        self._sharing = Sharing(mirror, self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            leases.make_folder(self.root, partials.PARTIAL)
            partials.probe(self.root)
            partials.sweep(self.root, ABANDONED_S)
            self.lease = Lease(self.root)
        except OSError as error:
            raise StoreError(
                f"cannot write to the store {self.root} ({error.strerror}); "
                "choose another folder with --out."
            ) from None
        if mirror is not None and mirror.is_at(self.root):
            raise StoreError(
                f"the shared store is the store {self.root} itself; give another folder with "
                "--share."
            )

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder if it is there, or on the mirror, and whole.

        Raises:
            StoreError: the mirror does not answer.
        """
        self.use(stage, key)
        entry = self._here(stage, key)
        if entry is None:
            entry = self._sharing.fetched(stage, key, self._put_here)
            if entry is not None:
                self.shrink()
        if entry is not None:
            with contextlib.suppress(OSError):  # a store that can only be read
                os.utime(entry)
        return entry

    def read(self, stage: str, key: str, reader: Callable[[Path], T]) -> T | None:
        """What `reader` makes of the entry's folder; None if there is none that is whole.

        An entry of which the reader raises `DamagedError` counts as damaged, whatever its checksums
        say: it is set aside, and taken off the mirror if it came from there.

        Raises:
            StoreError: the mirror does not answer.
        """
        for _ in range(2):  # if set aside here, it may be whole on the mirror
            entry = self.get(stage, key)
            if entry is None:
                return None
            try:
                return reader(entry)
            except FileNotFoundError:  # another process has just dropped it
                return None
            except DamagedError as error:
                self._refuse(stage, key, str(error))
        return None

    def cached(
        self, stage: str, key: str, write: Callable[[Path], None], read: Callable[[Path], T]
    ) -> T:
        """What `read` makes of the entry, which `write` makes where there is none that is whole.

        Raises:
            StoreError: the mirror does not answer, or the disk is full.
        """
        for _ in range(3):  # another writer's entry may come in between and be damaged
            found = self.read(stage, key, read)
            if found is not None:
                return found
            self.put(stage, key, write)
        raise StoreError(
            f"a {stage} stage in {self.root} is not what was just written there; is something else "
            "changing the store? Choose another folder with --out."
        )

    def use(self, stage: str, key: str) -> None:
        """Have no other process take this entry out."""
        self._path(stage, key)
        self.lease.use(f"{stage}/{key}")

    def _here(self, stage: str, key: str) -> Path | None:
        entry = self._path(stage, key)
        if not os.path.lexists(entry):
            return None
        problem = self._problem(stage, key)
        if problem is None:
            return entry
        name = f"{stage}/{key}"
        self._set_aside(stage, key, problem, lambda moved: _damage(moved, name) is not None)
        return entry if os.path.lexists(entry) and _damage(entry, name) is None else None

    def _problem(self, stage: str, key: str) -> str | None:
        """What is wrong with an entry; files that are as they were are not read again."""
        name, entry = f"{stage}/{key}", self._path(stage, key)
        started = time.time()
        known = self._whole.pop(name, None)
        try:
            found = entries.verify(entry, known, name=name)
        except DamagedError as error:
            return str(error)
        if found == known or started - entries.changed_at(found) > SETTLED_S:
            self._whole[name] = found
        return None

    def _refuse(self, stage: str, key: str, problem: str) -> None:
        """Set an entry aside whose content is damaged, and have the mirror's not fetched again."""
        with contextlib.suppress(DamagedError):
            manifest = entries.read_manifest(self._path(stage, key))
            self._set_aside(stage, key, problem, lambda moved: _sums(moved) == manifest.sums)
            self._sharing.refuse(stage, key, manifest.sums)

    def put(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], None],
        *,
        seconds: float | None = None,
    ) -> Path:
        """Keep a stage: `write(folder)` makes its files.

        `seconds` is what it would take to compute it again; None is what `write` takes.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        self.use(stage, key)
        entry = self._put_here(stage, key, write, seconds)
        self._sharing.send(stage, key, entry)
        self.shrink()
        return entry

    def _put_here(
        self, stage: str, key: str, write: Callable[[Path], None], seconds: float | None
    ) -> Path:
        entry = self._path(stage, key)
        try:
            with partials.writing(self.root) as partial:
                partial.mkdir()
                started = time.monotonic()
                write(partial)
                took_s = time.monotonic() - started if seconds is None else seconds
                entries.seal(partial, took_s, f"{stage}/{key}")
                entry.parent.mkdir(exist_ok=True)
                self._path(stage, key)  # nor has a link come into the place of its stage
                while not folders.place(partial, entry):
                    if self._here(stage, key) is not None:
                        return entry
                folders.sync(entry.parent)
        except (OSError, SafetensorError) as error:
            raise self._cannot_keep(stage, error) from None
        return entry

    def _cannot_keep(self, stage: str, error: Exception) -> StoreError:
        if not (self.root / partials.PARTIAL).is_dir():
            return StoreError(
                f"the store {self.root} was removed or moved while it was in use; run the same "
                "command again: it makes the store again and computes what is missing."
            )
        reason = getattr(error, "strerror", None) or error
        return StoreError(
            f"cannot keep a {stage} stage in {self.root} ({reason}); free some space "
            "or choose another folder with --out, then run the same command to go on."
        )

    def keys(self, stage: str) -> Iterator[str]:
        """Keys of the entries of a stage, here and on the mirror, in order.

        They may turn out to be damaged.

        Raises:
            StoreError: the mirror does not answer.
        """
        folder, found = self.root / stage, set[str]()
        self._path(stage, "0")
        if folder.is_dir():
            inside = (path for path in folder.iterdir() if entries.is_key(path.name))
            found.update(path.name for path in inside if entries.is_folder(path))
        yield from sorted(found | self._sharing.keys(stage))

    def remove(self, stage: str, key: str) -> None:
        """Drop an entry; others see all of it or none, and the mirror keeps its own."""
        moved = partials.take_out(self.root, self._path(stage, key))
        if moved is not None:
            partials.erase_partial(moved)

    def _set_aside(
        self, stage: str, key: str, problem: str, is_damaged: Callable[[Path], bool]
    ) -> None:
        """Move a damaged entry away and warn, unless another process has done so before.

        `is_damaged(folder)`: whether what was moved is what was found damaged.

        Raises:
            StoreError: it cannot be moved.
        """
        entry = self._path(stage, key)
        try:
            aside = partials.set_aside(self.root, entry)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(
                f"a stored {stage} stage is damaged ({problem}) and {entry} cannot be set aside "
                f"({error.strerror}); move it away, then run the same command to go on."
            ) from None
        if is_damaged(aside):
            warnings.warn(
                f"a stored {stage} stage is damaged ({problem}); it was set aside in "
                f"{aside.parent} and is computed again.",
                stacklevel=2,
            )
            return
        # Between the look and the move another process has put a whole entry in the place.
        if not folders.place(aside, entry):
            folders.erase(aside, _sums(aside), MANIFEST)
        partials.drop_wrapper(aside)

    def supersede(self, stage: str, key: str) -> None:
        """Drop an entry that is of no more use to this process, unless another one uses it."""
        self._path(stage, key)
        with contextlib.suppress(OSError):
            maintenance.delete_unused(self.root, stage, key, self.lease)

    def shrink(self) -> None:
        """Keep within the budget, as far as what is in use allows."""
        if self.budget is None:
            return
        try:
            maintenance.shrink(self.root, self.budget)
        except OSError as error:
            warnings.warn(
                f"the store {self.root} could not be kept within its budget ({error.strerror}); "
                "hpo store prune frees space.",
                stacklevel=2,
            )

    def close(self, keep: Iterable[tuple[str, str]] = ()) -> None:
        """Be done with all entries, those to keep last, and let what exceeds the budget go."""
        self.lease.release([f"{stage}/{key}" for stage, key in keep])
        self.shrink()
        self.lease.close()

    def _path(self, stage: str, key: str) -> Path:
        if not all(map(entries.is_key, (stage, key))):
            raise ValueError(f"stage and key are letters, digits and '-', got {stage!r}, {key!r}.")
        if (self.root / stage).is_symlink():
            raise StoreError(
                f"{self.root / stage} is a symbolic link, which the store does not follow; remove "
                "the link, or choose another folder with --out."
            )
        return self.root / stage / key


def _damage(entry: Path, name: str) -> str | None:
    """What is wrong with the entry `stage/key`, None if nothing."""
    try:
        entries.verify(entry, name=name)
    except DamagedError as error:
        return str(error)
    return None


def _sums(entry: Path) -> dict[str, str]:
    """Checksums that the manifest names; none without a manifest."""
    try:
        return entries.read_manifest(entry).sums
    except DamagedError:
        return {}
