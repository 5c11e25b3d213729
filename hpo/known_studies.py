"""Study files that this user has run, which are the only ones that a run's note may have executed.

A study file is code, and a run's folder may come from anybody: its note names a file that the one
who wrote it has chosen. `hpo run` remembers each file that it executes, as an absolute path in
`$XDG_STATE_HOME/plasticity-hpo/studies` (by default `~/.local/state`). `hpo export` executes the
file that a run names if it is among these; any other has to be given with `--study`, which is
remembered too. Where the list cannot be written, `--study` is needed every time.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from hpo.core import files

LIST = Path("plasticity-hpo", "studies")
"""One path a line, as JSON, since a name may hold line ends."""


MOST_BYTES = 16_000_000
"""Beyond, nothing is remembered; assumed: more than anybody's studies."""


def is_known(study: str) -> bool:
    """Whether this user has run a study: its name if it ships, or its file."""
    return not study.endswith(".py") or study in _known()


def remember(study: str) -> None:
    """Remember a study's file; nothing for a study that ships, or where it cannot be kept."""
    if not study.endswith(".py"):
        return
    path = str(Path(study).absolute())
    with contextlib.suppress(OSError, RuntimeError):
        kept = _file()
        if path in _known() or (kept.exists() and kept.stat().st_size > MOST_BYTES):
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(files.open_log(kept), "a", encoding="ascii") as file:
            file.write(json.dumps(path) + "\n")


def _known() -> set[str]:
    try:
        lines = _file().read_text(encoding="ascii").splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):
        return set()
    return {path for line in lines if isinstance(path := _parsed(line), str)}


def _parsed(line: str) -> object:
    """What a line holds; None for half a line."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _file() -> Path:
    """The list's place; raises RuntimeError where no home folder is known."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".local" / "state"
    return base / LIST
