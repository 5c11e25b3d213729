"""A task's rows as they are read: from files, from a Hugging Face dataset, or made here.

Rows whose texts are null or empty are left out and counted. Rows with `messages` are read by
`objectives.data.chats`.
"""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from objectives.config import data as recipe
from objectives.data import builtin_tasks, chats, file_paths, file_rows, sources
from objectives.data.builtin_tasks import Split
from objectives.data.chats import NoTextError
from objectives.data.examples import Example

HELD_OUT = 10
"""One in this many training rows is validation where a task brings none."""


Rows: TypeAlias = dict[Split, list[Example]]


Given: TypeAlias = Iterator[tuple[str, Mapping[str, Any]]]
"""Where a row is, and its fields."""


@dataclass(frozen=True)
class TaskRows:
    """What was read of a task."""

    rows: Rows
    notes: list[str] = field(default_factory=list)
    """What was left out or changed in reading."""


class _Formatter(string.Formatter):
    """Templates over rows, where null is no text."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        try:
            found, first = super().get_field(field_name, args, kwargs)
        except (LookupError, AttributeError, TypeError):
            raise NoTextError(field_name) from None
        if _is_null(found):
            raise NoTextError(field_name)
        return found, first


_FORMATTER = _Formatter()


def read(task: recipe.Task) -> TaskRows:
    """A task's rows by split.

    Raises:
        ValueError: an unknown or unreadable task, or one without rows to hold out.
    """
    if isinstance(task, recipe.BuiltinTask):
        check_builtin(task)
        return TaskRows(
            {split: list(rows) for split, rows in builtin_tasks.rows(task.name).items()}
        )
    if isinstance(task, recipe.FileTask):
        given = {"train": task.train, "validation": task.validation, "test": task.test}
        opened = {split: _files(name) for split, name in given.items() if name is not None}
    else:
        given = {
            "train": task.train_split, "validation": task.validation_split, "test": task.test_split
        }  # fmt: skip
        opened = {split: _dataset(task, name) for split, name in given.items() if name is not None}
    notes: list[str] = []
    rows: dict[str, list[Example]] = {}
    for split, found in opened.items():
        rows[split] = _rows(task, split, found, notes)
        if not rows[split]:
            raise ValueError(f"task {task.name!r} has no {split} rows: {given[split]} holds none.")
    return TaskRows(_with_validation(task, rows), notes)


def check_builtin(task: recipe.BuiltinTask) -> None:
    """Raise ValueError if there is no such task."""
    if task.name not in builtin_tasks.TASKS:
        raise ValueError(
            f"unknown built-in task {task.name!r}; built-in tasks are "
            f"{', '.join(builtin_tasks.TASKS)}."
        )


def _with_validation(task: recipe.Task, rows: Mapping[str, list[Example]]) -> Rows:
    train = rows["train"]
    if "validation" in rows:
        return {"train": train, "validation": rows["validation"], "test": rows["test"]}
    if len(train) < HELD_OUT:
        raise ValueError(
            f"task {task.name!r} has too few rows, {len(train)} in train, to hold out one in "
            f"{HELD_OUT} for validation; give at least {HELD_OUT}, or validation rows."
        )
    out = {row for row in train if _share(row) == 0} or {min(train, key=digest)}
    held = [row for row in train if row in out]
    kept = [row for row in train if row not in out]
    if not kept:
        raise ValueError(
            f"task {task.name!r} has {len(train)} times the same row in train, so that none can be "
            "held out for validation; give other rows, or validation rows."
        )
    return {"train": kept, "validation": held, "test": rows["test"]}


def digest(row: Example) -> bytes:
    """What rows are ordered by and distinguished by."""
    return hashlib.sha256(f"{row.prompt}\0{row.completion}\0{row.label}".encode()).digest()


def _share(row: Example) -> int:
    return int.from_bytes(digest(row)[:4], "big") % HELD_OUT


def _files(name: str) -> Given:
    try:
        paths = file_paths.matching_files((name,))
    except ValueError as error:
        if not Path(name).exists():
            raise ValueError(f"task file {name!r} does not exist; check the path.") from error
        raise
    for path in paths:
        yield from file_rows.rows(path)


def _dataset(task: recipe.HubTask, split: str) -> Given:
    data = sources.load_dataset(task.dataset, task.config, split, task.revision, streaming=False)
    for number, row in enumerate(data, 1):
        if number == 1:
            _check_fields(task, row)
        yield f"row {number} of {task.dataset} ({split})", row


def _check_fields(task: recipe.HubTask, row: Mapping[str, Any]) -> None:
    names = [*_names(task, task.prompt), *_names(task, task.completion)]
    for name in [*names, *([task.label_field] if task.label_field is not None else [])]:
        if name.split(".")[0].split("[")[0] not in row:
            raise ValueError(
                f"task {task.name!r}: dataset {task.dataset!r} has no field {name!r}; its fields "
                f"are {', '.join(row)}."
            )


def _names(task: recipe.FileTask | recipe.HubTask, template: str) -> list[str]:
    """The fields that a template names."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        names, reason = [], str(error)
    else:
        reason = "it names no field"
    if not names or any(name[:1].isdigit() or not name for name in names):
        raise ValueError(
            f"task {task.name!r}: {template!r} is no template ({reason}); name fields in braces, "
            "such as 'Review: {text}', and double the braces that are text."
        )
    return names


def _rows(
    task: recipe.FileTask | recipe.HubTask, split: str, given: Given, notes: list[str]
) -> list[Example]:
    _names(task, task.prompt), _names(task, task.completion)
    found: list[Example] = []
    first_bad = ""
    lacking = repaired = 0
    for where, data in given:
        try:
            raw = Example(*_row(task, where, data))
        except NoTextError as error:
            lacking += 1
            first_bad = first_bad or _no_text(where, error, data)
            continue
        row = _whole(raw)
        repaired += row != raw
        found.append(row)
    if lacking and not found:
        raise ValueError(f"task {task.name!r}: {first_bad}")
    if lacking:
        notes.append(
            f"task {task.name}: {split} rows left out as they lack a prompt or a completion: "
            f"{lacking} of {lacking + len(found)}"
        )
    if repaired:
        notes.append(
            f"task {task.name}: {split} rows with half a surrogate pair, read as U+FFFD: {repaired}"
        )
    return found


def _whole(row: Example) -> Example:
    """The row in text that UTF-8 has bytes for."""
    label = None if row.label is None else file_rows.whole_text(row.label)
    return Example(file_rows.whole_text(row.prompt), file_rows.whole_text(row.completion), label)


def _no_text(where: str, error: NoTextError, data: Mapping[str, Any]) -> str:
    if error.reason:
        return f"{where} cannot be used, as under {str(error)!r} {error.reason}."
    names = ", ".join(map(str, data))
    return (
        f"{where} needs text under 'prompt' and 'completion' (or under 'messages'), and has none "
        f"under {str(error)!r}; its fields are {names}: rename them, or set prompt and "
        "completion to templates such as '{question}'."
    )


def _row(
    task: recipe.FileTask | recipe.HubTask, where: str, data: Mapping[str, Any]
) -> tuple[str, str, str | None]:
    label = None if task.label_field is None else _label(data.get(task.label_field), where)
    is_file = isinstance(task, recipe.FileTask)
    if is_file and _is_chat(task, data):
        return (*chats.prompt_and_completion(data["messages"], where), label)
    prompt, completion = (
        _filled(template, data, where, strict=is_file)
        for template in (task.prompt, task.completion)
    )
    if not completion.strip():
        raise NoTextError(_names(task, task.completion)[0])
    return prompt, completion, label


def _is_chat(task: recipe.FileTask | recipe.HubTask, data: Mapping[str, Any]) -> bool:
    """Whether a row has `messages` and nothing else is asked for, by its fields or by templates."""
    templates = (task.prompt, task.completion)
    plain = templates == ("{prompt}", "{completion}") and not {"prompt", "completion"} <= set(data)
    return plain and "messages" in data


def _filled(template: str, data: Mapping[str, Any], where: str, *, strict: bool) -> str:
    """The template with a row's fields; a bare one is `strict` about text."""
    bare = data.get(template[1:-1]) if template[:1] + template[-1:] == "{}" else None
    if strict and bare is not None and not isinstance(bare, str) and not _is_null(bare):
        raise ValueError(
            f"{where} needs text under {template[1:-1]!r}, got {type(bare).__name__}; put it in "
            "quotes, or set the template to ' " + template + "'."
        )
    return _FORMATTER.vformat(template, (), data)


def _label(value: Any, where: str) -> str | None:
    """A label as text: whole numbers alike whatever their type, none where there is no value."""
    if _is_null(value) or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str | int | float):
        raise ValueError(
            f"{where} has a {type(value).__name__} for a label; give text, a number or null."
        )
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
