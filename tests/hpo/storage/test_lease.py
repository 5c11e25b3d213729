"""One controller a study, on a file and on a server: whatever dies, waits or sleeps."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.study import Study

from hpo.controller import Controller
from hpo.storage import lease
from hpo.storage.lease import Holder, LeaseHeld, LeaseLost
from hpo.storage.record import open_study
from tests.hpo.toy_objective import ToyObjective, spec
from tests.waiting import LONG_S


def study(url: str) -> Study:
    return open_study(url, "toy", spec().goals)


def holder(url: str) -> Holder:
    found = lease.holder_of(study(url))
    assert found is not None
    return found


def hold(url: str, ready: threading.Event, end: threading.Event) -> threading.Thread:
    """Hold the lease in another thread."""

    def body() -> None:
        with lease.held(study(url), url):
            ready.set()
            end.wait(LONG_S)

    thread = threading.Thread(target=body)
    thread.start()
    assert ready.wait(LONG_S)
    return thread


def test_a_second_controller_hears_of_the_first_and_comes_in_after_it(url: str) -> None:
    with (
        lease.held(study(url), url),
        pytest.raises(
            LeaseHeld, match=rf"is being run by process {os.getpid()} on .*; .* add --wait"
        ),
    ):
        Controller(spec(), url).run()
    assert lease.holder_of(study(url)) is None
    assert len(Controller(spec(trials=2), url).run().trials) == 2


def test_a_second_controller_can_wait_and_says_for_whom(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LOOK_S", 0.01)
    end = threading.Event()
    thread = hold(url, threading.Event(), end)
    told: list[dict[str, Any]] = []

    def on_event(event: dict[str, Any]) -> None:
        told.append(event)
        if len(told) == 3:
            end.set()

    run = Controller(spec(trials=2), url).run(on_event, wait=True)
    thread.join()
    assert len(run.trials) == 2
    said = f"waiting for process {os.getpid()} on "
    assert [event["waiting"].startswith(said) for event in told[:3]] == [True] * 3


def test_of_many_that_try_at_once_one_has_the_lease(url: str) -> None:
    start, taken = threading.Barrier(8), []
    opened = [study(url) for _ in range(8)]

    def take(mine: Study) -> None:
        hold = lease._Lease(mine._storage._backend, mine._study_id, "toy")  # type: ignore[attr-defined]
        start.wait()
        taken.append(hold.take() is None)

    threads = [threading.Thread(target=take, args=(each,)) for each in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]


DYING = """
import os, signal, sys
from hpo.storage import lease
from hpo.storage.record import load_study
with lease.held(load_study(sys.argv[1], "toy"), sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lease_of_a_killed_process_is_taken_at_once(url: str) -> None:
    study(url)
    started = time.time()
    done = subprocess.run([sys.executable, "-c", DYING, url], check=False)
    assert done.returncode == -9
    before = holder(url)
    assert started - 1 < before.beat_at < time.time() + 1
    with lease.held(study(url), url):
        assert holder(url).token == before.token + 1


YEARS = 10 * 365.25 * 86_400


class OtherMachine:
    """A controller on another machine, of which nobody here sees whether its process has ended."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch, clock_off_s: float = 0.0) -> None:
        found = study(url)
        self.lease = lease._Lease(found._storage._backend, found._study_id, "toy")  # type: ignore[attr-defined]
        self.patch, self.off = monkeypatch, clock_off_s

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """With its own name and clock."""
        with self.patch.context() as patch:
            patch.setattr(lease, "_machine", lambda: "elsewhere")
            patch.setattr(lease.platform, "node", lambda: "elsewhere")
            patch.setattr(lease, "_born", lambda pid: 1.0)
            patch.setattr(lease, "time", Clock(self.off))
            yield

    def take(self) -> None:
        with self.there():
            assert self.lease.take() is None

    def beat(self) -> None:
        """Renew the lease once."""
        with self.there():
            text, now, clock = self.lease._look()
            assert self.lease.mine is not None
            beats = self.lease.mine.beats + 1
            self.lease.mine = replace(self.lease.mine, beat_at=now, clock=clock, beats=beats)
            assert self.lease._swap(text, self.lease.mine)


class Clock:
    """The module `time` of a machine whose clock is off."""

    def __init__(self, off_s: float) -> None:
        self.off_s = off_s

    def time(self) -> float:
        return time.time() + self.off_s

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.parametrize(
    ("off_s", "wait"),
    [(0.0, True), (YEARS, True), (YEARS, False), (-YEARS, True), (-YEARS, False)],
)
def test_from_a_silent_holder_elsewhere_the_lease_is_taken_over_whatever_its_clock_says(
    off_s: float, wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_taken_over(f"sqlite:///{tmp_path / 'study.db'}", off_s, wait, monkeypatch)


def test_from_a_silent_holder_elsewhere_it_is_taken_over_on_any_database(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_taken_over(url, YEARS, False, monkeypatch)


def assert_taken_over(url: str, off_s: float, wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK_S", 0.01), ("LEASE_S", 0.3)):
        monkeypatch.setattr(lease, name, value)
    OtherMachine(url, monkeypatch, off_s).take()
    before = holder(url)
    if before.clock == lease.DATABASE:
        time.sleep(0.4)  # its clock is that of all
    with lease.held(study(url), url, wait=wait):
        assert holder(url).token == before.token + 1


@pytest.mark.parametrize("off_s", [0.0, YEARS, -YEARS])
def test_a_holder_elsewhere_that_is_heard_of_keeps_the_lease_whatever_its_clock_says(
    off_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setattr(lease, "LOOK_S", 0.01)
    other = OtherMachine(url, monkeypatch, off_s)
    other.take()
    token = holder(url).token

    def told(said: str) -> None:
        assert said.startswith("waiting for process")
        other.beat()

    with (
        pytest.raises(LeaseHeld, match="is being run by process"),
        lease.held(study(url), url, on_wait=told),
    ):
        pass
    assert holder(url).token == token


ROWS = [
    "{}", "[]", "null", "1", '"x"', '{"token": 1}', '{"token": "x", "pid": 1}',
    '{"token": 0, "pid": "x", "until": 9e99}', '{"token": 0, "pid": 1, "until": "soon"}',
    '{"token": true, "pid": 1, "beat_at": 0}', '{"token": 0, "pid": 1, "until": 1e999}',
    '{"token": 0, "pid": 1, "host": ["x"], "beat_at": 0}', '{"token": 1e400, "pid": 1}',
    '{"token": 0, "who": "a later version", "pid": 1, "beat_at": 4e9, "host": "x", "until": 4e9}',
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_lease_that_cannot_be_read_is_taken_over_when_it_does_not_change(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LOOK_S", 0.01), ("LEASE_S", 0.1)):
        monkeypatch.setattr(lease, name, value)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    mine = study(url)
    mine.set_user_attr("lease", json.loads(row))
    said: list[str] = []
    with lease.held(mine, url, on_wait=said.append):
        assert holder(url).pid == os.getpid()
    assert all(text.startswith("waiting for ") and "\n" not in text for text in said)
    assert lease.holder_of(mine) is None


def test_of_a_lease_that_cannot_be_read_but_changes_somebody_is_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setattr(lease, "LOOK_S", 0.01)
    mine = study(url)
    mine.set_user_attr("lease", ["later version", 0])

    def told(said: str) -> None:
        study(url).set_user_attr("lease", ["later version", time.time()])

    with (
        pytest.raises(
            LeaseHeld, match=r"is being run by somebody whose lease cannot be read; end that"
        ),
        lease.held(mine, url, on_wait=told),
    ):
        pass


def test_whoever_lost_the_lease_writes_nothing_more(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sleeps for longer than its lease; in its next wave the second has taken over."""
    asleep, awake = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def sleep(requests: object) -> None:
        asleep.set()
        awake.wait(LONG_S)

    def first() -> None:
        try:
            Controller(spec(sampler="random", objective=ToyObjective(before=sleep)), url).run()
        except LeaseLost as error:
            failures.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert asleep.wait(LONG_S)
    for name, value in (("LEASE_S", 0.0), ("LOOK_S", 0.01)):  # it is silent for as long
        monkeypatch.setattr(lease, name, value)
    calm = spec(sampler="random")
    run = Controller(calm, url).run()
    awake.set()
    thread.join()
    assert "was taken over by somebody" in str(failures[0])
    assert run.trials == Controller(calm, "sqlite://").run().trials
    assert run.trials == Controller(calm, url).run().trials


def test_a_lease_is_renewed_while_it_is_held(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    with lease.held(study(url), url):
        first = holder(url)
        deadline = time.monotonic() + LONG_S
        while (later := holder(url)).beats < first.beats + 2:
            assert time.monotonic() < deadline
        assert later.beat_at >= first.beat_at
        assert replace(later, beat_at=first.beat_at, beats=first.beats) == first


NOW = 1e9


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "there"),
        ({"beat_at": NOW - 50}, "there"),
        ({"beat_at": NOW + 50}, "there"),
        ({"beat_at": NOW - 70}, "unsure"),
        ({"beat_at": NOW + YEARS}, "unsure"),
        ({"pid": None}, "gone"),
        ({"born": 1.0}, "gone"),
        ({"born": 1.0, "beat_at": NOW + YEARS}, "gone"),
        ({"born": 1.0, "machine": "elsewhere"}, "there"),
        ({"machine": "elsewhere", "host": "elsewhere", "beat_at": NOW - 70}, "unsure"),
        ({"machine": "elsewhere", "host": "elsewhere", "beat_at": NOW + YEARS}, "unsure"),
        ({"machine": "before a reboot", "beat_at": NOW - 70}, "gone"),
        ({"machine": "before a reboot", "beat_at": NOW + YEARS}, "unsure"),
    ],
)
def test_what_a_holders_time_and_process_tell_of_it(changes: dict[str, Any], state: str) -> None:
    mine = Holder(token=0, beat_at=NOW, **lease._myself())
    assert replace(mine, **changes).state(NOW, lease.HOST) == state


@pytest.mark.parametrize(("age_s", "state"), [(50, "there"), (70, "gone"), (-70, "unsure")])
def test_a_servers_clock_is_that_of_all(age_s: float, state: str) -> None:
    other = Holder(token=0, pid=1, machine="x", beat_at=NOW - age_s, clock=lease.DATABASE)
    assert other.state(NOW, lease.DATABASE) == state


def test_the_time_of_a_lease_is_the_servers_where_there_is_one(url: str) -> None:
    started = time.time()
    with lease.held(study(url), url):
        found = holder(url)
    assert found.clock == (lease.HOST if url.startswith("sqlite") else lease.DATABASE)
    assert started - 1 < found.beat_at < time.time() + 1


def test_a_study_in_memory_needs_no_lease() -> None:
    mine = study("sqlite://")
    with lease.held(mine, "sqlite://"), lease.held(mine, "sqlite://"):
        assert lease.holder_of(mine) is None
