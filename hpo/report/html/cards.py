"""The report's first screen: what to use, how certain that is, and trials to compare it with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.analysis.headline import Line
from hpo.core import format, metrics
from hpo.core.trial import Run
from hpo.report import certainty, findings
from hpo.report.answer import settings
from hpo.report.results import STANDARD, Results

MOST_CARDS = 3


COSTS = ("tokens", "tokens_reused", "device_s", "device_s_saved")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric of a card."""

    metric: str
    value: str
    change: str
    """Its difference from the standard recipe; empty where there is none."""
    way: str
    """better, worse, or empty where it is no goal, or the same."""
    sure: str
    """The difference in standard errors; empty where they are unknown."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A named trial."""

    role: str
    number: int
    title: str
    scores: Sequence[Score]
    params: Sequence[tuple[str, str]]
    chosen: bool


def cards(results: Results) -> list[Card]:
    """The recipe to use first, then the best by each goal, the standard recipe, other baselines."""
    chosen = results.choice
    lines = sorted(results.headline, key=lambda line: STANDARD in line.roles)
    lines = [*([] if chosen is None else [chosen]), *lines, *results.best_baselines]
    named = {line.trial.number: line for line in reversed(lines)}
    order = dict.fromkeys(line.trial.number for line in lines)
    return [
        _card(results, named[number], chosen=named[number] is chosen)
        for number in list(order)[:MOST_CARDS]
    ]


def facts(results: Results) -> list[str]:
    """When, where and with what the run was measured, as far as its record tells."""
    run = results.run
    found = [] if run.begun is None else [run.begun.strftime("%Y-%m-%d %H:%M")]
    if run.begun is not None and run.ended is not None:
        found.append(f"took {format.duration((run.ended - run.begun).total_seconds())}")
    found.append(findings.progress(run).rstrip("."))
    found += [f"study {run.study}"] if run.study is not None else []
    return [*found, *_made_with(run.reproduce)]


def _made_with(reproduce: dict[str, Any]) -> Iterable[str]:
    """Machine and versions."""
    machine, versions = reproduce.get("machine", {}), reproduce.get("versions", {})
    where = [str(machine[key]) for key in ("device", "system") if machine.get(key)]
    where += [format.plural(machine["cpus"], "CPU")] if machine.get("cpus") else []
    if where:
        yield ", ".join(where)
    shown = [f"{name} {versions[name]}" for name in ("plasticity-hpo", "torch") if name in versions]
    if shown:
        yield ", ".join(shown)


def budget_rows(run: Run) -> list[tuple[str, ...]]:
    """What trials of each state trained, reused and saved, and all together."""
    states = dict.fromkeys(trial.state for trial in run.trials if "tokens" in trial.cost)
    rows = [_row(state, run, (state,)) for state in states]
    return [*rows, _row("all", run, tuple(states))] if len(rows) > 1 else rows


def _row(name: str, run: Run, states: Sequence[str]) -> tuple[str, ...]:
    trials = [trial for trial in run.trials if trial.state in states and "tokens" in trial.cost]
    sums = [sum(trial.cost.get(cost, 0.0) for trial in trials) for cost in COSTS]
    return (name, str(len(trials)), *(format.number(each, 3) for each in sums))


def _card(results: Results, line: Line, *, chosen: bool) -> Card:
    trial = line.trial
    scores = [name for name in metrics.score_names(results.run) if name in trial.metrics]
    return Card(
        role=" · ".join(line.roles),
        number=trial.number,
        title=format.title(trial),
        scores=[_score(results.run, line, metric) for metric in scores],
        params=settings(results, trial),
        chosen=chosen,
    )


def _score(run: Run, line: Line, metric: str) -> Score:
    value = metrics.measured(line.trial, metric)
    if metric not in line.differences:
        return Score(metric=metric, value=value, change="", way="", sure="")
    found = line.differences[metric]
    sign = next((goal.sign for goal in run.goals if goal.metric == metric), 0)
    ways = {-1: "better", 0: "", 1: "worse"}
    return Score(
        metric=metric,
        value=value,
        change=format.with_sem(found.value, found.error, signed=True),
        way=ways[int(sign * ((found.value > 0) - (found.value < 0)))],
        sure="" if math.isnan(found.error) else certainty.verdict(found),
    )
