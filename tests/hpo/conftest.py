"""Databases of tests: they need not outlive a power cut, and one is a real server."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests import postgres


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    event.listen(Engine, "connect", _unsynchronized)
    yield
    event.remove(Engine, "connect", _unsynchronized)


def _unsynchronized(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = off")


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL of the tests' own."""
    pytest.importorskip("pgserver", reason="needs a PostgreSQL: pip install -e '.[test]'")
    with postgres.server() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    found: postgres.Server = request.getfixturevalue("server")
    return found.database(f"test_{os.getpid()}_{abs(hash(tmp_path))}")
