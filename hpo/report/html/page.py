"""Puts the report together and writes it.

Three escapes keep what a user named out of the markup: jinja2's in the page, `draw.escaped` in
plotly's texts, and \\u escapes of `<`, `>`, `&` in the data, so that no `</script>` ends it.
A content security policy forbids every request. What the page builds itself it builds of text
nodes.

Figures of all trials are drawn here; those of single trials (curves, gain by task, a trial's page)
the page draws of the columns it is given, for the trials that are selected.
"""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hpo.core import files, format, metrics
from hpo.report import findings
from hpo.report.answer import answer
from hpo.report.html import cards, elements, page_data, sections
from hpo.report.html.elements import Figures
from hpo.report.html.templating import rendered
from hpo.report.plots import draw, figure_data
from hpo.report.results import Results
from hpo.report.terminal_tables import finite

SCRIPTS = (
    "state.js", "layer.js", "draw.js", "table.js", "download.js", "trial.js", "report.js",
)  # fmt: skip
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
    run = results.run
    figures = elements.draw(results)
    first, rest = findings.ranked(results)
    return rendered(
        "page.html",
        name=run.name,
        description=run.description,
        facts=cards.facts(results),
        live=refresh_s is not None,
        answer=answer(results),
        cards=cards.cards(results),
        first=first,
        rest=rest,
        sections=list(sections.sections(results, figures)),
        style=Markup(_asset("report.css")),
        data=Markup(in_script(_data(results, figures, refresh_s))),
        plotly=packed_plotly(),
        script=Markup("\n".join(_asset(name) for name in SCRIPTS)),
    )


@cache
def packed_plotly() -> str:
    """plotly.js, compressed to 40 % of its size; the page unpacks it. The same at every call."""
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode()


def in_script(data: Any) -> str:
    """JSON that stays data inside a script element."""
    text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(results: Results, figures: Figures, refresh_s: float | None) -> dict[str, Any]:
    run, found = results.run, results.front
    names = metrics.metric_names(run)
    most = page_data.most_points(run)
    curves = figure_data.curve_names(run)
    meanings = metrics.meanings(run)
    return {
        "name": run.name,
        "refresh_s": refresh_s,
        "export": f"hpo export {shlex.quote(run.name)} --trial",
        "figures": {name: _plotly(figure) for name, figure in figures.drawn.items()},
        "curves": [{"name": name, **page_data.curves(run, name, most)} for name in curves],
        "layouts": {
            f"curve-{index}": _plotly(figures.empty[f"curve-{index}"])["layout"]
            for index in range(len(curves))
        },
        "tasks": {"names": metrics.task_names(run), "ends": metrics.measure(run).ends},
        "gain": _gain(results, figures),
        "styles": {
            "colours": draw.CYCLE,
            "dark": draw.ON_DARK,
            "scale_dark": draw.SCALE_ON_DARK,
            "dashes": draw.DASHES,
            "baseline_dashes": draw.BASELINE_DASHES,
        },
        "axes": figure_data.plane(run),
        "titles": {name: draw.titled(name, run.goals) for name in names}
        | {path: draw.escaped(path) for path in page_data.numeric(run)},
        "numeric": page_data.numeric(run),
        "logs": [path for path, domain in run.space.items() if domain.log],
        "units": {name: metrics.UNITS[name] for name in names if name in metrics.UNITS},
        "meanings": {name: meanings[name] for name in names if name in meanings},
        "columns": page_data.columns(results),
        "goals": [goal.metric for goal in run.goals],
        "trials": [trial.number for trial in run.trials],
        "baselines": [trial.number for trial in run.trials if trial.baseline is not None],
        "labels": [format.title(trial) for trial in run.trials],
        "details": page_data.details(run, found),
        "selected": [trial.number for trial in run.trials if figure_data.shown(trial, found)],
    }


def _gain(results: Results, figures: Figures) -> dict[str, Any] | None:
    """Tasks and the empty figure of their scores; None where nothing was fine-tuned."""
    if "gain-by-task" not in figures.empty:
        return None
    tasks = metrics.task_names(results.run)
    return {
        "tasks": tasks,
        "names": [draw.escaped(task) for task in tasks],
        **_plotly(figures.empty["gain-by-task"]),
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
