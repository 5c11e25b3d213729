"""What a bench gives: figures with their spread, as a table for people and JSON for programs."""

from __future__ import annotations

import json
import math
import operator
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

PACKAGES = ("torch", "transformers", "peft", "accelerate", "optuna", "datasets", "numpy")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that was measured."""

    value: float
    unit: str
    sem: float | None = None
    """Standard error of `value`; None for a count, or where it was measured once."""
    n: int = 1
    """How many measurements `value` is the mean of."""
    goal: str | None = None
    """Such as ">= 4"; None where nothing is promised."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    quick: bool
    """Only a smoke check, at most a minute; speeds then mean nothing."""
    device: str = "cpu"
    repeats: int | None = None
    """How often each thing is measured; None is the bench's own number."""
    first_seed: int = 0
    """Of the benches search, rungs, parts and race, so that they can be measured in parts."""
    only: str | None = None
    """The one setting or preset to measure; None is all."""
    corpus: Path | None = None
    """Text to pretrain on, file or folder; None is the bench's own."""
    task: Path | None = None
    """Folder with the rows of the task to fine-tune on; None is the bench's own."""
    seconds: float | None = None
    """Of the bench race, by the clock; None is its own number."""
    parts: Path | None = None
    """Folder of the bench race's parts; None is a temporary one."""
    recipe: Path | None = None
    """A recipe's file for the bench race; None is the quickstart's."""
    say: Callable[[str], None] = lambda text: None
    """Told of progress."""

    def picked(self, names: Sequence[str]) -> list[str]:
        """The names to measure.

        Raises:
            ValueError: `only` is none of them.
        """
        if self.only is None:
            return list(names)
        if self.only not in names:
            raise ValueError(f"--only must be one of {', '.join(names)}, got {self.only!r}.")
        return [self.only]

    def speed_goal(self, goal: str | None) -> str | None:
        """A goal for a speed, which a smoke check does not judge."""
        return None if self.quick else goal


def mean_of(values: Sequence[float], unit: str, goal: str | None = None) -> Figure:
    """The mean of repeated measurements with its standard error."""
    found = np.asarray(values, float)
    sem = float(found.std(ddof=1) / math.sqrt(len(found))) if len(found) > 1 else None
    return Figure(value=float(found.mean()), unit=unit, sem=sem, n=len(found), goal=goal)


def pooled(one: Figure, other: Figure) -> Figure:
    """The figure of all measurements of two that share none."""
    n = one.n + other.n
    mean = (one.n * one.value + other.n * other.value) / n
    squares = sum(
        each.n * (each.n - 1) * (each.sem or 0.0) ** 2 + each.n * (each.value - mean) ** 2
        for each in (one, other)
    )
    return replace(one, value=mean, n=n, sem=math.sqrt(squares / (n - 1) / n))


def is_met(figure: Figure) -> bool | None:
    """Whether the goal is reached; None without a goal."""
    if figure.goal is None:
        return None
    sign, bound = figure.goal.split()
    return bool(_COMPARISONS[sign](figure.value, float(bound)))


def table(name: str, figures: Mapping[str, Figure]) -> Table:
    """All figures, one a row."""
    drawn = Table(title=Text(name), title_justify="left")
    for column in ("figure", "value", "± sem", "n", "unit", "goal", ""):
        drawn.add_column(column, justify="right" if column in ("value", "± sem", "n") else "left")
    for key, figure in figures.items():
        sem = "" if figure.sem is None else f"{figure.sem:,.2g}"
        verdict = {None: "", True: "met", False: "MISSED"}[is_met(figure)]
        cells = (key, f"{figure.value:,.4g}", sem, figure.n, figure.unit, figure.goal or "")
        drawn.add_row(*(Text(str(cell)) for cell in cells), verdict)
    return drawn


def to_json(name: str, figures: Mapping[str, Figure], device: str) -> dict[str, Any]:
    """The bench as JSON-able data, in the shape that README's tables are made from."""
    return {
        "name": name,
        "machine": machine(device),
        "versions": {package: _version(package) for package in PACKAGES}
        | {"python": platform.python_version()},
        "commit": _commit(),
        "figures": {
            key: {field: asdict(figure)[field] for field in ("value", "sem", "n", "unit", "goal")}
            for key, figure in figures.items()
        },
    }


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Indented, so that two results can be compared by eye."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def machine(device: str) -> dict[str, Any]:
    """Where it was measured."""
    gpu = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "system": platform.platform(terse=True),
    }


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The git revision, with a mark if files were changed since; None outside git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty",
               "--exclude", "*", "--abbrev=12"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
}
