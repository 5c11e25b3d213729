"""float64 on every device: Apple's mps has none, so that the CPU computes what needs it."""

from __future__ import annotations

from torch import Tensor

WITHOUT = ("mps",)
"""Kinds of device that have no float64."""


def in_double(values: Tensor) -> Tensor:
    """The values in float64, on their device where it has that, else on the CPU."""
    if values.device.type in WITHOUT:
        values = values.cpu()
    return values.double()
