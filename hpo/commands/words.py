"""What every command's words are made of: sub-commands, and values with units."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
COUNTS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def command(
    commands: Any, name: str, function: Callable[..., int], text: str
) -> argparse.ArgumentParser:
    """A new command that calls `function(arguments, console)` for its exit code."""
    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    added.set_defaults(command=function)
    return added


def seconds(text: str) -> float:
    """A time such as 90s, 30m or 2h."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    value = _positive(number, units[unit])
    if value is None:
        raise argparse.ArgumentTypeError(f"a time such as 90s, 30m or 2h, got {text!r}")
    return value


def count(text: str) -> float:
    """A size such as 7e9, 7B or 300M."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in COUNTS else (text, "")
    value = _positive(number, COUNTS.get(unit, 1))
    if value is None:
        raise argparse.ArgumentTypeError(f"a number such as 7e9, 7B or 300M, got {text!r}")
    return value


def rate(text: str) -> float:
    """A number above 0."""
    value = _positive(text, 1)
    if value is None:
        raise argparse.ArgumentTypeError(f"a number above 0, got {text!r}")
    return value


def gigabytes(text: str) -> float:
    """A size in units of 1e9 bytes, 0 included."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a size in GB such as 0.5 or 20, got {text!r}")
    return value


def setting(text: str) -> tuple[str, Any]:
    """PATH=VALUE; the value is JSON where it reads as JSON, else text."""
    path, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"PATH=VALUE, got {text!r}")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


def _positive(text: str, unit: float) -> float | None:
    try:
        value = float(text) * unit
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
