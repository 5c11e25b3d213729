"""Domains of parameters: real, integer, choice.

A domain is laid out over the shares 0 to 1: real numbers from low to high; integers and options
over a stretch each, whose middle is their share.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpo.core import checks
from hpo.core.checks import shown
from hpo.core.objective import Value

Array = npt.NDArray[np.float64]


class Domain(ABC):
    """The values that a parameter can have: Float, Int or Choice."""

    kind: ClassVar[str]
    """Its name in a record."""
    is_real: ClassVar[bool] = False
    """Whether every share is another value."""
    log: bool = False
    """Whether equal factors have equal shares."""
    is_choice: ClassVar[bool] = False
    """Whether values are equal or different, and no more."""

    @property
    @abstractmethod
    def ends(self) -> tuple[Value, ...]:
        """The values by which it can be checked: its bounds, or all options."""

    @abstractmethod
    def contains(self, value: Value) -> bool:
        """Whether it has the value."""

    @abstractmethod
    def fits(self, value: Value) -> bool:
        """Whether a value is of its kind, be it outside its range.

        That of a choice can be anything; of a number it is a finite one, or None where a recipe can
        leave it out. An integer may be written as a whole float.
        """

    def covers(self, other: Domain) -> bool:
        """Whether it has all values of another one of its kind and scale."""
        alike = self.kind == other.kind and self.log == other.log
        return alike and all(self.contains(end) for end in other.ends)

    @abstractmethod
    def at(self, share: float) -> Value:
        """The value at a share."""

    @abstractmethod
    def share_of(self, value: Value) -> float:
        """The share at which a value of it is."""

    def rounded(self, share_N: Array) -> Array:
        """The shares of the values at N shares."""
        return np.array([self.share_of(self.at(float(share))) for share in share_N])

    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """It in Optuna's terms."""

    def to_dict(self) -> dict[str, Any]:
        """It as JSON-able data."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {"kind": self.kind, **fields}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Domain:
        """The domain of which this is the data.

        Raises:
            ValueError: there is none.
        """
        fields = {name: value for name, value in data.items() if name != "kind"}
        if data["kind"] == Float.kind:  # a database may have written a whole float as an integer
            fields |= {end: float(fields[end]) for end in ("low", "high")}
        return _KINDS[data["kind"]](**fields)


@checks.explained
@dataclass(frozen=True)
class Float(Domain):
    """A real parameter in [low, high]."""

    kind = "float"
    is_real = True
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        low, high = (
            checks.number(f"{name} of Float", value, "a finite number")
            for name, value in (("low", self.low), ("high", self.high))
        )
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"Float needs finite low <= high, got {low} and {high}.")
        if not math.isfinite(high - low):
            raise ValueError(f"Float needs a finite width, got {low} to {high}.")
        checks.put(self, low=low, high=high, log=checks.flag("log of Float", self.log))
        if self.log and low <= 0:
            raise ValueError(f"Float with log=True needs low > 0, got {low}.")

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def contains(self, value: Value) -> bool:
        return is_number(value) and self.low <= value <= self.high

    def fits(self, value: Value) -> bool:
        return value is None or (is_number(value) and math.isfinite(value))

    def at(self, share: float) -> Value:
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return min(max(math.exp(low + share * (high - low)), self.low), self.high)
        return min(self.low + share * (self.high - self.low), self.high)

    def share_of(self, value: Value) -> float:
        assert isinstance(value, int | float)
        return _between(self.low, self.high, float(value), log=self.log)

    def rounded(self, share_N: Array) -> Array:
        return share_N

    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log)


@checks.explained
@dataclass(frozen=True)
class Int(Domain):
    """An integer parameter in [low, high]."""

    kind = "int"
    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        most = checks.MOST_WHOLE
        low, high = (
            checks.whole(f"{name} of Int", value, least=-most, most=most)
            for name, value in (("low", self.low), ("high", self.high))
        )
        checks.put(self, low=low, high=high, log=checks.flag("log of Int", self.log))
        if low > high:
            raise ValueError(f"Int needs low <= high, got {low} and {high}.")
        if self.log and low < 1:
            raise ValueError(f"Int with log=True needs low >= 1, got {low}.")

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def contains(self, value: Value) -> bool:
        return is_number(value) and isinstance(value, int) and self.low <= value <= self.high

    def fits(self, value: Value) -> bool:
        return value is None or (is_number(value) and float(value).is_integer())

    def at(self, share: float) -> Value:
        if self.log:
            low, high = math.log(self.low), math.log(self.high + 1)
            return min(max(int(math.exp(low + share * (high - low))), self.low), self.high)
        return min(self.low + int(share * (self.high - self.low + 1)), self.high)

    def share_of(self, value: Value) -> float:
        assert isinstance(value, int | float)
        return _between(self.low, self.high + 1, value + 0.5, log=self.log)

    def distribution(self) -> IntDistribution:
        return IntDistribution(self.low, self.high, log=self.log)


@checks.explained
@dataclass(frozen=True)
class Choice(Domain):
    """One of a few JSON-able values."""

    kind = "choice"
    is_choice = True
    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        given: Any = checks.plain(self.options)
        if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__iter__"):
            raise ValueError(
                f"options of Choice must be a list of values, got {shown(given)}; write "
                f"Choice(options=[{shown(given)}, ...])."
            )
        options = tuple(checks.data("options of Choice", each) for each in given)
        nested = [each for each in options if isinstance(each, list | tuple | dict)]
        if nested:
            raise ValueError(
                "options of Choice must be numbers, strings, booleans or None, got "
                f"{shown(nested[0])}; search its parts by their own paths."
            )
        if not options or len(set(options)) < len(options):
            raise ValueError(f"Choice needs different options, got {shown(options)}.")
        checks.put(self, options=options)

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.options

    def contains(self, value: Value) -> bool:
        return value in self.options

    def fits(self, value: Value) -> bool:
        return True

    def at(self, share: float) -> Value:
        return self.options[min(int(share * len(self.options)), len(self.options) - 1)]

    def share_of(self, value: Value) -> float:
        return (self.options.index(value) + 0.5) / len(self.options)

    def rounded(self, share_N: Array) -> Array:
        num = len(self.options)
        return np.asarray((np.minimum(np.floor(share_N * num), num - 1) + 0.5) / num)

    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self.options)


_KINDS: dict[str, type[Float | Int | Choice]] = {each.kind: each for each in (Float, Int, Choice)}


def is_number(value: Value) -> TypeGuard[float]:
    """Whether a parameter's value is a number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(low: float, high: float, value: float, *, log: bool) -> float:
    if log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.5


def as_domain(path: str, given: object) -> Domain:
    """A domain of this package from one, or from Optuna's distribution.

    Raises:
        ValueError: it is something else, or has a step.
    """
    if isinstance(given, Domain):
        return given
    if isinstance(given, BaseDistribution):
        return _from_optuna(path, given)
    raise ValueError(
        f"space[{path!r}] must be Float, Int or Choice, got {shown(given)}; {_hint(given)}"
    )


def _from_optuna(path: str, given: BaseDistribution) -> Domain:
    if isinstance(given, CategoricalDistribution):
        return Choice(options=tuple(given.choices))
    if isinstance(given, FloatDistribution) and given.step is None:
        return Float(low=given.low, high=given.high, log=given.log)
    if isinstance(given, IntDistribution) and given.step == 1:
        return Int(low=given.low, high=given.high, log=given.log)
    step = getattr(given, "step", None)
    raise ValueError(
        f"space[{path!r}] must have no step, got {shown(given)} with step {step}; leave the step "
        "out, or list the values in Choice(options=[...])."
    )


def _hint(given: object) -> str:
    """What to write instead."""
    values = list(given) if isinstance(given, list | tuple) else []
    numbers = [each for each in values if isinstance(each, int | float)]
    if len(values) == len(numbers) == 2:
        low, high = (shown(each) for each in numbers)
        return f"write Float(low={low}, high={high}), or Int or Choice(options=[{low}, {high}])."
    if values:
        return f"write Choice(options=[{', '.join(shown(each) for each in values[:3])}, ...])."
    if isinstance(given, str | bool | int | float) or given is None:
        return "to fix a parameter, leave it out of space and set it in the recipe."
    return "write Float(low=..., high=...), Int(low=..., high=...) or Choice(options=[...])."


def inside(space: Mapping[str, Domain], values: Mapping[str, Value]) -> bool:
    """Whether every value is in its domain."""
    return all(domain.contains(values.get(path)) for path, domain in space.items())


def distributions(space: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    return {path: domain.distribution() for path, domain in space.items()}
