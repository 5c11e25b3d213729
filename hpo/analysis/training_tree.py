"""Which trials trained the same stretch: the training tree, read from what they recorded.

Stages that several trials share are trained once, so their training losses are the same numbers.
Trials of one seed whose recorded losses agree up to a step are drawn as one line up to there; where
it splits, they went apart between that step and the next recorded one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.core.trial import Run, Trial

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
class TrainingTree:
    """All shared training; rows are numbered from 0."""

    stretches: tuple[Stretch, ...]
    rows: tuple[int, ...]
    """Trial of each row."""
    alone: int
    """Trials with a training curve that share none of it."""


def tree(run: Run) -> TrainingTree:
    """The trees with at least two trials."""
    roots = _split([trial for trial in run.trials if trial.curves.get(LOSS)], 0)
    rows: list[int] = []
    grown = [_grow(group, rows) for group in roots if len(group) > 1]
    return TrainingTree(
        stretches=tuple(stretch for each in grown for stretch in each),
        rows=tuple(rows),
        alone=sum(len(group) == 1 for group in roots),
    )


def _grow(root: Sequence[Trial], rows: list[int]) -> list[Stretch]:
    """The stretch of a group from its first recorded point on, then all that branches off.

    The trials at its tips are added to `rows`. Without recursion, as branches may be nested as deep
    as a curve has points.
    """
    waiting: list[tuple[Sequence[Trial], int, float, int | None]] = [(root, 0, 0.0, None)]
    found: list[tuple[Sequence[Trial], float, float, int | None]] = []
    places: list[list[float]] = []
    """Rows of what branches off each stretch, or of its trials where it is a tip."""
    while waiting:
        group, end, start, parent = waiting.pop()
        while _agree(group, end):
            end += 1
        stop = group[0].curves[LOSS][end - 1][0]
        parts = _split(group, end)
        here = len(found)
        found.append((group, start, stop, parent))
        if len(parts) > 1:
            places.append([])
            waiting += [(part, end, stop, here) for part in reversed(parts)]
        else:
            places.append([float(len(rows) + offset) for offset in range(len(group))])
            rows.extend(trial.number for trial in group)
    heights = [0.0] * len(found)
    for at in reversed(range(len(found))):  # what branches off comes after its parent
        heights[at] = sum(places[at]) / len(places[at])
        above = found[at][3]
        if above is not None:
            places[above].insert(0, heights[at])
    return [
        Stretch(
            start=start,
            end=stop,
            trials=tuple(trial.number for trial in group),
            row=row,
            parent=None if parent is None else heights[parent],
        )
        for (group, start, stop, parent), row in zip(found, heights, strict=True)
    ]


def _agree(group: Sequence[Trial], index: int) -> bool:
    """Whether all have a recorded point there, the same one."""
    return all(len(trial.curves[LOSS]) > index for trial in group) and len(_split(group, index)) < 2


def _split(trials: Sequence[Trial], index: int) -> list[list[Trial]]:
    """Groups that agree on the recorded point; those whose curve has ended are one of them."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        curve = trial.curves[LOSS]
        point = tuple(curve[index]) if index < len(curve) else None
        groups.setdefault((trial.seed, point), []).append(trial)
    return list(groups.values())
