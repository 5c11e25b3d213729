"""Types of the recipe's fields: strict, with their ranges."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from objectives.config import config_errors
from objectives.config.config_class import plain


def _whole(given: Any) -> Any:
    """A float without a fraction is an integer."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


def _several(given: Any) -> Any:
    """A list is a tuple, and so is a single item."""
    if given is None or isinstance(given, tuple):
        return given
    return tuple(given) if isinstance(given, list | Iterator) else (given,)


@dataclass(frozen=True)
class Unit:
    """The unit of a field, in its annotation: what a count counts, what a share is of."""

    name: str


Whole = BeforeValidator(_whole)


Several = BeforeValidator(_several)


Value: TypeAlias = float | int | str | bool | None


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


Count = Annotated[int, Field(ge=1, le=2**53), Whole]


CountOrZero = Annotated[int, Field(ge=0, le=2**53), Whole]


Beta = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


EXCLUSIVE = {"warmup_steps": "warmup_frac", "warmup_frac": "warmup_steps"}
"""Fields of one class, of which a value for the first unsets the second."""


Tree = TypeVar("Tree")


ShortForms = Mapping[str, str]


def to_dict(recipe: object) -> dict[str, Any]:
    """The recipe as JSON-able data."""
    data: dict[str, Any] = TypeAdapter(type(recipe)).dump_python(recipe, mode="json")
    return data


def from_dict(kind: type[Tree], data: Mapping[str, Any], short_forms: ShortForms) -> Tree:
    """The recipe of this kind from `to_dict`'s data.

    Raises:
        ValueError: an unknown path, a wrong type, a value out of range.
    """
    text = json.dumps(_json_data("the recipe", data))
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        sentence = config_errors.of_data(error, kind, [*short_forms, *paths(kind())])
    raise ValueError(sentence)


def paths(recipe: object) -> dict[str, Value]:
    """Every hyperparameter: dotted path -> value."""
    return dict(_leaves(to_dict(recipe), ""))


def with_params(recipe: Tree, params: Mapping[str, Any], short_forms: ShortForms) -> Tree:
    """A copy with the given paths set, to leaves or to whole subtrees of JSON-able data.

    A value for one of two fields that exclude each other unsets the other one.

    Raises:
        ValueError: an unknown path (the nearest ones are named), a wrong type or range, one
            hyperparameter by two names.
    """
    data = to_dict(recipe)
    _check_paths(params)
    for short, full in short_forms.items():
        if full in params and _is_number(params.get(short)):
            raise ValueError(
                f"{short} and {full} name the same hyperparameter, got {params[short]!r} and "
                f"{params[full]!r}; give one of them."
            )
    for path, value in params.items():
        _set(data, path, value, short_forms)
        other = _excluded(path)
        if other is None or value is None:
            continue
        if params.get(other) is not None:
            raise ValueError(
                f"at most one of {path} and {other} can be set, got {value!r} and "
                f"{params[other]!r}; leave one out."
            )
        _unset(data, other)
    return from_dict(type(recipe), data, short_forms)


def _excluded(path: str) -> str | None:
    """The path that a value for this one unsets."""
    *parents, last = path.split(".")
    return ".".join([*parents, EXCLUSIVE[last]]) if last in EXCLUSIVE else None


def _check_paths(params: Any) -> None:
    if not isinstance(params, Mapping) or not all(isinstance(path, str) for path in params):
        raise ValueError(
            'params must be a dict of paths and values such as {"pretrain.lr": 0.01}, got '
            f"{config_errors.shown(params)}."
        )


def _leaves(node: Any, prefix: str) -> list[tuple[str, Value]]:
    items = _children(node)
    if items is None:
        return [(prefix, node)]
    return [leaf for key, value in items for leaf in _leaves(value, f"{prefix}.{key}".lstrip("."))]


def _children(node: Any) -> list[tuple[str, Any]] | None:
    if isinstance(node, dict):
        return list(node.items())
    if isinstance(node, list):
        return [(str(index), value) for index, value in enumerate(node)]
    return None


def _set(data: dict[str, Any], path: str, value: Any, short_forms: ShortForms) -> None:
    if path in short_forms and _is_number(value):
        path = short_forms[path]
    *parents, last = path.split(".")
    node: Any = data
    for depth, key in enumerate(parents, 1):
        children = dict(_children(node) or [])
        node = children.get(key)
        if node is None and key in children:
            above = ".".join(parents[:depth])
            example = json.dumps({parents[depth] if depth < len(parents) else last: "..."})
            raise ValueError(
                f"{path} cannot be set, as {above} is None; set {above} itself, such as {example}."
            )
    if last not in dict(_children(node) or []):
        known = [name for name, _ in _leaves(data, "")]
        raise ValueError(config_errors.unknown(path, [*short_forms, *known]))
    node[int(last) if isinstance(node, list) else last] = _json_data(path, value)


def _json_data(path: str, value: Any) -> Any:
    """A copy of the value as JSON has it."""
    try:
        found = json.loads(json.dumps(plain(value)))
        json.dumps(found, ensure_ascii=False).encode()  # half an emoji is no text
    except (TypeError, ValueError, RecursionError):
        raise ValueError(
            f"{path} must be JSON-able data, got {config_errors.shown(value)}; give plain numbers, "
            "strings and lists."
        ) from None
    return found


def _unset(data: dict[str, Any], path: str) -> None:
    """None for a path; a subtree that was set may lack it, which is the same."""
    *parents, last = path.split(".")
    node: Any = data
    for key in parents:
        node = dict(_children(node) or []).get(key)
    if isinstance(node, dict):
        node[last] = None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
