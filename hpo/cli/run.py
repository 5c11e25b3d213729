"""`hpo run`: start a study, or continue it."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hpo import known_studies
from hpo.callbacks import CallbackEvents
from hpo.cli import live, run_choice
from hpo.cli.console import new_console
from hpo.cli.options import DONE, FAILED, INTERRUPTED
from hpo.cli.run_choice import Opened
from hpo.cli.run_options import LENGTH
from hpo.controller import Controller
from hpo.core import conditions, files
from hpo.core.callback import StudyEnded
from hpo.core.failures import StorageError
from hpo.core.format import duration, escape_controls, plural
from hpo.core.passwords import mask
from hpo.core.spec import StudySpec, WarmStartTrial
from hpo.core.trial import Run
from hpo.executors import EXECUTORS, Options
from hpo.executors.divided import Divided
from hpo.executors.interrupts import Interrupted, interrupts
from hpo.progress import Display
from hpo.report import terminal_tables
from hpo.report.html.page import write_report
from hpo.report.results import Results
from hpo.search import preflight
from hpo.storage import run_folder, verifications
from hpo.study_files import StudyRequest
from hpo.trackers.registry import trackers

MOST_TRACES = 20
"""Tracebacks that error.log holds."""


MORE = 8
"""Trials that are offered to a study that is finished."""


def run(arguments: argparse.Namespace) -> int:
    """Measure until the study ends or is interrupted; then say how to go on."""
    console = new_console()
    try:
        with interrupts():
            return _measure(arguments, console)
    except (Interrupted, KeyboardInterrupt):
        console.print(Text("Stopped; what was finished is kept. To continue:"))
        console.print(Text(arguments.command_line), soft_wrap=True)
        return INTERRUPTED


def _measure(arguments: argparse.Namespace, console: Console) -> int:
    request = study_request(arguments)
    place, controller = _open(request, arguments, console)
    run_folder.note_study(place, request.note())
    before = run_folder.read(place)
    finished = sum(trial.state != "running" for trial in before.trials)
    if finished:
        console.print(Text(f"Continuing {place.folder}: {_finished(finished)}."))
    display = Display(console, controller.spec.trials, finished)
    events = CallbackEvents(
        _follow(display, place, console) if arguments.live else display,
        trackers(arguments.track, place.folder),
        controller,
        lambda text: console.print(Text(f"Warning: {escape_controls(text)}"), soft_wrap=True),
    )
    controller.log = _Traces(place.folder / "error.log")
    try:
        with display, contextlib.closing(controller.executor):
            events.begin(before, place.folder)
            record = controller.run(events, wait=arguments.wait)
    except BaseException as error:
        if isinstance(error, Exception):  # a worker's trace comes with it
            controller.log(getattr(error, "trace", "") + traceback.format_exc())
        if arguments.live:  # nothing runs any more, so that the page need not reload
            with contextlib.suppress(OSError, StorageError):
                write_report(Results(run_folder.read(place)), place.report)
        raise
    results = Results(record, verifications.read_all(place))
    unwritten = _report(results, place)  # before anything is printed, which may fail
    events.end(
        StudyEnded(
            run=record,
            front=results.front.trials,
            report=place.report if unwritten is None else None,
        )
    )
    console.print(Text(_ending(record, finished, display, controller)), soft_wrap=True)
    terminal_tables.print_run(results, console)
    if unwritten is not None:
        raise StorageError(f"the report is not written, all trials are kept: {unwritten}")
    console.print(Text(f"Report: {place.report.absolute()}"), soft_wrap=True)
    return _exit_code(controller, record)


def _follow(display: Display, place: run_folder.RunFolder, console: Console) -> live.Following:
    """Keep the report up to date beside the display."""
    following = live.Following(display, place)
    following.finished, following.trials = display.finished, display.trials
    following.write()
    console.print(Text(f"Live report: {place.report.absolute()}"), soft_wrap=True)
    return following


def _exit_code(controller: Controller, record: Run) -> int:
    """Failed where the study stopped itself, or no trial is complete."""
    stop = controller.stop_reason
    if stop is not None and stop.limit is None:
        many, reason = len(controller.failures), escape_controls(mask(stop.text))
        print(
            f"hpo: stopped, as {many} trials in a row failed for the same reason: {reason}.",
            file=sys.stderr,
        )
        return FAILED
    return DONE if any(trial.state == "complete" for trial in record.trials) else FAILED


def _report(results: Results, place: run_folder.RunFolder) -> str | None:
    """Write the report; why that cannot be done, if so."""
    try:
        write_report(results, place.report)
    except OSError as error:
        return files.sentence(error)
    return None


class _Traces:
    """Writes tracebacks, the latest of this run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: collections.deque[str] = collections.deque(maxlen=MOST_TRACES)

    def __call__(self, trace: str) -> None:
        self.kept.append(escape_controls(mask(trace)))
        with contextlib.suppress(OSError):  # where the disk is full, that is the error to tell
            files.write(self.path, "\n".join(self.kept))


def _open(
    request: StudyRequest, arguments: argparse.Namespace, console: Console
) -> tuple[run_folder.RunFolder, Controller]:
    """The run's folder and its controller, with the executor that the command line names."""
    spec, options = study(request, arguments), executor_options(arguments)
    known_studies.remember(request.study)
    default = os.environ.pop(run_folder.STORAGE_ENV, None)  # workers need no password
    opened = chosen(spec, request, arguments, default)
    name = opened.place.name
    executor = EXECUTORS[arguments.executor](spec, request, arguments.out / name, options)
    with contextlib.ExitStack() as opening:
        opening.callback(executor.close)
        if opened.finished < spec.trials:
            if isinstance(executor, Divided):  # they load the study in the meantime
                executor.begin()
            preflight.check(spec)
        for line in (opened.line, _warm_start(arguments, spec)):
            if line is not None:
                console.print(Text(line), soft_wrap=True)
        opened.clear()
        place = run_folder.make_run_folder(arguments.out, name, arguments.storage, default)
        named = dataclasses.replace(spec, name=name)
        controller = Controller(
            named,
            place.url,
            executor,
            wall_s=arguments.wall,
            accept_changes=arguments.accept_changes,
            widen=arguments.widen,
        )
        opening.pop_all()
    return place, controller


def study(request: StudyRequest, arguments: argparse.Namespace) -> StudySpec:
    """The study with all that the command line sets."""
    spec = request.spec()
    if arguments.warm_start is None:
        return spec
    return dataclasses.replace(spec, warm=_earlier(arguments))


def chosen(
    spec: StudySpec, request: StudyRequest, arguments: argparse.Namespace, default: str | None
) -> Opened:
    """The run that is meant; `default`: the storage that the environment names."""
    return run_choice.choose(
        spec,
        arguments.out,
        arguments.storage,
        default,
        fork=arguments.fork,
        widen=arguments.widen,
        restart=arguments.restart,
        origin=request.note()["study"],
    )


def study_request(arguments: argparse.Namespace) -> StudyRequest:
    """Which study the command line names, and what it changes of it."""
    given = _fields(StudyRequest, arguments) | {"params": dict(arguments.params)}
    return StudyRequest(**given, store=str(arguments.out / run_folder.STORE))


def executor_options(arguments: argparse.Namespace) -> Options:
    """What the command line sets of the executor."""
    return Options(**_fields(Options, arguments) | {"slurm": dict(arguments.slurm)})


def _fields(kind: type[Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that are fields of a dataclass."""
    names = [each.name for each in dataclasses.fields(kind)]
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}


def _finished(count: int) -> str:
    return "1 trial is finished" if count == 1 else f"{count} trials are finished"


def _earlier(arguments: argparse.Namespace) -> tuple[WarmStartTrial, ...]:
    """The full trials of the run to start from."""
    earlier = run_folder.read(
        run_folder.find_run(arguments.warm_start, arguments.out, arguments.storage)
    )
    return tuple(
        WarmStartTrial(params=each.params, metrics=each.metrics) for each in earlier.complete()
    )


def _warm_start(arguments: argparse.Namespace, spec: StudySpec) -> str | None:
    """That the run to start from was measured with other data or libraries, if so."""
    if arguments.warm_start is None:
        return None
    place = run_folder.find_run(arguments.warm_start, arguments.out, arguments.storage)
    earlier = run_folder.read(place)
    before = earlier.conditions[earlier.group] if earlier.conditions else {}
    changed = conditions.difference(before, conditions.of_objective(spec.objective))
    return (
        f"Run {earlier.name}, which the search starts from, was measured under other conditions: "
        f"{changed}. Its trials guide the search and are in no front of this run."
        if changed
        else None
    )


def _ending(run: Run, finished: int, display: Display, controller: Controller) -> str:
    """Why the study stopped, and how to go on."""
    total, stop = plural(len(run.trials), "trial"), controller.stop_reason
    if stop is not None and stop.limit is None:
        return "Stopped before all trials were measured; the same command goes on."
    if stop is not None:
        option = next(each for each in LENGTH.options if each.dest == stop.limit)
        return f"{stop.text} after {total}; for more: {option.name} {option.metavar}"
    if len(run.trials) == finished:
        if not run.space:
            return f"The study is finished with {total}; its space is empty, so there are no more."
        more = MORE + sum(not trial.confirms for trial in run.trials)  # confirmations come on top
        return f"The study is finished with {total}; for {MORE} more: --trials {more}"
    return f"Done in {duration(display.elapsed_s)}."
