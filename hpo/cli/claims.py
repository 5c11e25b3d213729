"""`hpo claims`: a run's planned contrasts and its paper's claims, printed or kept in a file."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core import files
from hpo.report import claim_tables, claims
from hpo.report.results import Results
from hpo.storage import run_folder


def run(arguments: argparse.Namespace) -> int:
    """Print them; with `--record` write them into the file, in place of the run's earlier ones."""
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place))
    if not claims.has_claims(results):
        raise ValueError(
            f"run {place.name!r} has no planned contrasts and no paper's claims; give its study "
            "contrasts=PlannedContrasts(...) and run it."
        )
    found = claims.record(results, run_folder.read_study(place))
    console = new_console(stderr=arguments.json)
    if arguments.record is not None:
        record(arguments.record, found)
        console.print(Text(f"Recorded in {arguments.record}"), soft_wrap=True)
    if arguments.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        for part in claim_tables.claim_parts(results):
            console.print(part)
    return DONE


def record(path: Path, found: Mapping[str, Any]) -> None:
    """Write a run into a file of claims; what is beside it there stays, whoever writes it.

    A link is followed. Writers of one folder take turns, by a lock that leaves nothing behind.

    Raises:
        ValueError: the file is there, and holds something else.
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        known = _read(path)
        runs = claims.recorded(known["runs"], found)
        files.write(path, json.dumps({**known, "runs": runs}, indent=1, allow_nan=False) + "\n")
    finally:
        os.close(folder)


def _read(path: Path) -> dict[str, Any]:
    """What is in a file of claims; no runs where it is not there."""
    if not os.path.lexists(path):
        return {"runs": []}
    try:
        if not path.is_file():  # a pipe would be waited for, a device read without end
            raise TypeError
        known = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(known, allow_nan=False)
        if not isinstance(known["runs"], list) or not all(map(claims.is_run, known["runs"])):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"--record {path} is there and is no file of recorded claims; choose another file."
        ) from None
    return dict(known)
