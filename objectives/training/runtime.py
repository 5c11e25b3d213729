"""What every stage of computing is given: the store, who hears of progress, and how many lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from objectives.config.execution import Compiling
from objectives.progress import Report
from objectives.store.stages import Stages
from objectives.training import device_memory
from objectives.training.process_group import ALONE, ProcessGroup

MOST_LANES = 64
"""Lanes of one program where none are asked for; assumed."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where finished stages go and how much is computed at once."""

    store: Stages
    report: Report
    """Hears of every step; an exception that it raises stops the work, with all lanes stored."""
    max_lanes: int | None = None
    """Lanes of one program; None measures how many fit."""
    compiling: Compiling = "auto"
    ranks: ProcessGroup = ALONE

    @property
    def most_lanes(self) -> int:
        """Lanes that are run at once where nothing is measured first."""
        return self.max_lanes or MOST_LANES

    def lanes_that_fit(self, step: Callable[[int], object], device: str, wanted: int) -> int:
        """How many of the wanted lanes to train at once; `step(k)` takes a step with k lanes."""
        if self.max_lanes is not None:
            return self.max_lanes
        fit = device_memory.max_lanes_that_fit(
            step, device, min(wanted, MOST_LANES), sharers=self.ranks.count
        )
        return self.ranks.min(fit)
