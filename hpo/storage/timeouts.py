"""A database that falls silent: waits for it end, at this side and at the server's.

A network that is cut drops packets without a word. TCP finds out after a quarter of an hour where a
question was not acknowledged, after two hours where only the answer is missing, and never where
something in between still acknowledges. A study's lease ends after a minute. Therefore:

1. To connect takes `CONNECT_S` at most.
2. A connection on which nothing has come for `SILENT_S` while an answer is due is dropped; whoever
   asked sees a lost connection, which `hpo.storage.database` tries again on a new one.
3. The server ends what a client that vanished has left: a transaction that rests for `REST_S`, a
   wait for a lock that takes as long. Else the lock on the lease's row would stay, and neither the
   same controller on a new connection nor the one that takes over could write.

Of PostgreSQL by psycopg and MySQL or MariaDB by pymysql or mysqlclient; a SQLite file has no wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

CONNECT_S = 10


SILENT_S = 20.0
"""Assumed: no answer starts later, and a renewal of the lease that hangs, with one more after it,
is over before the lease is."""


REST_S = 15
"""Assumed: a transaction here is a few statements, with nothing to wait for between them."""


SQLITE: dict[str, int | str] = {"timeout": 60}
"""Seconds that another writer is waited for."""


LIBPQ: dict[str, int | str] = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": int(SILENT_S * 1000),
    "client_encoding": "utf8",
}
"""In seconds, `tcp_user_timeout` in milliseconds: what lets the kernel see that the other end is
gone. Of a database without an encoding psycopg else gives bytes for text."""


PYMYSQL: dict[str, int | str] = {
    "connect_timeout": CONNECT_S,
    "read_timeout": int(SILENT_S),
    "write_timeout": int(SILENT_S),
}


POSTGRESQL_SESSION = (
    "set idle_in_transaction_session_timeout = '{rest}s'; set lock_timeout = '{rest}s'"
)


MYSQL_SESSION = (
    "set session wait_timeout = {rest}, innodb_lock_wait_timeout = {rest}, "
    "sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES')"
)
"""MySQL knows no limit for a transaction alone: connections that rest are closed, and made
again."""


def engine_options(url: str) -> dict[str, Any]:
    """What SQLAlchemy's `create_engine` receives; a URL's own options go before these.

    Raises:
        sqlalchemy.exc.ArgumentError: it is no URL.
    """
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        found = None
    if found is None or "@" in (found.host or ""):  # what follows would tell half of the password
        raise ArgumentError(
            "it is not DIALECT+DRIVER://USER:PASSWORD@HOST/NAME, with %XX for what is special in a "
            "password"
        )
    backend, driver = found.get_backend_name(), found.get_driver_name()
    if backend == "sqlite":
        return {"connect_args": _but(SQLITE, found)}
    if backend == "postgresql" and driver in ("psycopg", "psycopg2"):
        events = [(_on_postgresql, "connect")]
        if driver == "psycopg":
            events.append((_be_impatient, "connect"))
        return {"connect_args": _but(LIBPQ, found), "pool_events": events}
    if backend in ("mysql", "mariadb") and driver in ("pymysql", "mysqldb"):
        # with local_infile a server may ask for any file of this machine
        arguments = {**_but(PYMYSQL, found), "local_infile": False}
        return {"connect_args": arguments, "pool_events": [(_on_mysql, "connect")]}
    return {}


def _but(arguments: Mapping[str, int | str], url: URL) -> dict[str, Any]:
    """Arguments that the URL does not give."""
    return {name: value for name, value in arguments.items() if name not in url.query}


def _on_postgresql(connection: Any, record: object) -> None:
    _say(connection, POSTGRESQL_SESSION.format(rest=REST_S))


def _on_mysql(connection: Any, record: object) -> None:
    _say(connection, MYSQL_SESSION.format(rest=REST_S))


def _say(connection: Any, words: str) -> None:
    cursor = connection.cursor()
    cursor.execute(words)
    cursor.close()
    connection.commit()


def _be_impatient(connection: Any, record: object) -> None:
    """Have all waits of a psycopg connection end in its own error when nothing comes."""
    wait: Callable[..., Any] = connection.wait

    def waited(asked: Generator[Any, Any, Any], *given: Any, **named: Any) -> Any:
        return wait(_while_it_speaks(asked, connection), *given, **named)

    connection.wait = waited


def _while_it_speaks(asked: Generator[Any, Any, Any], connection: Any) -> Generator[Any, Any, Any]:
    """What psycopg waits for: yields what to wait for, is sent what has come, or nothing."""
    import psycopg

    heard = time.monotonic()
    try:
        wanted = next(asked)
        while True:
            ready = yield wanted
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENT_S:
                connection.pgconn.finish()
                raise psycopg.OperationalError(f"no answer for {SILENT_S:.0f} s")
            wanted = asked.send(ready)
    except StopIteration as ended:
        return ended.value
