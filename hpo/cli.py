"""The command line; `hpo.commands` has the commands that are not here.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with its state kept.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo import doctor, live, runs, studies, tables
from hpo.commands import compare, dashboard, export, plot, store, transfer
from hpo.commands.words import DONE, FAILED, INTERRUPTED, USAGE, command, seconds, setting
from hpo.progress import Display, Interrupted, duration, interrupts
from hpo.record import Run
from hpo.report import write_report
from hpo.spec import Earlier, StudySpec
from hpo.storage import StorageError, mask
from hpo.study import Controller, StudyChanged

OUT = "runs"
WIDTH = 140
"""Columns where no terminal says how many there are."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    arguments.line = mask(shlex.join(["hpo", *words]))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    try:
        chosen: Callable[[argparse.Namespace, Console], int] = arguments.command
        return chosen(arguments, console)
    except ValueError as error:
        return _complain(error, USAGE)
    except (RuntimeError, OSError, MemoryError) as error:
        return _complain(error, FAILED)
    except (Interrupted, KeyboardInterrupt):
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="hpo", description="Searches pretraining hyperparameters for plasticity."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    run = command(commands, "run", _run, "start a study, or continue it")
    run.add_argument("study", metavar="STUDY", help="a name that `hpo list` shows, or a .py file")
    run.add_argument("--setting", metavar="NAME", help="small or full, where a study has both")
    run.add_argument("--trials", type=int, metavar="N", help="trials in all, named ones included")
    run.add_argument("--budget", type=seconds, metavar="TIME", help="such as 90s, 30m, 2h")
    run.add_argument(
        "--set", action="append", default=[], type=setting, metavar="PATH=VALUE", dest="settings",
        help="fix a hyperparameter; may be repeated",
    )  # fmt: skip
    run.add_argument("--wall", type=seconds, metavar="TIME", help="start no wave after this")
    run.add_argument("--max-flops", type=float, metavar="N", help="operations to measure with")
    run.add_argument(
        "--patience", type=int, metavar="N", help="end when N full trials in a row gained nothing"
    )
    run.add_argument("--confirm", type=int, metavar="N", help="measure the front at N fresh seeds")
    run.add_argument("--warm-start", metavar="RUN", help="an earlier run to start from")
    run.add_argument("--executor", choices=["inline"], default="inline", help="where trials run")
    run.add_argument("--lanes", type=int, metavar="K", help="most trials in one program")
    run.add_argument("--seed", type=int, metavar="N", help="the study's seed")
    run.add_argument("--device", metavar="D", help="cpu or cuda; a GPU is used if there is one")
    run.add_argument("--fork", action="store_true", help="start a new run beside the old one")
    run.add_argument(
        "--store-gb", type=float, metavar="GB", help="size within which the store keeps itself"
    )
    run.add_argument("--share", metavar="URL", help="where machines share finished stages")
    run.add_argument("--live", action="store_true", help="rewrite the report as results come")
    commands_on_runs = [
        command(commands, "list", _list, "studies that ship, and runs with their progress"),
        command(commands, "show", _show, "the front as a table"),
        command(commands, "report", _report, "write the HTML report, print its path"),
    ]
    for each in commands_on_runs[1:]:
        each.add_argument("run", metavar="RUN", help="a run's name or folder")
    commands_on_runs[1].add_argument("--json", action="store_true", help="for programs")
    on_store = store.add(commands)
    with_storage = [run, *commands_on_runs]
    for module in (dashboard, compare, plot, export, transfer):
        with_storage += module.add(commands)
    with_storage.append(command(commands, "doctor", _doctor, "what works here"))
    for each in [*with_storage, *on_store]:
        each.add_argument("--out", type=Path, default=Path(OUT), metavar="DIR", help="runs' folder")
    for each in with_storage:
        each.add_argument("--storage", metavar="URL", help="database; default: a file in the run")
    return top


def _run(arguments: argparse.Namespace, console: Console) -> int:
    try:
        with interrupts():
            return _measure(arguments, console)
    except (Interrupted, KeyboardInterrupt):
        console.print(Text("Stopped; what was finished is kept. To continue:"))
        console.print(Text(arguments.line), soft_wrap=True)
        return INTERRUPTED


def _measure(arguments: argparse.Namespace, console: Console) -> int:
    place, controller = _open(_spec(arguments), arguments)
    fixed = dict(arguments.settings)
    origin = studies.origin(arguments.study, arguments.setting, fixed, arguments.device)
    runs.note_origin(place, origin)
    spec = controller.spec
    before = runs.read(place)
    finished = sum(trial.state != "running" for trial in before.trials)
    if finished:
        console.print(Text(f"Continuing {place.folder}: {finished} trials are finished."))
    if arguments.live:
        live.write(place)
        console.print(Text(f"Live report: {place.report.absolute()}"), soft_wrap=True)
    display = Display(console, spec.trials, finished)
    try:
        with display:
            run = controller.run(live.following(display, place) if arguments.live else display)
    except Exception:
        log = place.folder / "error.log"
        with contextlib.suppress(OSError):  # where the disk is full, that is the error to tell
            log.write_text(mask(traceback.format_exc()), encoding="utf-8")
        raise
    console.print(Text(_ending(run, finished, display, controller.over)), soft_wrap=True)
    tables.print_run(run, console)
    write_report(run, place.report)
    console.print(Text(f"Report: {place.report.absolute()}"), soft_wrap=True)
    return DONE if any(trial.state == "complete" for trial in run.trials) else FAILED


def _open(spec: StudySpec, arguments: argparse.Namespace) -> tuple[runs.Place, Controller]:
    """The run's folder and its controller.

    A fork is the first of name, name-2, ... that is new or was started with these settings, so
    that the same command continues it.
    """
    for name in runs.fork_names(spec.name):
        place = runs.make_place(arguments.out, name, arguments.storage)
        try:
            return place, Controller(
                dataclasses.replace(spec, name=name), place.url, wall_s=arguments.wall
            )
        except StudyChanged:
            if not arguments.fork:
                raise
    raise AssertionError("names do not end")


def _ending(run: Run, finished: int, display: Display, over: tuple[str, str] | None) -> str:
    """Why the study stopped, and how to go on; `over` is the limit that ended it."""
    total = len(run.trials)
    if over is not None:
        return f"{over[0]} after {total} trials; for more: {over[1]}"
    if total == finished:
        return f"The study is finished with {total} trials; for more: --trials {total + 8}"
    return f"Done in {duration(display.elapsed_s)}."


def _spec(arguments: argparse.Namespace) -> StudySpec:
    spec = studies.load(arguments.study, arguments.setting)
    for name in ("trials", "lanes"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    if arguments.store_gb is not None and not arguments.store_gb > 0:
        raise ValueError(f"--store-gb must be above 0, got {arguments.store_gb:g}.")
    spec = studies.with_params(spec, dict(arguments.settings))
    return dataclasses.replace(
        spec,
        **_changes(arguments),
        objective=spec.objective.configure(
            device=arguments.device,
            lanes=arguments.lanes,
            store=str(arguments.out / runs.STORE),
            store_gb=arguments.store_gb,
            share=arguments.share,
        ),
    )


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fields of the study that the command line sets."""
    changes: dict[str, Any] = {}
    if arguments.trials is not None:
        changes["trials"] = arguments.trials
    if arguments.budget is not None:
        changes["budget_s"] = arguments.budget
    for name in ("seed", "max_flops", "patience", "confirm"):
        if getattr(arguments, name) is not None:
            changes[name] = getattr(arguments, name)
    if arguments.warm_start is not None:
        changes["warm"] = _earlier(arguments)
    return changes


def _earlier(arguments: argparse.Namespace) -> tuple[Earlier, ...]:
    """The full trials of the run to start from."""
    run = runs.read(runs.find_place(arguments.warm_start, arguments.out, arguments.storage))
    return tuple(Earlier(params=trial.params, metrics=trial.metrics) for trial in run.complete())


def _list(arguments: argparse.Namespace, console: Console) -> int:
    table = Table("study", "what it does", title="Studies", title_justify="left")
    for name, line in studies.shipped().items():
        table.add_row(Text(name), Text(line))
    console.print(table)
    places = runs.all_places(arguments.out)
    if not places:
        console.print(Text(f"No runs in {arguments.out} yet. Start one: hpo run quickstart"))
        return DONE
    table = Table("run", "finished", "failed", "of", title="Runs", title_justify="left")
    for place in places:
        table.add_row(*(Text(str(cell)) for cell in _progress(place)))
    console.print(table)
    return DONE


def _progress(place: runs.Place) -> tuple[str | int, ...]:
    """A run's row: name, trials finished, failed and planned; or that it cannot be read."""
    try:
        run = runs.read(place)
    except StorageError:
        return (place.name, "cannot be read; see hpo show")
    states = [trial.state for trial in run.trials]
    finished = len(states) - states.count("running")
    return (place.name, finished, states.count("failed"), run.planned)


def _show(arguments: argparse.Namespace, console: Console) -> int:
    run = runs.read(runs.find_place(arguments.run, arguments.out, arguments.storage))
    if arguments.json:
        print(json.dumps(tables.run_json(run), indent=1, allow_nan=False))
    else:
        tables.print_run(run, console)
    return DONE


def _report(arguments: argparse.Namespace, console: Console) -> int:
    place = runs.find_place(arguments.run, arguments.out, arguments.storage)
    print(write_report(runs.read(place), place.report).absolute())
    return DONE


def _doctor(arguments: argparse.Namespace, console: Console) -> int:
    table = Table("check", "", "found", title="What works here", title_justify="left")
    checks = doctor.checks(arguments.out, arguments.storage)
    for check in checks:
        table.add_row(Text(check.name), "ok" if check.ok else "PROBLEM", Text(check.found))
    console.print(table)
    return DONE if all(check.ok for check in checks) else FAILED


def _complain(error: Exception, code: int) -> int:
    expected = (
        isinstance(error, ValueError | StorageError | MemoryError)
        or type(error).__name__ == "StoreError"
    )
    text = mask(" ".join(str(error).split())) or type(error).__name__
    print(f"hpo: {text}" if expected else f"hpo: {type(error).__name__}: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
