"""`hpo show`: the front with the baselines, every trial, or JSON."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

from hpo.cli.options import DONE, command
from hpo.report import terminal_tables, trial_tables
from hpo.report.results import Results
from hpo.storage import run_folder


def add(commands: Any) -> list[argparse.ArgumentParser]:
    """`hpo show`."""
    added = command(commands, "show", run, "the front and the baselines as tables, or every trial")
    added.add_argument("run", metavar="RUN", help="a run's name or folder")
    added.add_argument("--json", action="store_true", help="print JSON, which has every trial")
    added.add_argument("--all", action="store_true", help="every trial, failed ones too")
    added.add_argument("--sort", metavar="METRIC", help="every trial, the best by it first")
    added.add_argument("--top", type=int, metavar="N", help="the first N trials")
    return [added]


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print it."""
    if arguments.top is not None and arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}.")
    if arguments.json and (arguments.sort is not None or arguments.top is not None):
        option = "--top" if arguments.sort is None else "--sort"
        raise ValueError(f"--json prints every trial, by number; leave out {option}, or --json.")
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place, arguments.group))
    if arguments.json:
        print(json.dumps(terminal_tables.run_json(results), indent=1, allow_nan=False))
    elif arguments.all or arguments.sort or arguments.top:
        trial_tables.print_trials(results, console, arguments.sort, arguments.top)
    else:
        terminal_tables.print_run(results, console)
    return DONE
