"""The command line; `hpo.cli` has the commands that are not here.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with its state kept.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.cli import (
    check,
    compare,
    copy,
    dashboard,
    delete,
    doctor,
    export,
    listing,
    params,
    parsing,
    plot,
    run,
    show,
    store,
    streams,
    transfer,
)
from hpo.cli import console as terminal
from hpo.cli.options import DONE, FAILED, INTERRUPTED, USAGE, command
from hpo.cli.values import whole
from hpo.core import files, format
from hpo.core.failures import ObjectiveError, StorageError
from hpo.core.passwords import mask, shown
from hpo.executors.interrupts import Interrupted
from hpo.report.html.page import write_report
from hpo.report.results import Results
from hpo.storage import run_folder

OUT = "runs"


WIDTH = 140
"""Columns where no terminal says how many there are."""


STANDINGS = {True: "ok", None: "note", False: "PROBLEM"}
"""What `hpo doctor` says of a check."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    with streams.lasting() as out:
        made = parser()
        if parsing.help_without_command(made, words):
            return USAGE
        arguments = made.parse_args(words)
        measures = arguments.command is run.run
        if out is not None:
            out.tells_of_pipe = measures
        code = _do(arguments, words)
        if out is None or measures:
            return code
        out.flush()
        cut = out.error is not None and not isinstance(out.error, BrokenPipeError)
        return FAILED if cut else code


def _do(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    arguments.line = shlex.join(["hpo", *map(shown, words)])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console = terminal.guarded(console)
    try:
        chosen: Callable[[argparse.Namespace, Console], int] = arguments.command
        return chosen(arguments, console)
    except ValueError as error:
        return _complain(error, USAGE)
    except OSError as error:
        return _complain(RuntimeError(files.sentence(error)), FAILED, expected=True)
    except (RuntimeError, MemoryError) as error:
        return _complain(error, FAILED)
    except (Interrupted, KeyboardInterrupt):
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = parsing.top("Searches pretraining hyperparameters for plasticity.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    with_storage = [*run.add(commands), *check.add(commands)]
    params.add(commands)
    commands_on_runs = [
        *listing.add(commands),
        *show.add(commands),
        command(commands, "report", _report, "write the HTML report, print its path"),
    ]
    commands_on_runs[2].add_argument("run", metavar="RUN", help="a run's name or folder")
    for each in commands_on_runs[1:]:
        each.add_argument(
            "--group", type=whole(1), metavar="N", help="of trials, where data or versions changed"
        )
    on_store = store.add(commands)
    with_storage += commands_on_runs
    for module in (copy, dashboard, compare, plot, export, transfer, delete):
        with_storage += module.add(commands)
    with_storage.append(command(commands, "doctor", _doctor, "what works here"))
    for each in [*with_storage, *on_store]:
        each.add_argument("--out", type=Path, default=Path(OUT), metavar="DIR", help="runs' folder")
    for each in with_storage:
        each.add_argument(
            "--storage", metavar="URL", help="database; default: a file in the run, or what the "
            f"environment has as {run_folder.STORAGE_ENV}",
        )  # fmt: skip
    return top


def _report(arguments: argparse.Namespace, console: Console) -> int:
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place, arguments.group))
    print(write_report(results, place.report).absolute())
    return DONE


def _doctor(arguments: argparse.Namespace, console: Console) -> int:
    table = Table("check", "", "found", title="What works here", title_justify="left")
    checks = doctor.checks(arguments.out, arguments.storage)
    for each in checks:
        table.add_row(Text(each.name), STANDINGS[each.ok], Text(each.found))
    console.print(table)
    return FAILED if any(each.ok is False for each in checks) else DONE


def _complain(error: Exception, code: int, *, expected: bool = False) -> int:
    expected = (
        expected
        or isinstance(error, ValueError | StorageError | MemoryError | ObjectiveError)
        or type(error).__name__ in ("StoreError", "RanksError")
    )
    text = format.escape_controls(mask(" ".join(str(error).split()))) or type(error).__name__
    print(f"hpo: {text}" if expected else f"hpo: {type(error).__name__}: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
