"""The data behind each figure as the rows of a table, for CSV, Parquet and JSON.

A field that holds records gives a row for each, and tuples of numbers of one length side by side
give a row for each place; all else of the record is repeated in every row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from hpo.analysis.importance import Importance
from hpo.analysis.interactions import Interaction
from hpo.analysis.parallel_coordinates import Parallel
from hpo.analysis.slices import DECAY, RATE, Slice
from hpo.analysis.training_tree import TrainingTree
from hpo.core import format
from hpo.report.plots.figure_data import FrontData, GainData
from hpo.report.terminal_tables import finite

Rows = list[dict[str, Any]]


def rows(data: Any) -> Rows:
    """A figure's data as the rows of a table; a number that is not finite is None."""
    records = data if isinstance(data, tuple) else (data,)
    return [finite(row) for record in records for row in _rows(record)]


def front_rows(data: FrontData) -> Rows:
    """A row a trial: where it is in the plane, and its standing."""
    return [
        {"trial": point.trial, "baseline": point.baseline, "standing": point.group,
         "knee": point.trial == data.knee,
         data.x: point.x, f"{data.x}_sem": point.x_error,
         data.y: point.y, f"{data.y}_sem": point.y_error}
        for point in data.points
    ]  # fmt: skip


def gain_rows(data: GainData) -> Rows:
    """A row a trial and task."""
    return [
        {"trial": trial.number, "label": format.title(trial), **dataclasses.asdict(gain),
         "chance": data.chance.get(gain.task)}
        for trial, _, gains in data.trials
        for gain in gains
    ]  # fmt: skip


def slice_rows(data: Slice) -> Rows:
    """A row a trial."""
    return [
        {"trial": trial, data.x: x, data.y: y}
        for trial, x, y in zip(data.trials, data.across, data.values, strict=True)
    ]


def interaction_rows(data: Interaction) -> Rows:
    """A row a trial."""
    columns = (data.trials, data.rates, data.decays, data.values)
    names = ("trial", RATE, DECAY, data.goal.metric)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def importance_rows(found: Sequence[Importance]) -> Rows:
    """A row a goal and parameter."""
    return [
        {
            "goal": each.goal.metric,
            "param": path,
            "share": share,
            "chance": each.chance,
            "settings": each.num_settings,
        }
        for each in found
        for path, share in each.shares.items()
    ]


def parallel_rows(data: Parallel) -> Rows:
    """A row a trial, its place on every axis from 0 to 1."""
    return [
        {"trial": trial, **{each.name: each.places[row] for each in data.dimensions}}
        for row, trial in enumerate(data.trials)
    ]


def tree_rows(data: TrainingTree) -> Rows:
    """A row a stretch of training."""
    return [
        {"start": each.start, "end": each.end, "trials": " ".join(map(str, each.trials)),
         "row": each.row, "parent_row": each.parent}
        for each in data.stretches
    ]  # fmt: skip


def _rows(record: Any) -> Iterator[dict[str, Any]]:
    items = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    children = {name: value for name, value in items.items() if _of_records(value)}
    if children:
        plain = {name: value for name, value in items.items() if not isinstance(value, tuple)}
        for value in children.values():
            yield from (plain | row for child in value for row in _rows(child))
        return
    columns = {name: value for name, value in items.items() if _of_numbers(value)}
    lengths = {len(value) for value in columns.values()}
    if len(lengths) != 1:
        yield {name: _cell(value) for name, value in items.items()}
        return
    (count,) = lengths
    columns |= {n: v for n, v in items.items() if isinstance(v, tuple) and len(v) == count}
    plain = {name: _cell(value) for name, value in items.items() if name not in columns}
    for place in range(count):
        yield plain | {name: value[place] for name, value in columns.items()}


def _of_records(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(dataclasses.is_dataclass, value))


def _of_numbers(value: Any) -> bool:
    kinds = (int, float, type(None))
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, kinds) for v in value)


def _cell(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, tuple) else value
