"""A database that goes away: the record is what it would have been, nothing twice."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.core.objective import Event, Request
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.storage import database, lease, record
from hpo.storage.database import Database
from hpo.storage.record import database_of, load_study, open_study, read_run
from hpo.storage.transactions import ConnectionLost
from tests import mysql, postgres
from tests.hpo.cutting import counted
from tests.hpo.toy_objective import Once, ToyObjective, ToyResult, spec
from tests.waiting import LONG_S


def study(**fields: Any) -> StudySpec:
    return spec(sampler="random", **fields)


@functools.cache
def undisturbed() -> list[Trial]:
    return Controller(study(), "sqlite://").run().trials


@pytest.mark.parametrize(
    ("heard", "every"), [(False, 5), (True, 2)], ids=["lost before", "lost after the commit"]
)
def test_a_connection_lost_at_any_commit_records_nothing_twice(
    heard: bool, every: int, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, commits = Session.commit, 0

    def losing(self: Session) -> None:
        nonlocal commits
        commits += 1
        if commits % every:
            return commit(self)
        if heard:
            commit(self)
        raise ConnectionLost("the server closed the connection")

    controller = Controller(study(), url)
    monkeypatch.setattr(database, "FIRST_PAUSE_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", losing)
        run = controller.run()
    assert run.trials == undisturbed()
    assert run.trials == read_run(load_study(url, "toy")).trials


def test_a_server_that_restarts_under_a_study_does_not_change_it(
    server: postgres.Server, tmp_path: Path
) -> None:
    url = server.database("restarted")
    restarts = Once(1, tmp_path, server.restart)
    run = Controller(study(objective=ToyObjective(before=restarts)), url).run()
    assert run.trials == undisturbed()


def test_a_database_that_stays_away_is_reported_and_the_study_goes_on_later(
    server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.database("stopped")
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    monkeypatch.setattr(lease, "LEASE_S", 0.0)  # it cannot be given back, and its process lives

    def stop() -> None:
        server.control("stop")

    stopped = study(objective=ToyObjective(before=Once(1, tmp_path, stop)))
    with pytest.raises(StorageError, match=r"cannot be used .* run the same command to go on"):
        Controller(stopped, url).run()
    server.restart()
    assert Controller(stopped, url).run().trials == undisturbed()


def test_an_error_that_is_an_answer_is_not_retried(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    Controller(study(), f"sqlite:///{path}").run()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 9000)
    with pytest.raises(StorageError, match="malformed"):
        Controller(study(), f"sqlite:///{path}")


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    calls = 0

    def locked() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionLost("database is locked")
        return calls

    found: Callable[..., Any] = database.Database(f"sqlite:///{tmp_path / 'study.db'}").retry
    assert found(locked) == 3


def test_many_that_open_a_new_database_at_once_all_come_in(url: str) -> None:
    start, opened = threading.Barrier(6), []

    def reach() -> None:
        start.wait()
        opened.append(open_study(url, "toy", study().goals).study_name)

    threads = [threading.Thread(target=reach) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["toy"] * 6


def test_what_is_written_together_is_written_whole_or_not_at_all(url: str) -> None:
    found = open_study(url, "toy", study().goals)
    storage, base = found._storage, database_of(found)
    trial_id = storage.create_new_trial(found._study_id)
    number = FloatDistribution(0.0, 1.0)

    def write(*acts: Callable[[], object]) -> None:
        for act in (lambda: storage.set_trial_user_attr(trial_id, "a", 1), *acts):
            act()

    with counted() as writes, pytest.raises(ZeroDivisionError):
        base.transaction(lambda: write(lambda: 1 / 0))
    assert (writes.statements, writes.commits) == (1, 0)
    refused = [lambda: storage.set_trial_param(trial_id, "x", 0.5, number)] * 2
    with pytest.raises(StorageInternalError, match="refused a part"):  # Optuna passes over it
        base.transaction(lambda: write(*refused))
    assert (storage.get_trial(trial_id).user_attrs, storage.get_trial(trial_id).params) == ({}, {})
    with counted() as writes:
        base.transaction(lambda: write(refused[0], lambda: base.transaction(lambda: None)))
    assert writes.commits == 1
    assert storage.get_trial(trial_id).user_attrs == {"a": 1}
    assert storage.get_trial(trial_id).params == {"x": 0.5}


def test_a_read_within_sees_what_was_written_before(url: str) -> None:
    found = open_study(url, "toy", study().goals)
    storage, seen = found._storage, []
    trial_id = storage.create_new_trial(found._study_id)

    def write() -> None:
        for value in (1, 2):
            storage.set_trial_user_attr(trial_id, "a", value)
            seen.append(storage.get_trial(trial_id).user_attrs)

    database_of(found).transaction(write)
    assert seen == [{"a": 1}, {"a": 2}]


@dataclass(frozen=True, kw_only=True)
class Long(ToyObjective):
    """Gives curves of more than the 64 kB that MySQL's TEXT holds, and notes in any writing."""

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        curve = [[float(step), 3.0 + 1 / (step + 3)] for step in range(4000)]
        return [
            replace(each, curves={"train_loss": curve}, notes=["Grüße 世 \U0001f600"])
            for each in super().evaluate(requests, on_event)
        ]


def test_curves_of_any_length_and_notes_in_any_writing_come_back(url: str) -> None:
    long = study(objective=Long(), trials=2)
    run = Controller(long, url).run()
    assert run.trials == Controller(long, "sqlite://").run().trials
    assert [len(each.curves["train_loss"]) for each in run.trials] == [4000, 4000]


def test_a_server_that_cuts_what_is_too_long_is_asked_to_refuse_it(mariadb: mysql.Server) -> None:
    mariadb.said("set global sql_mode = ''")
    try:
        opened = Database(mariadb.database("lax"))
        with opened.engine.connect() as connection:
            mode = connection.exec_driver_sql("select @@sql_mode").scalar()
    finally:
        mariadb.said("set global sql_mode = default")
    assert "STRICT_ALL_TABLES" in str(mode)


def test_a_database_without_an_encoding_keeps_any_writing(server: postgres.Server) -> None:
    server.running.psql(
        "create database plain encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C';"
    )
    url, long = server.url.replace("/postgres?", "/plain?"), study(objective=Long(), trials=2)
    assert Controller(long, url).run().trials == Controller(long, "sqlite://").run().trials


def test_a_user_without_rights_is_reported_at_once(
    mariadb: mysql.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost connection would be tried again for as long as the tests may take."""
    monkeypatch.setattr(database, "RETRY_S", LONG_S)
    url = mariadb.database("rights")
    Controller(study(trials=2), url).run()
    mariadb.said(
        "create user reader@'127.0.0.1' identified by 'x'; "
        "grant select on rights.* to reader@'127.0.0.1'"
    )
    theirs = make_url(url).set(username="reader", password="x")
    again = theirs.render_as_string(hide_password=False)
    with pytest.raises(StorageError, match=r"denied .* check the user's password and rights"):
        Controller(study(trials=3), again).run()
    assert len(read_run(load_study(again, "toy", "read")).trials) == 2


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ('FATAL: database "x" does not exist', "create it"),
        ("(1049, \"Unknown database 'x'\")", "create it"),
        ("permission denied for table trials", "password and rights"),
        ("(1045, 'Access denied for user')", "password and rights"),
        ("cannot execute UPDATE in a read-only transaction", "may not be written"),
        ("Connection refused", "check that it can be reached"),
    ],
)
def test_what_a_server_refuses_has_a_remedy_that_helps(reason: str, says: str) -> None:
    assert says in record._remedy(reason, "postgresql+psycopg://u@h/x")
