"""Entries that are not in their place: being written, being removed, or set aside as damaged.

    partial/NAME/lock       made first, and locked for as long as its process lives
    partial/NAME/entry      the entry that is being written, or removed
    damaged/NAME/lock       the same form, with what was found in the place of an entry
    damaged/NAME/entry

A name in `partial/` is drawn at random. The kernel frees the lock of a dead process. Some network
file systems do not show locks to other machines; therefore a folder must also be old, by the clock
of the file system itself: that of this machine may be days off. What has another form is not of
this program and is left alone.

Only the standard library is used; see `objectives.store.maintenance`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from objectives.store import entries, folders

PARTIAL, DAMAGED = "partial", "damaged"


LOCK, ENTRY = "lock", "entry"


MARK = b"plasticity-hpo partial 1\n"
"""What the lock's file holds."""


_NAME = re.compile(r"(out-)?[0-9a-f]{32}")


_ASIDE = re.compile(r"[A-Za-z0-9-]+-[0-9a-f]{8}")


_PROBE = re.compile(r"probe-[0-9a-f]{32}")


@contextlib.contextmanager
def writing(root: Path) -> Iterator[Path]:
    """A place in `partial/` for an entry, not made yet; what is still there afterwards is removed.

    Raises:
        OSError: it cannot be made.
    """
    wrapper = root / PARTIAL / uuid.uuid4().hex
    wrapper.mkdir()
    try:
        handle = create(wrapper / LOCK)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            os.write(handle, MARK)
            yield wrapper / ENTRY
        finally:
            os.close(handle)
    finally:
        shutil.rmtree(wrapper, ignore_errors=True)


def take_out(root: Path, entry: Path) -> Path | None:
    """Move an entry out of its place, so that no reader sees half of it; returns what to erase.

    None if there is no entry in this place, or one with anything foreign in it.
    """
    if entry.parent.name == DAMAGED:
        return entry if is_own(entry) else None
    if not _is_entry(entry):
        return None
    wrapper = root / PARTIAL / uuid.uuid4().hex
    try:
        _wrap(entry, wrapper)
    except OSError:
        erase_partial(wrapper)
        return None
    return wrapper


def set_aside(root: Path, entry: Path) -> Path:
    """Move what is in the place of an entry to `damaged/`; returns its place there.

    Raises:
        FileNotFoundError: nothing is there any more.
        OSError: it cannot be moved.
    """
    name = f"{entry.parent.name}-{entry.name}-{uuid.uuid4().hex[:8]}"
    wrapper = root / DAMAGED / name
    wrapper.parent.mkdir(exist_ok=True)
    try:
        _wrap(entry, wrapper)
    except OSError:
        erase_partial(wrapper)
        raise
    return wrapper / ENTRY


def drop_wrapper(aside: Path) -> None:
    """Remove the folder around an entry that was moved back."""
    erase_partial(aside.parent)


def erase_partial(path: Path) -> None:
    """Remove a folder of `partial/` or `damaged/`: the files that its entry's manifest names, or
    all files where there is no manifest."""
    if _PROBE.fullmatch(path.name):
        with contextlib.suppress(OSError):
            path.unlink()
        return
    folders.erase(path / ENTRY, _named(path / ENTRY), entries.MANIFEST)
    if not os.path.lexists(path / ENTRY):
        folders.erase(path, None, entries.MANIFEST)


def _wrap(entry: Path, wrapper: Path) -> None:
    if not entries.is_folder(wrapper.parent):  # a link would lead out of the store
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    wrapper.mkdir()
    os.close(create(wrapper / LOCK, MARK))
    folders.move(entry, wrapper / ENTRY)


def create(path: Path, content: bytes = b"") -> int:
    """Make a file that was not there; returns its handle.

    Raises:
        OSError: it is there, or cannot be made.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o666)
    os.write(handle, content)
    return handle


def probe(root: Path) -> float:
    """Write a file in `partial/` and remove it; returns the time by the file system's clock.

    Raises:
        OSError: that cannot be done.
    """
    path = root / PARTIAL / f"probe-{uuid.uuid4().hex}"
    handle = create(path)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        path.unlink()


def dead(root: Path, older_than_s: float) -> list[Path]:
    """What dead processes left, if it was not touched for so long."""
    paths = sorted(path for path in _listed(root / PARTIAL) if is_own(path))
    if not paths:
        return []
    try:
        now = probe(root)
        return [path for path in paths if now - touched_at(path) > older_than_s and _is_free(path)]
    except OSError:
        return []


def touched_at(path: Path) -> float:
    """When anything in it was last changed; seconds since 1970."""
    try:
        return max(found.st_mtime for found in (path.lstat(), *stats(path)))
    except OSError:  # just finished
        return float("inf")


def stats(path: Path) -> list[os.stat_result]:
    """Of what is in a folder of `partial/`."""
    inside = [*_listed(path), *_listed(path / ENTRY)]
    return [each.lstat() for each in inside]


def is_own(path: Path) -> bool:
    """Whether this program has made it, and nothing foreign is in it."""
    aside = path.parent.name == DAMAGED
    if not aside and _PROBE.fullmatch(path.name):
        return entries.is_file(path)
    if not (_ASIDE if aside else _NAME).fullmatch(path.name) or not entries.is_folder(path):
        return False
    inside = {each.name for each in _listed(path)}
    if LOCK not in inside:  # as earlier versions wrote it
        return _is_entry(path) or (not aside and _is_flat(path))
    try:
        marked = entries.read_bytes(path / LOCK, len(MARK)) in (MARK, b"")
    except entries.DamagedError:
        return False
    return marked and inside <= {LOCK, ENTRY} and _is_erasable(path / ENTRY)


def sweep(root: Path, older_than_s: float) -> None:
    """Remove what dead processes left."""
    for path in dead(root, older_than_s):
        erase_partial(path)


def _is_entry(path: Path) -> bool:
    """Whether it has a manifest of this program, and nothing besides what that names."""
    names = _named(path)
    return names is not None and not entries.foreign_in(path, names)


def _is_erasable(entry: Path) -> bool:
    """Whether all in it is of this program: half written, whole, or without its manifest."""
    if not os.path.lexists(entry):
        return True
    if not entries.is_folder(entry):
        return False
    return _is_entry(entry) if _named(entry) is not None else _is_flat(entry)


def _named(entry: Path) -> dict[str, int] | None:
    """The files that the manifest names; None without one."""
    try:
        return entries.read_manifest(entry).sizes
    except entries.DamagedError:
        return None


def _is_free(path: Path) -> bool:
    """Whether no living process holds the lock; True where there is none."""
    try:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(handle)
    return True


def _is_flat(folder: Path) -> bool:
    """Whether there are only regular files in it, or it is not there."""
    try:
        return all(stat.S_ISREG(path.lstat().st_mode) for path in _listed(folder))
    except OSError:
        return True


def _listed(folder: Path) -> list[Path]:
    if not entries.is_folder(folder):
        return []
    try:
        return list(folder.iterdir())
    except OSError:
        return []
