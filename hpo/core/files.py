"""Files that are written whole or not at all, and never through somebody else's link.

A file is written beside its place under a name that nobody can guess, made exclusively with the
mode that umask says, and renamed: a reader sees the old file or the new one, and a symbolic link in
the place is replaced, not followed. What a killed writer left is removed by a later one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from pathlib import Path

LEFT_S = 3600.0
"""Age from which a file on its way counts as left by a killed writer; assumed: none takes as
long."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


MOST_NAME = 200
"""Characters of the file's name in that of the one on its way; systems allow 255 in all."""


def write(path: Path, content: str | bytes) -> None:
    """Write a file in place of what has its name.

    Raises:
        OSError: it cannot be written; it names the file, and nothing is left then.
    """
    try:
        _write(path, content)
    except OSError as error:  # of the file on its way
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_new(path: Path, content: str) -> None:
    """Write a file where there is none; a link in its place counts as one, wherever it leads.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be written, and nothing is left then.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
    except BaseException:
        path.unlink()
        raise


def sentence(error: OSError) -> str:
    """What an error of the file system means, and what helps."""
    reason = error.strerror or str(error) or type(error).__name__
    name = None if error.filename is None else os.fsdecode(error.filename)
    if error.errno in FULL:
        where = "the disk" if name is None else f"the disk of {Path(name).parent}"
        return (
            f"{where} is full ({reason}); free some space, then run the same command to go on. "
            "What is finished is kept."
        )
    if name is None:
        return reason
    if error.errno in NOT_ALLOWED:
        return f"{name} cannot be used ({reason}); check its permissions, or choose another folder."
    return f"{name} cannot be used ({reason})."


def _write(path: Path, content: str | bytes) -> None:
    data = content.encode("utf-8") if isinstance(content, str) else content
    partial = path.with_name(f".{path.name[:MOST_NAME]}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    handle = os.open(partial, flags, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            _remove_left(path, os.fstat(handle).st_mtime)
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OSError: it cannot be made, or is a symbolic link, which would lead elsewhere.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", str(path))


def open_log(path: Path) -> int:
    """A handle that adds to a regular file, made if need be; no link is followed.

    Raises:
        OSError: it cannot be opened, or is a link or no regular file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, f"{path.name} is no regular file")
    os.set_blocking(handle, True)
    return handle


def _remove_left(path: Path, now: float) -> None:
    """Remove what killed writers of this file left, by the file system's clock.

    The second form is that of earlier versions.
    """
    form = re.compile(rf"\.{re.escape(path.name[:MOST_NAME])}\.([0-9a-f]{{16}}|[a-z0-9_]{{8}})")
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if form.fullmatch(other.name):
                about = other.lstat()
                own = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()
                if own and now - about.st_mtime > LEFT_S:
                    other.unlink()
