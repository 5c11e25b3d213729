"""Draws slices, interactions, importance, parallel coordinates and the training tree.

As in `hpo.report.plots.draw`, points carry their trials' numbers in `customdata`, so that the
report can mark a selection in every figure, and whatever a user named is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from hpo.analysis.importance import Importance
from hpo.analysis.interactions import Interaction, TauLine
from hpo.analysis.parallel_coordinates import Parallel
from hpo.analysis.slices import Slice
from hpo.analysis.training_tree import TrainingTree
from hpo.core import format, metrics
from hpo.report.plots.draw import (
    BLUE,
    CYCLE,
    GREY,
    OPACITY,
    SCALE,
    SKY,
    VERMILLION,
    beside,
    escaped,
    layout,
    marker_size,
)  # fmt: skip
from hpo.report.plots.labels import CORNERS, corners, once

_HOVER = "#%{customdata}<br>%{x}, %{y}<extra></extra>"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Trials that stand out in every figure."""

    front: Collection[int] = ()
    baselines: Mapping[int, str] = field(default_factory=dict)
    """Number of a trial -> name of its baseline."""

    def groups(self) -> dict[str, Collection[int]]:
        """Name of a group -> its trials, the baselines above the front."""
        return {"front": self.front, "baseline": self.baselines}


NO_MARKS = Marks()


_MARKS: dict[str, dict[str, Any]] = {
    "front": {"color": VERMILLION, "symbol": "circle", "size": 9},
    "baseline": {"color": BLUE, "symbol": "diamond-open", "size": 11, "line": {"width": 2}},
}


_MOST_NAMES = 4
"""Baselines whose names are written beside their marks; assumed."""


_MOST_ROWS = 60
"""Trials that the drawing of a tree names; assumed."""


def draw_slice(data: Slice, name: str, marks: Marks = NO_MARKS) -> go.Figure:
    """Points with their trend and its band, or with the means of a choice's options."""
    drawn = layout(name, metrics.named(data.y))
    figure = go.Figure(layout=drawn | {"hovermode": "closest"})
    if data.trend is not None:
        x = [10**place if data.log else place for place in data.trend.x]
        figure.add_traces(_band(x, data))
    figure.add_trace(
        go.Scatter(
            x=[escaped(each) if isinstance(each, str) else each for each in data.across],
            y=list(data.values),
            customdata=list(data.trials),
            name=f"trials ({len(data.trials)})",
            mode="markers",
            marker={"color": GREY, "size": marker_size(7, len(data.trials)), "opacity": OPACITY},
            hovertemplate=_HOVER,
        )
    )
    along = _places(data.across, [level.value for level in data.levels], log=data.log)
    reach = _reach(data, along)
    figure.add_traces(_marked(data.trials, data.across, data.values, marks, along, reach))
    if data.levels:
        figure.add_trace(_levels(data))
        names = [escaped(level.value) for level in data.levels]
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    elif data.log:
        figure.update_xaxes(**_log_axis([x for x in data.across if not isinstance(x, str)]))
    return figure


def draw_interaction(data: Interaction, marks: Marks = NO_MARKS) -> go.Figure:
    """Decay over rate, the goal as colour (bright is better), lines of equal timescale."""
    figure = go.Figure(layout=layout("learning rate", "weight decay") | {"hovermode": "closest"})
    for line in data.lines:
        figure.add_trace(_tau(line))
    figure.add_trace(
        go.Scatter(
            x=list(data.rates),
            y=list(data.decays),
            customdata=list(data.trials),
            text=[format.number(value) for value in data.values],
            name=f"trials ({len(data.trials)})",
            showlegend=False,
            mode="markers",
            marker={
                "color": list(data.values),
                "colorscale": SCALE,
                "reversescale": data.goal.sign > 0,
                "size": marker_size(12, len(data.trials)),
                "line": {"width": 1, "color": GREY},
                "showscale": True,
                "colorbar": {
                    "title": {"text": escaped(data.goal.metric), "side": "right"},
                    "thickness": 12,
                    "outlinewidth": 0,
                },
            },
            hovertemplate="#%{customdata}<br>%{text} at rate %{x}, decay %{y}<extra></extra>",
        )
    )
    along = _places(data.rates, (), log=True)
    up = _places(data.decays, (), log=True)
    reach = list(zip(along, up, strict=True))
    figure.add_traces(
        _marked(data.trials, data.rates, data.decays, marks, along, reach, only="baseline", up=up)
    )
    figure.update_xaxes(**_log_axis(data.rates))
    figure.update_yaxes(**_log_axis(data.decays))
    return figure


def draw_importance(found: Sequence[Importance], names: dict[str, str]) -> go.Figure:
    """A bar for each parameter and goal."""
    bars = [
        go.Bar(
            y=[escaped(names[path]) for path in each.shares],
            x=list(each.shares.values()),
            name=escaped(each.goal.metric),
            orientation="h",
            marker={"color": CYCLE[place % len(CYCLE)]},
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
        for place, each in enumerate(found)
        if each.shares
    ]
    figure = go.Figure(data=bars, layout=layout("share of the importance", ""))
    figure.update_layout(barmode="group", showlegend=True, meta={"overview": True})
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return figure


def draw_parallel(data: Parallel, marks: Marks = NO_MARKS) -> go.Figure:
    """A line a trial over axes of 0 to 1, in one trace; ticks are beside each axis."""
    count = len(data.dimensions)
    places = list(range(count))
    figure = go.Figure(layout=layout("", "") | {"hovermode": "closest"})
    thin = {"opacity": 0.5, "line": {"color": GREY, "width": 1}}
    figure.add_trace(_threads(data, "trials", data.trials, thin))
    for group, numbers in marks.groups().items():
        if any(number in numbers for number in data.trials):
            thick = {"line": {"color": _MARKS[group]["color"], "width": 2.5}}
            figure.add_trace(_threads(data, group, numbers, thick, overlay=True))
    ticks = [(at, *tick) for at, each in enumerate(data.dimensions) for tick in each.ticks]
    notes: list[dict[str, Any]] = [
        {"x": at, "y": y, "text": escaped(text), "showarrow": False, "xanchor": "left", "xshift": 4}
        for at, y, text in ticks
    ]
    figure.update_layout(
        annotations=notes,
        shapes=[
            {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": {"color": GREY}}
            for at in places
        ],
    )
    names = [escaped(dimension.name) for dimension in data.dimensions]
    figure.update_xaxes(tickvals=places, ticktext=names, showgrid=False, range=[-0.35, count - 0.5])
    figure.update_yaxes(visible=False, range=[-0.05, 1.05])
    return figure


def _threads(
    data: Parallel, group: str, chosen: Collection[int], look: dict[str, Any], overlay: bool = False
) -> go.Scatter:
    """The lines of the chosen trials, in one trace."""
    count = len(data.dimensions)
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int] = []
    for row, number in enumerate(data.trials):
        if number in chosen:
            x += [*range(count), None]
            y += [*(dimension.places[row] for dimension in data.dimensions), None]
            numbers += [number] * (count + 1)
    return go.Scatter(
        x=x, y=y, customdata=numbers, mode="lines", connectgaps=False,
        name=f"{group} ({len(numbers) // (count + 1)})", meta={"lines": True, "overlay": overlay},
        hovertemplate="#%{customdata}<extra></extra>", **look,
    )  # fmt: skip


def draw_tree(data: TrainingTree, marks: Marks = NO_MARKS) -> go.Figure:
    """Steps across; a line is as thick as many trials share it, its tips are the trials."""
    figure = go.Figure(layout=layout("step", "") | {"hovermode": "closest"})
    named: set[str] = set()
    for each in data.stretches:
        many = len(each.trials)
        bend = [] if each.parent is None else [(each.start, each.parent)]
        kind = "training that several share" if many > 1 else "training of one trial"
        points = [*bend, (each.start, each.row), (each.end, each.row)]
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in points],
                y=[y for _, y in points],
                name=kind,
                legendgroup=kind,
                showlegend=kind not in named,
                mode="lines",
                line={
                    "color": VERMILLION if many > 1 else GREY,
                    "width": 1.5 + 1.5 * math.log2(many),
                },
                hovertemplate=f"{_trials(each.trials)}<br>to step %{{x}}<extra></extra>",
            )
        )
        named.add(kind)
    ends = {number: each for each in data.stretches for number in each.trials}
    figure.add_trace(
        go.Scatter(
            x=[ends[number].end for number in data.rows],
            y=list(range(len(data.rows))),
            customdata=list(data.rows),
            text=[beside(_tip(number, marks), "right") for number in data.rows],
            name="trials",
            mode="markers+text" if len(data.rows) <= _MOST_ROWS else "markers",
            textposition="middle right",
            marker={"color": BLUE, "size": 8},
            cliponaxis=False,
            hovertemplate="#%{customdata}<extra></extra>",
        )
    )
    figure.update_yaxes(visible=False, autorange="reversed")
    return figure


def _marked(
    trials: Sequence[int],
    across: Sequence[float | str],
    values: Sequence[float],
    marks: Marks,
    along: Sequence[float],
    reach: Sequence[tuple[float, float]],
    *,
    only: str | None = None,
    up: Sequence[float] | None = None,
) -> list[go.Scatter]:
    """The trials of each group over the points of all, few baselines with their names.

    `along`, `up`: where on the axes each point is; `reach`: where else something is drawn.
    """
    traces = []
    up = values if up is None else up
    for group, numbers in marks.groups().items():
        rows = [row for row, number in enumerate(trials) if number in numbers]
        if not rows or only not in (None, group):
            continue
        heights = [values[row] for row in rows]
        labels = once([marks.baselines.get(trials[row], "") for row in rows])
        named = group == "baseline" and sum(map(bool, labels)) <= _MOST_NAMES
        points = [(along[row], up[row]) for row in rows]
        sides = corners(points, labels, reach) if named else [None] * len(rows)
        names = [
            beside(escaped(label), side) if label and side is not None else ""
            for label, side in zip(labels, sides, strict=True)
        ]
        xs = [across[row] for row in rows]
        traces.append(
            go.Scatter(
                x=[escaped(each) if isinstance(each, str) else each for each in xs],
                y=heights,
                customdata=[trials[row] for row in rows],
                name=f"{group} ({len(rows)})",
                mode="markers+text" if named else "markers",
                text=names if named else None,
                textposition=[side or CORNERS[0] for side in sides],
                textfont={"size": 10},
                marker=_MARKS[group],
                meta={"overlay": True},
                hovertemplate=_HOVER,
            )
        )
    return traces


def _places(across: Sequence[float | str], names: Sequence[str], *, log: bool) -> list[float]:
    """Where on an axis each of these values is; `names`: those of a choice, in their order."""
    order = {name: float(place) for place, name in enumerate(names)}
    return [
        order.get(each, 0.0) if isinstance(each, str) else math.log10(each) if log else each
        for each in across
    ]


def _reach(data: Slice, along: Sequence[float]) -> list[tuple[float, float]]:
    """Where the points of a slice and its trend's band are on the axes."""
    points = list(zip(along, data.values, strict=True))
    if data.trend is None:
        return points
    edges = (data.trend.low, data.trend.high)
    return points + [pair for edge in edges for pair in zip(data.trend.x, edge, strict=True)]


def _tip(number: int, marks: Marks) -> str:
    """How the drawing of a tree names a trial."""
    return escaped(f"#{number} {marks.baselines.get(number, '')}".rstrip())


def _band(x: list[float], data: Slice) -> list[go.Scatter]:
    assert data.trend is not None
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(x=x, y=list(data.trend.low), name="band, lower end", showlegend=False, **edge),
        go.Scatter(
            x=x, y=list(data.trend.high), fill="tonexty", fillcolor="rgba(86,180,233,0.22)",
            name="95 % band of the trend", **edge,
        ),
        go.Scatter(
            x=x, y=list(data.trend.mean), mode="lines", hoverinfo="skip", name="trend",
            line={"color": SKY, "width": 2},
        ),
    ]  # fmt: skip


def _levels(data: Slice) -> go.Scatter:
    return go.Scatter(
        x=[escaped(level.value) for level in data.levels],
        y=[level.mean for level in data.levels],
        error_y={
            "array": [level.sem for level in data.levels],
            "color": SKY,
            "thickness": 1.5,
            "width": 6,
        },
        text=[f"mean of {level.num_settings}" for level in data.levels],
        name="mean of the settings, ± one standard error",
        mode="markers",
        marker={"color": SKY, "symbol": "line-ew-open", "size": 22, "line": {"width": 2.5}},
        hovertemplate="%{y}, %{text}<extra></extra>",
    )


def _tau(line: TauLine) -> go.Scatter:
    share = "" if line.share is None else f", {format.number(line.share)} of the run"
    label = f"τ = {_steps(line.tau_steps)} steps{share}"
    return go.Scatter(
        x=list(line.rates),
        y=list(line.decays),
        name=label,
        showlegend=False,
        mode="lines+text",
        text=["", f"τ {_steps(line.tau_steps)}"],
        textposition="top left",
        line={"color": GREY, "dash": "dot", "width": 1},
        hovertemplate=f"{label}<extra></extra>",
    )


def _log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with ticks at 1 and 3 times powers of ten, as plain numbers."""
    if not values:
        return {"type": "log"}
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 3)]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _steps(tau: float) -> str:
    return f"{tau:,.0f}" if tau >= 10 else f"{tau:.3g}"


def _trials(numbers: Sequence[int], most: int = 8) -> str:
    named = ", ".join(f"#{number}" for number in numbers[:most])
    return named + (f" and {len(numbers) - most} more" if len(numbers) > most else "")
