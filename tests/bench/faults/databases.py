"""Faults of databases: restarted, connections lost at any commit, disks full."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.core.objective import Event
from hpo.core.spec import StudySpec
from hpo.storage import lease
from hpo.storage.record import DATABASE, url_of
from hpo.storage.transactions import ConnectionLost
from tests import postgres
from tests.bench.faults.ledger import MOST, Ledger, Place, ended, struck, studies
from tests.bench.faults.rows import SHORT
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
            sqlalchemy_event.listen(Engine, "connect", limit)
            try:
                controller.run(ledger.on_event)
                break
            except StorageError:
                ledger.strike()
            finally:
                sqlalchemy_event.remove(Engine, "connect", limit)
        ended(Controller(STUDY, url_of(folder)), place, ledger)


def database_locked(place: Place, ledger: Ledger) -> None:
    """Another program holds the file for itself; writes wait for it."""
    for folder in studies(place, ledger):
        controller = Controller(STUDY, url_of(folder))

        def strike(path: Path = folder / DATABASE) -> bool:
            with contextlib.closing(sqlite3.connect(path, timeout=60)) as other:
                other.execute("begin exclusive")
                ledger.strike()
                time.sleep(place.drawn.uniform(0.05, 0.5))
            return False  # it is noted

        with struck(strike, place, ledger, (0.05, 0.3)):
            ended(controller, place, ledger)


def database_replaced(place: Place, ledger: Ledger) -> None:
    """The file is moved away under the controller, or something else comes into its place.

    It ends in a sentence at its next write, at the latest. So does the same command, or it goes on
    with nothing wrong, as from a copy; then the file comes back, and it goes on.
    """
    # In life the process that could not give its lease back has ended.
    with mock.patch.multiple(lease, LEASE_S=0.0, LOOK_S=0.01):
        for folder in studies(place, ledger):
            for _ in range(place.left(ledger)):
                if not _replaced(folder, place, ledger):
                    break
            ended(Controller(SHORT, url_of(folder)), place, ledger)


def _replaced(folder: Path, place: Place, ledger: Ledger) -> bool:
    """Replace the file at a random batch and bring it back; whether there was a batch left."""
    path, kept = folder / DATABASE, folder / "kept.db"
    replacement = REPLACEMENTS[place.drawn.choice(sorted(REPLACEMENTS))]

    def on_event(event: Event) -> None:
        ledger.on_event(event)
        if "stage" in event and not kept.exists() and place.drawn.random() < 0.4:
            path.rename(kept)
            replacement(path)
            ledger.strike()

    _tried(SHORT, folder, ledger, on_event)
    if not kept.exists():
        return False
    _tried(replace(SHORT, trials=1), folder, ledger)
    _removed(path)
    kept.rename(path)
    return True


def _tried(
    study: StudySpec,
    folder: Path,
    ledger: Ledger,
    on_event: Callable[[Event], None] = lambda event: None,
) -> None:
    """Run the study; nothing but a sentence of this program may come out."""
    try:
        Controller(study, url_of(folder)).run(on_event)
    except (StorageError, ValueError) as error:
        ledger.judge("\n" not in str(error), f"not one sentence: {error!r}")
    except Exception as error:
        ledger.judge(False, f"no sentence of this program: {error!r}")


def _removed(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()


def _other_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as made, made:
        made.execute("create table cookies (value text)")


def _text(path: Path) -> None:
    path.write_text("not a database\n" * 999)


REPLACEMENTS: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "an empty file": Path.touch,
    "a folder": Path.mkdir,
    "a FIFO": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "text": _text,
    "another program's": _other_program,
}
