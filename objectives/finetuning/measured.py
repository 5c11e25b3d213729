"""Measures of a base and its fine-tunes in the store, one stage a request."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectives.finetuning.checkpoints import Work
from objectives.store import contents, entries
from objectives.store.contents import Finite, Point
from objectives.store.entries import DamagedError, write_json
from objectives.store.store import Store

STAGE = "finetune"


FILE = "measures.json"


@dataclass(frozen=True)
class _Outcome:
    """`finetune.Outcome` as it is stored."""

    lr: float
    tried: list[tuple[Finite, float]]
    before: Finite
    loss_before: float
    after: list[Finite] = field(default_factory=list)
    loss_after: list[float] = field(default_factory=list)
    base_loss_after: list[float] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def fits(self, seeds: int) -> bool:
        """Whether it is one of so many seeds, or one of which every rate diverged."""
        lists = [self.after, self.loss_after]
        if not self.tried or not all(map(entries.is_key, self.stages)):
            return False
        if math.isnan(self.lr):
            return not any(lists)
        if not self.stages or not self.curve:
            return False
        lengths = {len(each) for each in lists} | {len(self.base_loss_after) or seeds}
        return lengths == {seeds} and self.lr in dict(self.tried)


@dataclass(frozen=True)
class _Measures:
    base_loss: Finite
    train_loss: Finite
    curve_loss: Finite
    tuning: Work
    outcomes: list[_Outcome]
    sample_loss: Finite | None = None
    mid_loss: Finite | None = None


def read(store: Store, key: str, *, tasks: int, seeds: int, second: bool) -> dict[str, Any] | None:
    """What was measured of a base; None if it is not stored.

    `tasks`: how many it was fine-tuned on; `second`: whether it had a second phase of training.
    """
    wanted = functools.partial(_read, tasks=tasks, seeds=seeds, second=second)
    return store.read(STAGE, key, wanted)


def write(store: Store, key: str, measured: Mapping[str, Any], seconds: float) -> None:
    """Keep what was measured."""
    store.put(STAGE, key, lambda folder: write_json(folder / FILE, measured), seconds=seconds)


def _read(folder: Path, *, tasks: int, seeds: int, second: bool) -> dict[str, Any]:
    found = contents.record(folder, FILE, _Measures)
    fits = len(found.outcomes) == tasks and all(each.fits(seeds) for each in found.outcomes)
    forgetting = {bool(each.base_loss_after) for each in found.outcomes if each.after}
    if not fits or ((True in forgetting) and (len(forgetting) > 1 or found.sample_loss is None)):
        raise DamagedError(f"{FILE} has other outcomes than it should")
    if second and found.mid_loss is None:
        raise DamagedError(f"{FILE} lacks mid_loss")
    return {name: value for name, value in dataclasses.asdict(found).items() if value is not None}
