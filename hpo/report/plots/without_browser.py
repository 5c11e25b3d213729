"""Pictures of figures made of points and lines, by matplotlib, where no browser can draw them.

It draws what the plotly figure says: points, lines, bands, errors, axes, names and titles. Other
figures, such as parallel coordinates, need a browser.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

import plotly.graph_objects as go

SYMBOLS = {
    "circle": "o", "circle-open": "o", "circle-dot": "o", "diamond": "D", "diamond-open": "D",
    "square": "s", "square-open": "s", "triangle-up": "^", "triangle-up-open": "^",
    "triangle-down": "v", "triangle-down-open": "v", "x": "x", "cross": "P", "star": "*",
}  # fmt: skip


DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


COLOUR = "#808080"
"""Of a trace that names none."""


DOTS_AN_INCH = 100


def can_draw(figure: go.Figure) -> bool:
    """Whether it is made of points and lines alone, and matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return bool(figure.data) and all(
        trace.type in ("scatter", "scattergl")
        and not isinstance(trace.marker.color, list | tuple)  # a scale of colours
        and trace.fill in (None, "none", "tonexty")
        for trace in figure.data
    )


def picture(figure: go.Figure, ending: str, width: int, height: int, scale: float) -> bytes:
    """The figure as png, svg or pdf; width and height in CSS pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width / DOTS_AN_INCH, height / DOTS_AN_INCH), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    shown = [each for each in figure.data if each.visible not in ("legendonly", False)]
    for before, trace in zip([None, *shown], shown, strict=False):
        _trace(axes, trace, before)
    layout = figure.layout
    _axis(axes, layout.xaxis, "x")
    _axis(axes, layout.yaxis, "y")
    axes.set_title(_plain(layout.title.text), loc="left", fontsize=11)
    axes.grid(color="#e0e0e0")
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    target = io.BytesIO()
    drawn.savefig(target, format=ending, dpi=DOTS_AN_INCH * scale, metadata={})
    return target.getvalue()


def _axis(axes: Any, axis: Any, name: str) -> None:
    """Title, scale and ticks of one axis; ticks beyond what is drawn are left out."""
    getattr(axes, f"set_{name}label")(_plain(axis.title.text))
    if axis.type == "log":
        getattr(axes, f"set_{name}scale")("log")
    if axis.tickvals is not None and axis.ticktext is not None:
        ends = getattr(axes, f"get_{name}lim")()
        getattr(axes, f"set_{name}ticks")(axis.tickvals, [*map(_plain, axis.ticktext)])
        getattr(axes, f"set_{name}ticks")([], minor=True)
        getattr(axes, f"set_{name}lim")(ends)


def _trace(axes: Any, trace: Any, before: Any) -> None:
    """One trace; a band is filled from the one before it."""
    x, y = _values(trace.x), _values(trace.y)
    if not x:
        return
    mode = trace.mode or "lines"
    marker = trace.marker.color if isinstance(trace.marker.color, str) else None
    colour = marker or trace.line.color or COLOUR
    name = _plain(trace.name) if trace.name and trace.showlegend is not False else None
    if trace.fill == "tonexty" and before is not None:
        axes.fill_between(x, _values(before.y), y, color="#2E93CF", alpha=0.15, linewidth=0)
    if "lines" in mode and trace.line.width != 0:
        dash = DASHES.get(trace.line.dash or "solid", "-")
        axes.plot(x, y, dash, color=trace.line.color or colour, linewidth=1.5, label=name)
        name = None
    if "markers" in mode:
        _points(axes, trace, x, y, colour, name)
    _texts(axes, trace, x, y)


def _points(
    axes: Any, trace: Any, x: list[Any], y: list[Any], colour: str, name: str | None
) -> None:
    symbol = trace.marker.symbol if isinstance(trace.marker.symbol, str) else "circle"
    size = trace.marker.size if isinstance(trace.marker.size, int | float) else 7
    hollow = symbol.endswith("-open")
    if SYMBOLS.get(symbol, "o") in "xP":
        face: dict[str, Any] = {"color": colour}
    else:
        face = {"facecolors": "none" if hollow else colour, "edgecolors": colour}
    axes.scatter(x, y, s=size**2, marker=SYMBOLS.get(symbol, "o"), label=name, zorder=3, **face)
    errors = {f"{side}err": _errors(getattr(trace, f"error_{side}"), len(x)) for side in ("x", "y")}
    if any(each is not None for each in errors.values()):
        axes.errorbar(x, y, **errors, fmt="none", ecolor=colour, elinewidth=1, zorder=2)


def _errors(error: Any, count: int) -> list[float] | None:
    if error is None or error.array is None:
        return None
    found = [0.0 if each is None else float(each) for each in error.array]
    return found if len(found) == count else None


def _texts(axes: Any, trace: Any, x: list[Any], y: list[Any]) -> None:
    if "text" not in (trace.mode or "") or trace.text is None:
        return
    words = [trace.text] * len(x) if isinstance(trace.text, str) else list(trace.text)
    for across, up, text in zip(x, y, words, strict=False):
        axes.annotate(_plain(text), (across, up), (5, 5), textcoords="offset points", fontsize=8)


def _values(given: Any) -> list[Any]:
    if given is None:
        return []
    return [_plain(each) if isinstance(each, str) else each for each in given]


def _plain(text: str | None) -> str:
    """Plotly's text without its HTML, and without what matplotlib takes for formulas."""
    words = html.unescape(re.sub(r"<[^>]*>", " ", (text or "").replace("<br>", "\n")))
    return words.replace("$", r"\$")
