"""What a notebook shows of a run: the findings, the front as a figure and as a table.

A piece of HTML without script, so that it is small, needs no network, and is shown by a notebook
that is not trusted, too; `run.plot(name)` gives the figures to explore.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.core import checks, format, metrics
from hpo.core.trial import Run, Trial
from hpo.front.front import Front
from hpo.report import findings
from hpo.report.answer import answer
from hpo.report.plots import draw, figure_data, files, registry
from hpo.report.plots.figure_data import FrontData, Point
from hpo.report.results import Results
from hpo.report.trial_records import trial_records
from hpo.storage import run_folder

if TYPE_CHECKING:
    import pandas

WIDTH, HEIGHT = 720, 400


LEFT, RIGHT, TOP, BOTTOM = 75, 15, 15, 50
"""Pixels of the figure, and of the margins around its points."""


TICKS = 5


class NotebookRun(Run):
    """A run that a notebook shows by its findings and front."""

    @cached_property
    def results(self) -> Results:
        """What it found, computed once for all that is shown of it."""
        return Results(self)

    @property
    def front(self) -> Front:
        """The front: its `trials`, its `knee`, and the probability of belonging to it."""
        return self.results.front

    def best(self, metric: str) -> Trial | None:
        """The best setting by a goal, as observed over its seeds; None while none counts.

        Raises:
            ValueError: the run has no such goal.
        """
        goals = {goal.metric: goal for goal in self.goals}
        if metric not in goals:
            raise ValueError(
                f"run {self.name!r} has no goal {metric!r}; {checks.near(metric, goals)}"
            )
        return self.results.best(goals[metric])

    def records(self) -> list[dict[str, Any]]:
        """A dict a trial with the columns of `trials_dataframe`."""
        return trial_records(self.results)

    def trials_dataframe(self) -> pandas.DataFrame:
        """A row a trial, as Optuna's method of this name: `params.PATH`, `metrics.NAME`, ...

        Raises:
            ValueError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ValueError(
                "a data frame needs pandas: pip install pandas; or use run.records(), which gives "
                "the same rows as dicts."
            ) from None
        return pandas.DataFrame(self.records())

    def _repr_html_(self) -> str:
        return shown(self.results)

    def figures(self) -> dict[str, str]:
        """Name of each figure that the run has data for -> what it shows."""
        return {name: each.what for name, each in registry.exhibits(self.results).items()}

    def plot(self, figure: str = "front") -> files.Figure:
        """A figure to explore, the same as of the report and `hpo plot`.

        plotly's renderer loads its library once a notebook, however many figures are shown.

        Raises:
            ValueError: the run has no such figure.
        """
        exhibit = registry.exhibit(self.results, figure)
        return files.titled(exhibit, self.name)


def load_run(
    run: str, out: str | Path = "runs", storage: str | None = None, group: int | None = None
) -> NotebookRun:
    """A run's record by its name in the output folder, or by its path.

    Args:
        run: Name or folder of the run.
        out: The output folder.
        storage: URL of the storage, for a record outside of the run's folder.
        group: Group of trials measured under the same conditions; None is the last.

    Raises:
        ValueError: there is no such run, or its storage has to be given.
        StorageError: it cannot be read.
    """
    return notebook_run(run_folder.load(run, out, storage, group))


def notebook_run(found: Run) -> NotebookRun:
    """A record as a notebook shows it."""
    return NotebookRun(**{each.name: getattr(found, each.name) for each in fields(found)})


def shown(results: Results) -> str:
    """The run as HTML."""
    run, found = results.run, results.front
    first = answer(results)
    lines = "".join(f"<li>{_escaped(line)}</li>" for line in findings.summary(results))
    parts = [f"<h3>{_escaped(run.name)}</h3>"]
    if first is not None:
        parts.append(f"<p>{_escaped(first.warning)}</p>" if first.warning else "")
        parts.append(f"<p><b>{_escaped(first.use)}</b> {_escaped(first.gives)}</p>")
    parts.append(f"<ul>{lines}</ul>")
    if found.trials:
        parts += [_plane(figure_data.front_data(results, *figure_data.plane(run)))]
        parts += [_table(run, found.trials)]
    return "".join(parts)


def _plane(data: FrontData) -> str:
    """The plane of two metrics: the front, the baselines, and all other trials."""
    xs = _Axis([(point.x, point.x_error) for point in data.points], LEFT, WIDTH - RIGHT)
    ys = _Axis([(point.y, point.y_error) for point in data.points], HEIGHT - BOTTOM, TOP)
    ranked = sorted(data.points, key=lambda point: (point.group == "front", bool(point.baseline)))
    marks = "".join(_mark(point, xs, ys) for point in ranked)
    x, y = (_escaped(metrics.named(name)) for name in (data.x, data.y))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        'style="background: white; max-width: 100%" font-family="sans-serif" font-size="12" '
        f'fill="#222222"><title>{y} against {x}</title>{_grid(xs, ys)}{marks}'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x}</text>'
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{y}</text>'
        "</svg>"
        f"<p>{_circle(0, 0, draw.VERMILLION, inline=True)} front "
        f"{_circle(0, 0, draw.BLUE, ring=True, inline=True)} baseline "
        f"{_circle(0, 0, draw.GREY, inline=True)} other trials; bars are one standard error</p>"
    )


class _Axis:
    """Where values of one metric are, in pixels."""

    def __init__(self, values: Iterable[tuple[float, float | None]], start: int, end: int) -> None:
        ends = [value + side * (error or 0) for value, error in values for side in (-1, 1)]
        low, high = min(ends), max(ends)
        space = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        self.low, self.high = low - space, high + space
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Sequence[float]:
        """Round values, at most `TICKS` + 1."""
        raw = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next(digit for digit in (1, 2, 5, 10) if digit * power >= raw)
        first = math.ceil(self.low / step)
        return [step * place for place in range(first, math.floor(self.high / step) + 1)]


def _grid(xs: _Axis, ys: _Axis) -> str:
    """Lines at round values, and the values."""
    line = 'stroke="#e0e0e0"'
    across = "".join(
        f'<path d="M{xs(value):.1f} {TOP}V{HEIGHT - BOTTOM}" {line}/>'
        f'<text x="{xs(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
        f"{value:.10g}</text>"
        for value in xs.ticks()
    )
    up = "".join(
        f'<path d="M{LEFT} {ys(value):.1f}H{WIDTH - RIGHT}" {line}/>'
        f'<text x="{LEFT - 6}" y="{ys(value) + 4:.1f}" text-anchor="end">{value:.10g}</text>'
        for value in ys.ticks()
    )
    return across + up


def _mark(point: Point, xs: _Axis, ys: _Axis) -> str:
    """A point with its error bars, and its trial as a tooltip."""
    x, y = xs(point.x), ys(point.y)
    front, baseline = point.group == "front", point.baseline is not None
    colour = draw.VERMILLION if front else draw.BLUE if baseline else draw.GREY
    bars = ""
    if point.x_error:
        left, right = xs(point.x - point.x_error), xs(point.x + point.x_error)
        bars += f"M{left:.1f} {y:.1f}H{right:.1f}"
    if point.y_error:
        low, high = ys(point.y - point.y_error), ys(point.y + point.y_error)
        bars += f"M{x:.1f} {low:.1f}V{high:.1f}"
    drawn = f'<path d="{bars}" stroke="{colour}"/>' if bars else ""
    ring = _circle(x, y, draw.BLUE, ring=True) if baseline else ""
    name = _escaped(f"#{point.trial} {point.baseline or ''}".strip() + point.tag)
    label = f'<text x="{x + 9:.1f}" y="{y - 7:.1f}">{name}</text>' if front or baseline else ""
    title = _escaped("; ".join(point.hover[:1]))
    dot = "" if baseline and not front else _circle(x, y, colour)
    return f"<g><title>{title}</title>{drawn}{dot}{ring}{label}</g>"


def _circle(x: float, y: float, colour: str, *, ring: bool = False, inline: bool = False) -> str:
    look = f'fill="none" stroke="{colour}" stroke-width="2"' if ring else f'fill="{colour}"'
    drawn = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if ring else 4}" {look}/>'
    if not inline:
        return drawn
    return f'<svg viewBox="-8 -8 16 16" width="16" height="16">{drawn}</svg>'


def _table(run: Run, trials: Iterable[Trial]) -> str:
    trials = list(trials)
    scores, params = metrics.score_names(run), metrics.param_names(run, trials)
    rows = [["trial", *map(metrics.named, scores), *params.values()]]
    for trial in trials:
        cells = [format.title(trial), *(metrics.measured(trial, name) for name in scores)]
        cells += [format.setting(trial.params[p]) if p in trial.params else "" for p in params]
        rows.append(cells)
    lines = "".join(
        f"<tr>{''.join(f'<{kind}>{_escaped(cell)}</{kind}>' for cell in row)}</tr>"
        for kind, row in zip(["th", *["td"] * len(trials)], rows, strict=True)
    )
    return f"<table>{lines}</table>"


def _escaped(text: str) -> str:
    """Text for HTML, with what would change how others are shown spelled out."""
    return html.escape(format.escape_controls(text))
