"""What a study wants: metrics to make small or large, and metrics to keep within bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from optuna.study import StudyDirection

from hpo.core import checks
from hpo.core.checks import shown

Direction: TypeAlias = Literal["down", "up"]


DIRECTIONS: dict[str, Direction] = {
    "down": "down",
    "min": "down",
    "minimize": "down",
    "minimise": "down",
    "up": "up",
    "max": "up",
    "maximize": "up",
    "maximise": "up",
}
"""Every word for a direction, Optuna's among them."""


@checks.explained
@dataclass(frozen=True)
class Goal:
    """A metric to make small or large."""

    metric: str
    direction: Direction
    """down or up; minimize and maximize, also Optuna's `StudyDirection`, are taken for them."""

    def __post_init__(self) -> None:
        checks.put(
            self,
            metric=checks.metric("metric of Goal", self.metric),
            direction=_direction(self.direction),
        )

    @property
    def sign(self) -> float:
        """1 where less is better and -1 where more is: sign * value is a loss."""
        return 1.0 if self.direction == "down" else -1.0

    @property
    def optuna_direction(self) -> StudyDirection:
        """The direction in Optuna's terms."""
        return StudyDirection.MINIMIZE if self.sign > 0 else StudyDirection.MAXIMIZE


def _direction(given: object) -> Direction:
    word = given.name if isinstance(given, StudyDirection) else given
    found = DIRECTIONS.get(word.lower()) if isinstance(word, str) else None
    if found is None:
        hint = checks.near(word, DIRECTIONS) if isinstance(word, str) else ""
        asked = hint if hint.startswith("did") else 'write "down" (or "minimize") to make it small.'
        raise ValueError(f'direction of Goal must be "down" or "up", got {shown(given)}; {asked}')
    return found


@checks.explained
@dataclass(frozen=True)
class Limit:
    """A metric that a trial must keep within bounds to count for the front."""

    metric: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        metric = checks.metric("metric of Limit", self.metric)
        rule = f"Limit on {metric} needs low <= high, so each"
        low, high = (checks.number(rule, value) for value in (self.low, self.high))
        if not low <= high:
            raise ValueError(f"Limit on {metric} needs low <= high, got {low} and {high}.")
        checks.put(self, metric=metric, low=low, high=high)


BASE_LOSS_DOWN = Goal(metric="base_loss", direction="down")


GAIN_UP = Goal(metric="gain", direction="up")
