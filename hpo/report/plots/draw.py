"""Draws the report's figures with plotly from the plain data of `hpo.report.plots.figure_data`.

Plotly reads some HTML in its texts, so whatever a user named is escaped on its way into a figure.
Every trace of one trial carries `meta = {"trial": number}`, and traces of many carry the numbers in
`customdata`: by these the report shows a selection of trials and changes axes. Colours are Okabe
and Ito's, which colour-blind readers tell apart; symbols and dashes say the same.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from hpo.core import format, metrics
from hpo.core.goals import Goal
from hpo.core.trial import Trial
from hpo.report.plots.figure_data import Curve, Dots, FrontData, GainData, Group, Point, TaskGain
from hpo.report.plots.labels import CORNERS, corners, once

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#C2699A", "#B97700", "#2E93CF", "#808080",
)  # fmt: skip
"""Okabe and Ito's, the light ones darkened to a contrast of 3 with white."""
ON_DARK = {
    BLUE: "#7F9BFF", VERMILLION: "#F2803A", GREEN: "#2FBF91", PURPLE: "#DD95BD", ORANGE: "#E6B23C",
    SKY: "#6CC4F5", GREY: "#9AA0A8",
}  # fmt: skip
"""Each colour on a dark page: a contrast of 4.5 and more."""
SCALE = ["#00224E", "#28406E", "#585E6D", "#7F7D76", "#A99F73", "#D6C35C"]
SCALE_ON_DARK = ["#5B606E", "#787875", "#979176", "#B9AB6D", "#DCC858", "#FEE838"]
"""Cividis without its end that vanishes on a light page, and on a dark one."""


CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)


DASHES = ("solid", "dashdot")
BASELINE_DASHES = ("dash", "dot")
"""Of lines of searched trials and of baselines."""


MARKS: dict[Group, tuple[str, str, int]] = {
    "dominated": (GREY, "circle", 7),
    "replicate": (GREY, "circle-dot", 5),
    "outside limits": (GREY, "triangle-up-open", 8),
    "not measured": (GREY, "square-open", 8),
    "partial": (GREY, "circle-open", 8),
    "pruned": (GREY, "triangle-down-open", 8),
    "failed": (PURPLE, "x", 8),
    "undecided": (ORANGE, "circle-open", 9),
    "front": (VERMILLION, "circle", 11),
}


OPACITY = 0.9
"""Of points that many others may cover; with less their contrast would be below that of colours."""


_CROWD = 300  # Points; assumed.


_MOST_TICKS = 12
"""Layers that are named on an axis; assumed."""


_MOST_SHARES = 15
"""Points of a front whose memberships are written beside them; assumed."""


_CURVE_AXES = {
    "lr": "learning rate",
    "merge_weight": "weight of the checkpoint",
    "batch_loss": "loss (nats/image)",
    "training_loss": "loss (nats/image)",
    "validation_loss": "loss (nats/image)",
    "training_error": "share of images",
    "validation_error": "share of images",
}


def draw_front(data: FrontData) -> go.Figure:
    """The plane of two metrics with error bars, the baselines named and the knee ringed."""
    figure = go.Figure(layout=layout("", ""))
    figure.update_xaxes(title_text=titled(data.x, data.goals))
    figure.update_yaxes(title_text=titled(data.y, data.goals))
    for group, (colour, symbol, size) in MARKS.items():
        points = [point for point in data.points if point.group == group]
        if points:
            figure.add_trace(_marks(points, group, colour, symbol, size, data.joined))
    baselines = [point for point in data.points if point.baseline is not None]
    if baselines:
        figure.add_trace(_names(baselines, data.points))
    knee = [point for point in data.points if point.trial == data.knee]
    if knee:
        ring = {"symbol": "circle-open", "size": 21, "color": GREEN, "line": {"width": 2.5}}
        figure.add_trace(_overlay(knee, "knee", ring))
    figure.update_layout(hovermode="closest", showlegend=True, meta={"overview": True})
    return figure


def draw_curves(curves: Iterable[Curve], name: str, last: float | None = None) -> go.Figure:
    """Lines over steps, layers or fine-tuning rates; trials not shown at first are in the legend.

    `last`: the last step or layer of all, where it is not that of these curves.
    """
    curves = tuple(curves)
    over_rates = name.startswith(metrics.OVER_RATES)
    kind = {"finetune": "completion loss", "finetune_lr": "validation loss"}.get(
        name.split(".")[0], "loss"
    )
    usual = "value" if name.startswith("probe.") else f"{kind} (nats/token)"
    across = "layer" if name.endswith("_by_layer") else "step"
    across = "fine-tuning rate" if over_rates else across
    look = layout(across, _CURVE_AXES.get(name, usual)) | {"showlegend": True}
    figure = go.Figure(data=[_line(curve) for curve in curves], layout=look)
    if over_rates:
        figure.update_xaxes(type="log")
        figure.update_traces(mode="lines+markers")
    if across == "layer":
        steps = [step for curve in curves for step in curve.steps]
        last = max(steps, default=0) if last is None else last
        last = last if math.isfinite(last) else 0.0  # a record may hold any number
        figure.update_xaxes(tick0=0, dtick=max(1, math.ceil(last / _MOST_TICKS)), tickformat="d")
    return figure


def draw_gain(data: GainData) -> go.Figure:
    """By task, one stroke a trial from before fine-tuning (open) to after (full); chance dashed."""
    strokes = [_strokes(trial, shown, gains) for trial, shown, gains in data.trials]
    figure = go.Figure(data=strokes, layout=layout("", data.axis))
    for place, task in enumerate(data.tasks):
        if task in data.chance:
            level = data.chance[task]
            line = {"color": GREY, "dash": "dash", "width": 1.5}
            figure.add_shape(x0=place - 0.45, x1=place + 0.45, y0=level, y1=level, line=line)
    if data.chance:
        line = {"color": GREY, "dash": "dash", "width": 1.5}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", line=line, name="chance"))
    names = [escaped(task) for task in data.tasks]
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    figure.update_xaxes(range=[-0.5, len(names) - 0.5], showgrid=False)
    figure.update_layout(scattermode="group", scattergap=0.3, showlegend=True)
    return figure


def draw_dots(data: Dots) -> go.Figure:
    """One side of a paper's table: a dot a point, with its standard error where there is one."""
    colour, symbol = (GREY, "square") if data.paper else (BLUE, "circle")
    names = [escaped(point) for point in data.points]
    dots = go.Scatter(
        x=names,
        y=list(data.values),
        name="the paper" if data.paper else "this study",
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9},
        error_y={"array": list(data.errors), "color": colour, "thickness": 1.2, "width": 0},
    )
    figure = go.Figure(data=[dots], layout=layout("", data.axis))
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    return figure


def titled(metric: str, goals: Iterable[Goal]) -> str:
    """An axis' title, with an arrow to where a goal is better; read upwards on a vertical axis."""
    name = escaped(metrics.named(metric))
    way = next((goal.direction for goal in goals if goal.metric == metric), None)
    return {"down": f"← better   {name}", "up": f"{name}   better →", None: name}[way]


def beside(text: str, position: str) -> str:
    """A name at the left or right of a point, clear of the ring that marks a selected one."""
    gap = 2 * "\N{NO-BREAK SPACE}"
    return text + gap if position.endswith("left") else gap + text


def marker_size(usual: float, count: int) -> float:
    """Half the usual size for points so many that they would hide each other."""
    return usual if count <= _CROWD else usual / 2


def layout(x: str, y: str) -> dict[str, Any]:
    """The look that all figures share; axis titles as plain text."""
    return {
        "template": "none",
        "xaxis": _axis(x),
        "yaxis": _axis(y),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _axis(title: str) -> dict[str, Any]:
    """With a distance from the ticks' labels to the title, without which it may cover them."""
    named = {"text": escaped(title), "standoff": 12}
    return {"title": named, "automargin": True, "zeroline": False}


def escaped(text: str) -> str:
    """Text that plotly shows as it is: no markup, no TeX, nothing invisible."""
    plain = format.escape_controls(text).replace("\n", " ")
    return html.escape(plain, quote=False).replace("$", "&#36;")


def _marks(
    points: list[Point], group: Group, colour: str, symbol: str, size: int, joined: bool
) -> go.Scatter:
    line = {"color": colour, "shape": "hv", "dash": "dot", "width": 1.5}
    opacity = 1.0 if group == "front" else OPACITY
    bars = {"color": colour, "thickness": 1.2 if group == "front" else 0.8, "width": 0}
    mode = "lines+markers" if group == "front" and joined else "markers"
    shares = [point.membership for point in points if point.membership is not None]
    named = group == "front" and bool(shares) and len(points) <= _MOST_SHARES
    return go.Scatter(
        **_places(points),
        name=f"{group} ({len(points)})",
        mode=f"{mode}+text" if named else mode,
        text=[format.percent(share) for share in shares] if named else None,
        textposition="top right",  # beside the error bars
        textfont={"size": 10},
        line=line if group == "front" and joined else None,
        marker={
            "color": colour,
            "symbol": symbol,
            "size": marker_size(size, len(points)),
            "opacity": opacity,
        },
        error_x={"array": [point.x_error for point in points], **bars},
        error_y={"array": [point.y_error for point in points], **bars},
    )


def _names(baselines: list[Point], points: Sequence[Point]) -> go.Scatter:
    """Baselines ringed and named, clear of each other."""
    baselines = sorted(baselines, key=lambda point: point.x)
    ring = {"symbol": "diamond-open", "size": 15, "color": BLUE, "line": {"width": 2}}
    names = once([_short(point.baseline or "") + point.tag for point in baselines])
    extent = [(point.x, point.y) for point in points]
    sides = corners([(point.x, point.y) for point in baselines], names, extent)
    return _overlay(baselines, "baseline", ring).update(
        mode="markers+text",
        text=[
            "" if side is None else escaped(name) for name, side in zip(names, sides, strict=True)
        ],
        textposition=[side or CORNERS[0] for side in sides],
        textfont={"size": 11},
        cliponaxis=False,
    )


def _line(curve: Curve) -> go.Scatter:
    colour, dash = _style(curve.trial, curve.baseline)
    return go.Scatter(
        x=list(curve.steps),
        y=[value if math.isfinite(value) else None for value in curve.values],
        name=escaped(curve.label),
        mode="lines+markers" if len(curve.steps) < 3 else "lines",
        line={"color": colour, "dash": dash, "width": 2},
        visible=True if curve.shown else "legendonly",
        meta={"trial": curve.trial},
    )


def _overlay(points: list[Point], name: str, marker: dict[str, Any]) -> go.Scatter:
    meta = {"overlay": True}
    return go.Scatter(**_places(points), name=name, mode="markers", marker=marker, meta=meta)


def _places(points: list[Point]) -> dict[str, Any]:
    return {
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "customdata": [point.trial for point in points],
        "hovertext": ["<br>".join(escaped(line) for line in point.hover) for point in points],
        "hoverinfo": "text",
    }


def _strokes(trial: Trial, shown: bool, gains: tuple[TaskGain, ...]) -> go.Scatter:
    colour, dash = _style(trial.number, trial.baseline is not None)
    label = escaped(format.title(trial))
    return go.Scatter(
        x=[place for gain in gains for place in (escaped(gain.task), escaped(gain.task), None)],
        y=[value for gain in gains for value in (gain.before, gain.after, None)],
        error_y={
            "array": [error for gain in gains for error in (None, gain.error, None)],
            "color": colour,
            "thickness": 1.2,
            "width": 0,
        },
        name=label,
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2},
        marker={
            "color": colour,
            "size": 8,
            "symbol": ["circle-open", "circle", "circle"] * len(gains),
        },
        offsetgroup=str(trial.number),
        visible=True if shown else "legendonly",
        meta={"trial": trial.number},
        hovertext=[
            text
            for gain in gains
            for text in (
                f"{label}<br>{escaped(gain.task)} before: {format.number(gain.before, 3)}",
                f"{label}<br>{escaped(gain.task)} after: "
                f"{format.with_sem(gain.after, gain.error or math.nan)}",
                "",
            )
        ],
        hoverinfo="text",
    )


def _style(number: int, baseline: bool) -> tuple[str, str]:
    dashes = BASELINE_DASHES if baseline else DASHES
    return CYCLE[number % len(CYCLE)], dashes[number // len(CYCLE) % len(dashes)]


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
