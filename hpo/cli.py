"""The command line: `hpo run`, `list`, `show`, `report`, `dashboard`, `store`, `doctor`.

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
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, TypeVar

import optuna
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo import dashboard, doctor, live, runs, stages, studies, tables
from hpo.progress import Display, Interrupted, duration, interrupts
from hpo.record import Run
from hpo.report import write_report
from hpo.spec import Baseline, Point, StudySpec, ends
from hpo.storage import StorageError, mask
from hpo.study import Controller, StudyChanged

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
OUT = "runs"
WIDTH = 140
"""Columns where no terminal says how many there are."""
PointOrBaseline = TypeVar("PointOrBaseline", Point, Baseline)


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
        command: Callable[[argparse.Namespace, Console], int] = arguments.command
        return command(arguments, console)
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
    run = _command(commands, "run", _run, "start a study, or continue it")
    run.add_argument("study", metavar="STUDY", help="a name that `hpo list` shows, or a .py file")
    run.add_argument("--setting", metavar="NAME", help="small or full, where a study has both")
    run.add_argument("--trials", type=int, metavar="N", help="trials in all, named ones included")
    run.add_argument("--budget", type=_seconds, metavar="TIME", help="such as 90s, 30m, 2h")
    run.add_argument(
        "--set", action="append", default=[], type=_setting, metavar="PATH=VALUE", dest="settings",
        help="fix a hyperparameter; may be repeated",
    )  # fmt: skip
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
        _command(commands, "list", _list, "studies that ship, and runs with their progress"),
        _command(commands, "show", _show, "the front as a table"),
        _command(commands, "report", _report, "write the HTML report, print its path"),
        _command(commands, "dashboard", _dashboard, "optuna-dashboard on the run, on this machine"),
    ]
    for each in commands_on_runs[1:]:
        each.add_argument("run", metavar="RUN", help="a run's name or folder")
    commands_on_runs[1].add_argument("--json", action="store_true", help="for programs")
    commands_on_runs[3].add_argument("--port", type=int, default=8080, metavar="N")
    on_store = _store_commands(commands)
    with_storage = [run, *commands_on_runs]
    with_storage.append(_command(commands, "doctor", _doctor, "what works here"))
    for each in [*with_storage, *on_store]:
        each.add_argument("--out", type=Path, default=Path(OUT), metavar="DIR", help="runs' folder")
    for each in with_storage:
        each.add_argument("--storage", metavar="URL", help="database; default: a file in the run")
    return top


def _store_commands(commands: Any) -> list[argparse.ArgumentParser]:
    """`hpo store show` and `hpo store prune`."""
    text = "finished stages: what is there, what should go"
    store = commands.add_parser("store", help=text, description=text)
    actions = store.add_subparsers(required=True, metavar="show|prune")
    show = _command(actions, "show", _store_show, "sizes, and what was saved")
    show.add_argument("--json", action="store_true", help="for programs")
    prune = _command(actions, "prune", _store_prune, "free space; what is in use stays")
    one = prune.add_mutually_exclusive_group(required=True)
    one.add_argument("--budget", type=_gigabytes, metavar="GB", help="the least useful go first")
    one.add_argument(
        "--older-than", type=_seconds, metavar="TIME", help="unused for so long, such as 12h, 7d"
    )
    one.add_argument("--damaged", action="store_true", help="read all, drop what is not whole")
    one.add_argument("--stage", metavar="NAME", help="all of one stage that store show lists")
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    return [show, prune]


def _command(
    commands: Any, name: str, function: Callable[..., int], text: str
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    added.set_defaults(command=function)
    return added


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
    console.print(Text(_ending(spec, run, finished, display)), soft_wrap=True)
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
            return place, Controller(dataclasses.replace(spec, name=name), place.url)
        except StudyChanged:
            if not arguments.fork:
                raise
    raise AssertionError("names do not end")


def _ending(spec: StudySpec, run: Run, finished: int, display: Display) -> str:
    """Why the study stopped, and how to go on."""
    total = len(run.trials)
    if total < spec.trials:
        spent = duration(spec.budget_s or 0)
        return f"The budget of {spent} is used up after {total} trials; for more: --budget TIME"
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
    changes: dict[str, Any] = {}
    if arguments.trials is not None:
        changes["trials"] = arguments.trials
    if arguments.budget is not None:
        changes["budget_s"] = arguments.budget
    if arguments.seed is not None:
        changes["seed"] = arguments.seed
    fixed = dict(arguments.settings)
    objective = spec.objective.with_params(fixed) if fixed else spec.objective
    for path, domain in spec.space.items():
        if path not in fixed:  # what is fixed may not be searched under another name
            spec.objective.check({**fixed, path: ends(domain)[0]})
    return dataclasses.replace(
        spec,
        **changes,
        objective=objective.configure(
            device=arguments.device,
            lanes=arguments.lanes,
            store=str(arguments.out / runs.STORE),
            store_gb=arguments.store_gb,
            share=arguments.share,
        ),
        space={path: domain for path, domain in spec.space.items() if path not in fixed},
        baselines=tuple(_without(each, fixed) for each in spec.baselines),
        grid=tuple(_without(each, fixed) for each in spec.grid),
    )


def _without(point: PointOrBaseline, fixed: Container[str]) -> PointOrBaseline:
    """The baseline or grid point without the params that are fixed for all trials."""
    params = {path: value for path, value in point.params.items() if path not in fixed}
    return dataclasses.replace(point, params=params)


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
    failed = states.count("failed")
    return (place.name, states.count("complete") + failed, failed, run.planned)


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


def _dashboard(arguments: argparse.Namespace, console: Console) -> int:
    place = runs.find_place(arguments.run, arguments.out, arguments.storage)
    dashboard.serve(place.url, place.name, arguments.port, lambda text: print(text, flush=True))
    return DONE


def _store_show(arguments: argparse.Namespace, console: Console) -> int:
    folder = arguments.out / runs.STORE
    data = stages.store_json(folder, stages.found(folder), stages.saved(arguments.out))
    if arguments.json:
        print(json.dumps(data, indent=1, allow_nan=False))
    else:
        console.print(stages.store_table(data))
    return DONE


def _store_prune(arguments: argparse.Namespace, console: Console) -> int:
    folder = arguments.out / runs.STORE
    if arguments.stage is not None:
        there = sorted({each.stage for each in stages.found(folder)} - {stages.LEFT_OVER})
        if arguments.stage not in there:
            raise ValueError(f"no stage {arguments.stage!r} in {folder}; there are {there}.")
        criterion = [f"--stage={arguments.stage}"]
    elif arguments.budget is not None:
        criterion = [f"--budget-gb={arguments.budget}"]
    elif arguments.older_than is not None:
        criterion = [f"--older-than-s={arguments.older_than}"]
    else:
        criterion = ["--damaged"]
    gone = stages.pruned(folder, criterion, dry_run=arguments.dry_run)
    left = stages.found(folder)
    console.print(
        Text(stages.prune_sentence(gone, left, dry_run=arguments.dry_run)), soft_wrap=True
    )
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


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a time such as 90s, 30m or 2h, got {text!r}")
    return value


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a size in GB such as 0.5 or 20, got {text!r}")
    return value


def _setting(text: str) -> tuple[str, Any]:
    """PATH=VALUE; the value is JSON where it reads as JSON, else text."""
    path, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"PATH=VALUE, got {text!r}")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


if __name__ == "__main__":
    sys.exit(main())
