"""What an entry of the store is, read as if somebody else had written it.

An entry is a folder of regular files with a manifest: their names, sizes and checksums, and the
seconds that computing it took. A shared folder may hold anything, so that nothing is assumed:

1. No symbolic link is followed, and only regular files are opened; a FIFO would block.
2. Sizes are compared with the manifest before anything is read or hashed.
3. JSON is limited in size; what nests too deep for the parser is damaged.
4. Names are ASCII letters, digits and "._-", so that none leads out of the folder.
5. A manifest names its stage and key: one that was copied to another key is damaged there.

Only the standard library is used; see `objectives.store.maintenance`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.store import folders

FORMAT = "hpo stage 1"
"""Of a manifest. Older ones have no such field and count by the others."""


MANIFEST = "manifest.json"


MANIFEST_BYTES = 1_000_000
"""A manifest has at most; assumed: an entry has some hundred files."""


JSON_BYTES = 64_000_000
"""Any other JSON has at most; assumed: more than the measures of any run."""


LONGEST_S = 1e11
"""More seconds than any stage takes; assumed."""


Signature = tuple[tuple[int, ...], ...]
"""Of each file: device, inode, size, and when content and inode were changed, in ns."""


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


_KEY = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9-]{1,100}")


_SHA256 = re.compile(r"[0-9a-f]{64}")


class DamagedError(Exception):
    """Something in the store is not what it should be; the message says what, in plain ASCII."""


@dataclass(frozen=True)
class Manifest:
    """What an entry consists of."""

    sizes: dict[str, int]
    """Bytes of each file."""
    sums: dict[str, str]
    """SHA-256 of each file."""
    seconds: float
    """What computing it took, from the start of its training."""
    folder: str | None = None
    """Where the files are; only in a shared store."""
    entry: str | None = None
    """`stage/key` that it was made for; None in those of earlier versions."""

    def to_json(self) -> dict[str, Any]:
        """The content of the manifest's file."""
        files = {name: {"bytes": n, "sha256": self.sums[name]} for name, n in self.sizes.items()}
        where = {} if self.folder is None else {"folder": self.folder}
        name = {} if self.entry is None else {"entry": self.entry}
        return {"format": FORMAT, "files": files, "seconds": self.seconds, **where, **name}

    def is_of(self, name: str) -> bool:
        """Whether it may be the manifest of the entry `stage/key`."""
        return self.entry in (None, name)


def is_key(text: str) -> bool:
    """Whether it may be the name of a stage or of an entry."""
    return _KEY.fullmatch(text) is not None


def parse(content: bytes) -> Manifest:
    """The manifest in the bytes of its file.

    Raises:
        DamagedError: it is none of this program.
    """
    data = parse_json(content, MANIFEST)
    try:
        files, seconds = data["files"], data["seconds"]
        names = data.get("format", FORMAT) == FORMAT and all(map(_is_file_name, files))
        sizes = {name: file["bytes"] for name, file in files.items()}
        sums = {name: file["sha256"] for name, file in files.items()}
        folder, entry = data.get("folder"), data.get("entry")
        good = (
            names
            and all(type(size) is int and 0 <= size < 2**63 for size in sizes.values())
            and all(_SHA256.fullmatch(digest) for digest in sums.values())
            and type(seconds) in (int, float)
            and 0 <= seconds < LONGEST_S
            and (folder is None or _NAME.fullmatch(folder))
            and isinstance(entry, str | None)
        )
    except (KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise DamagedError(f"{MANIFEST} is none of this program")
    return Manifest(sizes, sums, float(seconds), folder, entry)


def read_manifest(entry: Path) -> Manifest:
    """The manifest of an entry.

    Raises:
        DamagedError: there is none of this program, or `entry` is not a folder.
    """
    if not is_folder(entry):
        raise DamagedError("it is not a folder")
    return parse(read_bytes(entry / MANIFEST, MANIFEST_BYTES))


def verify(entry: Path, known: Signature | None = None, *, name: str | None = None) -> Signature:
    """Compare an entry with its manifest; returns what to pass as `known` the next time.

    Files that are as they were when they had this signature are not read again. `name` is the
    `stage/key` that it should be.

    Raises:
        DamagedError: they differ.
    """
    manifest = read_manifest(entry)
    if name is not None and not manifest.is_of(name):
        raise DamagedError("it was made for another stage or key")
    try:
        foreign = {path.name for path in entry.iterdir()} - {MANIFEST, *manifest.sizes}
        if foreign:
            raise DamagedError(f"{min(foreign)!a} does not belong to it")
        found = [_stat(entry / MANIFEST)]
        for name, size in manifest.sizes.items():
            found.append(_stat(entry / name))
            if found[-1].st_size != size:
                raise DamagedError(f"{name} has the wrong size")
        signature = tuple(map(_signature, found))
        if signature == known:
            return signature
        for name, digest in manifest.sums.items():
            if checksum(entry / name) != digest:
                raise DamagedError(f"{name} has the wrong checksum")
    except OSError as error:
        raise DamagedError(f"{type(error).__name__} while reading it") from None
    return signature


def seal(folder: Path, seconds: float, name: str | None = None) -> None:
    """Write the manifest of a folder's files and flush all of it to disk.

    `name`: the `stage/key` of the entry.
    """
    sizes, sums = {}, {}
    for path in sorted(folder.iterdir()):
        sizes[path.name], sums[path.name] = path.stat().st_size, checksum(path)
        folders.sync(path)
    write_json(folder / MANIFEST, Manifest(sizes, sums, seconds, entry=name).to_json())
    folders.sync(folder / MANIFEST)
    folders.sync(folder)


def foreign_in(entry: Path, names: Collection[str]) -> bool:
    """Whether a folder holds anything but a manifest and these files, or folders in their place."""
    try:
        return any(
            (name not in names and name != MANIFEST) or is_folder(entry / name)
            for name in os.listdir(entry)
        )
    except OSError:
        return True


def is_folder(path: Path) -> bool:
    """Whether it is a folder, and no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether it is a regular file, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file.

    Raises:
        DamagedError: it is not there, no regular file, or has more bytes than the limit.
    """
    name = ascii(path.name)[1:-1]
    try:
        with opened(path) as handle, os.fdopen(os.dup(handle), "rb") as file:
            if os.fstat(handle).st_size > limit:
                raise DamagedError(f"{name} has more than {limit} bytes")
            content = file.read(limit + 1)
    except OSError as error:
        raise DamagedError(f"{type(error).__name__} while reading {name}") from None
    if len(content) > limit:
        raise DamagedError(f"{name} has more than {limit} bytes")
    return content


def parse_json(content: bytes, name: str) -> Any:
    """JSON in UTF-8.

    Raises:
        DamagedError: it is none, or nests too deep.
    """
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise DamagedError(f"{name} is no JSON ({type(error).__name__})") from None


def write_json(path: Path, data: Any) -> None:
    """JSON with sorted keys, in a new file."""
    path.write_text(json.dumps(data, sort_keys=True, allow_nan=True), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The data in a file that `write_json` has written.

    Raises:
        DamagedError: the file is not regular or too large, or no JSON.
    """
    return parse_json(read_bytes(path, JSON_BYTES), ascii(path.name)[1:-1])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A handle to read a regular file; no link is followed and nothing blocks.

    Raises:
        DamagedError: it is something else.
        OSError: it cannot be opened.
    """
    _stat(path)  # before it is opened: opening a device may do something
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise DamagedError(f"{path.name!a} is no regular file")
        yield handle
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """SHA-256 of a regular file.

    Raises:
        DamagedError, OSError: as `opened`.
    """
    with opened(path) as handle, os.fdopen(os.dup(handle), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and name != MANIFEST and _NAME.fullmatch(name) is not None


def _stat(path: Path) -> os.stat_result:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise DamagedError(f"{path.name!a} is no regular file")
    return found


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def changed_at(signature: Signature) -> float:
    """When a file was last changed, by its file system's clock; seconds since 1970."""
    return max((each[-1] for each in signature), default=0) / 1e9
