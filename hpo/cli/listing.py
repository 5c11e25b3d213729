"""`hpo list`: the studies that ship, and the runs of an output folder."""

from __future__ import annotations

import argparse
import time

from rich.table import Table
from rich.text import Text

from hpo import study_files
from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core import format
from hpo.core.failures import StorageError
from hpo.core.trial import Run
from hpo.report.results import Results
from hpo.storage import lease, run_folder
from hpo.storage.record import DATABASE, closing, guarded, load_study, read_run

COLUMNS = ("run", "state", "finished", "failed", "of", "changed", "best")


def run(arguments: argparse.Namespace) -> int:
    """Print both tables; a run that cannot be read has a row that says why."""
    console = new_console()
    table = Table("study", "what it does", title="Studies", title_justify="left")
    for name, line in study_files.shipped().items():
        table.add_row(Text(name), Text(line))
    console.print(table)
    found = run_folder.listed(arguments.out, arguments.storage)
    if not found:
        console.print(Text(f"No runs in {arguments.out} yet. Start one: hpo run quickstart"))
        return DONE
    table = Table(*COLUMNS, title="Runs", title_justify="left")
    for name, place in found:
        cells = (name, f"cannot be read: {place}") if isinstance(place, str) else _row(place)
        table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
    return DONE


def _row(place: run_folder.RunFolder) -> tuple[str | int, ...]:
    try:
        with (
            guarded(place.url),
            closing(load_study(place.url, place.name, "read")) as study,
        ):
            record = read_run(study)
            holder = lease.holder_of(study)
    except StorageError:
        return (place.name, "cannot be read; see hpo show")
    states = [trial.state for trial in record.trials]
    finished = states.count("complete") + states.count("pruned")
    if holder is not None and not holder.gone():
        state = "running"
    else:
        state = "finished" if len(states) - states.count("running") >= record.planned else "stopped"
    failed = states.count("failed")
    return (place.name, state, finished, failed, record.planned, _changed(place), _best(record))


def _changed(place: run_folder.RunFolder) -> str:
    """When the record was last written, as far as its folder knows."""
    known = [place.folder / name for name in (DATABASE, run_folder.NOTE, run_folder.REPORT)]
    times = [path.stat().st_mtime for path in known if path.is_file()]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times))) if times else ""


def _best(record: Run) -> str:
    """The best value of each goal."""
    results = Results(record)
    best = ((goal.metric, results.best(goal)) for goal in record.goals)
    return ", ".join(
        f"{metric} {format.number(trial.metrics[metric])}"
        for metric, trial in best
        if trial is not None
    )
