"""The store: a folder of finished stages, addressed by what they depend on.

An entry is a folder `stage/key` with its files and a manifest of their sizes and checksums. It is
written beside its place, flushed to disk, and renamed: a reader sees all of it or none. A damaged
entry is set aside under `damaged/` and counts as missing, so it is computed again. Any number of
processes may share a store: of those that compute the same key the first one's entry stays, the
others drop theirs. What killed processes left half written is removed when it is a day old.

A store may have a budget, within which it keeps itself by dropping what is least useful
(`shelf.py`), and a mirror that machines share (`remote.py`): what is not here is fetched from
there, what is made here is sent there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError

from objectives import shelf
from objectives.remote import Mirror, Unreachable
from objectives.shelf import MANIFEST, PASSING

ABANDONED_S = 86_400.0
"""Age from which a half-written entry counts as left by a dead process; assumed: no stage writes
nothing for a day."""
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""What renaming a folder to a name that is in use raises."""


class StoreError(RuntimeError):
    """The store's folder cannot be used; the message says how to mend it."""


def key_of(*parts: Any) -> str:
    """A key from JSON-able parts: equal exactly when they are equal."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Stages(Protocol):
    """What training asks of a store."""

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder if it is there and whole."""

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

    def remove(self, stage: str, key: str) -> None:
        """Drop an entry."""

    def supersede(self, stage: str, key: str) -> None:
        """Drop an entry that is of no more use to this process."""


class Store:
    """Finished stages in one folder.

    Until it is closed, no process that keeps to a budget takes out what it has touched.
    """

    def __init__(
        self, root: Path, *, budget: float | None = None, mirror: Mirror | None = None
    ) -> None:
        """`budget` in bytes; None is without limit.

        Raises:
            StoreError: the folder cannot be made or written.
        """
        self.root, self.budget, self.mirror = root.absolute(), budget, mirror
        try:
            (self.root / "partial").mkdir(parents=True, exist_ok=True)
            probe = self.root / "partial" / f"probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()
            _sweep(self.root / "partial")
            self.lease = shelf.Lease(self.root)
        except OSError as error:
            raise StoreError(
                f"cannot write to the store {self.root} ({error.strerror}); "
                "choose another folder with --out."
            ) from None

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder if it is there, or on the mirror, and whole.

        Raises:
            StoreError: the mirror does not answer.
        """
        self.use(stage, key)
        entry = self._here(stage, key) or self._fetched(stage, key)
        if entry is not None:
            with contextlib.suppress(OSError):  # a store that can only be read
                os.utime(entry)
        return entry

    def use(self, stage: str, key: str) -> None:
        """Have no other process take this entry out."""
        self._path(stage, key)
        self.lease.use(f"{stage}/{key}")

    def _here(self, stage: str, key: str) -> Path | None:
        entry = self._path(stage, key)
        if not entry.exists():
            return None
        problem = _damage(entry)
        if problem is None:
            return entry
        aside = self._set_aside(stage, key)
        if aside is not None:
            warnings.warn(
                f"a stored {stage} stage is damaged ({problem}); it was set aside in {aside} and "
                "is computed again.",
                stacklevel=2,
            )
        return entry if entry.exists() and _damage(entry) is None else None

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
        self._send(stage, key, entry)
        self.shrink()
        return entry

    def _put_here(
        self, stage: str, key: str, write: Callable[[Path], None], seconds: float | None
    ) -> Path:
        entry = self._path(stage, key)
        partial = self.root / "partial" / uuid.uuid4().hex
        try:
            partial.mkdir()
            started = time.monotonic()
            write(partial)
            _seal(partial, time.monotonic() - started if seconds is None else seconds)
            entry.parent.mkdir(parents=True, exist_ok=True)
            while not _rename(partial, entry):
                if self._here(stage, key) is not None:
                    return entry
            _sync(entry.parent)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None)
            raise StoreError(
                f"cannot keep a {stage} stage in {self.root} ({reason or error}); free some space "
                "or choose another folder with --out, then run the same command to go on."
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return entry

    def keys(self, stage: str) -> Iterator[str]:
        """Keys of the entries of a stage, here and on the mirror, in order.

        They may turn out to be damaged.

        Raises:
            StoreError: the mirror does not answer.
        """
        folder, found = self.root / stage, set[str]()
        if folder.is_dir():
            found.update(path.name for path in folder.iterdir() if path.is_dir())
        if self.mirror is not None and stage != PASSING:
            with self._answering():
                found.update(self.mirror.keys(stage))
        yield from sorted(found)

    def remove(self, stage: str, key: str) -> None:
        """Drop an entry; others see all of it or none, and the mirror keeps its own."""
        dropped = self.root / "partial" / uuid.uuid4().hex
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._path(stage, key), dropped)
        shutil.rmtree(dropped, ignore_errors=True)

    def _set_aside(self, stage: str, key: str) -> Path | None:
        """Move a damaged entry away; None if another process has done so before."""
        entry = self._path(stage, key)
        aside = self.root / "damaged" / f"{stage.replace('/', '-')}-{key}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        try:
            os.rename(entry, aside)
        except FileNotFoundError:
            return None
        if _damage(aside) is not None:
            return aside
        # Between the look and the move another process has put a whole entry in the place.
        if not _rename(aside, entry):
            shutil.rmtree(aside, ignore_errors=True)
        return None

    def supersede(self, stage: str, key: str) -> None:
        """Drop an entry that is of no more use to this process, unless another one uses it."""
        self._path(stage, key)
        with contextlib.suppress(OSError):
            shelf.discard(self.root, stage, key, self.lease)

    def shrink(self) -> None:
        """Keep within the budget, as far as what is in use allows."""
        if self.budget is None:
            return
        try:
            shelf.shrink(self.root, self.budget)
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

    def _fetched(self, stage: str, key: str) -> Path | None:
        """The entry copied from the mirror; None if it is not there or not whole."""
        mirror = self.mirror
        if mirror is None or stage == PASSING:
            return None
        with self._answering():
            manifest = mirror.manifest(stage, key)
            if manifest is None:
                return None

            def write(folder: Path) -> None:
                if not mirror.fetch(stage, key, manifest, folder):
                    raise _DamagedError

            try:
                entry = self._put_here(stage, key, write, manifest["seconds"])
            except _DamagedError:
                warnings.warn(
                    f"a {stage} stage on the shared store {mirror.shown} is damaged; it is "
                    "computed again.",
                    stacklevel=2,
                )
                return None
        self.shrink()
        return entry

    def _send(self, stage: str, key: str, entry: Path) -> None:
        """Copy an entry to the mirror. It is whole here, so that a fault there stops no work.

        What is superseded within a minute is not worth the way.
        """
        if self.mirror is None or stage == PASSING:
            return
        try:
            self.mirror.send(stage, key, entry)
        except (Unreachable, OSError) as error:
            warnings.warn(
                f"a {stage} stage was not shared: {error}; it is kept in {self.root} and used from "
                "there.",
                stacklevel=2,
            )

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

    def _path(self, stage: str, key: str) -> Path:
        if not all(part.replace("-", "").isalnum() for part in (stage, key)):
            raise ValueError(f"stage and key are letters, digits and '-', got {stage!r}, {key!r}.")
        return self.root / stage / key


def write_json(path: Path, data: Any) -> None:
    """JSON with sorted keys."""
    path.write_text(json.dumps(data, sort_keys=True, allow_nan=True), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The inverse."""
    return json.loads(path.read_text(encoding="utf-8"))


class _DamagedError(Exception):
    """Ends the copying of an entry that is not what its manifest says."""


def _seal(folder: Path, seconds: float) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": shelf.checksum(path)}
        _sync(path)
    write_json(folder / MANIFEST, {"files": files, "seconds": seconds})
    _sync(folder / MANIFEST)
    _sync(folder)


def _rename(partial: Path, entry: Path) -> bool:
    """Move a folder to its place; False if something stands there."""
    if os.path.lexists(entry):  # else an empty folder would be replaced without a word
        return False
    try:
        os.rename(partial, entry)
    except OSError as error:
        if error.errno in TAKEN and os.path.lexists(entry):
            return False
        raise
    return True


def _sweep(folder: Path) -> None:
    """Remove what processes that died long ago left half written."""
    for partial in folder.iterdir():
        try:
            written = max(path.stat().st_mtime for path in [partial, *partial.glob("*")])
        except FileNotFoundError:
            continue  # just finished, or swept by another process
        if time.time() - written > ABANDONED_S:
            shutil.rmtree(partial, ignore_errors=True)
            with contextlib.suppress(OSError):  # a probe's file
                partial.unlink()


def _damage(entry: Path) -> str | None:
    """What is wrong with an entry, None if nothing."""
    try:
        files = read_json(entry / MANIFEST)["files"]
        foreign = {path.name for path in entry.iterdir()} - {MANIFEST, *files}
        if foreign:
            return f"{min(foreign)} does not belong to it"
        for name, expected in files.items():
            path = entry / name
            if path.stat().st_size != expected["bytes"]:
                return f"{name} has the wrong size"
            if shelf.checksum(path) != expected["sha256"]:
                return f"{name} has the wrong checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__} while reading it"
    return None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
