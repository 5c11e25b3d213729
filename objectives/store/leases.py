"""Who uses which entries of a store.

Every process that uses a store holds a lease: a file in `leases/` with the entries it has touched,
locked for as long as the process lives. The kernel frees the lock of a dead process, so nobody
waits for it and nothing has to be guessed from its age.

Only the standard library is used; see `objectives.store.maintenance`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from objectives.store import entries
from objectives.store.entries import DamagedError

LEASES = "leases"


LOCK = "lock"


LEASE_BYTES = 64_000_000
"""A lease has at most; assumed."""


STALE_S = 86_400.0
"""Age from which a lease counts as dead where the file system knows no locks; assumed: a living
process touches some stage every day."""


class Lease:
    """What this process uses in a store; others leave it alone until the lease is closed."""

    def __init__(self, root: Path) -> None:
        """Raises OSError if the folder cannot be written."""
        self._handle: int | None
        self.root, self.names = root, set[str]()
        self.path = root / LEASES / uuid.uuid4().hex
        self._owner, self._handle = os.getpid(), None
        make_folder(root, LEASES)
        with locked(root, shared=True):  # not seen by anybody before it is locked
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_APPEND
            self._handle = os.open(self.path, flags, 0o666)
            with contextlib.suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_EX)

    def use(self, name: str) -> None:
        """Hold an entry, whether it is there yet or not.

        Where the disk is full it goes unprotected; what is read from it is no worse for that.
        """
        if name in self.names or self._handle is None:
            return
        self.names.add(name)
        with contextlib.suppress(OSError), locked(self.root, shared=True):
            os.write(self._handle, f"{name}\n".encode())

    def release(self, keep: Collection[str] = ()) -> None:
        """Hold nothing but these from here on."""
        if self._handle is None:
            return
        self.names = set(keep)
        with contextlib.suppress(OSError), locked(self.root, shared=True):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, "".join(f"{name}\n" for name in keep).encode())

    def close(self) -> None:
        """Hold nothing any more. A forked child leaves its parent's lease alone."""
        handle, self._handle = self._handle, None
        if handle is not None:
            if os.getpid() == self._owner:
                self.path.unlink(missing_ok=True)
            os.close(handle)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():  # then modules are gone, and the kernel frees the lock
            self.close()


def in_use(root: Path, but: Lease | None = None) -> set[str]:
    """Names of the entries that living processes hold; also forgets the dead ones' leases."""
    names: set[str] = set()
    for path in sorted((root / LEASES).iterdir()) if entries.is_folder(root / LEASES) else ():
        if path.name != LOCK and (but is None or path.name != but.path.name):
            names |= _held(path)
    return names


@contextlib.contextmanager
def locked(root: Path, *, shared: bool = False) -> Iterator[None]:
    """Taking entries out excludes everybody; beginning to use some excludes only that."""
    make_folder(root, LEASES)
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(root / LEASES / LOCK, flags, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: leases still tell
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def make_folder(root: Path, name: str) -> None:
    """Make a folder in a store; a link in its place is refused.

    Raises:
        OSError: it cannot be made.
    """
    (root / name).mkdir(exist_ok=True)
    if not entries.is_folder(root / name):
        reason = f"{name} in it is a symbolic link, which is not followed"
        raise OSError(errno.ELOOP, reason)


def _held(path: Path) -> set[str]:
    """What a lease holds; nothing, and the lease forgotten, if its process is dead."""
    if not is_lease(path):
        return set()
    try:  # for writing: NFS locks nothing else
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return set()
    with os.fdopen(handle, "rb", closefd=True) as lease:
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alive = False
        except BlockingIOError:
            alive = True
        except OSError:
            alive = time.time() - os.fstat(handle).st_mtime < STALE_S
        if alive:
            return set(lease.read(LEASE_BYTES).decode("ascii", "replace").split())
        with contextlib.suppress(OSError):
            path.unlink()
    return set()


def is_lease(path: Path) -> bool:
    """Whether it has a lease's name and form: lines that are each `stage/key`."""
    if not re.fullmatch(r"[0-9a-f]{32}", path.name):
        return False
    try:
        lines = entries.read_bytes(path, LEASE_BYTES).decode("ascii").splitlines()
    except (DamagedError, UnicodeDecodeError):
        return False
    parts = [line.split("/") for line in lines]
    return all(len(each) == 2 and all(map(entries.is_key, each)) for each in parts)
