"""How a signal becomes an interruption at a safe point."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

GRACE_S = 10.0
"""Seconds that an interruption waits for the next event; assumed: leaving takes 15 at most."""


STOPS = (signal.SIGINT, signal.SIGTERM)


FURTHER = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""Of a terminal that is closed, and what a cluster sends before its time limit; where they are
ignored, as under nohup, they stay so."""


class Interrupted(BaseException):
    """The person or the system asked to stop."""


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Other signals do what Ctrl-C does, also before and after a study is measured."""
    old = {number: signal.signal(number, _at_once) for number in (signal.SIGTERM, *_heard())}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _heard() -> list[signal.Signals]:
    return [number for number in FURTHER if signal.getsignal(number) != signal.SIG_IGN]


def _at_once(number: int, frame: FrameType | None) -> None:
    raise Interrupted
