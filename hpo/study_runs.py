"""`hpo.run_study`: what `hpo run` does, from Python and in a notebook."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hpo.callbacks import CallbackEvents
from hpo.controller import Controller
from hpo.core import checks
from hpo.core.callback import Callback, StudyEnded
from hpo.core.objective import Value
from hpo.core.spec import StudySpec
from hpo.executors import EXECUTORS, Executor, Options
from hpo.executors.interrupts import Interrupted
from hpo.notebook import NotebookRun, notebook_run
from hpo.progress import Display
from hpo.report.html.page import write_report
from hpo.report.results import Results
from hpo.search import preflight
from hpo.storage import run_folder, verifications
from hpo.storage.provenance import StudyChanged
from hpo.storage.run_folder import RunFolder
from hpo.study_files import StudyRequest, with_params
from hpo.trackers.registry import trackers


def run_study(
    study: StudySpec | str | Path,
    *,
    params: Mapping[str, Value] | None = None,
    out: str | Path = "runs",
    storage: str | None = None,
    executor: str = "inline",
    workers: int | None = None,
    wall_s: float | None = None,
    accept_changes: bool = False,
    widen: bool = False,
    progress: bool = True,
    track: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    **changes: Any,
) -> NotebookRun:
    """Start a study, or continue it; returns its record when it has ended or was interrupted.

    The first Ctrl-C (in a notebook: the button that interrupts the kernel) stops at the end of the
    step, keeps what is finished and returns the run as it is then; a second one stops at once, with
    KeyboardInterrupt. The same call goes on.

    Args:
        study: A `StudySpec`, or the name or file of a study as `hpo run` takes it.
        params: Hyperparameters that are fixed for all trials, as by `--set`.
        out: Folder of the runs; the run is in OUT/NAME, finished stages are in OUT/store.
        storage: URL of the storage; None is a SQLite file in the run's folder.
        executor: inline, processes, ray or slurm; workers load the study again, so that the others
            need its name or file.
        workers: Batches side by side; None leaves it to the executor.
        wall_s: Seconds after which no new trials start.
        accept_changes: Continue with changed data or library versions.
        widen: Continue with choices added or ranges widened in the study's space.
        progress: Show a line of what is trained.
        track: Names of experiment trackers, as of `--track`.
        callbacks: Your own, see `hpo.core.callback.Callback`.
        **changes: What else the options of `hpo run` set: name, trials, budget_s, max_flops,
            patience, confirm, seed, device, devices, sharding, lanes, store_gb, share, variant.

    Raises:
        ValueError: the study is wrong, or the run was started with other settings.
        StorageError: the storage cannot be used.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}, got {executor!r}.")
    request = _request(study, dict(params or {}), str(Path(out) / run_folder.STORE), changes)
    if isinstance(study, StudySpec):
        if executor != "inline":
            raise ValueError(
                f"executor {executor!r} loads the study in other processes; give the study's name "
                "or file instead of a StudySpec, or use executor='inline'."
            )
        spec = request.applied(with_params(study, request.params))
    else:
        spec = request.spec()
    preflight.check(spec)
    place = run_folder.make_run_folder(Path(out), spec.name, storage)
    if not isinstance(study, StudySpec):
        run_folder.note_study(place, request.note())
    made = EXECUTORS[executor](spec, request, place.folder, Options(workers=workers))
    with _quiet_optuna():
        controller = _controller(
            spec, place.url, made, wall_s=wall_s, accept_changes=accept_changes, widen=widen
        )
        display = Display(Console(highlight=False), spec.trials, 0)
        display.quiet = not progress
        every = [*trackers(track, place.folder), *callbacks]
        events = CallbackEvents(display, every, controller, warnings.warn)
        over = _measure(controller, display, events, place)
        run = notebook_run(run_folder.read(place))
    report = _report(run, place)
    if over:
        events.end(StudyEnded(run=run, front=run.front.trials, report=report))
    return run


def _report(run: NotebookRun, place: RunFolder) -> Path | None:
    """Write the report; None where that cannot be done, as what is measured is recorded."""
    verified = verifications.read_all(place)
    results = Results(run, verified) if verified else run.results
    try:
        return write_report(results, place.report)
    except OSError:
        return None


def _controller(spec: StudySpec, url: str, executor: Executor, **given: Any) -> Controller:
    try:
        return Controller(spec, url, executor, **given)
    except StudyChanged as error:
        what, wider, _ = str(error).partition("; add --widen")
        remedy = (
            "give widen=True to go on in the wider space, undo it" if wider else "undo the change"
        )
        what = what.partition("; undo")[0]
        raise StudyChanged(f"{what}; {remedy}, or give another name=.") from None


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Without Optuna's line for each study it opens."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _request(
    study: StudySpec | str | Path, params: dict[str, Value], store: str, changes: dict[str, Any]
) -> StudyRequest:
    fields = {each.name for each in dataclasses.fields(StudyRequest)}
    known = fields - {"study", "params", "store", "folder"}
    if isinstance(study, StudySpec):
        known -= {"variant"}  # of a study file
    for name in changes:
        if name not in known:
            raise ValueError(
                f"run_study has no argument {name!r}; {checks.near(name, sorted(known))}"
            )
    name = "" if isinstance(study, StudySpec) else str(study)
    return StudyRequest(study=name, params=params, store=store, **changes)


def _measure(
    controller: Controller, display: Display, events: CallbackEvents, place: RunFolder
) -> bool:
    """Measure; returns whether the study has ended, and was not interrupted."""
    before = run_folder.read(place)
    display.finished = display.already = sum(each.state != "running" for each in before.trials)
    try:
        with display, contextlib.closing(controller.executor):
            events.begin(before, place.folder)
            controller.run(events)
    except Interrupted:
        display.say("Stopped; what is finished is kept, and the same call goes on.")
        return False
    return True
