"""Which local files a path, a folder or a pattern means: each file once, in a fixed order.

A path that exists is taken as it is, whatever characters are in it; only else it is a pattern of
`*`, `?`, `[...]` and `**`. `~` is the home folder. Links to folders are followed, each folder once,
so that a link to a folder above ends.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

PACKED = frozenset({".gz", ".bz2", ".xz", ".zst"})
"""Endings of packed files; what is in them is told by the ending before."""


TEXT = frozenset({".txt", ".text", ".md"})


ROWS = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"})


NOT_DATA = frozenset(
    {"readme", "license", "licence", "copying", "notice", "dataset_info", "dataset_infos"}
)
"""Names, without endings, of files that a folder holds beside its data."""


SAVED_MARKS = ("state.json", "dataset_dict.json")
"""Files that `save_to_disk` writes."""


_MAGIC = frozenset("*?[")


def kind_of(path: Path) -> str:
    """The ending that says how the content is read, in lower case; empty if there is none."""
    endings = [ending.lower() for ending in path.suffixes]
    return next((ending for ending in reversed(endings) if ending not in PACKED), "")


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """Regular files of all paths, folders and patterns, sorted; one with several names once.

    Raises:
        ValueError: something that matches nothing, or is no file that can be read to its end.
    """
    if not patterns:
        raise ValueError("no paths are given; name at least one file, folder or pattern.")
    found: dict[str, Path] = {}
    for path in sorted({path for pattern in patterns for path in _files_of(pattern)}):
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def state(paths: Iterable[Path]) -> list[list[object]]:
    """What the file system says of files, and what changes with every write to one of them."""
    found: list[list[object]] = []
    for path in paths:
        try:
            now = path.stat()
        except OSError as error:
            found.append([str(path), error.strerror])
        else:
            found.append([str(path), now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns])
    return found


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return any((folder / mark).exists() for mark in SAVED_MARKS)


def _files_of(pattern: str) -> list[Path]:
    expanded = os.path.expanduser(pattern)
    if os.path.lexists(expanded):
        path = Path(expanded)
        return _in_folder(path) if path.is_dir() else [_regular(path)]
    files = [_regular(path) for path in _expand(expanded) if not path.is_dir()]
    if not files:
        raise ValueError(
            f"no file matches {pattern!r}; check the path (looked for {os.path.abspath(expanded)})."
        )
    return files


def _in_folder(folder: Path) -> list[Path]:
    if is_saved_dataset(folder):
        raise ValueError(
            f"{folder} was written by save_to_disk; read it as HubDataset(name={str(folder)!r})."
        )
    readable = [path for path in _files_below(folder) if _is_data(path)]
    if not readable:
        raise ValueError(
            f"folder {folder} holds no file to read; endings are {', '.join(sorted(TEXT | ROWS))}."
        )
    return [_regular(path) for path in readable]


def _is_data(path: Path) -> bool:
    name = path.name.split(".")[0].lower()
    return kind_of(path) in TEXT | ROWS and name not in NOT_DATA


def _regular(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        what = f"a link to {os.readlink(path)!r}, which" if path.is_symlink() else "a file that"
        raise ValueError(
            f"{path} is {what} cannot be opened ({error.strerror}); restore or remove it."
        ) from None
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{path} is a {_special(mode)}, not a regular file; write what it gives to a file."
        )
    return path


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _expand(pattern: str) -> list[Path]:
    """All files and folders that match."""
    path = Path(pattern)
    *first, last = path.parts or ("",)
    roots = [Path()]
    for part in [*first, *(("**", "*") if last == "**" else (last,))]:
        roots = _once(child for root in roots for child in _step(root, part))
    return roots


def _once(paths: Iterable[Path]) -> list[Path]:
    """Without repetition, and folders that are the same one by several links only once."""
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(os.path.realpath(path) if path.is_dir() else str(path), path)
    return list(found.values())


def _step(root: Path, part: str) -> Iterator[Path]:
    """What one part of a pattern matches in a folder."""
    if part == "**":
        yield from _folders_below(root)
    elif os.path.lexists(root / part):
        yield root / part
    elif _MAGIC & set(part) and root.is_dir():
        names = [name for name in _names(root) if name[0] != "." or part[0] == "."]
        yield from (root / name for name in fnmatch.filter(names, part))


def _folders_below(folder: Path) -> Iterator[Path]:
    """The folder and those below it that are not hidden, each once by what it really is."""
    seen: set[str] = set()
    waiting = [folder] if folder.is_dir() else []
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        yield here
        children = (here / name for name in _names(here) if name[0] != ".")
        waiting.extend(reversed([child for child in children if child.is_dir()]))


def _files_below(folder: Path) -> Iterator[Path]:
    for here in _folders_below(folder):
        for name in _names(here):
            if name[0] != "." and not (here / name).is_dir():
                yield here / name


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"folder {folder} cannot be read ({error.strerror}).") from None
