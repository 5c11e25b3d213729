"""One controller a study, on a file and on a server: whatever dies, waits or sleeps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from optuna.study import Study

from hpo import lease
from hpo.lease import Held, Holder, Overtaken
from hpo.storage import open_study
from hpo.study import Controller
from tests.hpo.toy_objective import ToyObjective, spec


def study(url: str) -> Study:
    return open_study(url, "toy", spec().goals)


def holder(url: str) -> Holder:
    found = lease.of(study(url))
    assert found is not None
    return found


def hold(url: str, ready: threading.Event, end: threading.Event) -> threading.Thread:
    """Hold the lease in another thread."""

    def body() -> None:
        with lease.held(study(url), url):
            ready.set()
            end.wait(60)

    thread = threading.Thread(target=body)
    thread.start()
    assert ready.wait(60)
    return thread


def test_a_second_controller_is_told_of_the_first_and_comes_in_after_it(url: str) -> None:
    with (
        lease.held(study(url), url),
        pytest.raises(Held, match=rf"is being run by process {os.getpid()} on .*; .* add --wait"),
    ):
        Controller(spec(), url).run()
    assert lease.of(study(url)) is None
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
from hpo import lease
from hpo.storage import load_study
with lease.held(load_study(sys.argv[1], "toy"), sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lease_of_a_killed_process_is_taken_at_once(url: str) -> None:
    study(url)
    done = subprocess.run([sys.executable, "-c", DYING, url], check=False)
    assert done.returncode == -9
    before = holder(url)
    assert before.until > time.time() + 30
    with lease.held(study(url), url):
        assert holder(url).token == before.token + 1


def test_whoever_waits_takes_over_when_the_time_of_a_silent_holder_is_over(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the holder's machine has died: nobody here can see whether its process has ended."""
    monkeypatch.setattr(lease, "LOOK_S", 0.01)
    silent = study(url)
    with monkeypatch.context() as patch:
        patch.setattr(lease, "LEASE_S", 0.5)
        patch.setattr(lease, "_machine", lambda: "elsewhere")
        lease._Lease(silent._storage._backend, silent._study_id, "toy").take()  # type: ignore[attr-defined]
    before = holder(url)
    with lease.held(study(url), url, wait=True):
        assert time.time() > before.until
        assert holder(url).token == before.token + 1


def test_whoever_lost_the_lease_writes_nothing_more(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sleeps for longer than its lease; in its next wave the second has taken over."""
    asleep, awake = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def sleep(requests: object) -> None:
        asleep.set()
        awake.wait(60)

    def first() -> None:
        try:
            Controller(spec(sampler="random", objective=ToyObjective(before=sleep)), url).run()
        except Overtaken as error:
            failures.append(error)

    with monkeypatch.context() as patch:
        patch.setattr(lease, "LEASE_S", -1.0)
        thread = threading.Thread(target=first)
        thread.start()
        assert asleep.wait(60)
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
        deadline = time.monotonic() + 60
        while holder(url).until == first.until:
            assert time.monotonic() < deadline
        assert replace(holder(url), until=first.until) == first


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({}, False),
        ({"until": 0.0}, True),
        ({"pid": None}, True),
        ({"born": 1.0}, True),
        ({"born": 1.0, "machine": "elsewhere"}, False),
        ({"machine": "elsewhere", "until": 0.0}, True),
    ],
)
def test_a_holder_is_gone_if_its_process_has_ended_here_or_its_time_is_over(
    changes: dict[str, Any], gone: bool
) -> None:
    assert replace(Holder(token=0, **lease._myself()), **changes).gone() is gone


def test_a_study_in_memory_needs_no_lease() -> None:
    mine = study("sqlite://")
    with lease.held(mine, "sqlite://"), lease.held(mine, "sqlite://"):
        assert lease.of(mine) is None
