"""Every figure of a run by its name: as a picture, a page, or the data behind it.

Data as a table: a field that holds records gives a row for each, and tuples of numbers of one
length side by side give a row for each place; all else of the record stands in every row.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.parquet as pq

from hpo import drawing, figures, wording
from hpo.record import Run
from hpo.scoring import front
from hpo.tables import finite

Rows = list[dict[str, Any]]
PICTURES = ("png", "svg", "pdf")
WIDTH, HEIGHT, SCALE = 1000, 600, 2
"""Of a picture, in CSS pixels, and dots a pixel."""
INK = "#222222"


class NoBrowser(RuntimeError):
    """A picture cannot be drawn on this machine."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure and its data."""

    what: str
    rows: Rows
    draw: Callable[[], go.Figure]


def exhibits(run: Run) -> dict[str, Exhibit]:
    """Name -> figure, for every figure that the run has data for."""
    found = front(run)
    x, y = figures.plane(run)
    plane = figures.front_data(run, found, x, y)
    shown = {
        "front": Exhibit(
            what=f"{x} against {y}",
            rows=_front_rows(plane),
            draw=lambda: drawing.draw_front(plane),
        )
    }
    for name in figures.curve_names(run):
        shown[f"curve.{name}"] = _curves(figures.curve_data(run, found, name), name)
    gain = figures.gain_data(run, found)
    if gain.trials:
        shown["gain"] = Exhibit(
            what="scores by task, before and after fine-tuning",
            rows=_gain_rows(gain),
            draw=lambda: drawing.draw_gain(gain),
        )
    for place, dots in enumerate(figures.paper_dots(run)):
        shown[f"paper.{place}"] = _dots(dots)
    return shown


def exhibit(run: Run, name: str) -> Exhibit:
    """One of them.

    Raises:
        ValueError: the run has no such figure.
    """
    found = exhibits(run)
    if name not in found:
        raise ValueError(
            f"run {run.name!r} has no figure {name!r}; its figures are {', '.join(found)}."
        )
    return found[name]


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


def write(exhibit: Exhibit, name: str, path: Path) -> Path:
    """Write the figure in the format that the file's name ends in, whole or not at all.

    Raises:
        ValueError: an unknown ending, or a place that cannot be written.
        NoBrowser: a picture, and no browser that could draw it.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in WRITERS:
        raise ValueError(
            f"a figure is written as {', '.join(WRITERS)}, by the file's ending; got {path.name!r}."
        )
    content = WRITERS[ending](exhibit, name)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise ValueError(f"cannot write to {path} ({error.strerror}); give another --to.") from None
    return path


def _picture(ending: str) -> Callable[[Exhibit, str], bytes]:
    def write(exhibit: Exhibit, name: str) -> bytes:
        figure = on_paper(exhibit.draw())
        try:
            drawn: bytes = figure.to_image(
                format=ending, width=WIDTH, height=HEIGHT, scale=1 if ending == "pdf" else SCALE
            )
        except Exception as error:  # kaleido and its browser fail in many ways
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise NoBrowser(
                "a picture needs kaleido and Chrome or Chromium (pip install "
                "'plasticity-hpo[pictures]', and the browser); html, csv, parquet and json need "
                f"neither ({reason})"
            ) from None
        return drawn

    return write


def on_paper(figure: go.Figure) -> go.Figure:
    """The figure on white, without what only waits in the legend to be clicked."""
    figure.update_layout(
        paper_bgcolor="white", plot_bgcolor="white", font={"color": INK, "size": 14}
    )
    figure.update_layout(margin={"l": 70, "r": 30, "t": 40, "b": 80})
    figure.update_xaxes(gridcolor="#e0e0e0", linecolor=INK, ticks="outside")
    figure.update_yaxes(gridcolor="#e0e0e0", linecolor=INK, ticks="outside")
    figure.for_each_trace(
        lambda trace: trace.update(visible=False) if trace.visible == "legendonly" else None
    )
    return figure


def _html(exhibit: Exhibit, name: str) -> bytes:
    """A page that needs no network."""
    figure = exhibit.draw()
    figure.update_layout(
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"t": 90},
        title={"text": drawing.escaped(f"{name}: {exhibit.what}"), "y": 0.98},
    )
    text: str = figure.to_html(include_plotlyjs=True, config={"responsive": True})
    return text.encode()


def _csv(exhibit: Exhibit, name: str) -> bytes:
    names = list(dict.fromkeys(key for row in exhibit.rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(exhibit.rows)
    return text.getvalue().encode()


def _json(exhibit: Exhibit, name: str) -> bytes:
    data = {"figure": name, "what": exhibit.what, "rows": exhibit.rows}
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()


def _parquet(exhibit: Exhibit, name: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(exhibit.rows), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _curves(curves: tuple[figures.Curve, ...], name: str) -> Exhibit:
    return Exhibit(
        what=f"{name} of each trial",
        rows=rows(curves),
        draw=lambda: drawing.draw_curves(curves, name),
    )


def _dots(dots: figures.Dots) -> Exhibit:
    side = "the paper's" if dots.paper else "this study's"
    return Exhibit(
        what=f"{dots.title}, {side} {dots.axis}",
        rows=rows(dots),
        draw=lambda: drawing.draw_dots(dots),
    )


def _front_rows(data: figures.FrontData) -> Rows:
    return [
        {"trial": point.trial, "baseline": point.baseline, "standing": point.group,
         "knee": point.trial == data.knee,
         data.x: point.x, f"{data.x}_sem": point.x_error,
         data.y: point.y, f"{data.y}_sem": point.y_error}
        for point in data.points
    ]  # fmt: skip


def _gain_rows(data: figures.GainData) -> Rows:
    return [
        {"trial": trial.number, "label": wording.title(trial), **dataclasses.asdict(gain),
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


WRITERS: dict[str, Callable[[Exhibit, str], bytes]] = {
    **{ending: _picture(ending) for ending in PICTURES},
    "html": _html,
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
