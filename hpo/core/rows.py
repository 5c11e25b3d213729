"""Rows of a record as they are read: anybody may have changed a database.

A number that is none is left out with a note, as from earlier versions that recorded anything; a
row of another shape is damage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hpo.core.checks import MOST_NESTED
from hpo.core.results import bounded, left_out

Check = Callable[[Any], bool]


class DamagedRow(TypeError):
    """A row has another shape than this program writes."""


def checked(attrs: Mapping[str, Any], shapes: Mapping[str, Check]) -> dict[str, Any]:
    """The rows, each of its shape; those of metrics and costs without what is no number.

    Raises:
        DamagedRow: one has another shape.
    """
    found = dict(attrs)
    for name, check in shapes.items():
        if name in found and not check(found[name]):
            raise DamagedRow(f"its row {name!r} has another form than it should")
    for name in ("metrics", "cost", "step_cost"):
        if name in found:
            kept = numbers(found[name])
            broken = {key: value for key, value in found[name].items() if key not in kept}
            found[name] = kept
            if broken and name != "step_cost":
                found["notes"] = [*found.get("notes", []), *left_out(name, broken)]
    return found


def check_numbers(found: Sequence[int], least: int = 0) -> None:
    """Whether trials are numbered 0, 1, 2, ...: where one is missing, its row was lost.

    `least`: how many rows there are; of two with one number Optuna reads one.

    Raises:
        DamagedRow: they are not.
    """
    count = max(least, len(found))
    missing = {*range(count)} - {*found}
    if missing:
        raise DamagedRow(f"trial {min(missing)} is missing among its {count} trials")


def check_goals(number: int, metrics: Collection[str], goals: Sequence[str]) -> None:
    """Whether a complete trial has all goals among its metrics; else it would have failed.

    Raises:
        DamagedRow: it has not.
    """
    for goal in goals:
        if goal not in metrics:
            raise DamagedRow(f"trial {number} is complete but has no value of {goal}")


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers, as floats."""
    return {name: bounded(float(value)) for name, value in values.items() if is_number(value)}


def is_number(value: Any) -> bool:
    """Whether a float can hold it."""
    return type(value) is float or (type(value) is int and abs(value) < 1e300)


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _all(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _each(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _is_value(value: Any, depth: int = 0) -> bool:
    """What a parameter can be; a baseline's may be a list or a mapping."""
    if isinstance(value, list | dict) and depth < MOST_NESTED:
        inner = value.values() if isinstance(value, dict) else value
        return all(_is_value(each, depth + 1) for each in inner)
    return value is None or isinstance(value, bool | str) or is_number(value)


def _is_named(row: Any) -> bool:
    """A baseline or grid point: its name and params."""
    return isinstance(row, list) and len(row) == 2 and _is_text(row[0]) and _is_params(row[1])


def _is_params(value: Any) -> bool:
    return _each(_is_value)(value)


def _anything(value: Any) -> bool:
    return True


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _is_rung(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_finite(value.get("fidelity"))
        and isinstance(value.get("metrics"), dict)
        and isinstance(value.get("cost"), dict)
        and _is_count(value.get("order"))
    )


def _is_ask(value: Any) -> bool:
    """What `ledger.Ask` is written as."""
    if not isinstance(value, list) or len(value) not in (4, 5):
        return False
    wave, place, fidelity, seen, *base_only = value
    return (
        all(map(_is_count, (wave, place, seen)))
        and _is_finite(fidelity)
        and all(type(each) in (int, bool) for each in base_only)
    )


def _is_domain(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if value.get("kind") == "choice":
        return isinstance(value.get("options"), list)
    return value.get("kind") in ("float", "int") and all(
        _is_finite(value.get(end)) for end in ("low", "high")
    )


def _is_goal(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(map(_is_text, row))


def _is_limit(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != 3:
        return False
    return _is_text(row[0]) and all(map(_maybe(is_number), row[1:]))


def _is_earlier(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(part, dict) for part in row)


def _is_spec(value: Any) -> bool:
    """What `storage.spec_data` makes, as far as every record has it."""
    return (
        isinstance(value, dict)
        and _each(_is_domain)(value.get("space"))
        and _all(_is_goal)(value.get("goals"))
        and _all(_is_limit)(value.get("limits"))
        and all(_all(_is_named)(value.get(points, [])) for points in ("baselines", "grid"))
    )


OF_TRIAL: dict[str, Check] = {
    "params": _is_params,
    "metrics": _each(_anything),
    "cost": _each(_anything),
    "curves": _each(_all(_is_point)),
    "row_scores": _each(_all(_all(_is_finite))),
    "notes": _all(_is_text),
    "labels": _all(_is_text),
    "failure": _maybe(_is_text),
    "baseline": _maybe(_is_text),
    "point": _maybe(_is_text),
    "replicate_of": _maybe(_is_count),
    "group": _is_count,
    "seed": _is_count,
    "fidelity": _is_finite,
    "confirms": lambda value: isinstance(value, bool),
    "rungs": _all(_is_rung),
    "asked": lambda value: _all(_is_ask)(value) and bool(value),
    "order": _is_count,
    "stopped_at": _maybe(_is_count),
    "step_cost": _each(_anything),
}


OF_STUDY: dict[str, Check] = {
    "spec": _is_spec,
    "widened_choices": _all(_is_text),
    "description": _is_text,
    "planned": is_number,
    "conditions": _all(_each(_is_text)),
    "group": _is_count,
    "paper": _maybe(_each(_anything)),
    "contrasts": _maybe(_each(_anything)),
    "reproduce": _each(_anything),
    "warm": _all(_is_earlier),
    "prices": lambda value: value in ("seconds", "tokens"),
}
