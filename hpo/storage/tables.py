"""Optuna's tables: whether those of a SQLite file are, and how much those of MySQL hold.

Anybody may have put a SQLite file in its place. The file of another program gets no tables of this
one's. A view by the name of one of Optuna's tables is damage: it may be made of a query that never
ends. So is a table without its columns.
"""

from __future__ import annotations

from optuna.storages._rdb.models import BaseModel
from sqlalchemy import Connection, Text, inspect
from sqlalchemy import text as sql
from sqlalchemy.dialects.mysql import LONGTEXT

from hpo.core.rows import DamagedRow

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


def check_owner(connection: Connection) -> None:
    """Whether the tables are Optuna's, of any version, or there are none yet.

    Raises:
        OtherTables: they are another program's.
        DamagedRow: one is a view.
    """
    found = inspect(connection)
    there = set(found.get_table_names())
    views = set(found.get_view_names()) & set(COLUMNS)
    if views:
        raise DamagedRow(f"{min(views)!r} is a view and not a table")
    if there and not there & set(COLUMNS):
        raise OtherTables
    if VERSION not in there and _incomplete(connection) is not None:
        raise OtherTables


def check_columns(connection: Connection) -> None:
    """Whether the tables that there are have all columns.

    Raises:
        DamagedRow: one has not.
    """
    table = _incomplete(connection)
    if table is not None:
        raise DamagedRow(f"its table {table!r} lacks columns")


def check_triggers(connection: Connection) -> None:
    """Whether nothing changes rows of a SQLite file that this program writes.

    Raises:
        DamagedRow: a trigger does.
    """
    query = sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    name = connection.execute(query).scalar()
    if name is not None:
        raise DamagedRow(f"its trigger {name!r} would change what is written")


def widen(connection: Connection) -> None:
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
