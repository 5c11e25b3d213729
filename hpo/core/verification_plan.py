"""What a verification of a run measures: its recipes at another size, by rules of transfer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpo.core.objective import Value


@dataclass(frozen=True, kw_only=True)
class CarriedRecipe:
    """A recipe at the larger model, as one rule or several carry it there."""

    name: str
    """Of the grid point."""
    trial: int
    """Number of the run's trial whose recipe it is."""
    rules: tuple[str, ...]
    decay: float | None
    """As torch's AdamW takes it; None where the decay is not decoupled."""
    params: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class VerificationPlan:
    """All that is measured at one size."""

    run: str
    size: str
    """Name of the model's shape."""
    num_params: float
    tokens_per_param: float
    lr_factor: float
    """Peak rate at this size over the proxy's."""
    seeds: int
    points: tuple[CarriedRecipe, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """In their order."""
        return tuple(dict.fromkeys(rule for each in self.points for rule in each.rules))

    @property
    def recipes(self) -> tuple[int, ...]:
        """Numbers of the run's trials that are carried."""
        return tuple(dict.fromkeys(each.trial for each in self.points))

    def of_rule(self, rule: str) -> dict[str, int]:
        """Point -> the trial whose recipe the rule carries there."""
        return {each.name: each.trial for each in self.points if rule in each.rules}

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> VerificationPlan:
        """From `to_dict`'s data.

        Raises:
            KeyError, TypeError: it is none.
        """
        points = tuple(
            CarriedRecipe(**{**each, "rules": tuple(each["rules"])}) for each in data["points"]
        )
        return VerificationPlan(**{**data, "points": points})
