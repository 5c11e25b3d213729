"""What all kinds of recipe have in common: a tree of hyperparameters with dotted paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from objectives.config import data_files, paths
from objectives.config.paths import Value

SHORT_FORMS = {"pretrain.weight_decay": "pretrain.weight_decay.value"}
"""Subtrees that a number may represent -> the path that it sets."""


class RecipeTree:
    """A recipe's methods; its fields are those of the class that a kind of recipe is."""

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-able data."""
        return paths.to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The recipe from `to_dict`'s data.

        Raises:
            ValueError: an unknown path, a wrong type, a value out of range.
        """
        return paths.from_dict(cls, data, SHORT_FORMS)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """The recipe in a .yaml, .yml or .json file, in the form of `to_dict`'s data.

        What is left out has its default. Files are read as plain data, so nothing is executed.

        Raises:
            ValueError: the file cannot be read, or as in `from_dict`, with the line.
        """
        file = data_files.read(Path(path))
        return cls.from_data_file(file)

    @classmethod
    def from_data_file(cls, file: data_files.DataFile, section: tuple[str, ...] = ()) -> Self:
        """The recipe that a file has under these keys; other errors are as in `from_file`."""
        data = file.data
        for key in section:
            data = data[key]
        if not isinstance(data, Mapping):
            raise file.error(
                f"a recipe is a mapping such as pretrain: {{steps: 400}}, got {data!r}.", section
            )
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise file.error(str(error), section) from None

    def paths(self) -> dict[str, Value]:
        """Every hyperparameter: dotted path -> value."""
        return paths.paths(self)

    def with_params(self, params: Mapping[str, Any]) -> Self:
        """A copy with the given paths set, to leaves or to whole subtrees of JSON-able data.

        A number for `pretrain.weight_decay` sets its `value` and leaves the fields beside it.

        Raises:
            ValueError: an unknown path (the nearest ones are named), a wrong type or range, one
                hyperparameter by two names.
        """
        return paths.with_params(self, params, SHORT_FORMS)
