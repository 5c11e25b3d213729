"""`hpo compare`: fronts of several runs in one table, with a statement of significance."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.analysis import run_comparison
from hpo.analysis.run_comparison import Fronts, Pair, Side
from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core import format
from hpo.core import metrics as wording
from hpo.report.terminal_tables import finite
from hpo.storage import run_folder


def run(arguments: argparse.Namespace) -> int:
    """Print the fronts, their hypervolumes under one reference, and the differences."""
    places = [run_folder.find_run(each, arguments.out, arguments.storage) for each in arguments.run]
    folders = [place.folder.resolve() for place in places]
    if len(set(folders)) < len(folders):
        raise ValueError(f"each run is compared once, got {', '.join(arguments.run)}.")
    names = [place.name for place in places]
    labels = [
        name if names.count(name) == 1 else str(place.folder)
        for name, place in zip(names, places, strict=True)
    ]
    records = [run_folder.read(place) for place in places]
    found = run_comparison.compare_runs(dict(zip(labels, records, strict=True)))
    if arguments.json:
        print(json.dumps(finite(as_json(found)), indent=1, allow_nan=False))
    else:
        _print(found, new_console())
    return DONE


def as_json(found: Fronts) -> dict[str, Any]:
    """What `--json` prints; a number that is not known is null.

    {"goals": [{"metric": str, "direction": "down" | "up"}], "reference": {metric: float},
     "runs": [{"run": str, "hypervolume": float, "low": float, "high": float,
               "front": [{"trial": int, "joint": bool, "params": {path: value},
                          "metrics": {name: float}}]}],
     "pairs": [{"one": str, "other": str, "mean": float, "low": float, "high": float,
                "significant": bool, "reference": {metric: float}}], "notes": [str]}

    `reference` holds the worst seen of all runs, a pair's that of the two; `mean` is the
    hypervolume of one minus that of the other, `low` and `high` are the ends of its central 95 %.
    """
    goals = found.sides[0].run.goals
    metrics = [goal.metric for goal in goals]
    return {
        "goals": [{"metric": goal.metric, "direction": goal.direction} for goal in goals],
        "reference": dict(zip(metrics, found.reference, strict=True)),
        "runs": [
            {
                "run": side.label,
                "hypervolume": side.volume,
                "low": side.low,
                "high": side.high,
                "front": [
                    {
                        "trial": trial.number,
                        "joint": trial.number in side.joint,
                        "params": dict(trial.params),
                        "metrics": dict(trial.metrics),
                    }
                    for trial in side.front.trials
                ],
            }
            for side in found.sides
        ],
        "pairs": [
            {
                "one": pair.one,
                "other": pair.other,
                "mean": pair.difference.mean,
                "low": pair.difference.low,
                "high": pair.difference.high,
                "significant": pair.difference.significant,
                "reference": dict(zip(metrics, pair.difference.reference, strict=True)),
            }
            for pair in found.pairs
        ],
        "notes": list(found.notes),
    }


def _print(found: Fronts, console: Console) -> None:
    console.print(_table(found))
    for note in found.notes:
        console.print(Text(f"Note: {note}."), soft_wrap=True)
    goals = found.sides[0].run.goals
    corner = ", ".join(
        f"{goal.metric} {format.number(value)}"
        for goal, value in zip(goals, found.reference, strict=True)
    )
    lines = [f"Hypervolume against the worst seen of all runs ({corner}):"]
    lines += [f"  {side.label}: {_volume(side)}" for side in found.sides]
    lines += [sentence(pair) for pair in found.pairs]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _table(found: Fronts) -> Table:
    everything = [trial for side in found.sides for trial in side.front.trials]
    scores = list(dict.fromkeys(n for side in found.sides for n in wording.score_names(side.run)))
    params = wording.param_names(found.sides[0].run, everything)
    table = Table(title="Fronts", title_justify="left")
    for name in ("run", "trial"):
        table.add_column(name, no_wrap=True)
    for name in (*scores, *params.values()):
        table.add_column(Text(name), justify="right")
    for side in found.sides:
        for trial in side.front.trials:
            mark = "+" if trial.number in side.joint else ""
            cells = [side.label, f"{format.title(trial)}{mark}"]
            cells += [wording.measured(trial, name) for name in scores]
            cells += [format.setting(trial.params[p]) if p in trial.params else "" for p in params]
            table.add_row(*(Text(cell) for cell in cells))
        table.add_section()
    table.caption = Text("+ on the front of all runs together, as observed")
    return table


def sentence(pair: Pair) -> str:
    """Which of two runs is ahead, and whether beyond the noise."""
    found = pair.difference
    if found.mean == 0 and (math.isnan(found.low) or found.low == found.high):
        return f"Hypervolume: {pair.one} and {pair.other} are equal."
    ahead, behind = (pair.one, pair.other) if found.mean >= 0 else (pair.other, pair.one)
    lead = format.number(abs(found.mean), 3)
    if math.isnan(found.low):
        return (
            f"Hypervolume: {ahead} exceeds {behind} by {lead}; significance unknown (single "
            "seeds): measure trials at several seeds."
        )
    ends = sorted(math.copysign(1, found.mean) * end for end in (found.low, found.high))
    low, high = (format.number(end, 3) for end in ends)
    verdict = "significant" if found.significant else "inconclusive"
    return f"Hypervolume: {ahead} exceeds {behind} by {lead} (95 %: {low} to {high}); {verdict}."


def _volume(side: Side) -> str:
    text = format.number(side.volume)
    if math.isnan(side.low):
        return text
    low, high = (format.number(end, 3) for end in (side.low, side.high))
    return f"{text} (95 %: {low} to {high})"
