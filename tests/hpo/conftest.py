"""Databases of tests need not outlive a power cut."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    event.listen(Engine, "connect", _unsynchronized)
    yield
    event.remove(Engine, "connect", _unsynchronized)


def _unsynchronized(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = off")
