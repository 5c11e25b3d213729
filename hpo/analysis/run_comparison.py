"""Fronts of several runs side by side, and which of them is ahead beyond the noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo.core.conditions import difference
from hpo.core.trial import Run, Trial
from hpo.front.front import Front, front
from hpo.front.losses import losses
from hpo.front.reporting import central, volume
from hpo.numerics import pareto

MEASURING = ("model", "corpus", "finetune", "pretrain.seq_len", "pretrain.eval_tokens")
"""Parts of a recipe by which metrics mean something else; what is tuned is not among them."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One run."""

    label: str
    run: Run
    front: Front
    joint: frozenset[int]
    """Numbers of its trials on the front of all runs together, as observed."""
    volume: float
    """Dominated by its reported front below the common reference; expected where the noise is
    known."""
    low: float
    high: float
    """Ends of the central 95 %; NaN where the noise is unknown."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two of the runs."""

    one: str
    other: str
    difference: VolumeDifference
    """Of `one` minus `other`, below a reference of this pair."""


@dataclass(frozen=True, kw_only=True)
class Fronts:
    """Several runs."""

    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    reference: tuple[float, ...]
    """Worst observed finite value of each goal over all runs, in the goal's unit."""
    notes: tuple[str, ...]


def compare_runs(runs: Mapping[str, Run]) -> Fronts:
    """Compare runs by label.

    Raises:
        ValueError: fewer than two, different goals, or a run without a trial that counts.
    """
    if len(runs) < 2:
        raise ValueError("a comparison needs two runs or more, each named once.")
    labels = list(runs)
    found = {label: front(run) for label, run in runs.items()}
    pairs = tuple(
        Pair(
            one=a,
            other=b,
            difference=hypervolume_difference(runs[a], runs[b], (found[a], found[b])),
        )
        for a, b in itertools.combinations(labels, 2)
    )
    goals = runs[labels[0]].goals
    observed = np.concatenate([losses(each.points, goals) for each in found.values()])
    corner = np.array(pareto.nadir(observed))
    joint = _joint(found)
    sides = []
    for label, run in runs.items():
        volumes = _volumes(found[label], corner)
        known = found[label].draws is not None
        low, high = central(volumes) if known else (math.nan, math.nan)
        sides.append(
            Side(
                label=label,
                run=run,
                front=found[label],
                joint=frozenset(number for name, number in joint if name == label),
                volume=float(volumes.mean()),
                low=low,
                high=high,
            )
        )
    signs = [goal.sign for goal in goals]
    reference = tuple(float(s * value) for s, value in zip(signs, corner, strict=True))
    notes = _notes(list(runs.values()))
    return Fronts(sides=tuple(sides), pairs=pairs, reference=reference, notes=notes)


def _joint(found: Mapping[str, Front]) -> set[tuple[str, int]]:
    """Run and number of the reported trials that no other one dominates as observed."""
    named: list[tuple[str, Trial]] = [
        (label, trial) for label, each in found.items() for trial in each.trials
    ]
    goals = next(iter(found.values())).goals
    mask = pareto.non_dominated(losses([trial for _, trial in named], goals))
    return {(label, t.number) for (label, t), on in zip(named, mask, strict=True) if on}


def _volumes(found: Front, corner: pareto.Losses) -> pareto.Losses:
    """Of the reported front: in each draw, or the observed one where there are none."""
    if found.draws is None:
        return np.array([pareto.hypervolume(losses(found.trials, found.goals), corner)])
    numbers = {trial.number for trial in found.trials}
    rows = [row for row, trial in enumerate(found.points) if trial.number in numbers]
    return volume(found.draws[:, rows], corner)


def _notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """What makes the runs' numbers hard to compare."""
    notes = []
    recipes = [run.reproduce.get("study", {}).get("objective", {}) for run in runs]
    flat = [dict(_leaves(recipe.get("recipe", recipe), "")) for recipe in recipes]
    paths = sorted({path for each in flat for path in each})
    apart = [
        path for path in paths
        if path.startswith(MEASURING) and len({repr(each.get(path)) for each in flat}) > 1
    ]  # fmt: skip
    if apart:
        more = f" and {len(apart) - 4} more" if len(apart) > 4 else ""
        notes.append(
            f"the runs do not measure the same: {', '.join(apart[:4])}{more} differ, so their "
            "numbers may not be comparable"
        )
    for run in runs[1:]:
        if changed := difference(_conditions(runs[0]), _conditions(run)):
            notes.append(
                f"{runs[0].name} and {run.name} were measured under other conditions: {changed}, "
                "so their numbers may not be comparable"
            )
    limits = {repr(run.limits) for run in runs}
    if len(limits) > 1:
        notes.append("the runs have different limits: what counts for one may not for another")
    return tuple(notes)


def _conditions(run: Run) -> Mapping[str, str]:
    """Of the run's group of trials; nothing where none were noted."""
    return run.conditions[run.group] if run.group < len(run.conditions) else {}


def _leaves(node: Any, prefix: str) -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return [(prefix, node)]
    return [
        leaf
        for key, value in node.items()
        for leaf in _leaves(value, f"{prefix}.{key}".lstrip("."))
    ]


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
        """Whether 0 is outside the interval."""
        return self.low > 0 or self.high < 0


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
    worst = pareto.nadir(observed) if len(observed) else None
    if not all(found.points for found in sides) or worst is None:
        raise ValueError("fronts can be compared once each run has a trial that counts.")
    corner = np.array(worst)
    signs = [goal.sign for goal in run.goals]
    reference = tuple(float(s * value) for s, value in zip(signs, corner, strict=True))
    volumes = [_front_volumes(found, corner) for found in sides]
    count = max(map(len, volumes))
    mean = float(volumes[0].mean() - volumes[1].mean())
    if any(found.draws is None for found in sides):
        return VolumeDifference(mean=mean, low=math.nan, high=math.nan, reference=reference)
    # The runs' draws are independent of each other: one side is shuffled before it is paired.
    shuffled = np.random.default_rng(0).permutation(np.resize(volumes[1], count))
    low, high = central(np.resize(volumes[0], count) - shuffled)
    return VolumeDifference(mean=mean, low=low, high=high, reference=reference)


def _front_volumes(found: Front, corner: pareto.Losses) -> pareto.Losses:
    if found.draws is None:
        return np.array([pareto.hypervolume(losses(found.trials, found.goals), corner)])
    numbers = {trial.number for trial in found.trials}
    rows = [row for row, trial in enumerate(found.points) if trial.number in numbers]
    return volume(found.draws[:, rows], corner)
