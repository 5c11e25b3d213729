"""What is asked of an objective and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from objectives.config.paths import Value

Curve = list[list[float]]
"""Points [step, value]."""


class Request(TypedDict):
    """One trial to measure."""

    params: dict[str, Value]
    fidelity: float
    """Share of the full pretraining horizon in (0, 1]."""
    seed: int
    base_only: NotRequired[bool]
    """Leave out fine-tuning and probes; see `early`."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a request; all JSON-able."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Flat. `<name>_sem` is the standard error of `<name>` over the fine-tuning seeds and by the
    choice of the fine-tuning rate; of a probe, over its random draws. `<name>_rows_sem` is what the
    finite sample of test rows (of validation sequences, for a loss) adds to it; all trials share
    the sample, so that most of it cancels in a difference between two of them."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """Name -> points [step, value]; [layer, value] where the name ends in `_by_layer`, [learning
    rate, validation loss] of each rate that was trained to its end in `finetune_lr.TASK`."""
    cost: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    """Why there are no metrics."""
    notes: list[str] = field(default_factory=list)
    row_scores: dict[str, list[list[float]]] = field(default_factory=dict)
    """Metric -> a list a task, a value a test row in the same order in all trials; of more than
    `objectives.row_errors.MOST_GROUPS` rows, means over groups of consecutive ones. The metric is
    the mean over the lists of their means."""
    labels: list[str] = field(default_factory=list)
    """What must be said wherever the trial is named, such as "merged"."""


def curve(losses: NDArray[np.float64], points: int) -> Curve:
    """[step, mean loss of the steps since the last point] at about this many points."""
    ends = np.unique(np.linspace(0, len(losses), min(points, len(losses)) + 1).round().astype(int))
    return [[float(end), float(losses[start:end].mean())] for start, end in pairwise(ends)]


def finite_points(points: Curve) -> Curve:
    """Without the points whose value is not finite."""
    return [point for point in points if math.isfinite(point[1])]
