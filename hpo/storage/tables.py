"""Optuna's tables: whether those of a SQLite file are, and how much those of MySQL hold.

Anybody may have put a SQLite file in its place. The file of another program gets no tables of this
one's. A view by the name of one of Optuna's tables is damage: it may be made of a query that never
ends. So is a table without its columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.storages._rdb.models import BaseModel
from sqlalchemy import Connection, Text, create_engine, inspect
from sqlalchemy import text as sql
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.exc import SQLAlchemyError

from hpo.core.rows import DamagedRow
from hpo.storage.addresses import file_of

VERSION = "alembic_version"


COLUMNS: dict[str, set[str]] = {
    VERSION: {"version_num"},
    **{
        name: {each.name for each in table.columns}
        for name, table in BaseModel.metadata.tables.items()
    },
}
"""Of Optuna's tables."""


LONG = [
    (table.name, column.name)
    for table in BaseModel.metadata.tables.values()
    for column in table.columns
    if isinstance(column.type, Text)
]
"""Columns that hold JSON."""


class OtherTables(Exception):
    """The tables are another program's."""


class OtherSchema(Exception):
    """The tables are of another version of Optuna."""


@contextlib.contextmanager
def of_this_schema() -> Iterator[None]:
    """Optuna has no type of its own for what it says of tables of another version, and Alembic,
    which it asks, one that is not this program's to import."""
    try:
        yield
    except Exception as error:
        of_optuna = type(error) is RuntimeError and "schema" in str(error)
        if not of_optuna and type(error).__name__ != "CommandError":
            raise
        raise OtherSchema from None


def check_owner(url: str, options: Mapping[str, Any]) -> None:
    """Whether the tables of a SQLite file are Optuna's, of any version, or there are none yet.

    A server's tables are for its administrator to see to.

    Raises:
        OtherTables: they are another program's.
        DamagedRow: one is a view.
    """
    if file_of(url) is None:
        return
    engine = create_engine(url, **options)
    try:
        with engine.connect() as connection:
            _check_owner(connection)
    finally:
        engine.dispose()


def check(connection: Connection, *, writes: bool) -> None:
    """Whether the tables hold what is written, and nothing changes it; MySQL's are made to.

    Raises:
        DamagedRow: a table of a SQLite file lacks columns, or there is a trigger.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        _check_columns(connection)
        if writes:
            _check_triggers(connection)
    if writes and dialect in ("mysql", "mariadb"):
        with contextlib.suppress(SQLAlchemyError):  # an older record, without the right to
            _widen(connection)


def _check_owner(connection: Connection) -> None:
    found = inspect(connection)
    there = set(found.get_table_names())
    views = set(found.get_view_names()) & set(COLUMNS)
    if views:
        raise DamagedRow(f"{min(views)!r} is a view and not a table")
    if there and not there & set(COLUMNS):
        raise OtherTables
    if VERSION not in there and _incomplete(connection) is not None:
        raise OtherTables


def _check_columns(connection: Connection) -> None:
    table = _incomplete(connection)
    if table is not None:
        raise DamagedRow(f"its table {table!r} lacks columns")


def _check_triggers(connection: Connection) -> None:
    query = sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    name = connection.execute(query).scalar()
    if name is not None:
        raise DamagedRow(f"its trigger {name!r} would change what is written")


def _widen(connection: Connection) -> None:
    """Have MySQL and MariaDB hold JSON of any length: their TEXT ends at 64 kB, as a study's curves
    do not."""
    found = inspect(connection)
    for table, column in LONG:
        types = {each["name"]: each["type"] for each in found.get_columns(table)}
        if not isinstance(types[column], LONGTEXT):
            connection.execute(sql(f"ALTER TABLE {table} MODIFY {column} LONGTEXT"))


def _incomplete(connection: Connection) -> str | None:
    """A table of Optuna's that lacks columns; None if there is none."""
    found = inspect(connection)
    for name in sorted(set(found.get_table_names()) & set(COLUMNS)):
        if COLUMNS[name] - {column["name"] for column in found.get_columns(name)}:
            return name
    return None
