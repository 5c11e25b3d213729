"""A figure of a run in a file: as a picture, a page, or the data behind it."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import plotly.graph_objects as go

from hpo.core import files
from hpo.core.csv_text import csv_text
from hpo.report.plots import draw, without_browser
from hpo.report.plots.registry import Exhibit

Figure: TypeAlias = go.Figure


PICTURES = ("png", "svg", "pdf")


WIDTH, HEIGHT, SCALE = 1000, 600, 2
"""Of a picture, in CSS pixels, and dots a pixel."""


INK = "#222222"


class NoBrowser(ValueError):
    """A picture cannot be drawn on this machine, which lacks what draws it."""


@contextlib.contextmanager
def one_browser() -> Iterator[None]:
    """Pictures written within share one browser; without kaleido nothing is started."""
    try:
        import kaleido
    except ImportError:  # which the first picture says
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kaleido.start_sync_server(silence_warnings=True)
            started = True
        except Exception:  # which the first picture says, or draws without
            started = False
    if not started:
        yield
        return
    try:
        yield
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


def write(exhibit: Exhibit, name: str, path: Path, run: str) -> Path:
    """Write the figure in the format that the file's name ends in, whole or not at all.

    `run`: the name in the titles of pictures and pages.

    Raises:
        ValueError: an unknown ending, or a place that cannot be written.
        NoBrowser: a picture, and no browser that could draw it.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in WRITERS:
        raise ValueError(
            f"a figure is written as {', '.join(WRITERS)}, by the file's ending; got {path.name!r}."
        )
    content = WRITERS[ending](exhibit, name, run)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content)
    except OSError as error:
        if error.errno in files.FULL:
            raise
        raise ValueError(f"cannot write to {path} ({error.strerror}); give another --to.") from None
    return path


def _picture(ending: str) -> Callable[[Exhibit, str, str], bytes]:
    def write(exhibit: Exhibit, name: str, run: str) -> bytes:
        figure = on_paper(exhibit.draw(), title(exhibit, run))
        try:
            drawn: bytes = figure.to_image(
                format=ending, width=WIDTH, height=HEIGHT, scale=1 if ending == "pdf" else SCALE
            )
        except Exception as error:  # kaleido and its browser fail in many ways
            if not without_browser.can_draw(figure):
                raise _no_browser(error) from None
            scale = 1 if ending == "pdf" else SCALE
            return without_browser.picture(figure, ending, WIDTH, HEIGHT, scale)
        return drawn

    return write


def _no_browser(error: Exception) -> NoBrowser:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return NoBrowser(
        "a picture needs kaleido and Chrome or Chromium (pip install 'plasticity-hpo[pictures]', "
        f"and the browser); front, slices and curves need matplotlib alone; html, csv, parquet and "
        f"json need neither ({reason})"
    )


def title(exhibit: Exhibit, run: str) -> str:
    """The run's name and what the figure shows."""
    return draw.escaped(f"{run}: {exhibit.what}")


def on_paper(figure: go.Figure, text: str) -> go.Figure:
    """The figure on white with its title, without what only waits in the legend to be clicked."""
    figure.update_layout(
        paper_bgcolor="white", plot_bgcolor="white", font={"color": INK, "size": 14}
    )
    figure.update_layout(margin={"l": 70, "r": 30, "t": 60, "b": 80}, **_headed(text))
    figure.update_xaxes(gridcolor="#e0e0e0", linecolor=INK, ticks="outside")
    figure.update_yaxes(gridcolor="#e0e0e0", linecolor=INK, ticks="outside")
    figure.for_each_trace(
        lambda trace: trace.update(visible=False) if trace.visible == "legendonly" else None
    )
    return figure


def titled(exhibit: Exhibit, run: str) -> Figure:
    """The figure with a title that says what it shows, and its legend beside it."""
    figure = exhibit.draw()
    return figure.update_layout(margin={"t": 60}, **_headed(title(exhibit, run)))


def _headed(text: str) -> dict[str, Any]:
    """A title above the figure, and the legend beside it, where it covers no title."""
    return {
        "title": {"text": text, "x": 0.02, "y": 0.98, "yanchor": "top", "font": {"size": 17}},
        "legend": {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"},
    }


def _html(exhibit: Exhibit, name: str, run: str) -> bytes:
    """A page that needs no network."""
    figure = titled(exhibit, run).update_layout(paper_bgcolor="white", plot_bgcolor="white")
    text: str = figure.to_html(include_plotlyjs=True, config={"responsive": True})
    return text.encode()


def _csv(exhibit: Exhibit, name: str, run: str) -> bytes:
    return csv_text(exhibit.rows).encode()


def _json(exhibit: Exhibit, name: str, run: str) -> bytes:
    data = {"figure": name, "what": exhibit.what, "rows": exhibit.rows}
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()


def _parquet(exhibit: Exhibit, name: str, run: str) -> bytes:
    # Imported here: other files do not need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(exhibit.rows), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


WRITERS: dict[str, Callable[[Exhibit, str, str], bytes]] = {
    **{ending: _picture(ending) for ending in PICTURES},
    "html": _html,
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
