"""What a search can decide to ask next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from hpo.spec import Value


@dataclass(frozen=True)
class Begin:
    """Begin a trial."""

    number: int
    params: dict[str, Value]
    seed: int
    fidelity: float
    kind: Literal["planned", "searched", "repeated", "confirms"] = "searched"
    replicate_of: int | None = None
    base_only: bool = False
    planned: int | None = None
    """Place among the study's planned trials; None for another trial."""


@dataclass(frozen=True)
class Continue:
    """Go on with a trial."""

    number: int
    fidelity: float
    base_only: bool = False


Decision: TypeAlias = Begin | Continue
