"""The report's sections, from the front to what reproduces the run: what their templates show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from hpo.analysis.claim_verdicts import sentence
from hpo.analysis.importance import FEWEST
from hpo.analysis.interactions import Interaction
from hpo.analysis.paper_claims import Side
from hpo.analysis.probes import Association
from hpo.analysis.slices import FEWEST_FOR_A_TREND, Slice
from hpo.core import format, metrics
from hpo.core.contrasts import PlannedContrasts
from hpo.core.trial import Run, Trial
from hpo.report import (
    best_values,
    certainty,
    findings,
    planned_contrasts,
    pretraining_worth,
    verification,
)
from hpo.report.html import cards, page_data
from hpo.report.html.elements import Cell, Figure, Figures, Section, Table, table
from hpo.report.html.trial_table import trial_table
from hpo.report.plots import figure_data
from hpo.report.results import Results
from hpo.report.terminal_tables import finite

OPEN_SLICES = 4
"""Slices that are shown without a click: with the front and the gain six figures in all."""


_TREE, _TREE_ROW, _TALLEST = 80, 24, 900
"""Pixels of the drawing of a tree: besides its rows, of each, and at most."""


def sections(results: Results, figures: Figures) -> Iterable[Section]:
    """Each that has something to show."""
    run = results.run
    yield _front(results)
    if run.contrasts is not None:
        yield _contrasts(results, run.contrasts)
    if results.verifications:
        yield _verifications(results)
    if run.paper is not None:
        yield _paper(results, figures)
    trials = trial_table(results)
    yield Section(key="trials", title="Trials", template="trials.html", context={"table": trials})
    if any(trial.metrics for trial in run.trials) and metrics.task_names(run):
        yield _gain(results, figures)
    if results.slices:
        yield _parameters(results, figures)
    curves = [each for each in figures.of("curve") if not each.title.startswith("probe.")]
    probes = [each for each in figures.of("curve") if each not in curves]
    if curves:
        yield _curves(run, "curves", "Learning curves", curves)
    if results.associations or probes:
        yield _mechanism(results, figures, probes)
    if results.tree.rows or cards.budget_rows(run):
        yield _work(results)
    failed = [trial for trial in run.trials if trial.state == "failed"]
    if failed:
        context = {"table": _failures(failed)}
        yield Section(key="failures", title="Failures", template="table.html", context=context)
    yield Section(
        key="reproduce",
        title="What reproduces this run",
        template="reproduce.html",
        context={"blocks": _reproduce(run)},
    )


def _front(results: Results) -> Section:
    run = results.run
    names = [*metrics.metric_names(run), *figure_data.plane(run), *page_data.numeric(run)]
    options = [(name, metrics.named(name)) for name in dict.fromkeys(names)]
    menus = zip("xy", figure_data.plane(run), strict=True)
    context = {"menus": list(menus), "options": options, "note": _front_note(results)}
    return Section(key="the-front", title="Front", template="front.html", context=context)


def _front_note(results: Results) -> str:
    run, found = results.run, results.front
    limits = "".join(f"Limit: {format.bounds(limit)}. " for limit in run.limits)
    missing = figure_data.front_data(results, *figure_data.plane(run)).missing
    left = f" Without both numbers: {_numbers(missing, 20)}." if missing else ""
    bars = f"Bars: {certainty.error_source(results)}."
    if found.draws is not None:
        bars += " Beside a point of the front: the probability that it belongs there."
    return (
        f"{limits}{bars}{left} Click a point to select its trial, drag a box around several: "
        "every figure marks the selected trials."
    )


def _numbers(numbers: Sequence[int], most: int) -> str:
    """Trials by number, so many at most."""
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(f"#{number}" for number in numbers[:most]) + more


def _contrasts(results: Results, planned: PlannedContrasts) -> Section:
    """What the study planned to compare, and what came of it."""
    rows = planned_contrasts.rows(results.planned_contrasts)
    shown = table(planned_contrasts.HEADS, rows, numbers=(3, 4, 5, 6, 7, 9), wrapped=(0, 1, 8))
    context = {
        "notes": planned_contrasts.notes(results.run, planned),
        "sides": [(shown, [])],
        "figures": [],
    }
    title = planned_contrasts.TITLE
    return Section(key="contrasts", title=title, template="paper.html", context=context)


def _verifications(results: Results) -> Section:
    """What larger models say of the run's recipes."""
    sides = []
    for found in results.verifications:
        rows, title = verification.rows(found), verification.title(found)
        shown = table(verification.HEADS, rows, numbers=verification.NUMBERS, title=title)
        sides.append((shown, verification.notes(found)))
        if found.differences:
            title = f"Rules of transfer at {found.plan.size}, over recipes"
            rows = verification.rule_rows(found)
            sides.append((table(verification.RULE_HEADS, rows, numbers=(3, 4), title=title), []))
    context = {"notes": [], "sides": sides, "figures": []}
    return Section(key="verification", title="Verification", template="paper.html", context=context)


def _paper(results: Results, figures: Figures) -> Section:
    """Tables, what follows from them, and a figure of every quantity."""
    assert results.run.paper is not None
    dots = zip(figures.of("paper"), figure_data.paper_dots(results), strict=True)
    context = {
        "notes": findings.paper_notes(results.run.paper),
        "sides": [
            (_paper_table(side), [sentence(each) for each in side.findings])
            for side in results.paper_sides
        ],
        "figures": [
            Figure(
                id=place.id,
                title=f"{each.title}: {'the paper' if each.paper else 'this study'}",
            )
            for place, each in dots
        ],
    }
    return Section(
        key="paper", title="Paper and this study", template="paper.html", context=context
    )


def _paper_table(side: Side) -> Table:
    """The paper's numbers, and beside them the study's."""
    heads = ["point"]
    for quantity in side.quantities:
        heads += [f"paper: {quantity.paper_name}"] if quantity.paper else []
        heads.append(f"here: {findings.column(quantity)}")
    rows = []
    for row in side.rows:
        cells = [row.point]
        for quantity, cell in zip(side.quantities, row.cells, strict=True):
            paper, here = findings.beside(cell)
            cells += [paper, here] if quantity.paper else [here]
        rows.append([*cells, str(row.failed) if row.failed else ""])
    heads.append("failed")
    return table(heads, rows, numbers=range(1, len(heads)), title=side.title)


def _gain(results: Results, figures: Figures) -> Section:
    run, apart = results.run, results.rank_agreement
    how = metrics.measure(run)
    tops = ((how.gain, apart.top_by_gain), (how.after, apart.top_by_finetuned))
    context = {
        "figures": figures.of("gain"),
        "chance": bool(figure_data.gain_data(results).chance),
        "worth": _worth_table(results),
        "notes": findings.rank_agreement(apart) + findings.forgetting(run),
        "tops": [
            f"Best by {metric}: "
            + ", ".join(f"{format.title(t)} ({metrics.measured(t, metric)})" for t in trials)
            for metric, trials in tops
            if apart.num_trials >= 2
        ],
    }
    return Section(key="gain", title="Gain by task", template="gain.html", context=context)


def _worth_table(results: Results) -> Table | None:
    rows = pretraining_worth.rows(results.pretraining_worth)
    if not rows:
        return None
    return table(pretraining_worth.HEADS, rows, numbers=(1, 3, 4), title="")


def _parameters(results: Results, figures: Figures) -> Section:
    """Slices, importance, interaction, parallel coordinates."""
    slices, goals = figures.of("slice"), len(results.run.goals)
    most = max(1, OPEN_SLICES // goals) * goals
    few = [each for each in results.importances if not each.shares]
    context = {
        "fewest": FEWEST_FOR_A_TREND,
        "left_out": _left_out(results.slices),
        "best": _best_values(results),
        "best_note": best_values.NOTE,
        "slices": slices[:most],
        "more_slices": slices[most:],
        "importance": figures.of("importance"),
        "chance": " and ".join(
            f"{each.chance:.2f} for {each.goal.metric}"
            for each in results.importances
            if each.shares
        ),
        "few": [
            f"Importance for {each.goal.metric} needs {FEWEST} measured settings inside the "
            f"space; there are {each.num_settings}."
            for each in few
        ],
        "interactions": figures.of("interaction"),
        "interactions_left_out": _left_out(results.interactions),
        "parallel": figures.of("parallel"),
    }
    return Section(
        key="parameters", title="Parameters", template="parameters.html", context=context
    )


def _best_values(results: Results) -> Table | None:
    """Where each goal is best along each parameter."""
    found = results.best_values
    if not found:
        return None
    heads = best_values.heads(results.run)
    rows = best_values.rows(results.run, found, results.params)
    return table(heads, rows, numbers=range(1, len(heads)))


def _left_out(found: Sequence[Slice] | Sequence[Interaction]) -> str:
    numbers = sorted({number for each in found for number in each.left_out})
    if not numbers:
        return ""
    return f" At zero, so not on a logarithmic axis: {_numbers(numbers, 10)}."


def _curves(run: Run, key: str, title: str, figures: Sequence[Figure]) -> Section:
    context = {"note": _of_selected(run), "figures": figures}
    return Section(key=key, title=title, template="curves.html", context=context)


def _of_selected(run: Run) -> str:
    most = page_data.most_points(run)
    kept = "All points" if most is None else f"Thinned to at most {most} points a curve"
    return f"Of the selected trials; baselines are dashed. {kept}, six significant digits."


def _mechanism(results: Results, figures: Figures, probes: Sequence[Figure]) -> Section:
    """The table of associations, the figures of the main measures, and probes by layer."""
    context = {
        "associations": _associations(results) if results.associations else None,
        "figures": figures.of("mechanism"),
        "probes": probes,
        "note": _of_selected(results.run),
    }
    return Section(key="mechanism", title="Mechanism", template="mechanism.html", context=context)


def _associations(results: Results) -> Table:
    rows = results.associations
    heads = ["measure", *(results.params.get(e.against, e.against) for e in rows[0]), "settings"]
    meanings = metrics.meanings(results.run)
    return Table(
        heads=[Cell(text=text, number=index > 0) for index, text in enumerate(heads)],
        rows=[
            [
                Cell(text=row[0].measure, hint=meanings.get(row[0].measure, ""), kind="measure"),
                *map(_association, row),
                Cell(text=str(max(each.num_settings for each in row)), number=True),
            ]
            for row in rows
        ],
    )


def _association(found: Association) -> Cell:
    if math.isnan(found.tau):
        return Cell(text="n/a", number=True)
    sure = " sure" if found.p < 0.05 else ""
    way = "rises" if found.tau > 0 else "falls"
    hint = f"p = {format.number(found.p, 2)}"
    return Cell(text=f"{found.tau:+.2f}", number=True, kind=way + sure, hint=hint)


def _work(results: Results) -> Section:
    tree = results.tree
    heads = ["trials", "number", "tokens trained", "tokens reused", "device s", "saved s"]
    rows = cards.budget_rows(results.run)
    context = {
        "alone": tree.alone,
        "tree": Figure(id="tree") if tree.rows else None,
        "height_px": min(_TALLEST, _TREE + _TREE_ROW * len(tree.rows)),
        "table": table(heads, rows, numbers=range(1, 6)) if rows else None,
    }
    title = "Training shared, and budget"
    return Section(key="work", title=title, template="work.html", context=context)


def _failures(trials: Sequence[Trial]) -> Table:
    rows = [
        (format.title(trial), trial.failure or "no reason given", _settings(trial))
        for trial in trials
    ]
    return table(("trial", "reason", "params"), rows)


def _settings(trial: Trial) -> str:
    return ", ".join(f"{path} = {format.setting(value)}" for path, value in trial.params.items())


def _reproduce(run: Run) -> list[tuple[str, str]]:
    blocks: tuple[tuple[str, Any], ...] = (
        ("Recipe, settings, seed, versions, device", run.reproduce),
        ("Space", {path: domain.to_dict() for path, domain in run.space.items()}),
    )
    return [(title, json.dumps(finite(data), indent=2, default=str)) for title, data in blocks]
