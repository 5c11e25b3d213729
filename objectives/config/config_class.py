"""The classes that a recipe is made of: frozen, checked on every construction, errors as sentences.

What is clear is taken: a list or one item for a tuple, NumPy's scalars for Python's, a path for a
string, a whole float for an integer. Anything else is a ValueError in one sentence (see
`objectives.config.config_errors`), whether it comes by a constructor or by JSON.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from objectives.config import config_errors

T = TypeVar("T")


STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, Field))
def config_class(cls: type[T]) -> type[T]:
    """A frozen dataclass with keywords only, whose fields have the types and ranges they name."""
    made: Any = dataclass(frozen=True, kw_only=True, config=STRICT)(cls)
    init: Callable[..., None] = made.__init__

    @functools.wraps(init)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **{name: plain(value) for name, value in kwargs.items()})
        except ValidationError as error:
            sentence = config_errors.of_constructor(error, made)
        else:
            return
        raise ValueError(sentence)

    made.__init__ = checked
    result: type[T] = made
    return result


def plain(value: Any) -> Any:
    """Lists and arrays as tuples, NumPy's scalars as Python's, paths as strings."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple | range):
        return tuple(plain(each) for each in value)
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    return value
