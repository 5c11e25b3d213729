"""A record that is cut off at one of its writes, as by the end of the process."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

WRITES = re.compile(r"(INSERT INTO|UPDATE) trial", re.IGNORECASE)
"""Of a trial; not the lease, which the process gives back in this test's place."""


class Stop(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Writes:
    """Counts what is written of trials: statements, and the commits of their transactions."""

    def __init__(self, most: float = float("inf")) -> None:
        self.most = most
        self.statements = self.commits = 0
        self.begun: set[int] = set()
        """Connections in a transaction of these."""

    def statement(self, connection: Connection, cursor: object, text: str, *rest: Any) -> None:
        if WRITES.match(text):
            self._tick()
            self.statements += 1
            self.begun.add(id(connection))

    def commit(self, connection: Connection) -> None:
        if id(connection) in self.begun:
            self._tick()
            self.commits += 1
            self.begun.discard(id(connection))

    def rollback(self, connection: Connection) -> None:
        self.begun.discard(id(connection))

    def _tick(self) -> None:
        if self.statements + self.commits >= self.most:
            self.most = float("inf")  # what follows clears up after this process
            raise Stop


@contextlib.contextmanager
def counted(most: float = float("inf")) -> Iterator[Writes]:
    """Count the writes, and stop before the one after `most`."""
    writes = Writes(most)
    listeners = {
        "before_cursor_execute": writes.statement,
        "commit": writes.commit,
        "rollback": writes.rollback,
    }
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield writes
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)


@contextlib.contextmanager
def cut_off_after(writes: int) -> Iterator[None]:
    """End what runs here before the write that comes after so many."""
    with counted(writes), pytest.raises(Stop):
        yield
