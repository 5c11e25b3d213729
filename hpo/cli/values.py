"""Values of the command line's options: times, sizes, counts and settings, each with its check."""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
from collections.abc import Callable
from typing import Any

from hpo.core import checks

COUNTS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60}


UNITS |= {"h": 3600, "hr": 3600, "hour": 3600, "d": 86400, "day": 86400}
"""Seconds of a unit of time; each may end in s."""


MOST_TEXT = 1000
"""Letters of a value that is read as Python's."""


_PART = r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]+)\s*"


_CLOCK = r"(\d+):(\d\d):(\d\d)"


def seconds(text: str) -> float:
    """A time such as 90 (seconds), 30m, 1h30m, 1.5h, 2d or 1:30:00."""
    value = _seconds(text.strip().lower())
    if value is None or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"must be a time such as 90s, 30m, 1h30m, 2d or 1:30:00, got {checks.shown(text)}"
        )
    return value


def _seconds(text: str) -> float | None:
    clock = re.fullmatch(_CLOCK, text)
    if clock is not None:
        hours, minutes, rest = (int(each) for each in clock.groups())
        return 3600.0 * hours + 60 * minutes + rest
    if re.fullmatch(f"({_PART})+", text):
        parts = [(float(number), _unit(name)) for number, name in re.findall(_PART, text)]
        known = [number * unit for number, unit in parts if unit is not None]
        return sum(known) if len(known) == len(parts) else None
    return _positive(text, 1)


def _unit(name: str) -> int | None:
    return UNITS.get(name) or UNITS.get(name.removesuffix("s"))


def count(text: str) -> float:
    """A size such as 7e9, 7B or 300M."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in COUNTS else (text, "")
    value = _positive(number, COUNTS.get(unit, 1))
    if value is None:
        raise argparse.ArgumentTypeError(
            f"must be a number such as 7e9, 7B or 300M, got {checks.shown(text)}"
        )
    return value


def rate(text: str) -> float:
    """A number above 0."""
    value = _positive(text, 1)
    if value is None:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {checks.shown(text)}")
    return value


def share(text: str) -> float:
    """A number of at least 0, such as half a GPU."""
    value = 0.0 if text.strip() == "0" else _positive(text, 1)
    if value is None:
        raise argparse.ArgumentTypeError(
            f"must be a number of at least 0, got {checks.shown(text)}"
        )
    return value


def gigabytes(text: str) -> float:
    """A size in units of 1e9 bytes, 0 included."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"must be a size in GB such as 0.5 or 20, got {checks.shown(text)}"
        )
    return value


def whole(least: int = 0, most: int = checks.MOST) -> Callable[[str], int]:
    """An integer in a range; 1e3 and 1_000 are 1000."""

    def read(text: str) -> int:
        try:
            value: float = int(text)
        except ValueError:
            value = _float(text)
        try:
            return checks.whole("it", value, least=least, most=most)
        except ValueError:
            limits = f"from {least} to {most}" if value > most else f"of at least {least}"
            raise argparse.ArgumentTypeError(
                f"must be a whole number {limits}, got {checks.shown(text)}"
            ) from None

    return read


def setting(text: str) -> tuple[str, Any]:
    """PATH=VALUE; the value is JSON or Python's where it reads as either, else text.

    So None and null, True and true, .1 and 0.1 are the same, and '"1e3"' is a text.
    """
    path, equals, given = (each.strip() for each in text.partition("="))
    if not equals or not path:
        raise argparse.ArgumentTypeError(
            f"must be PATH=VALUE such as pretrain.lr=0.01, got {checks.shown(text)}"
        )
    try:
        return path, checks.data(path, _read(path, given))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


_BEGUN = re.compile(r'\[\s*[\[{"]|\{\s*"')
"""How JSON begins, and no template such as {question} and no pattern such as [ab]*.txt."""


def _read(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    except RecursionError:
        raise ValueError(f"{path} must be nested at most {checks.MOST_NESTED} deep") from None
    read, value = _as_python(text)
    if read:
        return value
    if (text[:1], text[-1:]) in (("[", "]"), ("{", "}")) or _BEGUN.match(text):
        raise ValueError(
            f'{path} must be JSON such as \'["a", "b"]\' in the shell\'s quotes, got '
            f"{checks.shown(text)}"
        )
    return text


def _as_python(text: str) -> tuple[bool, Any]:
    """Whether the text is a value of Python's that JSON has too, and that value."""
    if len(text) > MOST_TEXT or ("," in text and text[:1] not in "[({'\""):
        return False, None  # 1,000 is no pair
    try:
        value = ast.literal_eval(text)
        json.dumps(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False, None
    return True, value


def _float(text: str) -> float:
    """NaN where it is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _positive(text: str, unit: float) -> float | None:
    value = _float(text) * unit
    return value if 0 < value < math.inf else None
