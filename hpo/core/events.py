"""Events of an objective as they can be shown: known keys have the type they should have."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hpo.core.objective import Event
from hpo.core.results import number, text

COUNTS = ("step", "steps", "lanes")


NUMBERS = ("done_frac", "loss", "tokens_per_s", "images_per_s")


RESERVED = ("waiting", "wave", "recorded", "finished", "trials", "numbers", "worker", "batch",
            "idle", "beat")  # fmt: skip
"""Keys by which controller and executors tell of their own work; an objective's are left out."""


def clean(event: object) -> Event:
    """An objective's event; what is not of its key's type is left out, unknown keys stay."""
    if not isinstance(event, Mapping):
        return {"stage": text(event)}
    found: Event = {}
    for key, value in event.items():
        name = text(key)
        if name == "stage":
            found[name] = text(value)
        elif name in (*COUNTS, *NUMBERS):
            try:
                each = number(value)
            except ValueError:
                continue
            if name == "done_frac":
                found[name] = min(1.0, each) if each >= 0 else 0.0
            elif name in NUMBERS:
                found[name] = each
            elif math.isfinite(each):
                found[name] = round(each)
        elif name not in RESERVED:
            found[name] = value
    return found
