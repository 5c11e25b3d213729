"""Progress of a batch as events a person can read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]


Report: TypeAlias = Callable[[Event], None]
"""Hears of progress; what it raises stops the work."""


TELL_S = 0.2
"""Seconds between two events."""


class Progress:
    """Turns training steps into events a person can read, a few a second."""

    def __init__(self, on_event: Report, total: float, unit: str = "tokens") -> None:
        """`total`: how many tokens, or other units, there are to be trained on."""
        self.on_event, self.total, self.unit = on_event, max(total, 1.0), unit
        self.done, self.since, self.told_at = 0.0, 0.0, time.monotonic()

    def expect(self, total: float) -> None:
        """There is so much to be trained on; time counts from here."""
        self.total, self.told_at = max(total, 1.0), time.monotonic()

    def settle(self, expected: float, done: float) -> None:
        """Of what was expected, only this had to be done: the rest was found finished."""
        self.total = max(self.total - max(0.0, expected - done), self.done, 1.0)

    def __call__(self, event: Event) -> None:
        """Tell of a step; an exception of `on_event` passes through."""
        some = event.pop(self.unit, 0)
        self.done += some
        self.since += some
        elapsed = time.monotonic() - self.told_at
        if elapsed < TELL_S and event["step"] < event["steps"]:
            return
        loss = event.pop("loss", None)
        if loss is not None:
            event["loss"] = float(loss.float().nanmedian())
        event[f"{self.unit}_per_s"] = self.since / max(elapsed, 1e-9)
        event["done_frac"] = min(1.0, self.done / self.total)
        self.since, self.told_at = 0.0, time.monotonic()
        self.on_event(event)
