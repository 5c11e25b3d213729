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
from hpo.storage.database import ConnectionLost
from hpo.storage.lease import LeaseLost
from hpo.storage.record import load_study
from hpo.storage.timeouts import engine_options
from tests import cut, mysql, postgres
from tests.hpo.storage.test_database import study, undisturbed
from tests.hpo.toy_objective import Once, ToyObjective


@dataclass(frozen=True)
class Way:
    """A database, and a network that leads to it."""

    url: str
    network: cut.Network
    near: str
    """The URL by that network."""


@pytest.fixture(params=["postgresql", "mysql"])
def way(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Way]:
    name = f"cut_{os.getpid()}_{abs(hash(tmp_path))}"
    if request.param == "mysql":
        other: mysql.Server = request.getfixturevalue("mariadb")
        url, address = other.database(name), ("127.0.0.1", other.port)
    else:
        found: postgres.Server = request.getfixturevalue("server")
        url, address = found.database(name), found.socket
    made = RDBStorage(url)  # making tables may take longer than the silence below
    made.remove_session()
    made.engine.dispose()
    monkeypatch.setattr(timeouts, "SILENT_S", 1.0)
    monkeypatch.setattr(timeouts, "REST_S", 1)
    monkeypatch.setitem(timeouts.PYMYSQL, "read_timeout", 1)
    for drivers in (timeouts.PYMYSQL, timeouts.LIBPQ):
        monkeypatch.setitem(drivers, "connect_timeout", 2)
    with cut.network(address) as network:
        yield Way(url, network, network.url(url))


@pytest.mark.parametrize("forget", [True, False], ids=["for good", "for a while"])
def test_a_network_that_is_silent_under_a_study_does_not_change_it(
    forget: bool, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "SILENT_S", 3.0)  # on a busy machine an answer may take a while
    monkeypatch.setitem(timeouts.PYMYSQL, "read_timeout", 3)

    def cut_for_a_while() -> None:
        way.network.cut()
        threading.Timer(0.5, way.network.mend, kwargs={"forget": forget}).start()

    objective = ToyObjective(before=Once(1, tmp_path, cut_for_a_while))
    run = Controller(study(objective=objective), way.near).run()
    assert run.trials == undisturbed()


@pytest.mark.parametrize("way", ["postgresql"], indirect=True)
def test_a_network_that_stays_silent_ends_the_study_with_a_sentence(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    objective = ToyObjective(before=Once(1, tmp_path, way.network.cut))
    with pytest.raises(StorageError, match=r"cannot be used .* run the same command to go on"):
        Controller(study(objective=objective), way.near).run()


def test_a_lock_that_a_vanished_client_holds_is_given_back(way: Way) -> None:
    Controller(study(trials=2), way.url).run()
    gone, left = held_lease(way.near), held_lease(way.url)
    with contextlib.suppress(ConnectionLost), gone.database.scoped_session() as session:
        gone.check(session)  # locks the lease's row
        way.network.cut()
        way.network.mend(forget=True)
        started = time.monotonic()
        text = left.database.again(left._read)
        assert left.database.again(lambda: left._swap(text, lease.Holder(token=9)))
        assert 0.5 < time.monotonic() - started < 30
        way.network.reset()
        session.connection().exec_driver_sql("select 1")


def held_lease(url: str) -> lease._Lease:
    found: Any = load_study(url, "toy")
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
        way.network.cut()
        resting.set()
        over.wait(60)
        way.network.mend(forget=True)

    def first() -> None:
        objective = ToyObjective(before=Once(1, tmp_path, cut_off))
        try:
            Controller(study(objective=objective), way.near).run()
        except LeaseLost as error:
            failures.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert resting.wait(60)
    assert Controller(study(), way.url).run(wait=True).trials == undisturbed()
    over.set()
    thread.join()
    assert "was taken over by" in str(failures[0])
    assert Controller(study(), way.url).run().trials == undisturbed()


@pytest.mark.parametrize("way", ["postgresql"], indirect=True)
def test_leaving_does_not_wait_for_a_database_that_is_silent(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "SILENT_S", 60.0)
    monkeypatch.setattr(lease, "LEAVE_S", 0.5)
    Controller(study(trials=2), way.url).run()
    mine = load_study(way.near, "toy")
    with lease.held(mine, way.near):
        way.network.cut()
        started = time.monotonic()
    assert time.monotonic() - started < 30
    way.network.mend(forget=False)  # and then it is given back all the same
    while lease.holder_of(load_study(way.url, "toy")) is not None:
        assert time.monotonic() - started < 60


def test_what_a_url_says_itself_stays_but_for_what_gives_files_away() -> None:
    mine = "postgresql+psycopg://u@h/x?connect_timeout=99"
    assert "connect_timeout" not in engine_options(mine)["connect_args"]
    assert engine_options(mine)["connect_args"]["keepalives_count"] == 3
    theirs = "mysql+pymysql://u@h/x?read_timeout=99&local_infile=1"
    assert "read_timeout" not in engine_options(theirs)["connect_args"]
    assert engine_options(theirs)["connect_args"]["local_infile"] is False
    assert "pool_events" not in engine_options("sqlite:///x.db")
    with pytest.raises(ArgumentError):
        engine_options("no address")
