"""Every figure of a run by its name, with the data behind it as the rows of a table.

A field that holds records gives a row for each, and tuples of numbers of one length side by side
give a row for each place; all else of the record stands in every row.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hpo.analysis import importance, probes, slices, training_tree
from hpo.analysis.importance import Importance
from hpo.analysis.slices import Interaction, Parallel, Slice
from hpo.analysis.training_tree import TrainingTree
from hpo.core import format, metrics
from hpo.core.format import plural
from hpo.core.trial import Run
from hpo.front.front import front
from hpo.report.plots import draw, draw_parameters, figure_data
from hpo.report.plots.draw_parameters import Marks
from hpo.report.terminal_tables import finite

Rows = list[dict[str, Any]]


NEEDS = {
    "importance": f"{importance.FEWEST} complete trials of different settings",
    "parallel": "complete trials that vary at least one parameter",
    "gain": "trials with scores before and after fine-tuning",
    "tree": "trials that share training",
}
"""Figure -> what a run has to have for it."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure and its data."""

    what: str
    rows: Rows
    draw: Callable[[], go.Figure]


def exhibits(run: Run) -> dict[str, Exhibit]:
    """Name -> figure, for every figure that the run has data for."""
    found = front(run)
    x, y = figure_data.plane(run)
    plane = figure_data.front_data(run, found, x, y)
    shown = {
        "front": Exhibit(
            what=f"{x} against {y}",
            rows=_front_rows(plane),
            draw=lambda: draw.draw_front(plane),
        )
    }
    for name in figure_data.curve_names(run):
        shown[f"curve.{name}"] = _curves(figure_data.curve_data(run, found, name), name)
    gain = figure_data.gain_data(run, found)
    if gain.trials:
        shown["gain"] = Exhibit(
            what="scores by task, before and after fine-tuning",
            rows=_gain_rows(gain),
            draw=lambda: draw.draw_gain(gain),
        )
    for place, dots in enumerate(figure_data.paper_dots(run)):
        shown[f"paper.{place}"] = _dots(dots)
    marks = {
        "front": [trial.number for trial in found.trials],
        "baseline": [trial.number for trial in run.trials if trial.baseline is not None],
    }
    return shown | _parameters(run, marks) | _mechanism(run, marks) | _tree(run)


def _parameters(run: Run, marks: Marks) -> dict[str, Exhibit]:
    """Slices, importance, interaction and parallel coordinates."""
    names = metrics.param_names(run, run.trials)
    shown = {}
    for path in slices.varied(run):
        for goal in run.goals:
            data = slices.slice_data(run, path, goal.metric)
            if data.trials:
                shown[f"slice.{names[path]}.{goal.metric}"] = _slice(data, names[path], marks)
    for each in slices.interactions(run):
        shown[f"interaction.{each.goal.metric}"] = _interaction(each)
    shares = importance.importances(run)
    if any(each.shares for each in shares):
        shown["importance"] = Exhibit(
            what="how much each parameter decides whether a trial is among the best (PED-ANOVA)",
            rows=_importance_rows(shares),
            draw=lambda: draw_parameters.draw_importance(shares, names),
        )
    parallel = slices.parallel_data(run)
    if parallel.dimensions:
        shown["parallel"] = Exhibit(
            what="every trial over parameters and goals, each axis from 0 to 1",
            rows=_parallel_rows(parallel),
            draw=lambda: draw_parameters.draw_parallel(parallel, marks),
        )
    return shown


def _mechanism(run: Run, marks: Marks) -> dict[str, Exhibit]:
    """What probes measured, over decay and under the goals."""
    names = metrics.param_names(run, run.trials)
    return {
        f"mechanism.{names.get(each.x, each.x)}.{each.y}": _slice(
            each, names.get(each.x, metrics.named(each.x)), marks
        )
        for each in probes.mechanism_slices(run)
    }


def _tree(run: Run) -> dict[str, Exhibit]:
    """The training that trials share."""
    tree = training_tree.tree(run)
    if not tree.rows:
        return {}
    what = "training that ran once, and the trials that share it"
    return {
        "tree": Exhibit(
            what=what, rows=_tree_rows(tree), draw=lambda: draw_parameters.draw_tree(tree)
        )
    }


def exhibit(run: Run, name: str) -> Exhibit:
    """One of them.

    Raises:
        ValueError: the run has no such figure.
    """
    found = exhibits(run)
    if name not in found:
        raise ValueError(f"run {run.name!r} has no figure {name!r}; {_why_not(run, name, found)}")
    return found[name]


def missing(run: Run, known: Iterable[str]) -> dict[str, str]:
    """Figures that the run has no data for -> what they need."""
    there = set(known)
    return {name: _needs(run, name) for name in NEEDS if name not in there}


def _needs(run: Run, name: str) -> str:
    many = len(run.complete())
    complete = f"{plural(many, 'trial')} {'is' if many == 1 else 'are'} complete"
    return f"it needs {NEEDS[name]}, and {complete}."


def _why_not(run: Run, name: str, known: Iterable[str]) -> str:
    """What a figure needs that the run lacks, or which figure may be meant."""
    if name in NEEDS:
        return _needs(run, name)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}? `hpo plot {run.name}` lists all."
    return f"`hpo plot {run.name}` lists those there are."


def rows(data: Any) -> Rows:
    """A figure's data as the rows of a table; a number that is not finite is None."""
    records = data if isinstance(data, tuple) else (data,)
    return [finite(row) for record in records for row in _rows(record)]


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


def _slice(data: Slice, name: str, marks: Marks) -> Exhibit:
    return Exhibit(
        what=f"{metrics.named(data.y)} over {name}",
        rows=[
            {"trial": trial, data.x: x, data.y: y}
            for trial, x, y in zip(data.trials, data.across, data.values, strict=True)
        ],
        draw=lambda: draw_parameters.draw_slice(data, name, marks),
    )


def _interaction(data: Interaction) -> Exhibit:
    columns = (data.trials, data.rates, data.decays, data.values)
    names = ("trial", slices.RATE, slices.DECAY, data.goal.metric)
    return Exhibit(
        what=f"{data.goal.metric} over decay and rate",
        rows=[dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)],
        draw=lambda: draw_parameters.draw_interaction(data),
    )


def _importance_rows(found: Sequence[Importance]) -> Rows:
    return [
        {"goal": each.goal.metric, "param": path, "share": share, "settings": each.num_settings}
        for each in found
        for path, share in each.shares.items()
    ]


def _parallel_rows(data: Parallel) -> Rows:
    return [
        {"trial": trial, **{each.name: each.places[row] for each in data.dimensions}}
        for row, trial in enumerate(data.trials)
    ]


def _tree_rows(data: TrainingTree) -> Rows:
    return [
        {"start": each.start, "end": each.end, "trials": " ".join(map(str, each.trials)),
         "row": each.row, "parent_row": each.parent}
        for each in data.stretches
    ]  # fmt: skip


def _curves(curves: tuple[figure_data.Curve, ...], name: str) -> Exhibit:
    return Exhibit(
        what=f"{name} of each trial",
        rows=rows(curves),
        draw=lambda: draw.draw_curves(curves, name),
    )


def _dots(dots: figure_data.Dots) -> Exhibit:
    side = "the paper's" if dots.paper else "this study's"
    return Exhibit(
        what=f"{dots.title}, {side} {dots.axis}",
        rows=rows(dots),
        draw=lambda: draw.draw_dots(dots),
    )


def _front_rows(data: figure_data.FrontData) -> Rows:
    return [
        {"trial": point.trial, "baseline": point.baseline, "standing": point.group,
         "knee": point.trial == data.knee,
         data.x: point.x, f"{data.x}_sem": point.x_error,
         data.y: point.y, f"{data.y}_sem": point.y_error}
        for point in data.points
    ]  # fmt: skip


def _gain_rows(data: figure_data.GainData) -> Rows:
    return [
        {"trial": trial.number, "label": format.title(trial), **dataclasses.asdict(gain),
         "chance": data.chance.get(gain.task)}
        for trial, _, gains in data.trials
        for gain in gains
    ]  # fmt: skip


def _of_records(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(dataclasses.is_dataclass, value))


def _of_numbers(value: Any) -> bool:
    kinds = (int, float, type(None))
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, kinds) for v in value)


def _cell(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, tuple) else value
