"""Storage URLs: which can be used, and how one is opened to be read only.

A folder may have `?`, `%` or `#` in its name, which mean something in a URL, so URLs of files are
built by SQLAlchemy. What a URL's user got wrong is found before anything is written or connected
to, and the complaint shows no more of it than its first word: the rest may be a password.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from hpo.core.failures import StorageError
from hpo.core.passwords import shown
from hpo.storage import url_options

Access: TypeAlias = Literal["make", "write", "read"]
"""make: with the tables, where there are none; write: what is there; read: and never change it."""


FORM = "sqlite:///FILE or DIALECT+DRIVER://USER:PASSWORD@HOST/NAME"


QUOTED = "what is special in a password is written %XX"


DRIVERS = {
    "postgresql": ("postgresql+psycopg", "psycopg[binary]"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "mariadb": ("mariadb+pymysql", "pymysql"),
}
"""Dialect -> how its URLs begin here, and the package of that driver."""


SYNCHRONOUS = {
    "sqlite": {"pysqlite"},
    "postgresql": {"psycopg", "psycopg2"},
    "mysql": {"pymysql", "mysqldb"},
    "mariadb": {"pymysql", "mysqldb"},
}
"""Drivers whose waits end (`hpo.storage.timeouts`) and whose options are known."""


SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""Ends a rollback journal that names another file, https://www.sqlite.org/fileformat.html#the_rollback_journal."""


def of_file(path: Path) -> str:
    """The URL of a SQLite file.

    Raises:
        ValueError: its name cannot be read in this locale.
    """
    try:
        return URL.create("sqlite", database=str(path.absolute())).render_as_string()
    except UnicodeEncodeError:
        raise ValueError(
            f"the name of the folder {str(path.parent)!r} cannot be read in this locale; set "
            "PYTHONUTF8=1, or choose another with --out."
        ) from None


def file_of(url: str) -> Path | None:
    """The file of a SQLite URL; None for another database, and for one in memory."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        return None
    if found.get_backend_name() != "sqlite" or not found.database or found.database == ":memory:":
        return None
    if "uri" not in found.query:
        return Path(found.database)
    return Path(re.sub(r"^file:(//[^/]*)?", "", found.database))


def is_inside(url: str, folder: Path) -> bool:
    """Whether it is a SQLite file in this folder, also where links lead."""
    path = file_of(url)
    try:
        return path is not None and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL in its name, links in a circle
        return False


def checked(url: str, option: str) -> str:
    """The URL, if it can be one of a storage and its driver is there; nothing is opened.

    Raises:
        ValueError: it cannot; the message holds nothing that may be a password.
    """
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        found = None
    if found is None or "@" in (found.host or "") or _holds_login(found):
        raise ValueError(f"{option} must be {FORM} ({QUOTED}), got {_beginning(url)}.")
    _check_dialect(found, option)
    if found.get_backend_name() == "sqlite" and (found.host or found.username):
        raise ValueError(f"{option}: a SQLite file has three slashes: sqlite:///FILE.")
    if found.get_backend_name() == "sqlite" and found.database in (None, "", ":memory:"):
        raise ValueError(f"{option} must be kept on disk: sqlite:///FILE.")
    url_options.check(found, option)
    return url


def check_options(url: str, what: str) -> None:
    """Whether the options of a URL are taken; what is no URL is found when it is connected to.

    Raises:
        ValueError: one is not.
    """
    with contextlib.suppress(ArgumentError):
        url_options.check(make_url(url), what)


def opened(url: str, access: Access) -> str:
    """The URL by which a database is opened; without `make` no file comes to be.

    Raises:
        FileNotFoundError: there is no such SQLite file, and it is not to be made.
        StorageError: what has its name, or that of its journal, is no regular file: opening a FIFO
            would wait for ever.
    """
    path = file_of(url)
    if path is not None:
        _check_files(path)
    if access == "make" or path is None:
        return url
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    found = make_url(url)
    mode = "rw" if access == "write" or _cut_short(path) else "ro"
    query = {**found.query, "mode": mode, "uri": "true"}
    return found.set(database=f"file:{quote(str(path.absolute()))}", query=query).render_as_string(
        hide_password=False
    )


def _check_files(path: Path) -> None:
    beside = [path.with_name(f"{path.name}{ending}") for ending in ("-journal", "-wal", "-shm")]
    for each in (path, *beside):
        there = os.path.lexists(each) if each in beside else each.exists()
        if there and (not each.is_file() or (each in beside and each.is_symlink())):
            raise StorageError(
                f"{each} is no regular file, so that the record is not opened; move it away, then "
                "run the same command."
            )


def _cut_short(path: Path) -> bool:
    """Whether a writer was killed within a commit, which has to be undone before one can read.

    A journal that names a further file is not obeyed: SQLite would delete that file.
    """
    journal = path.with_name(f"{path.name}-journal")
    if journal.is_symlink() or not journal.is_file():
        return False
    with journal.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - len(SUPER_JOURNAL)))
        return file.read() != SUPER_JOURNAL


def _holds_login(url: URL) -> bool:
    """Whether a slash too many has made user and password a part of the database's name."""
    return url.get_backend_name() != "sqlite" and bool(re.search(r":.*@", url.database or ""))


def _beginning(url: str) -> str:
    if not re.search("[:@]", url):
        hint = "" if re.search(r"\s|^$", url) else f"; a file is written sqlite:///{shown(url)}"
        return f"{shown(url)!r}{hint}"
    word = re.match(r"[A-Za-z][A-Za-z0-9+]*(?=:?/)", url)
    return "something else" if word is None else f"something else that begins with {word[0]!r}"


def _check_dialect(url: URL, option: str) -> None:
    backend, _, driver = url.drivername.partition("+")
    if driver and backend in SYNCHRONOUS and driver not in SYNCHRONOUS[backend]:
        start = DRIVERS[backend][0] if backend in DRIVERS else backend
        raise ValueError(
            f"{option}: the driver of {url.drivername!r} is not one that is used here; begin the "
            f"URL with {start}://."
        )
    try:
        url.get_dialect().import_dbapi()
    except NoSuchModuleError:
        name = url.get_backend_name()
        likely = "postgresql" if name == "postgres" else name
        known = [start for start, _ in DRIVERS.values()]
        better = DRIVERS[likely][0] if likely in DRIVERS else " or ".join(["sqlite", *known])
        raise ValueError(
            f"{option}: no database is called {url.drivername!r}; begin the URL with {better}://."
        ) from None
    except ImportError:
        start, package = DRIVERS.get(url.get_backend_name(), (url.drivername, url.drivername))
        raise ValueError(
            f"{option}: the driver of {url.drivername!r} is not installed; pip install "
            f"'{package}', and begin the URL with {start}://."
        ) from None
