"""Planned contrasts: differences that a study names before it is run, with how they will be judged.

A contrast is arm A minus arm B in one metric, paired over the seeds of both. Direction, level and
correction are written in the study file, and the record keeps how many results there were when they
were (`hpo.analysis.planned_contrasts` has the test).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from hpo.core import checks
from hpo.core.checks import shown

Expected: TypeAlias = Literal["down", "up"]
"""down: the arm has less of the metric than the one that it is compared with."""


Correction: TypeAlias = Literal["holm", "bonferroni", "none"]


LEAST_ALPHA, MOST_ALPHA = 1e-12, 0.5
"""Levels between which a power has digits and an effect of nothing is not found most of the time;
assumed."""


@checks.explained
@dataclass(frozen=True, kw_only=True)
class PlannedContrast:
    """One metric of one arm minus that of another; arms are baselines and grid points."""

    name: str
    metric: str
    arm: str
    minus: str
    expected: Expected
    """The sign that the difference is expected to have."""
    effect: float | None = None
    """The size that it is expected to have, in the metric's unit; the power is given for it."""

    def __post_init__(self) -> None:
        name = checks.text("name of PlannedContrast", self.name)
        rule = f"of PlannedContrast {name!r}"
        if self.arm == self.minus:
            raise ValueError(
                f"PlannedContrast {name!r} needs two different arms, got {shown(self.arm)} twice."
            )
        effect = self.effect
        if effect is not None:
            effect = abs(checks.number(f"effect {rule}", effect, "a size above 0"))
            if not 0 < effect < math.inf:
                raise ValueError(f"effect {rule} must be a size above 0, got {shown(effect)}.")
        checks.put(
            self,
            name=name,
            metric=checks.metric(f"metric {rule}", self.metric),
            arm=checks.text(f"arm {rule}", self.arm),
            minus=checks.text(f"minus {rule}", self.minus),
            expected=checks.one_of(f"expected {rule}", self.expected, get_args(Expected)),
            effect=effect,
        )

    @property
    def sign(self) -> float:
        """Of the expected difference."""
        return -1.0 if self.expected == "down" else 1.0


@checks.explained
@dataclass(frozen=True, kw_only=True)
class PlannedContrasts:
    """All contrasts of a study, which are corrected for their number together."""

    contrasts: tuple[PlannedContrast, ...]
    alpha: float = 0.05
    """Two-sided level below which a corrected p is significant."""
    correction: Correction = "holm"

    def __post_init__(self) -> None:
        found = checks.items(
            "contrasts", self.contrasts, PlannedContrast, "PlannedContrast(name=..., metric=...)"
        )
        names = [each.name for each in found]
        if not found:
            raise ValueError("planned contrasts must be one or more, got none; leave them out.")
        if len(set(names)) < len(names):
            raise ValueError(f"planned contrasts need different names, got {names}.")
        alpha = checks.number("alpha of PlannedContrasts", self.alpha, "a level such as 0.05")
        if not LEAST_ALPHA <= alpha <= MOST_ALPHA:
            raise ValueError(
                f"alpha of PlannedContrasts must be from {LEAST_ALPHA:g} to {MOST_ALPHA:g}, got "
                f"{alpha:g}; 0.05 is usual."
            )
        correction = checks.one_of(
            "correction of PlannedContrasts", self.correction, get_args(Correction)
        )
        checks.put(self, contrasts=found, alpha=alpha, correction=correction)

    @property
    def arms(self) -> set[str]:
        """All points that they name."""
        return {arm for each in self.contrasts for arm in (each.arm, each.minus)}

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self) | {"contrasts": [asdict(each) for each in self.contrasts]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PlannedContrasts:
        """From `to_dict`'s data.

        Raises:
            ValueError: it is none.
        """
        contrasts = tuple(PlannedContrast(**each) for each in data["contrasts"])
        return PlannedContrasts(**{**data, "contrasts": contrasts})
