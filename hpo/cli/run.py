"""`hpo run`: start a study, or continue it."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hpo import study_files
from hpo.cli import live, run_choice
from hpo.cli.options import DONE, FAILED, INTERRUPTED, command
from hpo.cli.progress import Display
from hpo.cli.run_choice import Opened
from hpo.cli.values import rate, seconds, setting, share, whole
from hpo.controller import Controller
from hpo.core import files
from hpo.core.failures import StorageError
from hpo.core.format import duration, escape_controls, plural
from hpo.core.objective import Event
from hpo.core.passwords import mask
from hpo.core.spec import MOST_SEED, StudySpec, WarmStartTrial
from hpo.core.trial import Run
from hpo.executors import EXECUTORS, Options
from hpo.executors.interrupts import Interrupted, interrupts
from hpo.report import terminal_tables
from hpo.report.html.page import write_report
from hpo.report.results import Results
from hpo.search import preflight
from hpo.storage import run_folder
from hpo.study_files import StudyRequest

MOST_TRACES = 20
"""Tracebacks that error.log holds."""


MORE = 8
"""Trials that are offered to a study that is finished."""


def add(commands: Any) -> list[argparse.ArgumentParser]:
    """`hpo run`."""
    added = command(commands, "run", run, "start a study, or continue it")
    add_options(added)
    return [added]


def add_options(added: argparse.ArgumentParser) -> None:
    """The study and all that is said of it."""
    added.add_argument("study", metavar="STUDY", help="a name that `hpo list` shows, or a .py file")
    added.add_argument("--setting", metavar="NAME", help="small or full, where a study has both")
    added.add_argument(
        "--trials", type=whole(1), metavar="N", help="trials in all, named ones included"
    )
    added.add_argument("--budget", type=seconds, metavar="TIME", help="such as 90s, 30m, 1h30m")
    added.add_argument(
        "--set", action="append", default=[], type=setting, metavar="PATH=VALUE", dest="settings",
        help="fix a hyperparameter; may be repeated",
    )  # fmt: skip
    added.add_argument("--wall", type=seconds, metavar="TIME", help="start no wave after this")
    added.add_argument("--max-flops", type=rate, metavar="N", help="operations to measure with")
    added.add_argument(
        "--patience",
        type=whole(1),
        metavar="N",
        help="end when N full trials in a row gained nothing",
    )
    added.add_argument(
        "--confirm", type=whole(0), metavar="N", help="measure the front at N fresh seeds"
    )
    added.add_argument("--warm-start", metavar="RUN", help="an earlier run to start from")
    _add_executor(added)
    added.add_argument("--lanes", type=whole(1), metavar="K", help="most trials in one program")
    added.add_argument("--seed", type=whole(0, MOST_SEED), metavar="N", help="the study's seed")
    added.add_argument("--device", metavar="D", help="cpu or cuda; a GPU is used if there is one")
    added.add_argument(
        "--devices", type=whole(1), metavar="N", help="devices of one trial, such as 4 GPUs"
    )
    added.add_argument(
        "--sharding", metavar="KIND", help="of a model over them: replicate (whole on each) or fsdp"
    )
    added.add_argument("--wait", action="store_true", help="until whoever runs the study has ended")
    added.add_argument(
        "--accept-changes", action="store_true",
        help="go on with other data or library versions, as a new group of trials",
    )  # fmt: skip
    added.add_argument("--name", metavar="NAME", help="of the run; default: the study's")
    added.add_argument(
        "--restart", action="store_true", help="begin again where a run's database has vanished"
    )
    added.add_argument(
        "--fork", action="store_true",
        help="where the study has changed: a new run beside the old one",
    )  # fmt: skip
    added.add_argument(
        "--store-gb", type=rate, metavar="GB", help="size within which the store keeps itself"
    )
    added.add_argument("--share", metavar="URL", help="where machines share finished stages")
    added.add_argument("--live", action="store_true", help="rewrite the report as results come")


def _add_executor(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--executor", choices=list(EXECUTORS), default="inline", help="where trials run"
    )
    added.add_argument("--workers", type=whole(1), metavar="N", help="workers of the executor")
    added.add_argument("--worker-cpus", type=share, default=1.0, metavar="N", help="in a cluster")
    added.add_argument("--worker-gpus", type=share, default=0.0, metavar="N", help="such as 0.5")
    added.add_argument(
        "--slurm", action="append", default=[], type=setting, metavar="NAME=VALUE",
        help="a setting of its jobs, such as partition=gpu or time=60",
    )  # fmt: skip
    added.add_argument(
        "--hung-after",
        type=seconds,
        metavar="TIME",
        help="without progress it is replaced; 1h, and 10m while it reads data",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure until the study ends or is interrupted; then say how to go on."""
    try:
        with interrupts():
            return _measure(arguments, console)
    except (Interrupted, KeyboardInterrupt):
        console.print(Text("Stopped; what was finished is kept. To continue:"))
        console.print(Text(arguments.line), soft_wrap=True)
        return INTERRUPTED


def _measure(arguments: argparse.Namespace, console: Console) -> int:
    place, controller = _open(launch(arguments), arguments, console)
    run_folder.note_origin(place, origin(arguments))
    before = run_folder.read(place)
    finished = sum(trial.state != "running" for trial in before.trials)
    if finished:
        console.print(Text(f"Continuing {place.folder}: {_finished(finished)}."))
    display = Display(console, controller.spec.trials, finished)
    tell: Callable[[Event], None] = display
    if arguments.live:
        tell = following = live.Following(display, place)
        following.finished, following.trials = finished, controller.spec.trials
        following.write()
        console.print(Text(f"Live report: {place.report.absolute()}"), soft_wrap=True)
    controller.log = _Traces(place.folder / "error.log")
    try:
        with display, contextlib.closing(controller.executor):
            record = controller.run(tell, wait=arguments.wait)
    except BaseException as error:
        if isinstance(error, Exception):  # a worker's trace comes with it
            controller.log(getattr(error, "trace", "") + traceback.format_exc())
        if arguments.live:  # nothing runs any more, so that the page need not reload
            with contextlib.suppress(OSError, StorageError):
                write_report(Results(run_folder.read(place)), place.report)
        raise
    results = Results(record)
    unwritten = _report(results, place)  # before anything is printed, which may fail
    console.print(Text(_ending(record, finished, display, controller)), soft_wrap=True)
    terminal_tables.print_run(results, console)
    if unwritten is not None:
        raise StorageError(f"the report is not written, all trials are kept: {unwritten}")
    console.print(Text(f"Report: {place.report.absolute()}"), soft_wrap=True)
    if controller.broken is not None:
        many, reason = len(controller.failures), escape_controls(mask(controller.broken))
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
    asked: StudyRequest, arguments: argparse.Namespace, console: Console
) -> tuple[run_folder.RunFolder, Controller]:
    """The run's folder and its controller, with the executor that the command line names."""
    spec, options = study(asked, arguments), executor_options(arguments)
    default = os.environ.pop(run_folder.STORAGE_ENV, None)  # workers need no password
    opened = chosen(spec, arguments, default)
    name = opened.place.name
    executor = EXECUTORS[arguments.executor](spec, asked, arguments.out / name, options)
    if opened.finished < spec.trials:
        preflight.check(spec)
    if opened.line is not None:
        console.print(Text(opened.line), soft_wrap=True)
    opened.clear()
    place = run_folder.make_run_folder(arguments.out, name, arguments.storage, default)
    named = dataclasses.replace(spec, name=name)
    return place, Controller(
        named,
        place.url,
        executor,
        wall_s=arguments.wall,
        accept_changes=arguments.accept_changes,
    )


def study(asked: StudyRequest, arguments: argparse.Namespace) -> StudySpec:
    """The study with all that the command line sets, under the name that its run is to have."""
    spec = asked.spec()
    if arguments.name is not None:
        spec = dataclasses.replace(spec, name=arguments.name)
    if arguments.warm_start is not None:
        spec = dataclasses.replace(spec, warm=_earlier(arguments))
    return spec


def chosen(spec: StudySpec, arguments: argparse.Namespace, default: str | None) -> Opened:
    """The run that is meant; `default`: the storage that the environment names."""
    noted = origin(arguments).study
    return run_choice.choose(
        spec,
        arguments.out,
        arguments.storage,
        default,
        fork=arguments.fork,
        restart=arguments.restart,
        origin=noted,
    )


def origin(arguments: argparse.Namespace) -> run_folder.Origin:
    """Which study it is, for the run's note."""
    found = study_files.origin(arguments.study, arguments.setting, dict(arguments.settings))
    return dataclasses.replace(
        found,
        device=arguments.device,
        devices=arguments.devices,
        sharding=arguments.sharding,
    )


def launch(arguments: argparse.Namespace) -> StudyRequest:
    """What the command line asks of the study."""
    return StudyRequest(
        study=arguments.study,
        setting=arguments.setting,
        settings=tuple(arguments.settings),
        trials=arguments.trials,
        budget_s=arguments.budget,
        max_flops=arguments.max_flops,
        patience=arguments.patience,
        confirm=arguments.confirm,
        seed=arguments.seed,
        device=arguments.device,
        devices=arguments.devices,
        sharding=arguments.sharding,
        lanes=arguments.lanes,
        store=str(arguments.out / run_folder.STORE),
        store_gb=arguments.store_gb,
        share=arguments.share,
    )


def executor_options(arguments: argparse.Namespace) -> Options:
    """What is said of the executor."""
    return Options(
        workers=arguments.workers,
        patience_s=arguments.hung_after,
        cpus=arguments.worker_cpus,
        gpus=arguments.worker_gpus,
        slurm=dict(arguments.slurm),
    )


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


def _ending(run: Run, finished: int, display: Display, controller: Controller) -> str:
    """Why the study stopped, and how to go on."""
    total, over = plural(len(run.trials), "trial"), controller.over
    if controller.broken is not None:
        return "Stopped before all trials were measured; the same command goes on."
    if over is not None:
        return f"{over[0]} after {total}; for more: {over[1]}"
    if len(run.trials) == finished:
        if not run.space:
            return f"The study is finished with {total}; its space is empty, so there are no more."
        more = MORE + sum(not trial.confirms for trial in run.trials)  # confirmations come on top
        return f"The study is finished with {total}; for {MORE} more: --trials {more}"
    return f"Done in {duration(display.elapsed_s)}."
