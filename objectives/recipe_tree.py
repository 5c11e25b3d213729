"""Recipes as trees: a hyperparameter's name is its dotted path, whatever the recipe is of.

A recipe is a frozen tree of pydantic dataclasses, all of whose fields have defaults. These
functions give its JSON round trip and set paths; a short form is a subtree that a number may stand
for, with the path that the number sets.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from objectives.field_types import Value

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
    try:
        return TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ValueError(_explain(error, [*short_forms, *paths(kind())])) from None


def paths(recipe: object) -> dict[str, Value]:
    """Every hyperparameter: dotted path -> value."""
    return dict(_leaves(to_dict(recipe), ""))


def with_params(recipe: Tree, params: Mapping[str, Any], short_forms: ShortForms) -> Tree:
    """A copy with the given paths set, to leaves or to whole subtrees of JSON-able data.

    Raises:
        ValueError: an unknown path (the nearest ones are named), a wrong type or range, one
            hyperparameter by two names.
    """
    data = to_dict(recipe)
    for short, full in short_forms.items():
        if full in params and _is_number(params.get(short)):
            raise ValueError(
                f"{short} and {full} name the same hyperparameter, got {params[short]!r} and "
                f"{params[full]!r}; give one of them."
            )
    for path, value in params.items():
        _set(data, path, value, short_forms)
    return from_dict(type(recipe), data, short_forms)


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
    for key in parents:
        node = dict(_children(node) or []).get(key)
    if last not in dict(_children(node) or []):
        known = [name for name, _ in _leaves(data, "")]
        raise ValueError(_unknown(path, [*short_forms, *known]))
    try:
        node[int(last) if isinstance(node, list) else last] = json.loads(json.dumps(value))
    except TypeError:
        raise ValueError(
            f"{path} must be JSON-able data, got {value!r}; give plain numbers, strings and lists."
        ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unknown(path: str, known: list[str]) -> str:
    last = path.split(".")[-1]
    same = [name for name in known if last in (name.split(".")[-1], _initials(name))]
    near = list(dict.fromkeys(same + difflib.get_close_matches(path, known, n=3, cutoff=0.5)))
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"paths are {', '.join(known)}."
    return f"unknown hyperparameter {path!r}; {hint}"


def _initials(path: str) -> str:
    """Such as wd for pretrain.weight_decay."""
    return "".join(word[:1] for word in path.split(".")[-1].split("_"))


def _explain(error: ValidationError, known: list[str]) -> str:
    """One sentence for the first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    path = _path_of(first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return _unknown(path, known)
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{path}: {first['msg']}, got {first['input']!r}."


def _path_of(place: tuple[int | str, ...]) -> str:
    """Pydantic's place without the kind it puts behind the index of a source or task."""
    parts = [
        str(part)
        for before, part in zip((None, *place), place, strict=False)
        if not (isinstance(before, int) and isinstance(part, str))
    ]
    return ".".join(parts)
