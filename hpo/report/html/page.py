"""Puts the report together and writes it.

Three escapes keep what a user named out of the markup: `html.escape` in the page, `drawing.escaped`
in plotly's texts, and \\u escapes of `<`, `>`, `&` in the data, so that no `</script>` ends it.
A content security policy forbids every request. What the page builds itself it builds of text
nodes.

Figures of all trials are drawn here; those of single trials (curves, gain by task, a trial's page)
the page draws of the columns it is given, for the trials that are selected.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from hpo.core import files, format, metrics
from hpo.report.html import page_data, sections
from hpo.report.plots import draw, figure_data
from hpo.report.results import Results
from hpo.report.terminal_tables import finite

SCRIPTS = ("state.js", "layer.js", "draw.js", "table.js", "trial.js", "report.js")
"""In the order in which they run."""


def write_report(results: Results, path: Path, refresh_s: float | None = None) -> Path:
    """Write the run's report, whole or not at all, and return its path.

    With `refresh_s` the page reloads itself at that interval, for a run that is going on.
    """
    page = render(results, refresh_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, page)
    return path


def render(results: Results, refresh_s: float | None = None) -> str:
    """The report's HTML."""
    shown = sections.make(results)
    return Template(_asset("report.html")).substitute(
        title=html.escape(f"{results.run.name}: report"),
        style=_asset("report.css"),
        body="\n".join(sections.body(results, shown, live=refresh_s is not None)),
        data=in_script(_data(results, shown, refresh_s)),
        plotly=get_plotlyjs(),
        script="\n".join(_asset(name) for name in SCRIPTS),
    )


def in_script(data: Any) -> str:
    """JSON that stays data inside a script element."""
    text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(results: Results, shown: sections.Shown, refresh_s: float | None) -> dict[str, Any]:
    run = results.run
    names = metrics.metric_names(run)
    most = page_data.most_points(run)
    curves = figure_data.curve_names(run)
    return {
        "name": run.name,
        "refresh_s": refresh_s,
        "figures": {name: _plotly(figure) for name, figure in shown.figures.items()},
        "curves": [{"name": name, **page_data.curves(run, name, most)} for name in curves],
        "layouts": {
            f"curve-{index}": _plotly(shown.empty[f"curve-{index}"])["layout"]
            for index in range(len(curves))
        },
        "gain": _gain(results, shown),
        "styles": {"colours": draw.CYCLE, "dashes": draw.DASHES},
        "axes": figure_data.plane(run),
        "titles": {name: draw.escaped(metrics.named(name)) for name in names}
        | {path: draw.escaped(path) for path in page_data.numeric(run)},
        "logs": [path for path, domain in run.space.items() if domain.get("log")],
        "units": {name: metrics.UNITS[name] for name in names if name in metrics.UNITS},
        "columns": page_data.columns(results),
        "goals": [goal.metric for goal in run.goals],
        "trials": [trial.number for trial in run.trials],
        "labels": [format.title(trial) for trial in run.trials],
        "details": page_data.details(run, results.front),
        "selected": [
            trial.number for trial in run.trials if figure_data.shown(trial, results.front)
        ],
    }


def _gain(results: Results, shown: sections.Shown) -> dict[str, Any] | None:
    """Tasks and the empty figure of their scores; None where nothing was fine-tuned."""
    if "gain-by-task" not in shown.empty:
        return None
    tasks = metrics.task_names(results.run)
    return {
        "tasks": tasks,
        "names": [draw.escaped(task) for task in tasks],
        **_plotly(shown.empty["gain-by-task"]),
    }


def _plotly(figure: go.Figure) -> Mapping[str, Any]:
    """The figure as JSON-able data, its numbers short, without hover texts of trials.

    The page makes those itself, of the columns it has anyway.
    """
    drawn: Mapping[str, Any] = page_data.short(figure.to_plotly_json())
    for trace in drawn["data"]:
        if "customdata" in trace:
            trace.pop("hovertext", None)
    return {"data": drawn["data"], "layout": drawn["layout"]}


def _asset(name: str) -> str:
    return resources.files("hpo.report.html").joinpath(name).read_text(encoding="utf-8")
