"""What the files of an entry hold, checked as it is read.

Checksums only show that files are as their writer left them, and a shared store may be written by
anybody. So whoever reads an entry says what it must hold: the names, shapes and dtypes of tensors,
the fields of JSON. Whatever differs is damage, and `Store.read` sets the entry aside.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from objectives.store import entries
from objectives.store.entries import JSON_BYTES, LONGEST_S, DamagedError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
    "I64": torch.int64,
}  # fmt: skip
"""By their names in safetensors; anything else is refused."""


FLOATS = (torch.float64, torch.float32)


Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


Seconds = Annotated[float, pydantic.Field(ge=0, lt=LONGEST_S, allow_inf_nan=False)]


Count = Annotated[float, pydantic.Field(ge=0, lt=1e30, allow_inf_nan=False)]


Whole = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


Point = Annotated[list[float], pydantic.Field(min_length=2, max_length=2)]


FinitePoint = Annotated[list[Finite], pydantic.Field(min_length=2, max_length=2)]


Name = Annotated[str, pydantic.Field(min_length=1, max_length=1000)]
"""Of a metric or curve; a task's name may be any text."""


Text = Annotated[str, pydantic.Field(max_length=2000)]
"""A sentence."""


CHUNK = 2**24
"""Numbers that are compared at once."""


T = TypeVar("T")


adapter: Callable[[Any], pydantic.TypeAdapter[Any]] = functools.cache(pydantic.TypeAdapter)


@dataclass(frozen=True)
class Array:
    """What a tensor must be."""

    shape: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    """Any of these."""
    finite: bool = False
    """Whether NaN and infinity are damage."""
    needed: bool = True
    """Whether it must be there."""


def record(folder: Path, name: str, schema: type[T]) -> T:
    """The JSON in a file, as `schema`: a dataclass or another type, with pydantic's rules.

    Fields that it does not know are left out.

    Raises:
        DamagedError: it is no such object.
    """
    content = entries.read_bytes(folder / name, JSON_BYTES)
    try:
        found: T = adapter(schema).validate_json(content, strict=True)
    except (pydantic.ValidationError, ValueError, OverflowError, RecursionError) as error:
        raise DamagedError(f"{name} has wrong fields{_where(error)}") from None
    return found


def tensors(folder: Path, name: str, wanted: Mapping[str, Array]) -> dict[str, Tensor]:
    """The tensors in a safetensors file, on the CPU; exactly those that are wanted.

    Raises:
        DamagedError: others are there, or one has another shape or dtype.
    """
    found = {}
    try:
        with entries.opened(folder / name), safe_open(folder / name, "pt") as file:
            there = set(file.keys())
            needed = {each for each, array in wanted.items() if array.needed}
            if not needed <= there <= set(wanted):
                raise DamagedError(f"{name} has other tensors than it should")
            for each in sorted(there):
                about = file.get_slice(each)
                _compare(name, each, about.get_shape(), about.get_dtype(), wanted[each])
                found[each] = file.get_tensor(each)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise DamagedError(f"{name} cannot be read ({type(error).__name__})") from None
    for each, tensor in found.items():
        if wanted[each].finite and not torch.isfinite(tensor).all():
            raise DamagedError(f"{ascii(each)[1:-1]} in {name} is not finite")
    return {each: found[each] for each in wanted if each in found}


def mapped(folder: Path, name: str, dtype: np.dtype[Any], below: int) -> NDArray[Any]:
    """Whole numbers in a flat file, mapped into memory; an empty file gives none.

    Raises:
        DamagedError: its size is no multiple of the dtype's, or a number is not less than `below`.
    """
    try:
        with entries.opened(folder / name) as handle, os.fdopen(os.dup(handle), "rb") as file:
            size = os.fstat(handle).st_size
            if size % dtype.itemsize:
                raise DamagedError(f"{name} has {size} bytes, no multiple of {dtype.itemsize}")
            if not size:  # cannot be mapped
                return np.empty(0, dtype)
            row = np.memmap(file, dtype=dtype, mode="r")
    except (OSError, ValueError) as error:
        raise DamagedError(f"{name} cannot be read ({type(error).__name__})") from None
    for start in range(0, row.size, CHUNK):
        if int(row[start : start + CHUNK].max()) >= below:
            raise DamagedError(f"{name} has numbers that are no tokens")
    return row


def _compare(name: str, each: str, shape: list[int], dtype: str, wanted: Array) -> None:
    if tuple(shape) != wanted.shape or DTYPES.get(dtype) not in wanted.dtypes:
        raise DamagedError(f"{ascii(each)[1:-1]} in {name} has another shape or dtype")


def _where(error: Exception) -> str:
    """The path of the first wrong field."""
    if not isinstance(error, pydantic.ValidationError):
        return ""
    path = ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"])
    return f" ({ascii(path[:60])[1:-1]})"
