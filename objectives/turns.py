"""One evaluation at a time in a process.

Libraries keep state that belongs to the whole process: transformers sets torch's default dtype and
replaces its initialisers while it builds a model, a tokenizer refuses to be used by two threads at
once, and the memory that a step needs is measured by the process's peak. So the evaluations of all
threads take turns, and each gives what it gives alone.

The turn is given up while a caller's event callback runs: a callback may wait for another thread's
evaluation, and nothing of the process's state is in use there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from objectives.progress import Event

OnEvent = Callable[[Event], None]


_LOCK = threading.RLock()


@contextlib.contextmanager
def turn(on_event: OnEvent | None) -> Iterator[OnEvent]:
    """Wait until no other thread evaluates; gives the callback to be used in the meantime.

    An interruption while waiting, in the callback or in between leaves nothing locked.
    """

    def tell(event: Event) -> None:
        if on_event is None:
            return
        _release()
        try:
            on_event(event)
        finally:
            _LOCK.acquire()

    _LOCK.acquire()
    try:
        yield tell
    finally:
        _release()


def _release() -> None:
    """Let the next thread go; nothing where this one was interrupted while it waited."""
    with contextlib.suppress(RuntimeError):
        _LOCK.release()


def _unlock_in_child() -> None:
    """A forked child has only the thread that forked; another one's turn would never end there."""
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)
