"""Tables of trials beside the front: the baselines, differences from them, and every trial."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.core import format, metrics
from hpo.core.trial import Run, Trial
from hpo.front.errors import Estimate
from hpo.front.front import Front
from hpo.report import findings
from hpo.report.results import Results


def baselines(found: Front) -> list[Trial]:
    """The baselines that count, by number; metrics are means over seeds."""
    named = [trial for trial in found.points if trial.baseline is not None]
    return sorted(named, key=lambda trial: trial.number)


def difference_table(results: Results) -> Table | None:
    """What the front's trials differ by from the first baseline; None without one."""
    run, found = results.run, results.front
    known = baselines(found)
    others = [trial for trial in found.trials if trial not in known[:1]]
    if not known or not others:
        return None
    first = known[0]
    title = Text(f"Differences from {format.title(first)}")
    table = Table(title=title, title_justify="left")
    table.add_column("trial", no_wrap=True)
    names = metrics.score_names(run)
    for metric in names:
        table.add_column(Text(metric), justify="right")
    for trial in others:
        cells = [
            _difference(results.lead(trial, first, metric))
            if metric in trial.metrics and metric in first.metrics
            else ""
            for metric in names
        ]
        table.add_row(*(Text(cell) for cell in (format.title(trial), *cells)))
    return table


def remarks(results: Results) -> Iterator[str]:
    """How many trials are not shown, and notes of those that are."""
    run, found = results.run, results.front
    dominated = sum(each == "dominated" for each in found.standings.values())
    if dominated:
        verb = "is" if dominated == 1 else "are"
        yield f"{dominated} more {verb} dominated; hpo show {run.name} --all shows every trial."
    notes: dict[str, list[str]] = {}
    shown = {each.number for each in (*found.trials, *baselines(found))}
    for trial in run.trials:
        for note in trial.notes if trial.number in shown else ():
            notes.setdefault(note, []).append(f"#{trial.number}")
    for note, trials in notes.items():
        yield f"Note ({', '.join(trials)}): {note}"


def print_trials(results: Results, console: Console, metric: str | None, top: int | None) -> None:
    """Every trial, by number or the best by a metric first.

    Raises:
        ValueError: no trial has that metric.
    """
    run, found = results.run, results.front
    trials = run.trials if metric is None else _sorted(run, metric)
    shown = trials[:top]
    names = metrics.score_names(run)
    names += [metric] if metric is not None and metric not in names else []
    params = metrics.param_names(run, trials)
    table = Table(title=Text(f"{run.name}: {findings.progress(run)}"), title_justify="left")
    for name in ("trial", "standing", *names, *params.values(), "failure and notes"):
        table.add_column(Text(name), justify="right" if name in names else "left")
    for trial in shown:
        cells = [format.title(trial), found.standings.get(trial.number, trial.state)]
        cells += [metrics.measured(trial, name) if trial.metrics else "" for name in names]
        cells += [format.setting(trial.params[p]) if p in trial.params else "" for p in params]
        cells.append("; ".join([*([trial.failure] if trial.failure else []), *trial.notes]))
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    if len(shown) < len(trials):
        console.print(Text(f"{len(shown)} of {len(trials)} trials."))


def _sorted(run: Run, metric: str) -> list[Trial]:
    """The best first by a goal, the smallest first by another metric; without a number last."""
    known = metrics.metric_names(run)
    if metric not in known:
        near = difflib.get_close_matches(metric, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."
        raise ValueError(f"--sort: no trial has a metric {metric!r}; {hint}")
    ups = {goal.metric for goal in run.goals if goal.direction == "up"}
    sign = -1.0 if metric in ups else 1.0

    def place(trial: Trial) -> tuple[bool, float]:
        value = trial.metrics.get(metric, math.nan)
        return math.isnan(value), 0.0 if math.isnan(value) else sign * value

    return sorted(run.trials, key=place)


def _difference(found: Estimate) -> str:
    return format.with_sem(found.value, found.error, signed=True)
