"""Domains of parameters: real, integer, choice; what they contain and how they are stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpo.core import checks
from hpo.core.checks import shown
from hpo.core.objective import Value


@checks.explained
@dataclass(frozen=True)
class Float:
    """A real parameter in [low, high]."""

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


@checks.explained
@dataclass(frozen=True)
class Int:
    """An integer parameter in [low, high]."""

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


@checks.explained
@dataclass(frozen=True)
class Choice:
    """One of a few JSON-able values."""

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


Domain: TypeAlias = Float | Int | Choice


def ends(domain: Domain) -> tuple[Value, ...]:
    """The values by which a domain can be checked: its bounds, or all options."""
    return domain.options if isinstance(domain, Choice) else (domain.low, domain.high)


def as_domain(path: str, given: object) -> Domain:
    """A domain of this package from one, or from Optuna's distribution.

    Raises:
        ValueError: it is something else, or has a step.
    """
    if isinstance(given, Float | Int | Choice):
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
    return all(_contains(domain, values.get(path)) for path, domain in space.items())


def at(domain: Domain, unit: float) -> Value:
    """The value at a share of the domain."""
    if isinstance(domain, Choice):
        return domain.options[min(int(unit * len(domain.options)), len(domain.options) - 1)]
    if isinstance(domain, Float):
        if domain.log:
            low, high = math.log(domain.low), math.log(domain.high)
            return min(max(math.exp(low + unit * (high - low)), domain.low), domain.high)
        return min(domain.low + unit * (domain.high - domain.low), domain.high)
    if domain.log:
        low, high = math.log(domain.low), math.log(domain.high + 1)
        return min(max(int(math.exp(low + unit * (high - low))), domain.low), domain.high)
    return min(domain.low + int(unit * (domain.high - domain.low + 1)), domain.high)


def share(domain: Domain, value: Value) -> float:
    """The share of the domain at which a value is: of an integer the middle of its own."""
    if isinstance(domain, Choice):
        return (domain.options.index(value) + 0.5) / len(domain.options)
    assert isinstance(value, int | float)
    if isinstance(domain, Float):
        low, high, middle = domain.low, domain.high, float(value)
    else:
        low, high, middle = domain.low, domain.high + 1, value + 0.5
    if domain.log:
        low, high, middle = math.log(low), math.log(high), math.log(middle)
    return (middle - low) / (high - low) if high > low else 0.5


def _contains(domain: Domain, value: Value) -> bool:
    if isinstance(domain, Choice):
        return value in domain.options
    kinds = int if isinstance(domain, Int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return domain.low <= value <= domain.high


def domain_data(domain: Domain) -> dict[str, Any]:
    """A domain as JSON-able data."""
    if isinstance(domain, Choice):
        return {"kind": "choice", "options": list(domain.options)}
    kind = "float" if isinstance(domain, Float) else "int"
    return {"kind": kind, "low": domain.low, "high": domain.high, "log": domain.log}


def fits(recorded: Mapping[str, Any], value: Value) -> bool:
    """Whether a value is of a recorded domain's kind, be it outside its range.

    That of a choice can be anything; of a number it is a finite one, or None where a recipe can
    leave it out. An integer may be written as a whole float.
    """
    if recorded["kind"] == "choice" or value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return recorded["kind"] == "float" or float(value).is_integer()


def within(recorded: Mapping[str, Any], value: Value) -> bool:
    """Whether a value is one that a search of a recorded domain can give."""
    if recorded["kind"] == "choice":
        return value in recorded["options"]
    kinds = int if recorded["kind"] == "int" else (int, float)
    return isinstance(value, kinds) and recorded["low"] <= value <= recorded["high"]
