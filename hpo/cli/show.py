"""`hpo show`: the front and the baselines, every trial, JSON or CSV; `hpo report`: the page."""

from __future__ import annotations

import argparse
import json

from hpo.cli.console import new_console, print_path
from hpo.cli.options import DONE
from hpo.core.csv_text import csv_text
from hpo.report import terminal_tables, trial_tables
from hpo.report.html.page import write_report
from hpo.report.results import Results
from hpo.report.trial_records import trial_records
from hpo.storage import run_folder, verifications


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    if arguments.csv and (arguments.json or arguments.sort or arguments.top):
        raise ValueError("--csv prints every trial, by number; leave out the other options.")
    if arguments.json and (arguments.sort is not None or arguments.top is not None):
        option = "--top" if arguments.sort is None else "--sort"
        raise ValueError(f"--json prints every trial, by number; leave out {option}, or --json.")
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place, arguments.group), verifications.read_all(place))
    if arguments.csv:
        print(csv_text(trial_records(results)), end="")
    elif arguments.json:
        print(json.dumps(terminal_tables.run_json(results), indent=1, allow_nan=False))
    elif arguments.all or arguments.sort or arguments.top:
        trial_tables.print_trials(results, new_console(), arguments.sort, arguments.top)
    else:
        terminal_tables.print_run(results, new_console())
    return DONE


def report(arguments: argparse.Namespace) -> int:
    """Write the HTML report and print its path."""
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place, arguments.group), verifications.read_all(place))
    print_path(write_report(results, place.report))
    return DONE
