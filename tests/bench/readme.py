"""Writes README's tables of measured figures from tests/bench/results: python -m tests.bench.readme

Each results file gives the table between `<!-- bench NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


WIDE = ("search", "late_goals", "rungs", "throughput", "faults")
"""Benches with many figures of few kinds."""


RESULTS = ROOT / "tests" / "bench" / "results"


def table(result: dict[str, Any]) -> str:
    """A result as a Markdown table, with the machine and command under it."""
    lines = wide(result["figures"]) if result["name"] in WIDE else long(result["figures"])
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    command = f"`python -m tests.bench {result['name']}`"
    return "\n".join([*lines, "", f"{command}; {where(result['machine'])}; {versions}."])


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
    text = f"{value:.3g}" + ("" if error is None else f" ± {error:.2g}")
    return text + (f" (goal {goal})" if goal else "")


def where(machine: dict[str, Any]) -> str:
    """The machine in words."""
    return str(machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores")


def filled(text: str, results: dict[str, dict[str, Any]]) -> str:
    """README with the tables of these results, by name."""
    for name, result in results.items():
        pattern = rf"(<!-- bench {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(
            pattern, lambda match, r=result: f"{match[1]}{table(r)}\n{match[2]}", text, flags=re.S
        )
    return text


def main() -> None:
    """Fill README in place."""
    results = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
