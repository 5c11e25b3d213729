"""Databases of tests: they need not outlive a power cut, and two are real servers."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import util
from sqlalchemy import event
from sqlalchemy.engine import Engine

from hpo import known_studies
from hpo.cli import main
from hpo.storage.run_folder import NOTE
from tests import mysql, postgres


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    event.listen(Engine, "connect", _unsynchronized)
    yield
    event.remove(Engine, "connect", _unsynchronized)


@pytest.fixture(autouse=True, scope="session")
def _migrations_are_read_once() -> Iterator[None]:
    """Alembic reads Optuna's migrations, Python files, three times for every database made."""
    read = util.load_python_file
    kept = functools.cache(read)

    def load(folder: str, name: str) -> object:
        return read(folder, name) if name == "env.py" else kept(folder, name)  # that one acts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(util, "load_python_file", load)
        yield


@pytest.fixture(scope="session")
def copy_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], None]:
    """Puts `mine.py` with a text, and its finished run, into a folder; each text runs once."""
    made: dict[str, Path] = {}

    def copy(text: str, to: Path) -> None:
        if text not in made:
            made[text] = tmp_path_factory.mktemp("finished")
            (made[text] / "mine.py").write_text(text)
            with contextlib.chdir(made[text]):
                assert main.main(["run", "mine.py"]) == 0
        shutil.copytree(made[text], to, dirs_exist_ok=True)
        for note in to.glob(f"runs/*/{NOTE}"):
            note.write_text(note.read_text().replace(str(made[text]), str(to)))
        known_studies.remember(str(to / "mine.py"))  # as if it had run there

    return copy


def _unsynchronized(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = off")


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL of the tests' own."""
    pytest.importorskip("pgserver", reason="needs a PostgreSQL: pip install -e '.[test]'")
    with postgres.server() as found:
        yield found


@pytest.fixture(scope="session")
def mariadb() -> Iterator[mysql.Server]:
    """A MariaDB of the tests' own."""
    pytest.importorskip("pymysql", reason="needs PyMySQL: pip install -e '.[test]'")
    if reason := mysql.missing():
        pytest.skip(reason)
    with mysql.server() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    name = f"test_{os.getpid()}_{abs(hash(tmp_path))}"
    if request.param == "mysql":
        other: mysql.Server = request.getfixturevalue("mariadb")
        return other.database(name)
    found: postgres.Server = request.getfixturevalue("server")
    return found.database(name)
