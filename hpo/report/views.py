"""The report's sections, from the summary to what reproduces the run."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hpo import drawing, figures, headline, lineage, wording
from hpo import parameter_drawing as drawn
from hpo.comparison import sentence, sides
from hpo.disagreement import Disagreement, disagreements
from hpo.papers import Paper
from hpo.record import Run, Trial
from hpo.report import packed, paper, running, summary
from hpo.report.analysis import Analysis, analyse, mechanism_parts, parameter_parts
from hpo.report.html_parts import figure, grid, heading, section, soft, table
from hpo.report.trials import trial_table
from hpo.scoring import Front
from hpo.tables import finite


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Everything computed for the page."""

    figures: dict[str, go.Figure]
    """Element id -> figure of all trials."""
    analysis: Analysis
    tree: lineage.Tree


def make(run: Run, found: Front) -> Shown:
    """Draw the figures of all trials."""
    plane = figures.front_data(run, found, *figures.plane(run))
    made: dict[str, go.Figure] = {"front": drawing.draw_front(plane)}
    analysis = analyse(run)
    made |= analysis.figures
    for place, dots in enumerate(figures.paper_dots(run)):
        made[f"paper-{place}"] = drawing.draw_dots(dots)
    tree = lineage.tree(run)
    if tree.rows:
        made["tree"] = drawn.draw_tree(tree)
    return Shown(figures=made, analysis=analysis, tree=tree)


def body(run: Run, found: Front, shown: Shown, *, live: bool) -> Iterable[str]:
    """The page from top to bottom."""
    sections = list(_sections(run, found, shown))
    yield f"<header><h1>{html.escape(run.name)}</h1>"
    if run.description:
        yield f'<p class="soft">{html.escape(run.description)}</p>'
    if live:
        yield '<p class="soft live">Live: this page reloads itself while the run goes on.</p>'
    links = "".join(f'<a href="#{key}">{html.escape(name)}</a>' for key, name, _ in sections)
    yield f'</header><nav aria-label="contents">{links}</nav>'
    if live:
        yield running.MARK
    said = wording.summary(run, found)
    costs = headline.price(run, found)
    said[-1:-1] = [] if costs is None else [costs]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in said)
    lines = headline.headline(run, found)
    yield f'<div class="summary">{summary.cards(run, lines)}<ul>{items}</ul></div>'
    yield _BAR
    for key, name, parts in sections:
        yield section(key, name, *parts)
    yield '<dialog id="trial" aria-label="trial"></dialog>'


_BAR = (
    '<div id="bar" class="bar"><div class="tools"><strong id="count"></strong>'
    '<button id="select-default">front and baselines</button><button id="select-all">all</button>'
    '<button id="select-none">none</button></div><div class="key"></div></div>'
)


def _sections(run: Run, found: Front, shown: Shown) -> Iterable[tuple[str, str, list[str]]]:
    """Id, heading and parts of each section that has something to show."""
    yield "the-front", "Front", [_axes(run), figure("front", "tall"), _front_note(run, found)]
    if run.paper is not None:
        yield "paper", "Paper and this study", list(_paper(run, run.paper))
    yield "trials", "Trials", [trial_table(run, found)]
    parts = parameter_parts(run, shown.analysis)
    if parts:
        yield "parameters", "Parameters", parts
    learning, probes = _curves(run)
    if learning:
        yield "curves", "Learning curves", [soft(_of_selected(run)), grid(learning)]
    if any(trial.metrics for trial in run.trials) and wording.task_names(run):
        yield "gain", "Gain by task", list(_gain(run, found))
    mechanism = mechanism_parts(shown.analysis)
    if mechanism or probes:
        by_layer = [heading("By layer and step"), soft(_of_selected(run)), grid(probes)]
        yield "mechanism", "Mechanism", [*mechanism, *(by_layer if probes else [])]
    work = list(_work(run, shown))
    if work:
        yield "work", "Training shared, and budget", work
    failed = [trial for trial in run.trials if trial.state == "failed"]
    if failed:
        yield "failures", "Failures", [_failures(failed)]
    yield "reproduce", "What reproduces this run", [_reproduce(run)]


def _curves(run: Run) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Figures of learning curves and of probes: (id, title)."""
    names = [(f"curve-{place}", name) for place, name in enumerate(figures.curve_names(run))]
    probes = [each for each in names if each[1].startswith("probe.")]
    return [each for each in names if each not in probes], probes


def _of_selected(run: Run) -> str:
    most = packed.most_points(run)
    kept = "All points" if most is None else f"Thinned to at most {most} points a curve"
    return f"Of the selected trials. {kept}, six significant digits."


def _paper(run: Run, found: Paper) -> Iterable[str]:
    """Tables, what follows from them, and a figure of every quantity."""
    yield from map(soft, wording.paper_notes(found))
    for side in sides(run, found):
        yield paper.table(side)
        said = "".join(f"<li>{html.escape(sentence(each))}</li>" for each in side.findings)
        yield f"<ul>{said}</ul>"
    dots = enumerate(figures.paper_dots(run))
    yield grid((f"paper-{place}", paper.heading(each)) for place, each in dots)


def _axes(run: Run) -> str:
    """Two menus of metrics and parameters, the front's axes chosen."""
    menus = []
    for axis, chosen in zip("xy", figures.plane(run), strict=True):
        names = [*wording.metric_names(run), chosen, *packed.numeric(run)]
        options = "".join(
            f'<option value="{html.escape(name)}"{" selected" if name == chosen else ""}>'
            f"{html.escape(wording.named(name))}</option>"
            for name in dict.fromkeys(names)
        )
        label = "Across" if axis == "x" else "Up"
        menus.append(f'<label>{label} <select id="axis-{axis}">{options}</select></label>')
    return f'<div class="tools">{"".join(menus)}</div>'


def _front_note(run: Run, found: Front) -> str:
    ways = {"down": "lower", "up": "higher"}
    goals = "; ".join(f"{goal.metric}: {ways[goal.direction]} is better" for goal in run.goals)
    limits = "".join(f" Limit: {wording.bounds(limit)}." for limit in run.limits)
    missing = figures.front_data(run, found, *figures.plane(run)).missing
    most = 20
    named = ", ".join(f"#{n}" for n in missing[:most])
    more = f" and {len(missing) - most} more" if len(missing) > most else ""
    left = f" Without both numbers: {named}{more}." if missing else ""
    source = "fine-tuning seeds" if found.draws is None else "pretraining seeds, pooled"
    bars = f"Bars are one standard error over {source}."
    if found.draws is not None:
        bars += " Beside a point of the front: the probability that it belongs there."
    return soft(
        f"{goals}.{limits} {bars}{left} Click a point "
        "to select it or not, drag a box around several: every figure marks the selected trials."
    )


def _gain(run: Run, found: Front) -> Iterable[str]:
    if figures.gain_data(run, found).trials:
        yield soft(
            "Of the selected trials: the score before fine-tuning (open) and after (full, ± one "
            "standard error); dashed is chance."
        )
        yield figure("gain-by-task", "tall")
    yield heading("Gain and fine-tuned score")
    yield from _disagreement(disagreements(run))
    forgotten = [t for t in run.trials if "forgetting_nats" in t.metrics]
    if forgotten:
        least = min(forgotten, key=lambda trial: trial.metrics["forgetting_nats"])
        most = max(forgotten, key=lambda trial: trial.metrics["forgetting_nats"])
        yield soft(
            "Forgetting, the rise of the base loss on the same sample by fine-tuning (nats/token), "
            f"is least in {wording.title(least)}: {wording.measured(least, 'forgetting_nats')}, "
            f"and greatest in {wording.title(most)}: {wording.measured(most, 'forgetting_nats')}."
        )


def _disagreement(found: Disagreement) -> Iterable[str]:
    if found.num_trials < 2:
        yield soft("Fewer than two trials have both, so their orders cannot be compared.")
        return
    yield soft(
        "A base that starts worse can win more and still end worse, so the orders are compared. "
        f"Kendall's tau over {found.num_trials} trials: {wording.number(found.tau, 3)} (1 is the "
        f"same order); {found.num_pairs} of {found.num_trials * (found.num_trials - 1) // 2} "
        "pairs are ranked differently."
    )
    tops = (("gain", found.top_by_gain), ("finetuned", found.top_by_finetuned))
    for metric, trials in tops:
        listed = ", ".join(f"{wording.title(t)} ({wording.measured(t, metric)})" for t in trials)
        yield f"<p>Most by {metric}: {html.escape(listed)}.</p>"
    if found.pairs:
        pairs = ", ".join(f"#{a} over #{b}" for a, b in found.pairs[:5])
        yield soft(f"Widest conflicts (more gain, worse after fine-tuning): {pairs}.")


def _work(run: Run, shown: Shown) -> Iterable[str]:
    if shown.tree.rows:
        yield soft(
            "One line is training that ran once. Where it splits, trials went apart; thick lines "
            f"are shared by several. Trials that share no training: {shown.tree.alone}."
        )
        yield figure("tree", height_px=min(_TALLEST, _TREE + _TREE_ROW * len(shown.tree.rows)))
    rows = summary.budget_rows(run)
    if rows:
        heads = ["trials", "number", "tokens trained", "tokens reused", "device s", "saved s"]
        yield table(heads, rows, numbers=range(1, 6))


_TREE, _TREE_ROW, _TALLEST = 80, 24, 900
"""Pixels of the drawing of a tree: besides its rows, of each, and at most."""


def _failures(trials: Sequence[Trial]) -> str:
    rows = [
        (wording.title(trial), trial.failure or "no reason given", _settings(trial))
        for trial in trials
    ]
    return table(("trial", "reason", "params"), rows)


def _settings(trial: Trial) -> str:
    return ", ".join(f"{path} = {wording.setting(value)}" for path, value in trial.params.items())


def _reproduce(run: Run) -> str:
    blocks: tuple[tuple[str, Any], ...] = (
        ("Recipe, settings, seed, versions, device", run.reproduce),
        ("Space", run.space),
    )
    return "".join(
        f"<details><summary>{html.escape(title)}</summary>"
        f"<pre>{html.escape(json.dumps(finite(data), indent=2, default=str))}</pre></details>"
        for title, data in blocks
    )
