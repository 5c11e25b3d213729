"""Noisy synthetic runs whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from tests.hpo import toy

GOALS = (Goal(metric="a", direction="down"), Goal(metric="b", direction="down"))


def trial(number: int, a: float, b: float, **fields: object) -> Trial:
    """A complete trial with two goals and nothing else."""
    defaults: dict[str, object] = {"state": "complete", "params": {"x": float(number)}}
    return Trial.measured(number=number, metrics={"a": a, "b": b}, **(defaults | fields))


def run(trials: Sequence[Trial], goals: tuple[Goal, ...] = GOALS) -> Run:
    """A run of these; x counts as it is."""
    return toy.run(list(trials), goals=goals, space={})


def curve(noise: float, seeds: int = 2, num_points: int = 12, draw: int = 0) -> Run:
    """b = (1 - a)^2 for half of the points, the others are above it by 0.3; all at each seed."""
    rng = np.random.default_rng(draw)
    a = np.linspace(0, 1, num_points)
    b = (1 - a) ** 2 + 0.3 * (np.arange(num_points) % 2)
    trials = []
    for seed in range(seeds):
        for point in range(num_points):
            number = len(trials)
            first, second = np.array([a[point], b[point]]) + noise * rng.normal(size=2)
            params = {"x": float(a[point]), "odd": point % 2 == 1}
            of = None if seed == 0 else point
            trials.append(
                trial(
                    number, float(first), float(second), params=params, seed=seed, replicate_of=of
                )
            )
    return run(trials)
