"""Every figure of a run by its name: the one list for the report, `hpo plot` and notebooks.

A name begins with the figure's kind, such as `curve.val_loss` and `slice.lr.gain`. Nothing is drawn
or made into rows until it is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

import plotly.graph_objects as go

from hpo.analysis.importance import FEWEST
from hpo.core import metrics
from hpo.core.format import plural
from hpo.core.trial import Run
from hpo.report.plots import draw, draw_parameters, figure_data
from hpo.report.plots import rows as tables
from hpo.report.plots.draw_parameters import Marks
from hpo.report.plots.rows import Rows
from hpo.report.results import Results

NEEDS = {
    "importance": f"{FEWEST} complete trials of different settings",
    "parallel": "complete trials that vary at least one parameter",
    "gain": "trials with scores before and after fine-tuning",
    "tree": "trials that share training",
}
"""Figure -> what a run has to have for it."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure and its data."""

    what: str
    """What it shows, in a few words."""
    make_rows: Callable[[], Rows]
    draw: Callable[[], go.Figure]
    empty: Callable[[], go.Figure] | None = None
    """The figure without a trial, where the report draws the selected trials itself."""

    @cached_property
    def rows(self) -> Rows:
        """The data behind the figure as a table."""
        return self.make_rows()


Exhibits = dict[str, Exhibit]


def exhibits(results: Results) -> Exhibits:
    """Name -> figure, for every figure that the run has data for."""
    marks = marked(results)
    return {
        name: exhibit
        for figures in FIGURES.values()
        for name, exhibit in figures(results, marks).items()
    }


def kind(name: str) -> str:
    """What a figure's name begins with."""
    return name.split(".")[0]


def marked(results: Results) -> Marks:
    """The trials that every figure marks: the front, and the baselines by name."""
    return Marks(
        front=tuple(trial.number for trial in results.front.trials),
        baselines={t.number: t.baseline for t in results.run.trials if t.baseline is not None},
    )


def exhibit(results: Results, name: str) -> Exhibit:
    """One of them.

    Raises:
        ValueError: the run has no such figure.
    """
    figures = FIGURES.get(kind(name))
    found = figures(results, marked(results)).get(name) if figures is not None else None
    if found is None:
        known, run = exhibits(results), results.run
        raise ValueError(f"run {run.name!r} has no figure {name!r}; {_why_not(run, name, known)}")
    return found


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


def _front(results: Results, marks: Marks) -> Exhibits:
    x, y = figure_data.plane(results.run)
    plane = figure_data.front_data(results, x, y)
    return {
        "front": Exhibit(
            what=f"{x} against {y}",
            make_rows=partial(tables.front_rows, plane),
            draw=partial(draw.draw_front, plane),
        )
    }


def _curves(results: Results, marks: Marks) -> Exhibits:
    return {f"curve.{name}": _curve(results, name) for name in figure_data.curve_names(results.run)}


def _curve(results: Results, name: str) -> Exhibit:
    def data() -> tuple[figure_data.Curve, ...]:
        return figure_data.curve_data(results, name)

    last = figure_data.last_step(results.run, name)
    return Exhibit(
        what=f"{name} of each trial",
        make_rows=lambda: tables.rows(data()),
        draw=lambda: draw.draw_curves(data(), name),
        empty=lambda: draw.draw_curves((), name, last),
    )


def _gain(results: Results, marks: Marks) -> Exhibits:
    gain = figure_data.gain_data(results)
    if not gain.trials:
        return {}
    none = dataclasses.replace(gain, trials=())
    return {
        "gain": Exhibit(
            what=f"{gain.axis} by task, before and after fine-tuning",
            make_rows=partial(tables.gain_rows, gain),
            draw=partial(draw.draw_gain, gain),
            empty=partial(draw.draw_gain, none),
        )
    }


def _paper(results: Results, marks: Marks) -> Exhibits:
    return {
        f"paper.{index}": Exhibit(
            what=f"{dots.title}, {'the paper' if dots.paper else 'this study'}'s {dots.axis}",
            make_rows=partial(tables.rows, dots),
            draw=partial(draw.draw_dots, dots),
        )
        for index, dots in enumerate(figure_data.paper_dots(results))
    }


def _slices(results: Results, marks: Marks) -> Exhibits:
    """Every parameter under every goal."""
    found = {}
    for data in results.slices:
        name = results.params.get(data.x, data.x)
        found[f"slice.{name}.{data.y}"] = Exhibit(
            what=f"{metrics.named(data.y)} over {name}",
            make_rows=partial(tables.slice_rows, data),
            draw=partial(draw_parameters.draw_slice, data, name, marks),
        )
    return found


def _interactions(results: Results, marks: Marks) -> Exhibits:
    return {
        f"interaction.{data.goal.metric}": Exhibit(
            what=f"{data.goal.metric} over decay and rate",
            make_rows=partial(tables.interaction_rows, data),
            draw=partial(draw_parameters.draw_interaction, data, marks),
        )
        for data in results.interactions
    }


def _importance(results: Results, marks: Marks) -> Exhibits:
    shares = results.importances
    if not any(each.shares for each in shares):
        return {}
    return {
        "importance": Exhibit(
            what="how much each parameter decides whether a trial is among the best (PED-ANOVA)",
            make_rows=partial(tables.importance_rows, shares),
            draw=partial(draw_parameters.draw_importance, shares, results.params),
        )
    }


def _parallel(results: Results, marks: Marks) -> Exhibits:
    data = results.parallel
    if not data.dimensions:
        return {}
    return {
        "parallel": Exhibit(
            what="every trial over parameters and goals, each axis from 0 to 1",
            make_rows=partial(tables.parallel_rows, data),
            draw=partial(draw_parameters.draw_parallel, data, marks),
        )
    }


def _mechanism(results: Results, marks: Marks) -> Exhibits:
    """What probes measured, over decay and under the goals."""
    found = {}
    for data in results.mechanism:
        name = results.params.get(data.x)
        across = name or metrics.named(data.x)
        found[f"mechanism.{name or data.x}.{data.y}"] = Exhibit(
            what=f"{metrics.named(data.y)} over {across}",
            make_rows=partial(tables.slice_rows, data),
            draw=partial(draw_parameters.draw_slice, data, across, marks),
        )
    return found


def _tree(results: Results, marks: Marks) -> Exhibits:
    """The training that trials share."""
    tree = results.tree
    if not tree.rows:
        return {}
    return {
        "tree": Exhibit(
            what="training that ran once, and the trials that share it",
            make_rows=partial(tables.tree_rows, tree),
            draw=partial(draw_parameters.draw_tree, tree, marks),
        )
    }


FIGURES: dict[str, Callable[[Results, Marks], Exhibits]] = {
    "front": _front,
    "curve": _curves,
    "gain": _gain,
    "paper": _paper,
    "slice": _slices,
    "interaction": _interactions,
    "importance": _importance,
    "parallel": _parallel,
    "mechanism": _mechanism,
    "tree": _tree,
}
"""Kind -> its figures; all there are, in the order in which they are listed."""
