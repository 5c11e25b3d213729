"""Faults of databases: restarted, connections lost at any commit, disks full."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.storage.database import ConnectionLost
from hpo.storage.record import url_of
from tests import postgres
from tests.bench.faults.ledger import MOST, Ledger, Place, ended, struck, studies
from tests.bench.faults.study import STUDY


def database_restarted(place: Place, ledger: Ledger) -> None:
    with postgres.server() as server:

        def strike() -> bool:
            server.restart()
            return True

        for folder in studies(place, ledger):
            url = server.database(folder.name.replace("-", "_"))
            controller = Controller(STUDY, url)  # one that cannot be opened is told of at once
            with struck(strike, place, ledger, (0.2, 1.0)):
                ended(controller, place, ledger)


def connection_lost(place: Place, ledger: Ledger) -> None:
    commit = Session.commit

    def losing(self: Session) -> None:
        heard, now = place.drawn.random() < 0.5, place.drawn.random() < 0.05
        if heard or not now or ledger.faults >= place.wanted:
            commit(self)
        if now and ledger.faults < place.wanted:
            ledger.strike()
            raise ConnectionLost("cut by the bench")

    for folder in studies(place, ledger):
        controller = Controller(STUDY, url_of(folder))
        Session.commit = losing  # type: ignore[method-assign]
        try:
            trials = controller.run(ledger.on_event).trials
        finally:
            Session.commit = commit  # type: ignore[method-assign]
        ledger.compare(trials, place.expected, ended=True)


def disk_full(place: Place, ledger: Ledger) -> None:
    """A database that may grow by a few pages only, which gives SQLite's own error."""

    def limit(connection: Any, record: object) -> None:
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count = {pages + place.drawn.randint(1, 3)}")

    for folder in studies(place, ledger):
        for _ in range(MOST):
            controller = Controller(STUDY, url_of(folder))
            controller.record.study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
            event.listen(Engine, "connect", limit)
            try:
                controller.run(ledger.on_event)
                break
            except StorageError:
                ledger.strike()
            finally:
                event.remove(Engine, "connect", limit)
        ended(Controller(STUDY, url_of(folder)), place, ledger)
