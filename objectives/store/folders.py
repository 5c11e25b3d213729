"""Folders of the store are moved, flushed and erased without following a link in their place.

Only the standard library is used; see `objectives.store.maintenance`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterator
from pathlib import Path

TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""What renaming a folder to a name that is in use raises."""


def move(source: Path, target: Path) -> None:
    """Rename within a store, without following a link in place of either folder.

    Raises:
        OSError: it cannot be done.
    """
    with _folder(source.parent) as old, _folder(target.parent) as new:
        os.rename(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)


def place(partial: Path, entry: Path) -> bool:
    """Move a folder to its place; False if something is there."""
    if os.path.lexists(entry):  # else an empty folder would be replaced without a word
        return False
    try:
        move(partial, entry)
    except OSError as error:
        if error.errno in TAKEN and os.path.lexists(entry):
            return False
        raise
    return True


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def erase(entry: Path, names: Collection[str] | None, last: str) -> None:
    """Remove a folder's files of these names (None: all files) and the folder if it is empty then.

    The file `last` goes after the others. What is a folder inside stays, and so does anything that
    is not named.
    """
    with contextlib.suppress(OSError), _folder(entry) as handle:
        for name in sorted(os.listdir(handle), key=lambda name: name == last):
            if names is None or name in names or name == last:
                with contextlib.suppress(OSError):  # a folder
                    os.unlink(name, dir_fd=handle)
    with contextlib.suppress(OSError):
        entry.rmdir()


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
