"""YAML and JSON files as plain data, with the line of every part.

Only plain data is read: of YAML the safe types, without tags that make objects. What a person
writes by mistake is one sentence with its line: a name twice, a tab, a merge key, a date. `1e-3` is
a number, as in YAML 1.2 and JSON (YAML 1.1 takes it for a text).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ENDINGS = (".yaml", ".yml", ".json")


MOST_BYTES, MOST_PARTS, MOST_DEPTH = 1_000_000, 100_000, 50
"""Of a file, and of what its anchors expand to; assumed: far above any recipe."""


_NUMBER = re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")


@dataclass
class DataFile:
    """What is in a file."""

    path: Path
    data: Any = None
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Keys from the top down to each part -> its line, from 1."""

    def line_of(self, section: tuple[str, ...], message: str = "") -> int | None:
        """The line of the part below `section` that a message names first, by its dotted path.

        Of several paths that begin there the longest; without one the line of the section itself.
        """
        best, found = (-math.inf, 0), self.lines.get(section)
        for keys, line in self.lines.items():
            name = ".".join(keys[len(section) :])
            if keys[: len(section)] != section or not name:
                continue
            place = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", message)
            if place is not None and (-place.start(), len(name)) > best:
                best, found = (-place.start(), len(name)), line
        return found

    def error(self, message: str, section: tuple[str, ...] = ()) -> ValueError:
        """A mistake in the file, with its line where a part is named."""
        line = self.line_of(section, message)
        place = f" line {line}" if line is not None and (section or line > 1) else ""
        return ValueError(f"{self.path}{place}: {message}")


def read(path: Path) -> DataFile:
    """The data of a .yaml, .yml or .json file.

    Raises:
        ValueError: it cannot be read, or is not plain data.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path} has more than {MOST_BYTES:,} bytes; is it the right file?")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); convert it.") from None
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}); check the path.") from None
    file = DataFile(path)
    if path.suffix.lower() == ".json":
        _check_json(text, path)
        text = text.replace("\t", " ")  # which YAML refuses between tokens, and JSON in strings
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_syntax(path, error)) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "too many brackets inside one another"
        raise ValueError(f"{path} is not YAML: {reason}.") from None
    if node is not None:
        file.data = _Reader(file).value(node, ())
    return file


def _syntax(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = "" if mark is None else f" line {mark.line + 1}, column {mark.column + 1}"
    hint = "; indent with spaces" if "'\\t'" in str(error.problem) else ""
    return f"{path}{place} is not YAML: {error.problem or error.context}{hint}."


def _check_json(text: str, path: Path) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} line {error.lineno}, column {error.colno} is not JSON: {error.msg}."
        ) from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path} has a number or brackets that no recipe has.") from None


class _Reader:
    """Makes values of YAML's nodes."""

    def __init__(self, file: DataFile) -> None:
        self.file, self.parts = file, 0
        self.safe = yaml.SafeLoader("")

    def value(self, node: yaml.Node, keys: tuple[str, ...]) -> Any:
        """The value of a node that these keys lead to."""
        self.parts += 1
        if self.parts > MOST_PARTS or len(keys) > MOST_DEPTH:
            raise ValueError(
                f"{self.file.path} line {node.start_mark.line + 1} expands to more than "
                f"{MOST_PARTS:,} parts or {MOST_DEPTH} levels; write fewer anchors."
            )
        self.file.lines[keys] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            return [self.value(each, (*keys, str(i))) for i, each in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, keys: tuple[str, ...]) -> dict[str, Any]:
        self._check_tag(node, "map")
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            name = name_node.value
            if not isinstance(name, str) or name_node.tag.endswith(":merge"):
                raise ValueError(
                    f"{self.file.path} line {line} has a key that is no plain name; write the "
                    "fields out, as name: value."
                )
            if name in found:
                raise ValueError(f"{self.file.path} line {line} gives {name!r} twice; keep one.")
            found[name] = self.value(value_node, (*keys, name))
            self.file.lines[(*keys, name)] = line
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag == "tag:yaml.org,2002:str":
            plain = getattr(node, "style", None) is None
            if plain and _NUMBER.match(node.value):
                return float(node.value.replace("_", ""))
            return node.value
        kinds = ("null", "bool", "int", "float")
        if node.tag not in [f"tag:yaml.org,2002:{kind}" for kind in kinds]:
            raise self._no_data(node)
        try:
            return self.safe.construct_object(node)
        except (ValueError, yaml.YAMLError):
            raise self._no_data(node) from None

    def _check_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            raise self._no_data(node)

    def _no_data(self, node: yaml.Node) -> ValueError:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        what = "a date" if kind == "timestamp" else f"of the type {kind!r}"
        return ValueError(
            f"{self.file.path} line {node.start_mark.line + 1} has a value that is {what}; only "
            "texts, numbers, true, false, null, lists and mappings are read: put a text in quotes."
        )
