"""A network that goes silent under a study: nobody waits for ever, and the record is what it is."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError

from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.storage import database, lease, timeouts
from hpo.storage.lease import LeaseLost
from hpo.storage.record import load_study
from hpo.storage.timeouts import engine_options
from hpo.storage.transactions import ConnectionLost
from tests import cut, mysql, postgres
from tests.hpo.storage.test_database import study, undisturbed
from tests.hpo.toy_objective import Once, ToyObjective
from tests.waiting import LONG_S


@dataclass(frozen=True)
class Way:
    """A database, and a network that leads to it."""

    url: str
    network: cut.Network
    near: str
    """The URL by that network."""
    patch: pytest.MonkeyPatch

    def cut(self) -> None:
        """Cut it; from here on a second is silence, also to connections that there are.

        Before that a busy machine may take as long for an answer as it likes.
        """
        self.patch.setattr(timeouts, "SILENT_S", 1.0)
        self.network.cut()


@pytest.fixture(params=["postgresql", "mysql"])
def way(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Way]:
    """Waits that the cut ends are short; those before it are not."""
    name = f"cut_{os.getpid()}_{abs(hash(tmp_path))}"
    if request.param == "mysql":
        other: mysql.Server = request.getfixturevalue("mariadb")
        url, address = other.database(name), ("127.0.0.1", other.port)
    else:
        found: postgres.Server = request.getfixturevalue("server")
        url, address = found.database(name), found.socket
    made = RDBStorage(url)
    made.remove_session()
    made.engine.dispose()
    silence = property(lambda self: timeouts.SILENT_S, lambda self, seconds: None)
    monkeypatch.setattr(timeouts, "SILENT_S", LONG_S)
    monkeypatch.setattr(timeouts, "REST_S", 1)
    if request.param == "mysql":
        of_pymysql = "pymysql.connections.Connection._read_timeout"
        monkeypatch.setattr(of_pymysql, silence, raising=False)
    with cut.network(address) as network:
        yield Way(url, network, network.url(url), monkeypatch)


def opened(url: str, **fields: Any) -> Controller:
    """A controller; the server may end what a busy machine lets rest while it is opened."""
    deadline = time.monotonic() + LONG_S
    while True:
        try:
            return Controller(study(**fields), url)
        except StorageError:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("forget", [True, False], ids=["for good", "for a while"])
def test_a_network_that_is_silent_under_a_study_does_not_change_it(
    forget: bool, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for drivers in (timeouts.PYMYSQL, timeouts.LIBPQ):
        monkeypatch.setitem(drivers, "connect_timeout", 2)

    def cut_for_a_while() -> None:
        way.cut()
        threading.Timer(0.5, way.network.mend, kwargs={"forget": forget}).start()

    objective = ToyObjective(before=Once(1, tmp_path, cut_for_a_while))
    assert opened(way.near, objective=objective).run().trials == undisturbed()


@pytest.mark.parametrize("way", ["postgresql"], indirect=True)
def test_a_network_that_stays_silent_ends_the_study_with_a_sentence(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    monkeypatch.setitem(timeouts.LIBPQ, "connect_timeout", 2)
    controller = opened(way.near, objective=ToyObjective(before=Once(1, tmp_path, way.cut)))
    with pytest.raises(StorageError, match=r"cannot be used .* run the same command to go on"):
        controller.run()


def test_a_lock_that_a_vanished_client_holds_is_given_back(way: Way) -> None:
    """Whoever waits for it would else do so until the test is ended."""
    opened(way.url, trials=2).run()
    gone, left = held_lease(way.near), held_lease(way.url)
    with contextlib.suppress(ConnectionLost), gone.database.scoped_session() as session:
        gone.check(session)  # locks the lease's row
        way.cut()
        way.network.mend(forget=True)
        text = left.database.retry(left._read)
        assert left.database.retry(lambda: left._swap(text, lease.Holder(token=9)))
        way.network.reset()
        session.connection().exec_driver_sql("select 1")


def held_lease(url: str) -> lease._Lease:
    found: Any = opened(url, trials=2).record.study
    made = lease._Lease(found._storage._backend, found._study_id, "toy")
    made.take()
    return made


def test_whoever_was_cut_off_for_longer_than_its_lease_writes_nothing_more(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LEASE_S", 1.5), ("RENEW_S", 0.3), ("LOOK_S", 0.05)):
        monkeypatch.setattr(lease, name, value)
    resting, over = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def cut_off() -> None:
        way.cut()
        resting.set()
        over.wait(LONG_S)
        way.network.mend(forget=True)

    def first() -> None:
        objective = ToyObjective(before=Once(1, tmp_path, cut_off))
        try:
            opened(way.near, objective=objective).run()
        except LeaseLost as error:
            failures.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert resting.wait(LONG_S)
    assert opened(way.url).run(wait=True).trials == undisturbed()
    over.set()
    thread.join()
    assert "was taken over by" in str(failures[0])
    assert opened(way.url).run().trials == undisturbed()


@pytest.mark.parametrize("way", ["postgresql"], indirect=True)
def test_leaving_does_not_wait_for_a_database_that_is_silent(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would else do so until the test is ended: the silence lasts until the network is back."""
    monkeypatch.setattr(lease, "LEAVE_S", 0.5)
    mine = opened(way.near, trials=2).record.study
    with lease.held(mine, way.near):
        way.network.cut()
    assert lease.holder_of(load_study(way.url, "toy")) is not None
    way.network.mend(forget=False)  # and then it is given back all the same
    deadline = time.monotonic() + LONG_S
    while lease.holder_of(load_study(way.url, "toy")) is not None:
        assert time.monotonic() < deadline


def test_what_a_url_says_itself_stays_but_for_what_gives_files_away() -> None:
    mine = "postgresql+psycopg://u@h/x?connect_timeout=99"
    assert "connect_timeout" not in engine_options(mine)["connect_args"]
    assert engine_options(mine)["connect_args"]["keepalives_count"] == 3
    theirs = "mysql+pymysql://u@h/x?read_timeout=99&local_infile=1"
    assert "read_timeout" not in engine_options(theirs)["connect_args"]
    assert engine_options(theirs)["connect_args"]["local_infile"] is False
    assert "pool_events" not in engine_options("sqlite:///x.db")
    assert engine_options("sqlite:///x.db?timeout=5")["connect_args"] == {}
    assert engine_options("sqlite:///x.db")["connect_args"] == {"timeout": 60}
    with pytest.raises(ArgumentError):
        engine_options("no address")
