"""Waiting for work in foreign code that does not listen to Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


LOOK_S = 0.1
"""Seconds between two looks at whether the work is done."""


def in_thread(
    work: Callable[[], T],
    while_waiting: Callable[[], None] = lambda: None,
    *,
    limit_s: float | None = None,
) -> T:
    """The result of `work`, done in a thread while this one hears signals.

    An exception of `work` is raised here; one of `while_waiting`, which is called again and again,
    leaves the work to end by itself.

    Raises:
        TimeoutError: it took longer than `limit_s` seconds.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # raised below, where somebody waits for it
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    started = time.monotonic()
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_S)
        while_waiting()
        if limit_s is not None and time.monotonic() - started > limit_s and thread.is_alive():
            raise TimeoutError(f"no answer in {limit_s:.0f} s")
    if failed:
        raise failed[0]
    return found[0]
