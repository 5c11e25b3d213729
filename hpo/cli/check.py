"""`hpo check`: all that `hpo run` checks before it begins, and what the study would cost."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.cli.run import chosen, executor_options, study, study_request
from hpo.cli.run_choice import Opened
from hpo.core import format
from hpo.core.failures import StorageError
from hpo.core.format import amount, duration
from hpo.core.spec import StudySpec
from hpo.executors import EXECUTORS
from hpo.report.terminal_tables import finite
from hpo.search import preflight
from hpo.storage import run_folder


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then print what would be done; nothing is written."""
    request = study_request(arguments)
    spec, options = study(request, arguments), executor_options(arguments)
    try:
        opened = chosen(spec, request, arguments, os.environ.get(run_folder.STORAGE_ENV))
    except StorageError as error:
        raise ValueError(str(error)) from None
    folder = arguments.out / opened.place.name
    executor = EXECUTORS[arguments.executor](spec, request, folder, options)
    with contextlib.closing(executor):
        preflight.check(spec)
        slots = executor.slots
    cost = preflight.estimate(spec, opened.finished)
    found = _as_json(spec, opened, arguments.executor, slots, cost, _free(arguments.out))
    if arguments.json:
        print(json.dumps(finite(found), indent=1, allow_nan=False))
    else:
        _print(found, new_console())
    _check_disk(found, arguments.store_gb)
    return DONE


def _as_json(
    spec: StudySpec, opened: Opened, executor: str, slots: int, cost: dict[str, Any] | None,
    free: int,
) -> dict[str, Any]:  # fmt: skip
    planned = min(len(spec.planned), spec.trials)
    how = "replaced" if opened.replaces else "continued" if opened.finished else "new"
    return {
        "run": opened.place.name,
        "state": how,
        "finished": opened.finished,
        "trials": spec.trials,
        "baselines_and_grid": planned,
        "wave": spec.wave,
        "rungs": list(spec.fidelities),
        "confirm": spec.confirm,
        "executor": executor,
        "waves_side_by_side": slots,
        "free_bytes": free,
        "estimate": cost,
    }


def _print(found: dict[str, Any], console: Console) -> None:
    title = f"Checked: {found['run']} can be run"
    table = Table(show_header=False, title=title, title_justify="left")
    for name, text in _rows(found):
        table.add_row(Text(name), Text(text))
    console.print(table)
    cost = found["estimate"] or {}
    notes = list(cost.get("notes", []))
    if len(found["rungs"]) > 1 and cost:
        notes.append("Trials that are stopped at a rung take less: these are upper bounds.")
    for note in notes:
        console.print(Text(note), soft_wrap=True)


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values for people."""
    left = max(0, found["trials"] - found["finished"])
    yield "run", f"{found['run']}, {found['state']}"
    kinds = f"{found['baselines_and_grid']} of them baselines and grid"
    yield "trials", f"{left} to measure of {found['trials']}, {kinds}; waves of {found['wave']}"
    slots = found["waves_side_by_side"]
    yield "executor", f"{found['executor']}, {slots} wave{'s' if slots > 1 else ''} at a time"
    cost = found["estimate"]
    if cost is None:
        done = "no trial is left" if not left else "the objective gives no estimate"
        yield "cost", f"unknown: {done}"
    else:
        yield from _cost_rows(cost, found["waves_side_by_side"])
    yield "free disk", _gigabytes(found["free_bytes"])


def _cost_rows(cost: dict[str, Any], workers: int) -> Iterator[tuple[str, str]]:
    """What an objective's estimate says; it may leave out any of it."""
    if cost.get("device") is not None:
        yield "device", str(cost["device"])
    if cost.get("parameters") is not None:
        yield "model", f"{format.number(float(cost['parameters']), 3)} parameters"
    names = {"pretraining": "pretraining", "finetuning": "fine-tuning"}
    for part, tokens in cost.get("tokens", {}).items():
        stored = cost.get("stored", {}).get(part, 0.0)
        text = f"{amount(tokens)} tokens"
        yield names.get(part, part), text + (f", {amount(stored)} stored" if stored else "")
    if cost.get("disk_bytes") is not None:
        yield "new stages", f"about {_gigabytes(cost['disk_bytes'])}"
    if cost.get("seconds") is not None:
        rate = f"{amount(cost['tokens_per_second'])} tokens/s in a measured step"
        yield "training time", f"about {duration(cost['seconds'] / workers)} ({rate})"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def _free(out: Path) -> int:
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free


def _check_disk(found: dict[str, Any], store_gb: float | None) -> None:
    """Raise ValueError where the new stages have no room; a store with a size keeps to it."""
    need = (found["estimate"] or {}).get("disk_bytes") or 0.0
    if store_gb is not None:
        need = min(need, store_gb * 1e9)
    if need > found["free_bytes"]:
        raise ValueError(
            f"new stages take about {_gigabytes(need)}, and {_gigabytes(found['free_bytes'])} are "
            "free; free some space, or keep the store small with --store-gb."
        )
