"""What is asked of an objective and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from objectives.config.paths import Value


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
    """Flat. `<name>_sem` is the standard error of `<name>` over the fine-tuning seeds; of a probe,
    over its random draws."""
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    """Name -> points [step, value]; [layer, value] where the name ends in `_by_layer`."""
    cost: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    """Why there are no metrics."""
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """What must be said wherever the trial is named, such as "merged"."""
