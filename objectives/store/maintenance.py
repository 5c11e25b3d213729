"""What is in a store's folder, who is using it, and what may go when it grows too large.

1. An entry is a folder `stage/key` with a manifest of its files and of the seconds it represents
   (`objectives.store.entries`). When it was last used is the time of the folder itself. What has
   none is foreign: it is counted and named, and nothing here removes, moves or follows it.
2. What a living process has touched is in its lease (`objectives.store.leases`).
3. What goes first is what costs least to compute again: seconds per byte, then the longest unused.
   What a living process holds never goes.

Only the standard library is used, so that `python -m objectives.store` starts at once; it prints
JSON:

    python -m objectives.store show FOLDER
    python -m objectives.store prune FOLDER --budget-gb 10 --dry-run
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from objectives.store import entries, partials
from objectives.store.entries import DamagedError
from objectives.store.leases import LEASES, LOCK, Lease, in_use, is_lease, locked
from objectives.store.partials import DAMAGED, PARTIAL

FOREIGN = "?"
"""The stage of what is not of this program; no stage can have that name."""


PRETRAIN, MOMENTS, IN_PROGRESS = "pretrain", "moments", "checkpoint"
"""Stages of pretraining: what it came to, AdamW's memory of that, worth nothing without it, and
states on the way that a later one supersedes."""


GB = 1e9


LEFT_S = 3600.0
"""Age from which a half-written entry counts as left over; assumed: a stage that is being written
grows at least once an hour."""


@dataclass(frozen=True)
class Entry:
    """A stage, or what is left of one."""

    stage: str
    """`damaged` for what was set aside, `partial` for what dead processes left, FOREIGN for what is
    not of this program."""
    key: str
    path: Path
    bytes: int
    seconds: float
    """What it takes to compute it again, from the start of its training."""
    used_at: float
    """Seconds since 1970."""
    whole: bool
    """Whether its files have the sizes that the manifest says, and it is in its own place."""

    @property
    def name(self) -> str:
        """As it is in a lease."""
        return f"{self.stage}/{self.key}"


def scan(root: Path) -> list[Entry]:
    """Everything that is finished or set aside."""
    return _stages(root)[0]


def foreign(root: Path) -> list[Entry]:
    """What is in the store's folder and not of this program; folders in whole, without sizes."""
    found = _stages(root)[1]
    for path in _paths(root):
        if path.name == PARTIAL:
            found += [each for each in _inside(path) if not partials.is_own(each)]
        elif path.name == LEASES:
            found += [each for each in _inside(path) if each.name != LOCK and not is_lease(each)]
    return [
        Entry(FOREIGN, str(path.relative_to(root)), path, 0, 0.0, 0.0, True)
        for path in sorted(found)
    ]


def _stages(root: Path) -> tuple[list[Entry], list[Path]]:
    """Entries, and foreign paths in and among the folders of stages."""
    known, foreign = list[Entry](), list[Path]()
    for stage in _paths(root):
        if stage.name in (PARTIAL, LEASES) and entries.is_folder(stage):
            continue
        inside = _inside(stage)
        read = {path: _read(path) for path in inside if _may_be_entry(path)}
        own = [entry for entry in read.values() if entry is not None]
        known += own
        others = [path for path in inside if read.get(path) is None and os.path.lexists(path)]
        if (inside and not own and stage.name != DAMAGED) or not entries.is_folder(stage):
            foreign.append(stage)
        else:
            foreign += others
    return known, foreign


def shrink(root: Path, budget: float, *, dry_run: bool = False) -> list[Entry]:
    """Take out the least useful entries until the others have at most `budget` bytes."""

    def surplus(found: Sequence[Entry], held: Collection[str]) -> list[Entry]:
        left, going = sum(entry.bytes for entry in found), []
        for entry in eviction_order(found):
            if left <= budget:
                break
            if entry.name not in held:
                going.append(entry)
                left -= entry.bytes
        return going

    return _take_out(root, surplus, dry_run=dry_run)


def delete_matching(
    root: Path,
    wanted: Callable[[Entry], bool],
    *,
    lease: Lease | None = None,
    dry_run: bool = False,
) -> list[Entry]:
    """Take out the entries that are wanted gone, but for those that other processes hold."""

    def chosen(found: Sequence[Entry], held: Collection[str]) -> list[Entry]:
        return [entry for entry in found if wanted(entry) and entry.name not in held]

    return _take_out(root, chosen, lease=lease, dry_run=dry_run)


def delete_unused(root: Path, stage: str, key: str, lease: Lease) -> None:
    """Take out one entry, unless another process holds it."""
    with locked(root):
        free = f"{stage}/{key}" not in in_use(root, but=lease)
        moved = partials.take_out(root, root / stage / key) if free else None
    if moved is not None:
        partials.erase_partial(moved)


def eviction_order(found: Iterable[Entry]) -> list[Entry]:
    """The least useful first: fewest seconds a byte, then the longest unused."""
    found = list(found)
    bases = {entry.key for entry in found if entry.stage == PRETRAIN}

    def worth(entry: Entry) -> tuple[float, float, str]:
        orphan = entry.stage == MOMENTS and entry.key not in bases
        useless = orphan or not entry.whole or entry.stage == DAMAGED
        seconds = 0.0 if useless else entry.seconds
        return seconds / max(entry.bytes, 1), entry.used_at, entry.name

    return sorted(found, key=worth)


def is_damaged(entry: Entry) -> bool:
    """Whether an entry was set aside or its files are not what its manifest says; reads them."""
    if entry.stage == DAMAGED or not entry.whole:
        return True
    try:
        entries.verify(entry.path)
    except DamagedError:
        return entry.path.exists()  # else another process has just taken it out
    return False


def leftovers(root: Path) -> list[Entry]:
    """What dead processes left half written."""
    return [
        Entry(PARTIAL, path.name, path, _bytes(path), 0.0, partials.touched_at(path), False)
        for path in partials.dead(root, LEFT_S)
    ]


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
    with locked(root):
        going = choose(scan(root), in_use(root, but=lease))
        if dry_run:
            return going
        moved = [(entry, partials.take_out(root, entry.path)) for entry in going]
    for _, wrapper in moved:
        if wrapper is not None:
            partials.erase_partial(wrapper)
    return [entry for entry, wrapper in moved if wrapper is not None]


def _may_be_entry(path: Path) -> bool:
    return path.parent.name == DAMAGED or (
        entries.is_key(path.parent.name) and entries.is_key(path.name)
    )


def _read(path: Path) -> Entry | None:
    """The entry in a folder; None if it is none, or is just being taken out."""
    if path.parent.name == DAMAGED:
        if not partials.is_own(path):
            return None
        return Entry(DAMAGED, path.name, path, _bytes(path), 0.0, partials.touched_at(path), False)
    try:
        manifest = entries.read_manifest(path)
        stats = {file.name: file.lstat() for file in _paths(path)}
        used_at = max(found.st_mtime for found in [path.lstat(), *stats.values()])
    except (DamagedError, OSError):
        return None
    if entries.foreign_in(path, manifest.sizes):
        return None
    total = sum(found.st_size for found in stats.values())
    whole = _sizes(stats) == manifest.sizes and manifest.is_of(f"{path.parent.name}/{path.name}")
    return Entry(path.parent.name, path.name, path, total, manifest.seconds, used_at, whole)


def _sizes(stats: dict[str, os.stat_result]) -> dict[str, int]:
    """Of regular files but the manifest."""
    return {
        name: found.st_size
        for name, found in stats.items()
        if name != entries.MANIFEST and stat.S_ISREG(found.st_mode)
    }


def _bytes(path: Path) -> int:
    """What a folder of `partial/` or `damaged/` takes."""
    try:
        found = [path.lstat()] if entries.is_file(path) else partials.stats(path)
        return sum(each.st_size for each in found if stat.S_ISREG(each.st_mode))
    except OSError:
        return 0


def _paths(folder: Path) -> list[Path]:
    """What a folder holds, in order; nothing if it is not there."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _inside(folder: Path) -> list[Path]:
    """What a folder holds, without following a link; nothing of what cannot be read."""
    try:
        return _paths(folder) if entries.is_folder(folder) else []
    except OSError:
        return []


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
        found = [*scan(root), *leftovers(root), *foreign(root)]
    else:
        found = _prune(root, asked, dry_run=asked.dry_run)
    held = in_use(root)
    print(json.dumps([_as_json(entry) | {"in_use": entry.name in held} for entry in found]))


def _as_json(entry: Entry) -> dict[str, object]:
    """Plain data; what cannot be a file's name in UTF-8 is spelled out."""
    return {**vars(entry), "path": ascii(str(entry.path))[1:-1], "key": ascii(entry.key)[1:-1]}


def _prune(root: Path, asked: argparse.Namespace, *, dry_run: bool) -> list[Entry]:
    if asked.budget_gb is not None:
        return shrink(root, asked.budget_gb * GB, dry_run=dry_run)
    if asked.older_than_s is not None:
        oldest = time.time() - asked.older_than_s
        return delete_matching(root, lambda entry: entry.used_at < oldest, dry_run=dry_run)
    if asked.stage is not None:
        return delete_matching(root, lambda entry: entry.stage == asked.stage, dry_run=dry_run)
    bad = {entry.name for entry in scan(root) if is_damaged(entry)}  # slow, hence outside the lock
    left = leftovers(root)
    if not dry_run:
        partials.sweep(root, LEFT_S)
    return left + delete_matching(root, lambda entry: entry.name in bad, dry_run=dry_run)
