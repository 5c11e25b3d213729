"""`hpo delete`: a run's record and folder; never the store, and nothing that is not the run's."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

import optuna
from optuna.study import Study
from rich.text import Text

from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core.format import plural
from hpo.executors.processes import LOGS
from hpo.executors.slurm import FOLDER
from hpo.storage import lease, run_folder, verifications
from hpo.storage.record import DATABASE, closing, delete_study, find_study, guarded
from hpo.storage.run_folder import RunFolder

FILES = re.compile(
    rf"{re.escape(DATABASE)}(-journal|-wal|-shm)?|error\.log|{re.escape(run_folder.NOTE)}\.\d+"
    rf"|{re.escape(run_folder.REPORT)}|\.{re.escape(run_folder.REPORT)}\..+"
)
"""Names that the program gives to files in a run's folder; its note goes last."""


FOLDERS = (LOGS, FOLDER, verifications.FOLDER)


def run(arguments: argparse.Namespace) -> int:
    """Delete the run, after asking; what is in its folder and not the run's stays, and is named."""
    console = new_console()
    place = run_folder.find_any(arguments.run, arguments.out, arguments.storage)
    study = find_study(place.url, place.name)
    if not (arguments.yes or _agreed(place, study)):
        console.print(Text("Nothing was deleted."))
        return DONE
    holds_others = _delete_record(place, study)
    kept = _delete_files(place, holds_others)
    console.print(Text(f"Deleted run {place.name}; finished stages stay in the store."))
    if kept:
        names = ", ".join(path.name for path in kept)
        console.print(Text(f"Not the run's, so left in {place.folder}: {names}"), soft_wrap=True)
    return DONE


def _agreed(place: RunFolder, study: Study | None) -> bool:
    """Whether a person at the terminal says yes.

    Raises:
        ValueError: there is none.
    """
    with guarded(place.url):
        states = [] if study is None else [trial.state for trial in study.get_trials(False)]
    complete = states.count(optuna.trial.TrialState.COMPLETE)
    what = (
        f"run {place.name} in {place.folder} ({plural(len(states), 'trial')}, {complete} complete)"
    )
    if not sys.stdin.isatty():
        raise ValueError(f"{what} is deleted only with --yes where nobody can be asked.")
    try:
        return input(f"Delete {what}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _delete_record(place: RunFolder, study: Study | None) -> bool:
    """Delete the run's study; whether its storage holds others.

    Raises:
        lease.LeaseHeld: a controller runs it.
    """
    if study is None:
        return False
    with guarded(place.url):
        holder = lease.holder_of(study)
        if holder is not None and holder.may_be_there():
            raise lease.LeaseHeld(f"run {place.name!r} is being run by {holder}; end that first.")
        with closing(study):
            with lease.held(study, place.url):
                delete_study(study)
            return bool(optuna.get_all_study_names(study._storage))


def _delete_files(place: RunFolder, holds_others: bool) -> list[Path]:
    """Delete what the program has written into the run's folder; returns what it has not.

    Links are removed and never followed. The note goes last, so that what is interrupted can be
    done again.
    """
    folder, kept = place.folder, []
    for path in sorted(folder.iterdir()):
        ours = path.name in FOLDERS or FILES.fullmatch(path.name) is not None
        if path.name == run_folder.NOTE:
            continue
        if not ours or (holds_others and path.name.startswith(DATABASE)):
            kept.append(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / run_folder.NOTE).unlink(missing_ok=True)
    if not kept and not folder.is_symlink():
        folder.rmdir()
    return kept
