"""Decisions under noise: what to repeat next, which differences stand, which of two runs is ahead.

All of it reads the draws of the true losses that `hpo.scoring.front` was made from.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hpo import pareto
from hpo.record import Run
from hpo.scoring import UNDECIDED, Front, central, counted_points, front, losses, volume

CONFIDENCE = 0.95
INFLUENCE_DRAWS = 128
"""Draws in which a point's own share of the front's volume is computed."""
LEAST_FREEDOM = 3
"""Repetitions, over all points, before the noise counts as known well enough to stop; assumed."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One goal's metric between two points."""

    metric: str
    better: int
    """Number of the point that is better as expected."""
    other: int
    value: float
    """Expected true value of the better one minus that of the other, in the metric's unit."""
    error: float
    """Standard deviation of that difference."""
    significant: bool
    """At 95 % for all differences of the list together (Holm)."""


@dataclass(frozen=True, kw_only=True)
class VolumeDifference:
    """Hypervolume of one run's reported front minus another's, under one reference point."""

    mean: float
    low: float
    high: float
    """Ends of the central 95 %; NaN where the noise of either run is unknown."""
    reference: tuple[float, ...]
    """Worst observed finite value of each goal over both runs, in the goal's unit."""

    @property
    def significant(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def next_replicate(run: Run) -> int | None:
    """Number of the trial whose repetition at another seed is expected to settle most.

    Each point whose membership is undecided counts with m (1 - m), the variance of "is on the
    front", times the volume the front would gain or lose by it, times the share of its variance
    that one more seed is expected to remove. While nothing tells the noise, or less than
    LEAST_FREEDOM repetitions do, the front's points come first. Points that a running trial
    repeats already are left to it. None where nothing is undecided.
    """
    found = front(run)
    running = {t.replicate_of for t in run.trials if t.state == "running"}
    seeds = {point.trial.number: len(point.every) for point in counted_points(run)}
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


def differences(found: Front) -> tuple[Difference, ...]:
    """Every pair of the reported points in every goal; empty where the noise is unknown."""
    every = [goal.metric for goal in found.goals]
    pairs = itertools.combinations([trial.number for trial in found.trials], 2)
    return _differences(found, [(a, b, metric) for a, b in pairs for metric in every])


def from_baselines(found: Front) -> tuple[Difference, ...]:
    """The best point by each goal against the best baseline by the same goal, as expected.

    A goal whose best is a baseline, or a run without one, gives nothing.
    """
    pairs = []
    for goal in found.goals if found.draws is not None else ():
        ranked = sorted(
            found.points, key=lambda t: goal.sign * found.estimates[t.number][goal.metric]
        )
        baselines = [trial for trial in ranked if trial.baseline is not None]
        if baselines and baselines[0] is not ranked[0]:
            pairs.append((ranked[0].number, baselines[0].number, goal.metric))
    return _differences(found, pairs)


def _differences(found: Front, asked: Sequence[tuple[int, int, str]]) -> tuple[Difference, ...]:
    """Of each pair of points in a metric, the better one first, judged together."""
    if found.draws is None:
        return ()
    rows = {trial.number: row for row, trial in enumerate(found.points)}
    columns = {goal.metric: column for column, goal in enumerate(found.goals)}
    raw = []
    for a, b, metric in asked:
        column = columns[metric]
        one, two = found.draws[:, rows[a], column], found.draws[:, rows[b], column]
        better, other = (a, b) if one.mean() <= two.mean() else (b, a)
        lead = 0.0 if one.mean() == two.mean() else abs(float(one.mean() - two.mean()))
        value = -lead * found.goals[column].sign
        error = float((one - two).std()) if math.isfinite(lead) else 0.0
        raw.append(
            Difference(
                metric=metric,
                better=better,
                other=other,
                value=value,
                error=error,
                significant=False,
            )
        )
    told = holm([_two_sided(each) for each in raw])
    return tuple(
        dataclasses.replace(each, significant=yes) for each, yes in zip(raw, told, strict=True)
    )


def _two_sided(each: Difference) -> float:
    """Twice the probability that the difference has the other sign, taken as normal."""
    if each.error == 0:
        return 0.0 if each.value else 1.0
    return float(2 * stats.norm.sf(abs(each.value) / each.error))


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    told = [False] * len(p_values)
    for step, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - step):
            break
        told[place] = True
    return told


def significantly_better(found: Front, number: int, other: int, metric: str) -> bool:
    """Whether one point's true value is better than another's at 95 %, this pair alone.

    Raises:
        ValueError: the front has no such point or goal.
    """
    by_number = {trial.number: trial for trial in found.points}
    if not {number, other} <= by_number.keys():
        raise ValueError(f"points to compare must be among {sorted(by_number)}.")
    known = [goal.metric for goal in found.goals]
    if metric not in known:
        raise ValueError(f"a comparison needs a goal of the run, one of {known}, got {metric!r}.")
    (each,) = _differences(found, [(number, other, metric)]) or (None,)
    return each is not None and each.better == number and each.significant


def hypervolume_difference(
    run: Run, other: Run, fronts: tuple[Front, Front] | None = None
) -> VolumeDifference:
    """How much more volume the reported front of `run` dominates than that of `other`.

    `fronts`: of the two runs, where they are known; to find one takes a model's fit.

    Raises:
        ValueError: the runs have different goals, or a run has no trial that counts.
    """
    if run.goals != other.goals:
        raise ValueError(
            f"fronts can be compared where the goals are the same; {run.name} and {other.name} "
            "have different ones."
        )
    sides = (front(run), front(other)) if fronts is None else fronts
    observed = np.concatenate([losses(found.points, found.goals) for found in sides])
    finite = observed[np.isfinite(observed).all(axis=1)]
    if not all(found.points for found in sides) or not len(finite):
        raise ValueError("fronts can be compared once each run has a trial that counts.")
    corner = finite.max(axis=0)
    signs = [goal.sign for goal in run.goals]
    reference = tuple(float(s * value) for s, value in zip(signs, corner, strict=True))
    volumes = [_volumes(found, corner) for found in sides]
    count = max(map(len, volumes))
    mean = float(volumes[0].mean() - volumes[1].mean())
    if any(found.draws is None for found in sides):
        return VolumeDifference(mean=mean, low=math.nan, high=math.nan, reference=reference)
    # The runs' draws are independent of each other: one side is shuffled before it is paired.
    shuffled = np.random.default_rng(0).permutation(np.resize(volumes[1], count))
    low, high = central(np.resize(volumes[0], count) - shuffled)
    return VolumeDifference(mean=mean, low=low, high=high, reference=reference)


def _volumes(found: Front, corner: pareto.Losses) -> pareto.Losses:
    if found.draws is None:
        return np.array([pareto.hypervolume(losses(found.trials, found.goals), corner)])
    numbers = {trial.number for trial in found.trials}
    rows = [row for row, trial in enumerate(found.points) if trial.number in numbers]
    return volume(found.draws[:, rows], corner)
