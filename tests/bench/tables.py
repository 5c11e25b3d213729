"""Tables of measured figures from the results files of the benches; `tests.docs` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDE = ("search", "late_goals", "rungs", "throughput", "faults", "control", "lora")
"""Benches with many figures of few kinds."""


RESULTS = Path(__file__).parent / "results"


def named(name: str) -> str:
    """The table of the results file of this name."""
    return table(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def table(result: dict[str, Any]) -> str:
    """A result as a Markdown table, with command, machine, commit and versions below it."""
    lines = wide(result["figures"]) if result["name"] in WIDE else long(result["figures"])
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    command = f"`python -m tests.bench {result['name']}`"
    machine = f"{where(result['machine'])}, {result['machine']['threads']} threads"
    commit = f"commit {result['commit']}" if result["commit"] else "commit unknown"
    return "\n".join([*lines, "", f"{command}; {machine}; {commit}; {versions}."])


def long(figures: dict[str, Any]) -> list[str]:
    """A figure a row."""
    lines = ["| figure | value | standard error | n | goal |", "|---|---|---|---|---|"]
    for name, figure in figures.items():
        error = "" if figure["sem"] is None else f"{figure['sem']:.3g}"
        value = f"{figure['value']:.4g} {figure['unit']}"
        lines.append(f"| {name} | {value} | {error} | {figure['n']} | {figure['goal'] or ''} |")
    return lines


def wide(figures: dict[str, Any]) -> list[str]:
    """A row for all figures that differ in the last part of their names, with ± standard error."""
    rows: dict[str, dict[str, Any]] = {}
    for name, figure in figures.items():
        row, column = name.rsplit(".", 1)
        rows.setdefault(row, {})[column] = figure
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| | {' | '.join(columns)} | n |", "|---" * (len(columns) + 2) + "|"]
    for row, found in rows.items():
        cells = [_cell(found.get(column)) for column in columns]
        counts = sorted({figure["n"] for figure in found.values()})
        lines.append(f"| {row} | {' | '.join(cells)} | {', '.join(map(str, counts))} |")
    return lines


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    value, error, goal = figure["value"], figure["sem"], figure["goal"]
    text = shown(value) + ("" if error is None else f" ± {error:.2g}")
    return text + (f" (goal {goal})" if goal else "")


def shown(value: float) -> str:
    """Three significant digits; a count is whole."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 10**6 else f"{value:.3g}"


def where(machine: dict[str, Any]) -> str:
    """The machine in words."""
    return str(machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores")
