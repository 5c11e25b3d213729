"""Several operations as one transaction, and connections that are lost."""

from __future__ import annotations

import sqlite3

from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session

DENIED = (1044, 1045, 1049, 1142, 1143, 1227, 1698)
"""MySQL's errors of rights and names, which waiting does not help;
https://mariadb.com/kb/en/mariadb-error-code-reference/."""


class ConnectionLost(Exception):
    """The database does not answer; whether the last transaction was committed is not known.

    No SQLAlchemyError, so that Optuna, which repeats some of those without knowing either, lets it
    through.
    """


class TransactionSession(Session):
    """A session in which several of Optuna's operations can be one transaction.

    Each of those commits and closes the session it works in; while `held` it stays open, and its
    end is the end of `Database.transaction`.
    """

    held = False
    refused = False
    """Whether an operation was undone, with all before it, and the error perhaps passed over."""

    def commit(self) -> None:
        if self.refused:
            raise StorageInternalError("the database refused a part of what belongs together")
        if not self.held:
            super().commit()
            return
        self.flush()
        self.expire_all()  # what was read before may have been written past the session since

    def rollback(self) -> None:
        self.refused = self.held
        super().rollback()

    def close(self) -> None:
        if not self.held:
            super().close()


def on_error(context: ExceptionContext) -> None:
    """Tell a database that is away from one that answers with an error."""
    error = context.original_exception
    if context.is_pre_ping:  # the pool sees to it: it makes a new connection
        return
    if not isinstance(error, Exception):  # an interruption, after which SQLAlchemy disconnects
        return
    if isinstance(error, sqlite3.Error):
        away = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
    else:
        kinds = {kind.__name__ for kind in type(error).__mro__}  # of any driver, PEP 249
        if error.args[:1] and error.args[0] in DENIED:
            return
        away = context.is_disconnect or bool(kinds & {"OperationalError", "InterfaceError"})
    if away:
        raise ConnectionLost(str(error).splitlines()[0] if str(error) else "no reason") from error
