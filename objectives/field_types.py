"""Types of the recipe's fields: strict, with their ranges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field


def _whole(given: Any) -> Any:
    """A float without a fraction is an integer."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


def _several(given: Any) -> Any:
    """A list is a tuple, and so is a single item."""
    if given is None or isinstance(given, tuple):
        return given
    return tuple(given) if isinstance(given, list | Iterator) else (given,)


Whole = BeforeValidator(_whole)
Several = BeforeValidator(_several)
Value: TypeAlias = float | int | str | bool | None
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**53), Whole]
CountOrZero = Annotated[int, Field(ge=0, le=2**53), Whole]
Beta = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
