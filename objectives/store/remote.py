"""A store that machines share: finished stages mirrored into any folder that fsspec can reach.

The local store is a cache in front of it. An entry is there as

    stage/key/manifest.json     names of the files, their checksums, and their folder
    stage/key/FOLDER/...        the files; FOLDER is drawn again by every writer

The manifest is written last: an entry without one does not exist. Two writers of one key write into
folders of their own, so whichever manifest stays belongs to files of one writer.

Whoever may write there may write anything. Sizes are compared before a file is copied, and links
and whatever is no regular file are neither followed nor opened.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

from objectives.store import entries
from objectives.store.entries import MANIFEST, MANIFEST_BYTES, DamagedError, Manifest

PAUSES_S = (0.5, 1.0, 2.0)
"""Before every further try; assumed: a short fault of a network passes, a long one is told within
seconds."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk without room raises; trying again does not help."""


UNKNOWN = -1
"""The size of a file that a server does not tell."""


T = TypeVar("T")


class Unreachable(RuntimeError):
    """The shared folder cannot be used; the message says why, without any password."""


class _AtMost(Callback):  # type: ignore[misc]
    """Ends the copying of a file that is larger than its manifest says."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.most = size

    def relative_update(self, inc: int = 1) -> None:
        """Count bytes that were copied."""
        self.value += inc
        if self.value > self.most:
            raise DamagedError("a file is larger than its manifest says")


class Mirror:
    """Entries in a folder somewhere else."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the network yet.

        Raises:
            ValueError: no such kind of file system, or its driver is not installed.
        """
        self.url, self.shown = url, _masked(url)
        if not url.strip():
            raise ValueError("the shared store has no name; give a folder or a URL, or none.")
        try:
            self.files, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            reason = _masked((str(error) or type(error).__name__).splitlines()[0])
            raise ValueError(
                f"the shared store {self.shown} cannot be used ({reason}); give a folder or a URL "
                "such as s3://bucket/stages, and install its driver."
            ) from None
        self.root = str(root).rstrip("/")

    def is_at(self, folder: Path) -> bool:
        """Whether it is this folder."""
        with contextlib.suppress(OSError):
            return isinstance(self.files, LocalFileSystem) and os.path.samefile(self.root, folder)
        return False

    def keys(self, stage: str) -> list[str]:
        """Keys of a stage that somebody has at least begun to write.

        Raises:
            Unreachable: the network does not answer.
        """

        def listed() -> list[str]:
            self.files.invalidate_cache()
            return list(self.files.ls(self._path(stage), detail=False))

        try:
            paths = self._tried("listed", listed)
        except FileNotFoundError:
            return []
        paths = [each for each in paths if each != self._path(stage)]  # a file lists itself
        names = (path.rstrip("/").rsplit("/", 1)[-1] for path in paths)
        return sorted(filter(entries.is_key, names))

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """What an entry says of itself; None if there is no whole one.

        Raises:
            Unreachable: the network does not answer.
        """
        path = self._path(stage, key, MANIFEST)
        size = self._size(path)
        if size is None or size > MANIFEST_BYTES or self._is_linked(stage, key):
            return None
        try:
            content = self._tried("read", lambda: self.files.cat_file(path, end=MANIFEST_BYTES))
            found = entries.parse(content)
        except (FileNotFoundError, DamagedError):
            return None
        whole = found.folder is not None and found.sizes and found.is_of(f"{stage}/{key}")
        return found if whole else None

    def fetch(self, stage: str, key: str, manifest: Manifest, folder: Path) -> bool:
        """Copy an entry's files into a folder; whether they are what the manifest says.

        Where one is not, though it was read twice, the entry is given up, so that its stage is
        computed and sent again.

        Raises:
            Unreachable: the network does not answer.
            OSError: the folder's disk is full.
        """
        assert manifest.folder is not None
        total = sum(manifest.sizes.values())
        if total > shutil.disk_usage(folder).free:  # before a hostile one fills the disk
            reason = f"{total:,} bytes of one on the shared store {self.shown} do not fit"
            raise OSError(errno.ENOSPC, reason)
        for name, size in manifest.sizes.items():
            source, target = self._path(stage, key, manifest.folder, name), folder / name
            whole = (self._copied(source, target, size, manifest.sums[name]) for _ in range(2))
            if self._is_linked(stage, key, manifest.folder) or not any(whole):
                self.give_up(stage, key)
                return False
        return True

    def give_up(self, stage: str, key: str) -> None:
        """Remove an entry's manifest, so that it is sent again; what cannot be removed stays."""
        path = self._path(stage, key, MANIFEST)
        with contextlib.suppress(FileNotFoundError, Unreachable):
            if not self._is_linked(stage, key) and self._size(path) is not None:
                self._tried("changed", self.files.rm_file, path)

    def send(self, stage: str, key: str, entry: Path) -> None:
        """Copy a local entry there, unless there is one.

        Raises:
            Unreachable: the network does not answer.
            OSError: there is no room.
        """
        if self.manifest(stage, key) is not None:
            return
        if self._is_linked(stage, key):
            raise Unreachable(f"a symbolic link in the shared store {self.shown} is not followed")
        made = uuid.uuid4().hex
        manifest = replace(entries.read_manifest(entry), folder=made)
        folder = self._path(stage, key, made)
        self._tried("written", lambda: self.files.makedirs(folder, exist_ok=True))
        for name in manifest.sizes:
            self._tried("written", self._put, entry / name, f"{folder}/{name}")
        content = json.dumps(manifest.to_json()).encode()
        self._tried("written", self._write, self._path(stage, key, MANIFEST), folder, content)

    def _put(self, source: Path, target: str) -> None:
        self.files.put_file(str(source), target)

    def _write(self, path: str, folder: str, content: bytes) -> None:
        """Write the manifest; in a folder of this machine in place of whatever has its name."""
        if isinstance(self.files, LocalFileSystem):
            self.files.pipe_file(f"{folder}.manifest", content)
            os.replace(f"{folder}.manifest", path)
        else:
            self.files.pipe_file(path, content)

    def _copied(self, source: str, target: Path, size: int, expected: str) -> bool:
        """Copy a file if it has this size; whether it has this checksum then."""
        try:
            if self._size(source) not in (size, UNKNOWN):
                return False
            self._tried("read", self._get, source, str(target), _AtMost(size))
            return entries.checksum(target) == expected
        except (FileNotFoundError, DamagedError):
            return False

    def _get(self, source: str, target: str, most: _AtMost) -> None:
        most.value = 0
        self.files.get_file(source, target, callback=most)

    def _size(self, path: str) -> int | None:
        """Bytes of a file; None if there is no regular file, UNKNOWN if they are not told."""
        try:
            self.files.invalidate_cache()
            found = self._tried("read", self.files.info, path)
        except FileNotFoundError:
            return None
        if found.get("type") != "file" or found.get("islink"):
            return None
        size = found.get("size")
        return size if isinstance(size, int) else UNKNOWN

    def _is_linked(self, *parts: str) -> bool:
        """Whether a folder on the way is a symbolic link; the shared store's own may be one."""
        if not isinstance(self.files, LocalFileSystem):
            return False
        return any(os.path.islink(self._path(*parts[:count])) for count in range(1, len(parts) + 1))

    def _tried(self, done: str, action: Callable[..., T], *given: Any) -> T:
        """Do it, again where it fails; what is not there is not asked for twice.

        Every kind of file system raises errors of its own, without a common ancestor, and their
        texts may hold signed addresses: only the kind of error is told, and what its number means.
        """
        for pause in (*PAUSES_S, None):
            try:
                return action(*given)
            except (FileNotFoundError, DamagedError):
                raise
            except Exception as error:
                if isinstance(error, NotADirectoryError) and os.path.isdir(self.root):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
                number = getattr(error, "errno", None)
                if number in FULL:
                    raise
                if pause is None:
                    kind = type(error).__name__
                    reason = f"{kind}: {os.strerror(number)}" if isinstance(number, int) else kind
                    raise Unreachable(
                        f"the shared store {self.shown} cannot be {done} ({reason})"
                    ) from None
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _path(self, *parts: str) -> str:
        return "/".join((self.root, *parts))


def _masked(url: str) -> str:
    """The address without user, password, query and, of a URL, fragment."""
    plain = re.sub(r"://\S*@", "://***@", url).split("?")[0]
    return plain.split("#")[0] if "://" in plain else plain
