"""A store that machines share: finished stages mirrored into any folder that fsspec can reach.

The local store is a cache in front of it. An entry lies there as

    stage/key/manifest.json     names of the files, their checksums, and their folder
    stage/key/FOLDER/...        the files; FOLDER is drawn anew by every writer

The manifest is written last: an entry without one does not exist. Two writers of one key write into
folders of their own, so whichever manifest stays belongs to files of one writer.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from objectives.shelf import MANIFEST, checksum

PAUSES_S = (0.5, 1.0, 2.0)
"""Before every further try; assumed: a short fault of a network passes, a long one is told within
seconds."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk without room raises; trying again does not help."""
T = TypeVar("T")


class Unreachable(RuntimeError):
    """The shared folder cannot be used; the message says why, without any password."""


class Mirror:
    """Entries in a folder somewhere else."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the network yet.

        Raises:
            ValueError: no such kind of file system, or its driver is not installed.
        """
        self.url, self.shown = url, _masked(url)
        try:
            self.files, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            reason = _masked((str(error) or type(error).__name__).splitlines()[0])
            raise ValueError(
                f"the shared store {self.shown} cannot be used ({reason}); give a folder or a URL "
                "such as s3://bucket/stages, and install its driver."
            ) from None
        self.root = str(root).rstrip("/")

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
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """What an entry says of itself; None if there is no whole one.

        Raises:
            Unreachable: the network does not answer.
        """
        path = self._path(stage, key, MANIFEST)
        try:
            found = json.loads(self._tried("read", lambda: self.files.cat_file(path)))
            names = [Path(name).name == name for name in (found["folder"], *found["files"])]
            sums = [str(file["sha256"]) for file in found["files"].values()]
            known: dict[str, Any] = {**found, "seconds": float(found["seconds"])}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        # A name with a path in it would lead out of the folder that it is copied to.
        special = {MANIFEST, "", ".."} & {found["folder"], *found["files"]}
        return known if all(names) and sums and not special else None

    def fetch(self, stage: str, key: str, manifest: dict[str, Any], folder: Path) -> bool:
        """Copy an entry's files into a folder; whether they are what the manifest says.

        Where one is not, though it was read twice, the entry is given up, so that its stage is
        computed and sent again.

        Raises:
            Unreachable: the network does not answer.
            OSError: the folder's disk is full.
        """
        for name, expected in manifest["files"].items():
            source, target = self._path(stage, key, manifest["folder"], name), folder / name
            if not any(self._copied(source, target, expected["sha256"]) for _ in range(2)):
                self._give_up(stage, key)
                return False
        return True

    def send(self, stage: str, key: str, entry: Path) -> None:
        """Copy a local entry there, unless there is one.

        Raises:
            Unreachable: the network does not answer.
            OSError: there is no room.
        """
        if self.manifest(stage, key) is not None:
            return
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        manifest["folder"] = uuid.uuid4().hex
        folder = self._path(stage, key, manifest["folder"])
        self._tried("written", lambda: self.files.makedirs(folder, exist_ok=True))
        for name in manifest["files"]:
            self._tried("written", self._put, entry / name, f"{folder}/{name}")
        content = json.dumps(manifest).encode()
        self._tried("written", self.files.pipe_file, self._path(stage, key, MANIFEST), content)

    def _put(self, source: Path, target: str) -> None:
        self.files.put_file(str(source), target)

    def _copied(self, source: str, target: Path, expected: str) -> bool:
        try:
            self._tried("read", self.files.get_file, source, str(target))
        except FileNotFoundError:
            return False
        return checksum(target) == expected

    def _give_up(self, stage: str, key: str) -> None:
        path = self._path(stage, key, MANIFEST)
        try:
            self._tried("mended", self.files.rm_file, path)
        except FileNotFoundError:
            return

    def _tried(self, done: str, action: Callable[..., T], *given: Any) -> T:
        """Do it, again where it fails; what is not there is not asked for twice.

        Every kind of file system raises errors of its own, without a common ancestor, and their
        texts may hold signed addresses: only the kind of error is told, and what its number means.
        """
        for pause in (*PAUSES_S, None):
            try:
                return action(*given)
            except FileNotFoundError:
                raise
            except Exception as error:
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
    """The address without user, password and query."""
    return re.sub(r"://\S*@", "://***@", url).split("?")[0]
