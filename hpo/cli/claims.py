"""`hpo claims`: a run's planned contrasts and its paper's claims, printed or kept in a file."""

from __future__ import annotations

import argparse
import json
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
        known = _read(arguments.record)
        runs = claims.recorded(known, found)
        files.write(arguments.record, json.dumps({"runs": runs}, indent=1, allow_nan=False) + "\n")
        console.print(Text(f"Recorded in {arguments.record}"), soft_wrap=True)
    if arguments.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        for part in claim_tables.claim_parts(results):
            console.print(part)
    return DONE


def _read(path: Path) -> list[dict[str, Any]]:
    """The runs in a file; none where it is not there."""
    if not path.exists():
        return []
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        if not all(isinstance(each["study"], str) for each in runs):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"--record {path} is there and is no file of recorded claims; choose another file."
        ) from None
    return list(runs)
