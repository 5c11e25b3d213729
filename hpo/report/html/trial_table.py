"""The report's table of all trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpo.core import format, metrics
from hpo.core.objective import Value
from hpo.core.trial import Trial
from hpo.report.html import page_data
from hpo.report.plots import figure_data
from hpo.report.results import Results


@dataclass(frozen=True, kw_only=True)
class Head:
    """Of a column that can be sorted."""

    text: str
    number: bool = False
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Its text, and what it is sorted by where that is not its text."""

    text: str
    kind: str = ""
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trial."""

    number: int
    name: str
    """Beside the number: of a baseline or grid point, and labels."""
    kind: str
    ticked: bool
    cells: Sequence[Cell]


@dataclass(frozen=True, kw_only=True)
class TrialTable:
    """Heads of the columns after the trial's own, and a row a trial, the front first."""

    heads: Sequence[Head]
    rows: Sequence[Row]


def trial_table(results: Results) -> TrialTable:
    """The goals first, then how certain the front is, parameters, and the rest."""
    run, found, params = results.run, results.front, results.params
    scores = metrics.score_names(run)
    numeric = {path: _numeric(trial.params.get(path) for trial in run.trials) for path in params}
    certain = any(page_data.share(trial, found) is not None for trial in run.trials)
    ways = {goal.metric: {"down": "lower", "up": "higher"}[goal.direction] for goal in run.goals}
    heads = [
        Head(text=name, number=True, hint=f"{ways[name]} is better" if name in ways else "")
        for name in scores
    ]
    heads += [Head(text="on the front", number=True)] if certain else []
    heads += [Head(text=params[path], number=numeric[path], hint=path) for path in params]
    heads += [Head(text="standing"), Head(text="seconds", number=True)]
    noted = any(map(_notes, run.trials))
    heads += [Head(text="seed", number=True)]
    heads += [Head(text="failure and notes")] if noted else []
    order = {trial.number: place for place, trial in enumerate(found.trials)}
    every = figure_data.joined(results)
    trials = sorted(every, key=lambda trial: (order.get(trial.number, len(order)), trial.number))
    rows = [_row(results, trial, scores, numeric, certain, noted) for trial in trials]
    return TrialTable(heads=heads, rows=rows)


def _row(
    results: Results,
    trial: Trial,
    scores: Sequence[str],
    numeric: dict[str, bool],
    certain: bool,
    noted: bool,
) -> Row:
    found = results.front
    standing = page_data.standing(trial, found)
    cells = [_cell(trial.metrics.get(m), metrics.measured(trial, m), "number") for m in scores]
    if certain:
        share = found.membership.get(trial.number)
        cells.append(_cell(share, page_data.share(trial, found) or "", "number"))
    for path, is_number in numeric.items():
        value = trial.params.get(path)
        text = format.setting(value) if path in trial.params else ""
        cells.append(_cell(value if is_number else text, text, "number" if is_number else ""))
    seconds = trial.cost.get("time_s")
    cells.append(_cell(standing, standing, "standing"))
    cells.append(_cell(seconds, "" if seconds is None else format.number(seconds, 3), "number"))
    cells.append(_cell(trial.seed, str(trial.seed), "number"))
    if noted:
        cells.append(_cell(_notes(trial), _notes(trial), "wide"))
    return Row(
        number=trial.number,
        name=f"{trial.name or ''}{format.tag(trial)}".strip(),
        kind=standing.split()[0].strip(","),
        ticked=figure_data.shown(trial, found),
        cells=cells,
    )


def _notes(trial: Trial) -> str:
    """Why it failed, and what else is to be known of it."""
    return "; ".join([*([trial.failure] if trial.failure else []), *trial.notes])


def _cell(key: Value, text: str, kind: str = "") -> Cell:
    value = "" if key is None or key != key else str(key)
    return Cell(text=text, kind=kind, key=None if value == text else value)


def _numeric(values: Iterable[Value]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in known
    )
