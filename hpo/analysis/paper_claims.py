"""A paper's tables beside a run's: plain data for the terminal and the report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.analysis.claim_verdicts import (
    Finding,
    Values,
    best_point,
    contrast,
    correlation,
    match,
    sem,
    shift,
)
from hpo.core.paper import Claim, Contrast, Match, Paper, Quantity, Shift, Table
from hpo.core.trial import Run, Trial


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A quantity at a point: the paper's number, and this run's over pretraining seeds."""

    paper: float | None
    mean: float
    """NaN where nothing was measured."""
    sem: float
    """NaN with fewer than two seeds."""
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """A point of a table."""

    point: str
    cells: tuple[Cell, ...]
    failed: int
    """Trials of the point that failed, a diverged one among them."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One table with both sides filled."""

    title: str
    quantities: tuple[Quantity, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def sides(run: Run, paper: Paper) -> tuple[Side, ...]:
    """Every table of the paper with what the run has measured."""
    return tuple(_side(run, table) for table in paper.tables)


def values(run: Run, points: Sequence[str], metric: str) -> Values:
    """A metric of the points at each seed where a complete trial has it."""
    found: Values = {name: {} for name in points}
    for trial in run.trials:
        value = trial.metrics.get(metric, math.nan)
        if _counts(trial) and trial.name in found and math.isfinite(value):
            found[trial.name][trial.seed] = value
    return found


def _side(run: Run, table: Table) -> Side:
    columns = [_column(run, table, quantity) for quantity in table.quantities]
    failed = {
        name: sum(trial.state == "failed" and trial.name == name for trial in run.trials)
        for name in table.points
    }
    rows = tuple(
        Row(point=name, cells=tuple(column[name] for column in columns), failed=failed[name])
        for name in table.points
    )
    findings = tuple(_finding(run, table, claim) for claim in table.claims)
    return Side(title=table.title, quantities=table.quantities, rows=rows, findings=findings)


def _finding(run: Run, table: Table, claim: Claim) -> Finding:
    """All points of the table tell the spread, whichever of them the claim is about."""

    def of(metric: str) -> Values:
        return values(run, table.points, metric)

    if isinstance(claim, Contrast):
        known = dataclasses.replace(claim, paper=paper_value(table, claim))
        return contrast(known, of(claim.metric))
    if isinstance(claim, Match):
        return match(claim, of(claim.metric))
    if isinstance(claim, Shift):
        return shift(claim, of(claim.before), of(claim.after))
    return correlation(claim, of(claim.x), of(claim.y))


def paper_value(table: Table, claim: Contrast) -> float | None:
    """The paper's value of a contrast: as given, or the sum over its own numbers if all are known.

    Sums of differences from one reference are those of the numbers themselves, as weights add to 0.
    """
    if claim.paper is not None:
        return claim.paper
    for quantity in table.quantities:
        if quantity.metric == claim.metric and quantity.paper.keys() >= claim.weights.keys():
            return sum(w * quantity.paper[name] for name, w in claim.weights.items())
    return None


def _column(run: Run, table: Table, quantity: Quantity) -> dict[str, Cell]:
    """Point -> cell; with `best_of` its difference from the best of those points."""
    found = values(run, table.points, quantity.metric)
    reference = None
    if quantity.best_of:
        reference = best_point(found, quantity.best_of, -1 if quantity.better == "down" else 1)
    cells = {}
    for name, each in found.items():
        paper = quantity.paper.get(name)
        if not quantity.best_of:
            cells[name] = _cell(paper, list(each.values()))
        elif reference is None:
            cells[name] = _cell(paper, [])
        else:
            shared = [seed for seed in each if seed in found[reference]]
            apart = [each[seed] - found[reference][seed] for seed in shared]
            cells[name] = _cell(paper, apart)
    return cells


def _cell(paper: float | None, ys: Sequence[float]) -> Cell:
    mean = float(np.mean(ys)) if ys else math.nan
    return Cell(paper=paper, mean=mean, sem=sem(ys), seeds=len(ys))


def _counts(trial: Trial) -> bool:
    return trial.state == "complete" and trial.fidelity == 1.0
