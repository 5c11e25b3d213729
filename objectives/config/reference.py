"""Reference of a recipe: every hyperparameter with type, unit, default, allowed values and meaning.

1. The fields of a recipe's class are walked; a field whose type is such a class is a subtree.
2. Type, range and unit are read from the field's annotation, the meaning from the docstring below
   the field, the default from the recipe that is given.
3. An item of a list is `N` in a path. Where an item may be of several classes, the fields of each
   are listed.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from objectives.config.paths import Unit

NAMES = {int: "int", float: "float", str: "str", bool: "bool"}


ITEM = "N"
"""In a path, the index of an item of a list."""


REQUIRED = "required"
"""The default of a field that must be given."""


MOST = 2.0**53
"""An upper bound that is there for JSON alone, and is not shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One hyperparameter."""

    path: str
    owner: str
    """The class that has the field."""
    type: str
    unit: str
    """What a count counts, or what a share is of; empty for a plain number."""
    default: Any
    """JSON-able; `REQUIRED` where it must be given."""
    allowed: str
    meaning: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Type:
    """An annotation taken apart."""

    core: Any
    """A scalar type, a Literal, a tuple, or a class of the recipe."""
    classes: tuple[type[Any], ...]
    """Classes of the recipe that a value may be of."""
    optional: bool
    limits: tuple[Any, ...]
    unit: str


def parameters(recipe: object, short_forms: Mapping[str, str]) -> tuple[Parameter, ...]:
    """Every hyperparameter of this recipe, with its values as the defaults."""
    found = tuple(_of_class(type(recipe), recipe, ""))
    by_path = {each.path: each for each in found}
    short = {
        full: dataclasses.replace(by_path[full], path=name, meaning=f"Short for `{full}`.")
        for name, full in short_forms.items()
        if full in by_path
    }
    return tuple(
        each for one in found for each in ([short[one.path], one] if one.path in short else [one])
    )


def as_json(found: tuple[Parameter, ...]) -> list[dict[str, Any]]:
    """One dict for each hyperparameter."""
    return [dataclasses.asdict(each) for each in found]


def _of_class(cls: type[Any], value: object | None, prefix: str) -> Iterator[Parameter]:
    """`value`: an instance whose values are the defaults; None takes those of the class."""
    hints = get_type_hints(cls, include_extras=True)
    meanings = _docstrings(cls)
    for each in dataclasses.fields(cls):
        default = _default(each) if value is None else getattr(value, each.name)
        path = f"{prefix}.{each.name}".lstrip(".")
        given, meaning = _taken_apart(hints[each.name]), meanings.get(each.name, "")
        yield from _of_field(cls.__name__, given, default, path, meaning)


def _of_field(
    owner: str, given: _Type, default: Any, path: str, meaning: str
) -> Iterator[Parameter]:
    is_list = get_origin(given.core) is tuple
    if given.classes and not is_list and not given.optional and len(given.classes) == 1:
        yield from _of_class(given.classes[0], default, path)
        return
    yield Parameter(
        path=path,
        owner=owner,
        type=_type_name(given),
        unit=given.unit,
        default=_json(default),
        allowed=_allowed(given),
        meaning=meaning,
    )
    for member in given.classes:
        value = default if isinstance(default, member) else None
        yield from _of_class(member, value, f"{path}.{ITEM}" if is_list else path)


def _default(each: dataclasses.Field[Any]) -> Any:
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory()
    return REQUIRED if each.default is dataclasses.MISSING else each.default


def _json(value: Any) -> Any:
    return TypeAdapter(Any).dump_python(value, mode="json")


def _taken_apart(annotation: Any) -> _Type:
    marks = list[Any]()
    while hasattr(annotation, "__metadata__"):
        marks += annotation.__metadata__
        annotation = annotation.__origin__
    members = [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        members = [each for each in get_args(annotation) if each is not type(None)]
    optional = type(None) in get_args(annotation)
    if len(members) == 1 and hasattr(members[0], "__metadata__"):
        inner = _taken_apart(members[0])
        limits = (*inner.limits, *_limits(marks))
        unit = _unit(marks) or inner.unit
        return dataclasses.replace(inner, optional=optional, limits=limits, unit=unit)
    return _Type(
        core=members[0] if len(members) == 1 else annotation,
        classes=tuple(_classes(members)),
        optional=optional,
        limits=_limits(marks),
        unit=_unit(marks),
    )


def _classes(members: list[Any]) -> Iterator[type[Any]]:
    for each in members:
        if get_origin(each) is tuple:
            yield from _taken_apart(get_args(each)[0]).classes
        elif dataclasses.is_dataclass(each) and isinstance(each, type):
            yield each


def _limits(marks: list[Any]) -> tuple[Any, ...]:
    return tuple(limit for mark in marks if isinstance(mark, FieldInfo) for limit in mark.metadata)


def _unit(marks: list[Any]) -> str:
    return next((mark.name for mark in marks if isinstance(mark, Unit)), "")


def _type_name(given: _Type) -> str:
    if get_origin(given.core) is tuple:
        name = f"list of {_type_name(_taken_apart(get_args(given.core)[0]))}"
    elif given.classes:
        name = " or ".join(each.__name__ for each in given.classes)
    else:
        name = "choice" if get_origin(given.core) is Literal else NAMES[given.core]
    return name + (" or None" if given.optional else "")


def _allowed(given: _Type) -> str:
    """The values in words; empty where the type says all."""
    if get_origin(given.core) is tuple:
        item = _allowed(_taken_apart(get_args(given.core)[0]))
        least = any(getattr(limit, "min_length", 0) for limit in given.limits)
        return "; ".join(text for text in ("at least one item" if least else "", item) if text)
    if get_origin(given.core) is Literal:
        return ", ".join(map(str, get_args(given.core)))
    return "true, false" if given.core is bool else _range(given.limits)


def _range(limits: tuple[Any, ...]) -> str:
    bounds = {
        name: getattr(limit, name)
        for limit in limits
        for name in ("gt", "ge", "lt", "le")
        if getattr(limit, name, None) is not None
    }
    if bounds.get("le") == MOST:
        del bounds["le"]
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return ", ".join(f"{signs[name]} {bounds[name]:g}" for name in signs if name in bounds)


def _docstrings(cls: type[Any]) -> dict[str, str]:
    """Field -> the docstring below it, in one line; of `kind`, the first words of the class's."""
    (tree,) = ast.parse(inspect.getsource(cls)).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {"kind": (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")}
    for before, after in itertools.pairwise(body):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found
