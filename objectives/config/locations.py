"""Where the relative paths of a recipe start.

A recipe says what a person wrote; what is read is the same recipe with absolute paths. What can be
a name on the Hugging Face hub is one, unless there is such a file or folder.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from pathlib import Path
from typing import Any, TypeVar

from objectives.config import data, recipe, vision

PATHS: dict[type, tuple[str, ...]] = {
    data.Files: ("paths",),
    data.FileTask: ("train", "validation", "test"),
    vision.Cifar10: ("folder",),
}
"""Fields that name files."""


NAMES: dict[type, tuple[str, ...]] = {
    data.HubDataset: ("name",),
    data.HubTask: ("dataset",),
    recipe.Model: ("config", "weights"),
    data.Corpus: ("tokenizer",),
    vision.HubImages: ("name",),
}
"""Fields that name a folder, or something on the hub."""


Tree = TypeVar("Tree")


def located(tree: Tree, folder: Path | None) -> Tree:
    """The recipe with its relative paths starting from `folder`; None leaves them as they are.

    What is absolute, or starts in the home folder (~), stays.
    """
    if folder is None:
        return tree
    found: Tree = _located(tree, folder.absolute())
    return found


def _located(node: Any, folder: Path) -> Any:
    if isinstance(node, tuple):
        items = tuple(_located(item, folder) for item in node)
        changed = any(new is not old for new, old in zip(items, node, strict=True))
        return items if changed else node
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        return node
    changes = {}
    for field in dataclasses.fields(node):
        old = getattr(node, field.name)
        new = _named(type(node), field.name, old, folder)
        if new is not old:
            changes[field.name] = new
    return dataclasses.replace(node, **changes) if changes else node


def _named(kind: type, name: str, value: Any, folder: Path) -> Any:
    if name in PATHS.get(kind, ()):
        if isinstance(value, tuple):
            values = tuple(_path(each, folder) for each in value)
            return values if values != value else value
        return value if value is None else _path(value, folder)
    if name in NAMES.get(kind, ()):
        is_there = value is not None and not _is_fixed(value) and (folder / value).exists()
        return str(folder / value) if is_there else value
    return _located(value, folder)


def _path(value: str, folder: Path) -> str:
    """A file or pattern below the folder, whose own name is no pattern."""
    if _is_fixed(value):
        return value
    whole = folder / value
    if whole.exists() or not glob.has_magic(value):
        return str(whole)
    return os.path.join(glob.escape(str(folder)), value)


def _is_fixed(value: str) -> bool:
    return os.path.isabs(value) or value.startswith("~")
