"""The report's sections, from the summary to what reproduces the run."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hpo.analysis.paper_claims import sentence
from hpo.analysis.rank_agreement import Disagreement
from hpo.core import format, metrics
from hpo.core.paper import Paper
from hpo.core.trial import Run, Trial
from hpo.report import findings
from hpo.report.html import cards, page_data, paper_section, running
from hpo.report.html.analysis_sections import mechanism_parts, parameter_parts
from hpo.report.html.markup import figure, grid, heading, note, section, table
from hpo.report.html.trial_table import trial_table
from hpo.report.plots import figure_data, registry
from hpo.report.results import Results
from hpo.report.terminal_tables import finite


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Everything computed for the page."""

    figures: dict[str, go.Figure]
    """Element id -> figure of all trials."""
    empty: dict[str, go.Figure]
    """Element id -> figure without trials, of which the page draws the selected ones."""


def make(results: Results) -> Shown:
    """Draw the figures of the registry."""
    found = registry.exhibits(results)
    ids = element_ids(found)
    return Shown(
        figures={ids[name]: each.draw() for name, each in found.items() if each.empty is None},
        empty={ids[name]: each.empty() for name, each in found.items() if each.empty is not None},
    )


def element_ids(names: Iterable[str]) -> dict[str, str]:
    """Name of a figure -> id of its element: its kind, numbered where there may be several."""
    ids, counts = {}, Counter[str]()
    for name in names:
        kind = registry.kind(name)
        ids[name] = SINGLE.get(name, f"{kind}-{counts[kind]}")
        counts[kind] += 1
    return ids


SINGLE = {
    "front": "front",
    "gain": "gain-by-task",
    "importance": "importance",
    "parallel": "parallel",
    "tree": "tree",
}
"""Ids of figures of which there is one."""


def body(results: Results, shown: Shown, *, live: bool) -> Iterable[str]:
    """The page from top to bottom."""
    run = results.run
    sections = list(_sections(results, shown))
    yield f"<header><h1>{html.escape(run.name)}</h1>"
    if run.description:
        yield f'<p class="soft">{html.escape(run.description)}</p>'
    if live:
        yield '<p class="soft live">Live: this page reloads itself while the run goes on.</p>'
    links = "".join(f'<a href="#{key}">{html.escape(name)}</a>' for key, name, _ in sections)
    yield f'</header><nav aria-label="contents">{links}</nav>'
    if live:
        yield running.MARK
    said = findings.summary(results)
    costs = findings.price(results)
    said[-1:-1] = [] if costs is None else [costs]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in said)
    yield f'<div class="summary">{cards.cards(run, results.headline)}<ul>{items}</ul></div>'
    yield _BAR
    for key, name, parts in sections:
        yield section(key, name, *parts)
    yield '<dialog id="trial" aria-label="trial"></dialog>'


_BAR = (
    '<div id="bar" class="bar"><div class="tools"><strong id="count"></strong>'
    '<button id="select-default">front and baselines</button><button id="select-all">all</button>'
    '<button id="select-none">none</button></div><div class="key"></div></div>'
)


def _sections(results: Results, shown: Shown) -> Iterable[tuple[str, str, list[str]]]:
    """Id, heading and parts of each section that has something to show."""
    run = results.run
    yield "the-front", "Front", [_axes(run), figure("front", "tall"), _front_note(results)]
    if run.paper is not None:
        yield "paper", "Paper and this study", list(_paper(results, run.paper))
    yield "trials", "Trials", [trial_table(results)]
    parts = parameter_parts(results)
    if parts:
        yield "parameters", "Parameters", parts
    learning, probes = _curves(run)
    if learning:
        yield "curves", "Learning curves", [note(_of_selected(run)), grid(learning)]
    if any(trial.metrics for trial in run.trials) and metrics.task_names(run):
        yield "gain", "Gain by task", list(_gain(results, shown))
    mechanism = mechanism_parts(results)
    if mechanism or probes:
        by_layer = [heading("By layer and step"), note(_of_selected(run)), grid(probes)]
        yield "mechanism", "Mechanism", [*mechanism, *(by_layer if probes else [])]
    work = list(_work(results))
    if work:
        yield "work", "Training shared, and budget", work
    failed = [trial for trial in run.trials if trial.state == "failed"]
    if failed:
        yield "failures", "Failures", [_failures(failed)]
    yield "reproduce", "What reproduces this run", [_reproduce(run)]


def _curves(run: Run) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Figures of learning curves and of probes: (id, title)."""
    names = [(f"curve-{place}", name) for place, name in enumerate(figure_data.curve_names(run))]
    probes = [each for each in names if each[1].startswith("probe.")]
    return [each for each in names if each not in probes], probes


def _of_selected(run: Run) -> str:
    most = page_data.most_points(run)
    kept = "All points" if most is None else f"Thinned to at most {most} points a curve"
    return f"Of the selected trials. {kept}, six significant digits."


def _paper(results: Results, found: Paper) -> Iterable[str]:
    """Tables, what follows from them, and a figure of every quantity."""
    yield from map(note, findings.paper_notes(found))
    for side in results.paper_sides:
        yield paper_section.table(side)
        said = "".join(f"<li>{html.escape(sentence(each))}</li>" for each in side.findings)
        yield f"<ul>{said}</ul>"
    dots = enumerate(figure_data.paper_dots(results))
    yield grid((f"paper-{place}", paper_section.heading(each)) for place, each in dots)


def _axes(run: Run) -> str:
    """Two menus of metrics and parameters, the front's axes chosen."""
    menus = []
    for axis, chosen in zip("xy", figure_data.plane(run), strict=True):
        names = [*metrics.metric_names(run), chosen, *page_data.numeric(run)]
        options = "".join(
            f'<option value="{html.escape(name)}"{" selected" if name == chosen else ""}>'
            f"{html.escape(metrics.named(name))}</option>"
            for name in dict.fromkeys(names)
        )
        label = "x axis" if axis == "x" else "y axis"
        menus.append(f'<label>{label} <select id="axis-{axis}">{options}</select></label>')
    return f'<div class="tools">{"".join(menus)}</div>'


def _front_note(results: Results) -> str:
    run, found = results.run, results.front
    ways = {"down": "lower", "up": "higher"}
    goals = "; ".join(f"{goal.metric}: {ways[goal.direction]} is better" for goal in run.goals)
    limits = "".join(f" Limit: {format.bounds(limit)}." for limit in run.limits)
    missing = figure_data.front_data(results, *figure_data.plane(run)).missing
    most = 20
    named = ", ".join(f"#{n}" for n in missing[:most])
    more = f" and {len(missing) - most} more" if len(missing) > most else ""
    left = f" Without both numbers: {named}{more}." if missing else ""
    source = "fine-tuning seeds" if found.draws is None else "pretraining seeds, pooled"
    bars = f"Bars are one standard error over {source}."
    if found.draws is not None:
        bars += " Beside a point of the front: the probability that it belongs there."
    return note(
        f"{goals}.{limits} {bars}{left} Click a point "
        "to select it or not, drag a box around several: every figure marks the selected trials."
    )


def _gain(results: Results, shown: Shown) -> Iterable[str]:
    run = results.run
    if "gain-by-task" in shown.empty:
        yield note(
            "Of the selected trials: the score before fine-tuning (open) and after (full, ± one "
            "standard error); dashed is chance."
        )
        yield figure("gain-by-task", "tall")
    yield heading("Gain and fine-tuned score")
    yield from _disagreement(results.rank_agreement)
    forgotten = [t for t in run.trials if "forgetting_nats" in t.metrics]
    if forgotten:
        least = min(forgotten, key=lambda trial: trial.metrics["forgetting_nats"])
        most = max(forgotten, key=lambda trial: trial.metrics["forgetting_nats"])
        yield note(
            "Forgetting, the rise of the base loss on the same sample by fine-tuning (nats/token), "
            f"is least in {format.title(least)}: {metrics.measured(least, 'forgetting_nats')}, "
            f"and greatest in {format.title(most)}: {metrics.measured(most, 'forgetting_nats')}."
        )


def _disagreement(found: Disagreement) -> Iterable[str]:
    if found.num_trials < 2:
        yield note("Fewer than two trials have both, so their orders cannot be compared.")
        return
    yield note(
        "A base that starts worse can win more and still end worse, so the orders are compared. "
        f"Kendall's tau over {found.num_trials} trials: {format.number(found.tau, 3)} (1 is the "
        f"same order); {found.num_pairs} of {found.num_trials * (found.num_trials - 1) // 2} "
        "pairs are ranked differently."
    )
    tops = (("gain", found.top_by_gain), ("finetuned", found.top_by_finetuned))
    for metric, trials in tops:
        listed = ", ".join(f"{format.title(t)} ({metrics.measured(t, metric)})" for t in trials)
        yield f"<p>Most by {metric}: {html.escape(listed)}.</p>"
    if found.pairs:
        pairs = ", ".join(f"#{a} over #{b}" for a, b in found.pairs[:5])
        yield note(f"Widest conflicts (more gain, worse after fine-tuning): {pairs}.")


def _work(results: Results) -> Iterable[str]:
    run, tree = results.run, results.tree
    if tree.rows:
        yield note(
            "One line is training that ran once. Where it splits, trials went apart; thick lines "
            f"are shared by several. Trials that share no training: {tree.alone}."
        )
        yield figure("tree", height_px=min(_TALLEST, _TREE + _TREE_ROW * len(tree.rows)))
    rows = cards.budget_rows(run)
    if rows:
        heads = ["trials", "number", "tokens trained", "tokens reused", "device s", "saved s"]
        yield table(heads, rows, numbers=range(1, 6))


_TREE, _TREE_ROW, _TALLEST = 80, 24, 900
"""Pixels of the drawing of a tree: besides its rows, of each, and at most."""


def _failures(trials: Sequence[Trial]) -> str:
    rows = [
        (format.title(trial), trial.failure or "no reason given", _settings(trial))
        for trial in trials
    ]
    return table(("trial", "reason", "params"), rows)


def _settings(trial: Trial) -> str:
    return ", ".join(f"{path} = {format.setting(value)}" for path, value in trial.params.items())


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
