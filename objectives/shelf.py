"""What lies in a store's folder, who is using it, and what may go when it grows too large.

1. An entry is a folder `stage/key` with a manifest of its files and of the seconds it stands for.
   When it was last used is the time of the folder itself.
2. Every process that uses a store holds a lease: a file in `leases/` with the entries it has
   touched, locked for as long as the process lives. The kernel frees the lock of a dead process,
   so nobody waits for it and nothing has to be guessed from its age.
3. What goes first is what costs least to compute again: seconds per byte, then the longest unused.
   What a living process holds never goes.

Only the standard library is used, so that this file also runs by itself, without a package whose
import takes seconds, and prints JSON:

    python objectives/shelf.py show FOLDER
    python objectives/shelf.py prune FOLDER --budget-gb 10 --dry-run
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"
PARTIAL, DAMAGED, LEASES = "partial", "damaged", "leases"
WEIGHTS, MEMORY, PASSING = "pretrain", "moments", "checkpoint"
"""Stages of pretraining: what it came to, AdamW's memory of that, worth nothing without it, and
states on the way that a later one supersedes."""
LOCK = "lock"
GB = 1e9
LEFT_S = 3600.0
"""Age from which a half-written entry counts as left over; assumed: a stage that is being written
grows at least once an hour."""
STALE_S = 86_400.0
"""Age from which a lease counts as dead where the file system knows no locks; assumed: a living
process touches some stage every day."""


@dataclass(frozen=True)
class Entry:
    """A stage, or what is left of one."""

    stage: str
    """`damaged` for what was set aside."""
    key: str
    path: Path
    bytes: int
    seconds: float
    """What it takes to compute it again, from the start of its training."""
    used_at: float
    """Seconds since 1970."""
    whole: bool
    """Whether its files have the sizes that the manifest says."""

    @property
    def name(self) -> str:
        """As it stands in a lease."""
        return f"{self.stage}/{self.key}"


class Lease:
    """What this process uses in a store; others leave it alone until the lease is closed."""

    def __init__(self, root: Path) -> None:
        """Raises OSError if the folder cannot be written."""
        self.root, self.names = root, set[str]()
        self.path = root / LEASES / uuid.uuid4().hex
        self._owner = os.getpid()
        with _locked(root, shared=True):  # not seen by anybody before it is locked
            self._handle: int | None = os.open(
                self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o666
            )
            with contextlib.suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_EX)

    def use(self, name: str) -> None:
        """Hold an entry, whether it is there yet or not.

        Where the disk is full it goes unprotected; what is read from it is no worse for that.
        """
        if name in self.names or self._handle is None:
            return
        self.names.add(name)
        with contextlib.suppress(OSError), _locked(self.root, shared=True):
            os.write(self._handle, f"{name}\n".encode())

    def release(self, keep: Collection[str] = ()) -> None:
        """Hold nothing but these from here on."""
        if self._handle is None:
            return
        self.names = set(keep)
        with contextlib.suppress(OSError), _locked(self.root, shared=True):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, "".join(f"{name}\n" for name in keep).encode())

    def close(self) -> None:
        """Hold nothing any more. A forked child leaves its parent's lease alone."""
        handle, self._handle = self._handle, None
        if handle is not None:
            if os.getpid() == self._owner:
                self.path.unlink(missing_ok=True)
            os.close(handle)

    def __del__(self) -> None:
        self.close()


def scan(root: Path) -> list[Entry]:
    """Everything that is finished or set aside."""
    found = []
    for stage in _folders(root):
        if stage.name not in (PARTIAL, LEASES):
            found += [entry for path in _folders(stage) if (entry := _read(path)) is not None]
    return found


def in_use(root: Path, but: Lease | None = None) -> set[str]:
    """Names of the entries that living processes hold; also forgets the dead ones' leases."""
    names: set[str] = set()
    for path in _paths(root / LEASES):
        if path.name != LOCK and (but is None or path.name != but.path.name):
            names |= _held(path)
    return names


def shrink(root: Path, budget: float, *, dry_run: bool = False) -> list[Entry]:
    """Take out the least useful entries until the others have at most `budget` bytes."""

    def surplus(entries: Sequence[Entry], held: Collection[str]) -> list[Entry]:
        left, going = sum(entry.bytes for entry in entries), []
        for entry in by_use(entries):
            if left <= budget:
                break
            if entry.name not in held:
                going.append(entry)
                left -= entry.bytes
        return going

    return _take_out(root, surplus, dry_run=dry_run)


def drop(
    root: Path,
    wanted: Callable[[Entry], bool],
    *,
    lease: Lease | None = None,
    dry_run: bool = False,
) -> list[Entry]:
    """Take out the entries that are wanted gone, but for those that other processes hold."""

    def chosen(entries: Sequence[Entry], held: Collection[str]) -> list[Entry]:
        return [entry for entry in entries if wanted(entry) and entry.name not in held]

    return _take_out(root, chosen, lease=lease, dry_run=dry_run)


def discard(root: Path, stage: str, key: str, lease: Lease) -> None:
    """Take out one entry, unless another process holds it."""
    with _locked(root):
        free = f"{stage}/{key}" not in in_use(root, but=lease)
        aside = _move_away(root, root / stage / key) if free else None
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def by_use(entries: Iterable[Entry]) -> list[Entry]:
    """The least useful first: fewest seconds a byte, then the longest unused."""
    entries = list(entries)
    bases = {entry.key for entry in entries if entry.stage == WEIGHTS}

    def worth(entry: Entry) -> tuple[float, float, str]:
        orphan = entry.stage == MEMORY and entry.key not in bases
        useless = orphan or not entry.whole or entry.stage == DAMAGED
        seconds = 0.0 if useless else entry.seconds
        return seconds / max(entry.bytes, 1), entry.used_at, entry.name

    return sorted(entries, key=worth)


def is_damaged(entry: Entry) -> bool:
    """Whether an entry was set aside or its files are not what its manifest says; reads them."""
    if entry.stage == DAMAGED or not entry.whole:
        return True
    try:
        files = json.loads((entry.path / MANIFEST).read_text(encoding="utf-8"))["files"]
        return any(checksum(entry.path / name) != file["sha256"] for name, file in files.items())
    except FileNotFoundError:
        return False  # another process has just taken it out
    except (OSError, ValueError, KeyError, TypeError):
        return True


def leftovers(root: Path) -> list[Entry]:
    """What dead processes left half written."""
    found = [entry for path in _folders(root / PARTIAL) if (entry := _read(path)) is not None]
    return [entry for entry in found if time.time() - entry.used_at > LEFT_S]


def checksum(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _take_out(
    root: Path,
    choose: Callable[[Sequence[Entry], Collection[str]], list[Entry]],
    *,
    lease: Lease | None = None,
    dry_run: bool,
) -> list[Entry]:
    """Take out what is chosen from all entries, knowing those held by others than `lease`.

    Nobody can begin to use an entry between the look and the move: that takes the same lock.
    """
    with _locked(root):
        going = choose(scan(root), in_use(root, but=lease))
        if dry_run:
            return going
        moved = [(entry, _move_away(root, entry.path)) for entry in going]
    for _, aside in moved:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return [entry for entry, aside in moved if aside is not None]


def _move_away(root: Path, entry: Path) -> Path | None:
    """Rename an entry, so that no reader sees half of it; None if it is not there."""
    aside = root / PARTIAL / f"out-{uuid.uuid4().hex}"
    try:
        aside.parent.mkdir(exist_ok=True)
        os.rename(entry, aside)
    except OSError:
        return None
    return aside


@contextlib.contextmanager
def _locked(root: Path, *, shared: bool = False) -> Iterator[None]:
    """Taking entries out excludes everybody; beginning to use some excludes only that."""
    (root / LEASES).mkdir(parents=True, exist_ok=True)
    handle = os.open(root / LEASES / LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: leases still tell
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _held(path: Path) -> set[str]:
    """What a lease holds; nothing, and the lease forgotten, if its process is dead."""
    try:
        with path.open("r+") as lease:  # for writing: NFS locks nothing else
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alive = False
            except BlockingIOError:
                alive = True
            except OSError:
                alive = time.time() - path.stat().st_mtime < STALE_S
            if alive:
                return set(lease.read().split())
            path.unlink()
    except FileNotFoundError:
        pass
    return set()


def _read(path: Path) -> Entry | None:
    """The entry in a folder; None if it is just being taken out."""
    try:
        stats = {file.name: file.stat() for file in _paths(path)}
        used_at = max(stat.st_mtime for stat in [path.stat(), *stats.values()])
    except OSError:
        return None
    seconds, files = 0.0, None
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = {name: file["bytes"] for name, file in manifest["files"].items()}
        seconds = float(manifest["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    sizes = {name: stat.st_size for name, stat in stats.items() if name != MANIFEST}
    total = sum(stat.st_size for stat in stats.values())
    return Entry(path.parent.name, path.name, path, total, seconds, used_at, sizes == files)


def _paths(folder: Path) -> list[Path]:
    """What a folder holds, in order; nothing if it is not there."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(folder: Path) -> list[Path]:
    return [path for path in _paths(folder) if path.is_dir()]


def main(words: Sequence[str]) -> None:
    """Print what there is, what went, or with --dry-run what would go: a JSON list of entries."""
    top = argparse.ArgumentParser()
    commands = top.add_subparsers(required=True, dest="command")
    show, prune = commands.add_parser("show"), commands.add_parser("prune")
    for each in (show, prune):
        each.add_argument("folder", type=Path)
    one = prune.add_mutually_exclusive_group(required=True)
    one.add_argument("--budget-gb", type=float)
    one.add_argument("--older-than-s", type=float)
    one.add_argument("--stage")
    one.add_argument("--damaged", action="store_true")
    prune.add_argument("--dry-run", action="store_true")
    asked = top.parse_args(words)
    root: Path = asked.folder
    if asked.command == "show":
        found = [*scan(root), *leftovers(root)]
    else:
        found = _prune(root, asked, dry_run=asked.dry_run)
    held = in_use(root)
    entries = [{**vars(e), "path": str(e.path), "in_use": e.name in held} for e in found]
    print(json.dumps(entries))


def _prune(root: Path, asked: argparse.Namespace, *, dry_run: bool) -> list[Entry]:
    if asked.budget_gb is not None:
        return shrink(root, asked.budget_gb * GB, dry_run=dry_run)
    if asked.older_than_s is not None:
        oldest = time.time() - asked.older_than_s
        return drop(root, lambda entry: entry.used_at < oldest, dry_run=dry_run)
    if asked.stage is not None:
        return drop(root, lambda entry: entry.stage == asked.stage, dry_run=dry_run)
    bad = {entry.name for entry in scan(root) if is_damaged(entry)}  # slow, hence outside the lock
    left = leftovers(root)
    for entry in [] if dry_run else left:
        shutil.rmtree(entry.path, ignore_errors=True)
    return left + drop(root, lambda entry: entry.name in bad, dry_run=dry_run)


if __name__ == "__main__":
    main(sys.argv[1:])
