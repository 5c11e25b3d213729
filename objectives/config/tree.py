"""What all kinds of recipe have in common: a tree of hyperparameters with dotted paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from objectives.config import paths
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
