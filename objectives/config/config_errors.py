"""What is wrong with a recipe, in one sentence: the rule, the value received, what to do."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError

MOST_SHOWN = 120
"""Of a value in a message."""


NUMBERS = ("int_type", "float_type", "int_from_float")


SHORT = ("WeightDecay",)
"""Classes that a number may represent."""


RULES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "too_short": "a list with at least one item",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
}
"""Kind of error -> what the value must be."""


HINTS = {
    "wsd": "decay_frac below 1 holds the rate before it decays, with any shape",
    "constant": "decay_frac=0 holds the rate to the end, with any shape",
}
"""Words of other tools -> how to say it here."""


def of_constructor(error: ValidationError, cls: type[Any]) -> str:
    """The sentence for what a class was called with."""
    first = _worst(error)
    kind, name, place = first["type"], cls.__name__, first["loc"]
    if kind == "unexpected_positional_argument":
        names = [each.name for each in dataclasses.fields(cls) if each.name != "kind"]
        return (
            f"{name} takes its fields by name, got {shown(first['input'])}; write "
            f"{name}({names[0]}=...)."
        )
    if kind == "unexpected_keyword_argument" and len(place) == 1:
        return f"{name} has no field {str(place[0])!r}; {near(str(place[0]), field_paths(cls))}"
    if kind == "missing" and len(place) == 1:
        lacking = [str(each["loc"][0]) for each in error.errors() if each["type"] == "missing"]
        fields = ", ".join(f"{each}=..." for each in lacking)
        return f"{name} needs {' and '.join(lacking)}; write {name}({fields})."
    path, classes = _place(cls, place)
    return _sentence(first, f"{path} of {name}" if path else name, classes, by_name=True)


def of_data(error: ValidationError, cls: type[Any], known: Iterable[str]) -> str:
    """The sentence for JSON-able data of a recipe whose paths are known."""
    first = _worst(error)
    path, classes = _place(cls, first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return unknown(path, known)
    return _sentence(first, path or "the recipe", classes, by_name=False)


def unknown(path: str, known: Iterable[str]) -> str:
    """That there is no such hyperparameter, and which are near."""
    return f"unknown hyperparameter {shown(path)}; {near(path, known, 'paths are')}"


def near(name: str, known: Iterable[str], otherwise: str = "choose one of") -> str:
    """A question that names what may have been meant, or all there is."""
    names = list(known)
    last = name.split(".")[-1]
    same = [
        each for each in names
        if last in (each.split(".")[-1], _initials(each)) or _initials(last) == each.split(".")[-1]
    ]  # fmt: skip
    found = list(dict.fromkeys(same + difflib.get_close_matches(name, names, n=3, cutoff=0.5)))
    if found:
        return f"did you mean {' or '.join(found[:3])}?"
    return f"{otherwise} {', '.join(names)}."


def shown(value: object) -> str:
    """A value in a message, in one line and cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # thousands of digits or brackets, or an object that cannot be shown
        return f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def field_paths(cls: type[Any]) -> list[str]:
    """Paths of all fields, those of its parts included; of lists the list alone."""
    found = []
    hints = get_type_hints(cls, include_extras=True)
    for each in dataclasses.fields(cls):
        found.append(each.name)
        parts = _classes(hints[each.name])
        if len(parts) == 1 and "tuple" not in str(hints[each.name]):
            found += [f"{each.name}.{path}" for path in field_paths(parts[0])]
    return [path for path in found if path.split(".")[-1] != "kind"]


def _initials(path: str) -> str:
    """Such as wd for pretrain.weight_decay."""
    return "".join(word[:1] for word in path.split(".")[-1].split("_"))


def _worst(error: ValidationError) -> Any:
    """The error to tell: an unknown name is the cause of what is missing."""
    found = error.errors(include_url=False)
    unexpected = [each for each in found if each["type"].startswith("unexpected")]
    return (unexpected or found)[0]


def _sentence(error: Any, path: str, classes: Sequence[type[Any]], *, by_name: bool) -> str:
    kind, given = error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "missing":
        return f"{path} must be given, and is not."
    if kind == "literal_error":
        return _not_among(path, re.findall("'([^']*)'", error["ctx"]["expected"]), given)
    if kind == "union_tag_invalid":
        tags = re.findall("'([^']*)'", error["ctx"]["expected_tags"])
        return _not_among(f"kind of {path}", tags, error["ctx"]["tag"])
    if kind in RULES:
        rule = RULES[kind].format(**error.get("ctx", {}))
        return f"{path} must be {rule}, got {shown(given)}{_remedy(kind, given)}."
    names = [each.__name__ for each in classes] or ["another value"]
    if by_name:
        wanted = " or ".join(f"{name}(...)" for name in names)
    else:
        wanted = f"an object with the fields of {' or '.join(names)}"
    if any(name in SHORT for name in names):
        wanted = f"a number or {wanted}"
    return f"{path} must be {wanted}, got {shown(given)}."


def _not_among(path: str, allowed: Sequence[str], given: object) -> str:
    text = f"{path} must be {', '.join(allowed[:-1])}{' or ' * (len(allowed) > 1)}{allowed[-1]}"
    found = difflib.get_close_matches(str(given), allowed, n=1)
    hint = HINTS.get(str(given)) or (f"did you mean {found[0]}?" if found else "")
    return f"{text}, got {shown(given)}" + (f"; {hint}".rstrip(".") if hint else ".")


def _remedy(kind: str, given: object) -> str:
    """What to write instead, where that is clear."""
    if kind in NUMBERS and isinstance(given, str):
        try:
            float(given)
        except ValueError:
            return ""
        return f"; write it without quotes: {given}"
    if kind == "string_type" and isinstance(given, int | float):
        return f'; write it in quotes: "{given}"'
    return ""


def _place(cls: type[Any], place: Sequence[int | str]) -> tuple[str, list[type[Any]]]:
    """The path of pydantic's place, without the tags that it has of unions, and what belongs there.

    A list or a tuple of a class is of that class, as its items are.
    """
    at, parts = [cls], []
    for part in place:
        tagged = [each for each in at if _tag(each) == part]
        if len(at) > 1 and tagged:
            at = tagged
            continue
        parts.append(str(part))
        if isinstance(part, str):
            hints = [get_type_hints(each, include_extras=True) for each in at]
            at = [one for each in hints for one in _classes(each.get(part))]
    return ".".join(parts), at


def _tag(cls: type[Any]) -> object:
    return next((each.default for each in dataclasses.fields(cls) if each.name == "kind"), None)


def _classes(hint: Any) -> list[type[Any]]:
    """The dataclasses in a type, in order."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return [hint]
    return list(dict.fromkeys(one for each in get_args(hint) for one in _classes(each)))
