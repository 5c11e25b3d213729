"""Where each goal is best along a parameter, as rows and data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hpo.analysis.best_values import Apart, BestValues, Place
from hpo.core.format import number
from hpo.core.trial import Run

NOTE = (
    "Where each goal is best, among values that were measured: median and central 95 % over what "
    "the settings' means over seeds may truly be, other parameters as they are at the best "
    "settings. A ratio whose interval is without 1 means that the goals want different values."
)


def heads(run: Run) -> list[str]:
    """Of the table."""
    metrics = [goal.metric for goal in run.goals]
    ratios = [f"{b} / {a}" for i, a in enumerate(metrics) for b in metrics[i + 1 :]]
    return ["parameter", *(f"best for {metric}" for metric in metrics), *ratios]


def rows(run: Run, found: Sequence[BestValues], names: dict[str, str]) -> list[list[str]]:
    """A row a parameter; `names` has their short ones."""
    num_ratios = len(run.goals) * (len(run.goals) - 1) // 2
    return [
        [
            names.get(each.param, each.param),
            *(_place(place) for place in each.goals.values()),
            *(map(_ratio, each.apart) if each.apart else [""] * num_ratios),
        ]
        for each in found
    ]


def _place(found: Place) -> str:
    if found.low == found.high:
        return number(found.value, 3)
    return f"{number(found.value, 3)} ({number(found.low, 3)} to {number(found.high, 3)})"


def _ratio(found: Apart) -> str:
    verdict = "different" if found.differ else "not different"
    return f"{_place(found.ratio)}, {verdict}"


def as_json(found: BestValues) -> dict[str, Any]:
    """A parameter's; an infinite ratio is NaN, as JSON has no word for either.

    {"param": str, "goals": {metric: PLACE}, "apart": [{"one": str, "other": str,
     "ratio": PLACE, "differ": bool}]}, PLACE = {"value", "low", "high"}
    """
    return {
        "param": found.param,
        "goals": {metric: dataclasses.asdict(place) for metric, place in found.goals.items()},
        "apart": [dataclasses.asdict(each) | {"differ": each.differ} for each in found.apart],
    }
