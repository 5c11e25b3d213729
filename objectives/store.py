"""The store: a folder of finished stages, addressed by what they depend on.

An entry is a folder `stage/key` with its files and a manifest of their sizes and checksums. It is
written beside its place, flushed to disk, and renamed: a reader sees all of it or none. A damaged
entry is set aside under `damaged/` and counts as missing, so it is computed again. Two processes
that compute the same key do no harm: the second finds the first one's entry and drops its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

MANIFEST = "manifest.json"


class StoreError(RuntimeError):
    """The store's folder cannot be used; the message says how to mend it."""


def key_of(*parts: Any) -> str:
    """A key from JSON-able parts: equal exactly when they are equal."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Finished stages in one folder.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            (self.root / "partial").mkdir(parents=True, exist_ok=True)
            probe = self.root / "partial" / f"probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"cannot write to the store {self.root} ({error.strerror}); "
                "choose another folder with --out."
            ) from None

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder if it is there and whole."""
        entry = self._path(stage, key)
        if not entry.exists():
            return None
        problem = _damage(entry)
        if problem is None:
            return entry
        aside = self.root / "damaged" / f"{stage.replace('/', '-')}-{key}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        os.replace(entry, aside)
        warnings.warn(
            f"a stored {stage} stage is damaged ({problem}); it was set aside in {aside} and is "
            "computed again.",
            stacklevel=2,
        )
        return None

    def put(self, stage: str, key: str, write: Callable[[Path], None]) -> Path:
        """Keep a stage: `write(folder)` makes its files.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        entry = self._path(stage, key)
        partial = self.root / "partial" / uuid.uuid4().hex
        try:
            partial.mkdir()
            write(partial)
            _seal(partial)
            entry.parent.mkdir(parents=True, exist_ok=True)
            os.rename(partial, entry)
            _sync(entry.parent)
        except (OSError, SafetensorError) as error:
            number, reason = getattr(error, "errno", None), getattr(error, "strerror", None)
            if number in (errno.ENOTEMPTY, errno.EEXIST) and entry.is_dir():
                return entry
            raise StoreError(
                f"cannot keep a {stage} stage in {self.root} ({reason or error}); free some space "
                "or choose another folder with --out, then run the same command to go on."
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return entry

    def keys(self, stage: str) -> Iterator[str]:
        """Keys of the entries of a stage, in order; they may turn out to be damaged."""
        folder = self.root / stage
        if folder.is_dir():
            yield from sorted(path.name for path in folder.iterdir() if path.is_dir())

    def remove(self, stage: str, key: str) -> None:
        """Drop an entry."""
        shutil.rmtree(self._path(stage, key), ignore_errors=True)

    def _path(self, stage: str, key: str) -> Path:
        if not all(part.replace("-", "").isalnum() for part in [*stage.split("/"), key]):
            raise ValueError(f"stage and key are letters, digits and '-', got {stage!r}, {key!r}.")
        return self.root / stage / key


def write_json(path: Path, data: Any) -> None:
    """JSON with sorted keys."""
    path.write_text(json.dumps(data, sort_keys=True, allow_nan=True), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The inverse."""
    return json.loads(path.read_text(encoding="utf-8"))


def _seal(folder: Path) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _checksum(path)}
        _sync(path)
    write_json(folder / MANIFEST, {"files": files})
    _sync(folder / MANIFEST)
    _sync(folder)


def _damage(entry: Path) -> str | None:
    """What is wrong with an entry, None if nothing."""
    try:
        files = read_json(entry / MANIFEST)["files"]
        for name, expected in files.items():
            path = entry / name
            if path.stat().st_size != expected["bytes"]:
                return f"{name} has the wrong size"
            if _checksum(path) != expected["sha256"]:
                return f"{name} has the wrong checksum"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__} while reading it"
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
