"""Checks of the fields of a study: what is clear is taken, anything else is refused in a sentence.

Clear are NumPy's scalars for Python's, a list or a single item for a tuple, and a whole float for
an integer. Each function returns the value in its own type, or raises ValueError with the rule, the
value received and what to do.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

T = TypeVar("T")


MOST = 10**6
"""Of anything that is counted, such as trials."""


MOST_SEED = 2**32 - 1
"""NumPy's generators take seeds up to here."""


MOST_WHOLE = 2**53
"""Whole numbers up to here are exact as floats."""


MOST_NESTED = 50
"""Levels of nested lists and mappings."""


MOST_LETTERS = 200
"""Of a name."""


MOST_SHOWN = 120
"""Of a value in a message."""


def shown(value: object) -> str:
    """A value in a message, in one line and cut where it is long."""
    try:
        text = " ".join(repr(plain(value)).split())
    except Exception:  # thousands of digits or brackets, or an object that cannot be shown
        return f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def plain(value: object) -> object:
    """NumPy's scalars, its strings and arrays of no dimension as Python's own."""
    numpy = sys.modules.get("numpy")  # before it is loaded no value is NumPy's
    if numpy is None or not isinstance(value, numpy.generic | numpy.ndarray) or value.ndim:
        return value
    return value.item()


def near(name: str, known: Iterable[str]) -> str:
    """A question that names what may have been meant, or all there is."""
    names = list(known)
    folded = {each.lower(): each for each in names}
    found = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)
    if found:
        return f"did you mean {' or '.join(folded[each] for each in found)}?"
    return f"choose one of {', '.join(names)}." if names else "there is none."


def whole(rule: str, value: object, *, least: int = 0, most: int = MOST) -> int:
    """An integer in a range; a float without a fraction is one."""
    value = plain(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limits = f"from {least} to {most}" if most != MOST else f"of at least {least}"
        if isinstance(value, int) and not isinstance(value, bool) and value > most:
            limits = f"from {least} to {most}"
        raise ValueError(f"{rule} must be a whole number {limits}, got {shown(value)}.")
    return value


def number(rule: str, value: object, wanted: str = "a number") -> float:
    """A real number that is not NaN; integers stay integers."""
    value = plain(value)
    is_nan = isinstance(value, float) and math.isnan(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or is_nan:
        quoted = " without quotes" if isinstance(value, str) else ""
        raise ValueError(f"{rule} must be {wanted}{quoted}, got {shown(value)}.")
    if isinstance(value, int) and abs(value) > MOST_WHOLE:
        raise ValueError(f"{rule} must be at most 2^53 in size, got {shown(value)}; give a float.")
    return value


def positive(rule: str, value: object, instead: str) -> float:
    """A finite number above 0."""
    found = number(rule, value, wanted="a number above 0")
    if not 0 < found < math.inf:
        raise ValueError(f"{rule} must be finite and above 0, got {shown(value)}; {instead}.")
    return found


def flag(rule: str, value: object) -> bool:
    """True or False."""
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"{rule} must be True or False, got {shown(value)}.")
    return value


def text(rule: str, value: object) -> str:
    """A string that can be printed in a line."""
    value = plain(value)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{rule} must be a text of printable characters, got {shown(value)}.")
    if len(value) > MOST_LETTERS:
        raise ValueError(f"{rule} must have at most {MOST_LETTERS} letters, got {len(value)}.")
    return value


def metric(rule: str, value: object) -> str:
    """The name of a metric, which is the objective's to choose."""
    value = plain(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f'{rule} must be a metric\'s name such as "base_loss", got {shown(value)}.'
        )
    return value


def one_of(rule: str, value: object, known: Iterable[str]) -> str:
    """A word among those that are known."""
    names = list(known)
    value = plain(value)
    if not isinstance(value, str) or value not in names:
        hint = near(value, names) if isinstance(value, str) else f"choose {' or '.join(names)}."
        raise ValueError(f"{rule} {shown(value)} is unknown; {hint}")
    return value


def items(rule: str, value: object, kind: type[T], example: str) -> tuple[T, ...]:
    """A tuple of one kind of thing, from anything that holds them or from a single one."""
    value = plain(value)
    if isinstance(value, kind):
        return (value,)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ValueError(f"{rule} must be a list of {example}, got {shown(value)}.")
    found = tuple(value)
    for each in found:
        if not isinstance(each, kind):
            raise ValueError(f"each of {rule} must be a {example}, got {shown(each)}.")
    return found


def mapping(rule: str, value: object, example: str) -> dict[str, Any]:
    """A dict with strings as keys."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{rule} must be a dict such as {example}, got {shown(value)}.")
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"the keys of {rule} must be strings, got {shown(key)}.")
    return {str(key): each for key, each in value.items()}


def data(rule: str, value: object, depth: int = 0) -> Any:
    """JSON-able data: None, booleans, finite numbers, strings, and lists and dicts of them."""
    value = plain(value)
    if depth > MOST_NESTED:
        raise ValueError(f"{rule} must be nested at most {MOST_NESTED} deep.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, Mapping):
        return {k: data(rule, v, depth + 1) for k, v in mapping(rule, value, "{...}").items()}
    if isinstance(value, list | tuple) or _is_array(value):
        found = [data(rule, each, depth + 1) for each in value]
        return tuple(found) if isinstance(value, tuple) else found
    if isinstance(value, int) and abs(value) > MOST_WHOLE:
        raise ValueError(f"{rule} must be at most 2^53 in size, got {shown(value)}; give a float.")
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    raise ValueError(
        f"{rule} must be finite numbers, strings, booleans, None or lists and dicts of them, got "
        f"{shown(value)}."
    )


def _is_array(value: object) -> TypeGuard[Iterable[Any]]:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def put(checked: object, **values: object) -> None:
    """Set fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(checked, name, value)


def explained(cls: type[T]) -> type[T]:
    """A dataclass whose wrong keywords are a ValueError that names the near ones."""
    init: Callable[..., None] = cls.__init__

    @functools.wraps(init)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        _check_call(cls, args, kwargs)
        init(self, *args, **kwargs)

    setattr(cls, "__init__", checked)  # noqa: B010  # mypy forbids the assignment
    return cls


def _check_call(cls: type[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    fields = [each for each in dataclasses.fields(cls) if each.init]
    names = [each.name for each in fields]
    unnamed = [each.name for each in fields if not each.kw_only]
    if len(args) > len(unnamed):
        rule = f"at most {len(unnamed)} values" if unnamed else "no value"
        raise ValueError(
            f"{cls.__name__} takes {rule} without a name, got {shown(args[len(unnamed)])}; write "
            f"{cls.__name__}({', '.join(f'{name}=...' for name in names[:3])})."
        )
    for name in kwargs:
        if name not in names:
            raise ValueError(f"{cls.__name__} has no field {name!r}; {near(name, names)}")
        if name in unnamed[: len(args)]:
            raise ValueError(f"{cls.__name__} got {name} twice; give it once.")
    given = {*kwargs, *unnamed[: len(args)]}
    missing = [each.name for each in fields if each.name not in given and _is_required(each)]
    if missing:
        raise ValueError(
            f"{cls.__name__} needs {' and '.join(missing)}; write "
            f"{cls.__name__}({', '.join(f'{name}=...' for name in missing)})."
        )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def rungs(given: Any) -> tuple[float, ...] | Literal["auto"]:
    """A study's rungs."""
    rule = 'rungs must be "auto" or rising shares of the horizon up to 1, such as (1/9, 1/3, 1)'
    if isinstance(given, str):
        if given == "auto":
            return "auto"
        raise ValueError(f"{rule}, got {shown(given)}.")
    found = items("rungs", _plain_numbers(given), float, "share such as 1/3")
    rising = all(low < high for low, high in itertools.pairwise(found))
    if not found or not rising or not found[0] > 0 or found[-1] != 1:
        raise ValueError(f"{rule}, got {shown(found)}.")
    return found


def _plain_numbers(given: Any) -> Any:
    """Rungs as floats, as far as they are numbers."""
    given = plain(given)
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        given = (given,)
    return tuple(float(number("each of rungs", each)) for each in given)
