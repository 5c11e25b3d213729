"""Progress of a batch as events a person can read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]
TELL_S = 0.2
"""Seconds between two events."""


class Progress:
    """Turns training steps into events a person can read, a few a second."""

    def __init__(self, on_event: Callable[[Event], None], total_tokens: float) -> None:
        self.on_event, self.total = on_event, max(total_tokens, 1.0)
        self.tokens, self.since, self.told_at = 0.0, 0.0, time.monotonic()

    def __call__(self, event: Event) -> None:
        """Tell of a step; an exception of `on_event` passes through."""
        tokens = event.pop("tokens", 0)
        self.tokens += tokens
        self.since += tokens
        elapsed = time.monotonic() - self.told_at
        if elapsed < TELL_S and event["step"] < event["steps"]:
            return
        loss = event.pop("loss", None)
        if loss is not None:
            event["loss"] = float(loss.float().nanmedian())
        event["tokens_per_s"] = self.since / max(elapsed, 1e-9)
        event["done_frac"] = min(1.0, self.tokens / self.total)
        self.since, self.told_at = 0.0, time.monotonic()
        self.on_event(event)
