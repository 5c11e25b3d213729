"""Types of the recipe's fields: strict, with their ranges."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True)
Value: TypeAlias = float | int | str | bool | None
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
