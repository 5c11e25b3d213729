"""The folder of an export: new, empty, or half of the same export, and marked until it is whole.

What else is in it is somebody's: nothing is removed but the mark, and the folder if it is empty
then and was made here. Half of an export is not completed through links.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hpo.core import files

MARK = ".hpo-export"
"""The file that an export has until it is whole; JSON that names the run and the trial."""


MOST_BYTES = 100_000


@contextlib.contextmanager
def filling(folder: Path, run: str, trial: int) -> Iterator[None]:
    """Have the folder there and marked as the export of this trial while it is filled.

    Raises:
        ValueError: it cannot be made, or holds something that is not half of this export.
    """
    made = not folder.is_dir()
    mark = {"run": run, "trial": trial}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check(folder, mark)
        files.write(folder / MARK, json.dumps(mark))
    except OSError as error:
        if error.errno in files.FULL:
            raise
        raise ValueError(
            f"cannot write to {folder} ({error.strerror}); give another --to."
        ) from None
    try:
        yield
    except BaseException:
        if os.listdir(folder) == [MARK]:  # else the same command goes on from what is there
            _unmark(folder)
            if made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        raise
    _unmark(folder)


def is_half(folder: Path) -> bool:
    """Whether a folder has the mark of an export that is not whole."""
    return os.path.lexists(folder / MARK)


def _check(folder: Path, mark: dict[str, object]) -> None:
    if not any(folder.iterdir()):
        return
    if not is_half(folder):
        raise ValueError(f"{folder} is not empty; give --to a new or an empty folder.")
    found = _read(folder / MARK)
    if found != mark:
        of = "another export" if found is None else f"trial {found['trial']} of {found['run']!r}"
        raise ValueError(
            f"{folder} holds half of {of}; give --to a new or an empty folder, or run that export "
            "again to complete it."
        )
    foreign = next(_leading_out(folder), None)
    if foreign is not None:
        raise ValueError(
            f"{foreign} is a link, or no regular file, through which an export would write to "
            "something else; give --to a new or an empty folder."
        )


def _leading_out(folder: Path) -> Iterator[Path]:
    """What is in a folder through which something outside of it would be written."""
    for place, folders, names in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *names)):
            about = path.lstat()
            one = stat.S_ISREG(about.st_mode) and about.st_nlink == 1
            if not one and not stat.S_ISDIR(about.st_mode):
                yield path


def _read(path: Path) -> dict[str, object] | None:
    """What a mark names; None if it makes no sense."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            found = json.loads(file.read(MOST_BYTES))
        named = isinstance(found["run"], str) and type(found["trial"]) is int
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return dict(found) if named else None


def _unmark(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / MARK).unlink()
