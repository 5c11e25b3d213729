"""The report's first screen, and what the run cost."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from hpo.analysis.headline import Line
from hpo.core import format, metrics
from hpo.core.trial import Run
from hpo.report import findings

COSTS = ("tokens", "tokens_reused", "device_s", "device_s_saved")


def cards(run: Run, lines: Sequence[Line]) -> str:
    """A card a named trial: its role, scores, and differences from the standard recipe."""
    made = "".join(_card(run, line) for line in lines)
    return f'<div class="cards">{made}</div>' if made else ""


def budget_rows(run: Run) -> list[tuple[str, ...]]:
    """What trials of each state trained, reused and saved, and all together."""
    states = dict.fromkeys(trial.state for trial in run.trials if "tokens" in trial.cost)
    rows = [_row(state, run, (state,)) for state in states]
    return [*rows, _row("all", run, tuple(states))] if len(rows) > 1 else rows


def _row(name: str, run: Run, states: Sequence[str]) -> tuple[str, ...]:
    trials = [trial for trial in run.trials if trial.state in states and "tokens" in trial.cost]
    sums = [sum(trial.cost.get(cost, 0.0) for trial in trials) for cost in COSTS]
    return (name, str(len(trials)), *(format.number(each, 3) for each in sums))


def _card(run: Run, line: Line) -> str:
    roles = html.escape(" · ".join(line.roles))
    number = line.trial.number
    there = [name for name in metrics.score_names(run) if name in line.trial.metrics]
    rows = "".join(_score(line, metric) for metric in there)
    shorts = metrics.param_names(run, run.trials)
    params = ", ".join(
        f"{shorts.get(path, path)} {format.setting(value)}"
        for path, value in line.trial.params.items()
    )
    return (
        f'<div class="card"><div class="role">{roles}</div>'
        f'<button class="link" data-open="{number}">{html.escape(format.title(line.trial))}'
        f"</button><dl>{rows}</dl><p>{html.escape(params)}</p></div>"
    )


def _score(line: Line, metric: str) -> str:
    value = html.escape(metrics.measured(line.trial, metric))
    parts: Iterable[str] = ()
    if metric in line.differences:
        difference, error = line.differences[metric]
        change = format.with_sem(difference, error, signed=True)
        told = f" ({findings.verdict(difference, error)})" if error > 0 else ""
        parts = (f'<dd class="change">{html.escape(change + told)}</dd>',)
    return f"<div><dt>{html.escape(metric)}</dt><dd>{value}</dd>{''.join(parts)}</div>"
