"""`hpo store`: what finished stages there are, and which go."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core.failures import StorageError
from hpo.core.format import number, plural, size
from hpo.storage import run_folder


def show(arguments: argparse.Namespace) -> int:
    """Print sizes, as a table or for programs."""
    folder = arguments.out / run_folder.STORE
    data = store_json(folder, found(folder), saved(arguments.out))
    if arguments.json:
        print(json.dumps(data, indent=1, allow_nan=False))
    else:
        new_console().print(store_table(data))
    return DONE


def prune(arguments: argparse.Namespace) -> int:
    """Drop stages, and say which."""
    folder = arguments.out / run_folder.STORE
    if arguments.stage is not None:
        there = sorted({each.stage for each in found(folder)} - {LEFT_OVER, FOREIGN})
        if arguments.stage not in there:
            raise ValueError(f"no stage {arguments.stage!r} in {folder}; there are {there}.")
        criterion = [f"--stage={arguments.stage}"]
    elif arguments.store_gb is not None:
        criterion = [f"--budget-gb={arguments.store_gb}"]
    elif arguments.older_than is not None:
        criterion = [f"--older-than-s={arguments.older_than}"]
    else:
        criterion = ["--damaged"]
    gone = pruned(folder, criterion, dry_run=arguments.dry_run)
    left = found(folder)
    new_console().print(Text(prune_sentence(gone, left, dry_run=arguments.dry_run)), soft_wrap=True)
    return DONE


DAMAGED, LEFT_OVER, FOREIGN = "damaged", "partial", "?"
"""Stages that are none: what was set aside, what dead processes left half written, and what is not
of this program and never removed."""


MOST_NAMES = 5
"""Foreign files and folders that are named in the table; JSON has all."""


@dataclass(frozen=True)
class Stage:
    """A stage, or what is left of one."""

    stage: str
    key: str
    """Of what is foreign, its path in the store."""
    bytes: int
    seconds: float
    """What it takes to compute it again, from the start of its training."""
    whole: bool
    in_use: bool
    """By a living process."""


def found(folder: Path) -> list[Stage]:
    """What the store holds.

    Raises:
        ValueError: there is no store.
        StorageError: it cannot be read.
    """
    return _asked("show", folder)


def pruned(folder: Path, criterion: Sequence[str], *, dry_run: bool) -> list[Stage]:
    """What went, or with `dry_run` would go; what a living process uses stays.

    `criterion`: `--budget-gb GB`, `--older-than-s S`, `--stage NAME` or `--damaged`.

    Raises:
        ValueError: there is no store.
        StorageError: it cannot be read or written.
    """
    return _asked("prune", folder, *criterion, *(["--dry-run"] if dry_run else []))


def saved(out: Path) -> dict[str, float]:
    """What the runs in the output folder did not have to compute: tokens and seconds."""
    total = {"tokens_reused": 0.0, "device_s_saved": 0.0}
    for place in run_folder.all_runs(out):
        try:
            trials = run_folder.read(place).trials
        except StorageError:
            continue
        for name in total:
            total[name] += sum(trial.cost.get(name, 0.0) for trial in trials)
    return total


def store_json(folder: Path, stages: Sequence[Stage], spared: dict[str, float]) -> dict[str, Any]:
    """The store as JSON-able data.

    {"folder": str, "entries": int, "bytes": int,
     "stages": [{"stage": str, "entries": int, "bytes": int, "device_s": float, "in_use": int}],
     "damaged": {"entries": int, "bytes": int}, "left_over": {"entries": int, "bytes": int},
     "foreign": {"entries": int, "names": [str]},
     "saved": {"tokens_reused": float, "device_s_saved": float}}

    `foreign` are files and folders that this program has not made; no command removes them, and
    they count in no sum.
    `device_s` is what it would take to compute each entry from the start of its training: a stretch
    that several entries share counts for each of them.
    """
    foreign = [each.key for each in stages if each.stage == FOREIGN]
    stages = _own(stages)
    good = [each for each in stages if _kind(each) not in (DAMAGED, LEFT_OVER)]
    by_stage: dict[str, list[Stage]] = {}
    for each in good:
        by_stage.setdefault(each.stage, []).append(each)
    return {
        "folder": str(folder),
        **_size(stages),
        "stages": [
            {
                "stage": name,
                **_size(some),
                "device_s": sum(each.seconds for each in some),
                "in_use": sum(each.in_use for each in some),
            }
            for name, some in sorted(by_stage.items())
        ],
        "damaged": _size(each for each in stages if _kind(each) == DAMAGED),
        "left_over": _size(each for each in stages if _kind(each) == LEFT_OVER),
        "foreign": {"entries": len(foreign), "names": foreign},
        "saved": spared,
    }


def store_table(data: dict[str, Any]) -> Table:
    """The same for people."""
    table = Table(title=Text(f"Stages in {data['folder']}"), title_justify="left")
    table.add_column("stage")
    for heading in ("entries", "size", "device time to compute again", "in use"):
        table.add_column(heading, justify="right")
    for row in data["stages"]:
        cells = (row["entries"], size(row["bytes"]), f"{number(row['device_s'], 3)} s")
        table.add_row(Text(row["stage"]), *map(str, cells), str(row["in_use"]))
    for name, heading in (("damaged", "damaged"), ("left_over", "left half written")):
        if data[name]["entries"]:
            table.add_row(heading, str(data[name]["entries"]), size(data[name]["bytes"]), "", "")
    table.add_section()
    table.add_row("all", str(data["entries"]), size(data["bytes"]), "", "")
    spared = data["saved"]
    names = data["foreign"]["names"]
    some = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
    other = f"Not of this program, and left alone: {len(names)} ({some}). " if names else ""
    table.caption = Text(
        f"{other}Trials of the runs beside it did without {number(spared['tokens_reused'], 3)} "
        f"tokens and {number(spared['device_s_saved'], 3)} s of the device, shared or found here."
    )
    return table


def prune_sentence(gone: Sequence[Stage], left: Sequence[Stage], *, dry_run: bool) -> str:
    """What went or would go, by stage, and what stays."""
    left = _own(left)
    counts: dict[str, int] = {}
    for each in gone:
        counts[each.stage] = counts.get(each.stage, 0) + 1
    parts = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    total, rest = _size(gone), _size(left)["bytes"] - (_size(gone)["bytes"] if dry_run else 0)
    held = sum(each.in_use for each in left)
    verb = "Would free" if dry_run else "Freed"
    text = f"{verb} {size(total['bytes'])}: {plural(total['entries'], 'entry', 'entries')}"
    text += f" ({parts})" if parts else ""
    text += f"; {size(rest)} stay"
    return text + (f", {plural(held, 'entry', 'entries')} among them in use." if held else ".")


def _own(stages: Sequence[Stage]) -> list[Stage]:
    """Without what is foreign."""
    return [each for each in stages if each.stage != FOREIGN]


def _kind(each: Stage) -> str:
    damaged = each.stage != LEFT_OVER and not each.whole
    return DAMAGED if damaged else each.stage


def _size(stages: Iterable[Stage]) -> dict[str, int]:
    sizes = [each.bytes for each in stages]
    return {"entries": len(sizes), "bytes": sum(sizes)}


def _asked(command: str, folder: Path, *words: str) -> list[Stage]:
    if not folder.is_dir():
        raise ValueError(f"no store in {folder.parent}; give the runs' folder with --out.")
    if importlib.util.find_spec("objectives") is None:
        raise ValueError("the package `objectives` is not installed; run pip install -e . again.")
    line = [sys.executable, "-P", "-m", "objectives.store", command, str(folder), *words]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StorageError(
            f"the store {folder} cannot be used ({reason}); check its permissions and the disk."
        )
    names = Stage.__dataclass_fields__
    return [Stage(**{name: each[name] for name in names}) for each in json.loads(done.stdout)]
