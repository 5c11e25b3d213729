"""Which trial deserves another seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo.core.trial import Run
from hpo.front.front import UNDECIDED, Front, counted_points, front
from hpo.front.losses import losses
from hpo.front.reporting import volume
from hpo.numerics import pareto

LEAST_FREEDOM = 3
"""Repetitions, over all points, before the noise counts as known well enough to stop; assumed."""


MOST_MODELLED = 300


INFLUENCE_DRAWS = 128
"""Draws in which a point's own share of the front's volume is computed."""


def next_replicate(run: Run) -> int | None:
    """Number of the trial whose repetition at another seed is expected to settle most.

    Each point whose membership is undecided counts with m (1 - m), the variance of "is on the
    front", times the volume the front would gain or lose by it, times the share of its variance
    that one more seed is expected to remove. While the noise is unknown, or fewer than
    LEAST_FREEDOM repetitions do, the front's points come first. Points that a running trial
    repeats already are left to it. None where nothing is undecided. Of more than MOST_MODELLED
    points, those of the front as observed come in turn: to model all at each decision takes longer
    than it saves.
    """
    points = counted_points(run)
    running = {t.replicate_of for t in run.trials if t.state == "running"}
    seeds = {point.trial.number: len(point.every) for point in points}
    if len(points) > MOST_MODELLED:
        best = pareto.non_dominated(losses([point.trial for point in points], run.goals))
        named = [p.trial.number for p, on_front in zip(points, best, strict=True) if on_front]
        return min(set(named) - running, key=lambda n: (seeds[n], n), default=None)
    found = front(run)
    repeated = sum(count - 1 for count in seeds.values())
    if found.draws is None or (repeated < LEAST_FREEDOM and found.draws.shape[0] > 1):
        once = [trial for trial in found.trials if trial.number not in running]
        return min((t.number for t in once), key=lambda n: (seeds[n], n), default=None)
    scores = [
        (-score, trial.number)
        for trial, score in zip(found.points, _gains(found, list(seeds.values())), strict=True)
        if score > 0 and trial.number not in running
    ]
    return min(scores)[1] if scores else None


def _gains(found: Front, seeds: Sequence[int]) -> pareto.Losses:
    """What one more seed of each point is expected to settle; 0 where it is decided."""
    draws = found.draws
    assert draws is not None
    member_N = np.array([found.membership[trial.number] for trial in found.points])
    open_N = (member_N > UNDECIDED[0]) & (member_N < UNDECIDED[1])
    gains = np.zeros(len(member_N))
    reported = {trial.number for trial in found.trials}
    kept = np.array([trial.number in reported for trial in found.points])
    some = draws[:INFLUENCE_DRAWS]
    finite = [column[np.isfinite(column)] for column in draws.T]
    if not all(map(len, finite)):
        return gains
    corner = np.array([column.max() for column in finite])
    span = float(np.prod([np.ptp(column) for column in finite]))
    for row in map(int, np.flatnonzero(open_N)):
        others = kept.copy()
        others[row] = False
        with_row = others.copy()
        with_row[row] = True
        own = volume(some[:, with_row], corner) - volume(some[:, others], corner)
        share = float(own.mean()) / span if 0 < span < math.inf else 0.0
        gains[row] = member_N[row] * (1 - member_N[row]) * (share + 1e-9) / (1 + seeds[row])
    return gains
