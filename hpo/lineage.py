"""Which trials trained the same stretch: the training tree, read from what they recorded.

Stages that several trials share are trained once, so their training losses are the same numbers.
Trials of one seed whose recorded losses agree up to a step are drawn as one line up to there; where
it splits, they went apart between that step and the next recorded one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpo.record import Run, Trial

LOSS = "train_loss"


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps of training that these trials share."""

    start: float
    end: float
    trials: tuple[int, ...]
    row: float
    """Height in the drawing: the mean over its trials' rows."""
    parent: float | None
    """Row of the stretch it leaves; None at a root."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """All shared training; rows are numbered from 0."""

    stretches: tuple[Stretch, ...]
    rows: tuple[int, ...]
    """Trial of each row."""
    alone: int
    """Trials with a training curve that share none of it."""


def tree(run: Run) -> Tree:
    """The trees with at least two trials."""
    roots = _split([trial for trial in run.trials if trial.curves.get(LOSS)], 0)
    rows: list[int] = []
    grown = [_grow(group, 0, 0.0, rows) for group in roots if len(group) > 1]
    return Tree(
        stretches=tuple(stretch for each in grown for stretch in each),
        rows=tuple(rows),
        alone=sum(len(group) == 1 for group in roots),
    )


def _grow(group: Sequence[Trial], index: int, start: float, rows: list[int]) -> list[Stretch]:
    """The stretch of this group from a recorded point on, then all that branches off.

    The trials at its tips are added to `rows`.
    """
    end = index
    while all(len(trial.curves[LOSS]) > end for trial in group) and len(_split(group, end)) == 1:
        end += 1
    stop = group[0].curves[LOSS][end - 1][0]
    parts = _split(group, end)
    branches = [] if len(parts) == 1 else [_grow(part, end, stop, rows) for part in parts]
    places = [branch[0].row for branch in branches]
    if not branches:
        places = [float(len(rows) + offset) for offset in range(len(group))]
        rows.extend(trial.number for trial in group)
    row = sum(places) / len(places)
    numbers = tuple(trial.number for trial in group)
    found = [Stretch(start=start, end=stop, trials=numbers, row=row, parent=None)]
    for first, *rest in branches:
        found += [replace(first, parent=row), *rest]
    return found


def _split(trials: Sequence[Trial], index: int) -> list[list[Trial]]:
    """Groups that agree on the recorded point; those whose curve has ended are one of them."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        curve = trial.curves[LOSS]
        point = tuple(curve[index]) if index < len(curve) else None
        groups.setdefault((trial.seed, point), []).append(trial)
    return list(groups.values())
