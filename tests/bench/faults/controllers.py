"""Faults of controllers: killed, taken over from, and clocks that jump."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any
from unittest import mock

from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.core.objective import Event
from hpo.storage import lease, run_folder
from hpo.storage.lease import LeaseLost
from hpo.storage.record import url_of
from tests.bench.faults.ledger import MOST, Ledger, Place, ended, studies
from tests.bench.faults.study import FILE, GATE, STUDY

ROOT = Path(__file__).parents[3]


JUMPS_S = (3600.0, -3600.0, 3.2e8, -3.2e8)


LEASE_S, RENEW_S = 2.0, 0.2
"""Shorter than they are, so that the bench ends."""


SIGN = b"| pretrain |"
"""What is in a line of progress."""


def clock_jump(place: Place, ledger: Ledger) -> None:
    """The clock is set by an hour or ten years, either way, and a second controller comes.

    It must not take over from the first, which is heard of all the time; once that is silent it
    must, whatever the clock says.
    """
    jumped = 0.0

    class Clock:
        sleep = staticmethod(time.sleep)

        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def time() -> float:
            return time.time() + jumped

    with (
        mock.patch.multiple(lease, time=Clock, LEASE_S=LEASE_S, RENEW_S=RENEW_S, LOOK_S=0.05),
    ):
        for folder in studies(place, ledger):
            controllers = [threading.Thread(target=_until_overtaken, args=(folder,))]
            controllers[0].start()
            for _ in range(place.left(ledger)):
                time.sleep(place.drawn.uniform(0.1, 0.5))
                jumped += place.drawn.choice(JUMPS_S)
                ledger.strike()
                controllers.append(threading.Thread(target=_until_overtaken, args=(folder,)))
                controllers[-1].start()
            for each in controllers:
                each.join()
            ledger.struck_at = None
            jumped += place.drawn.choice(JUMPS_S)
            ended(Controller(STUDY, url_of(folder)), place, ledger)


def clocks_apart(place: Place, ledger: Ledger) -> None:
    """Controllers on machines whose clocks are years apart: the one at work falls asleep.

    One that waits takes over once nothing was heard of the first for the time of a lease, and the
    first, when it wakes, writes nothing more.
    """
    with mock.patch.multiple(lease, LEASE_S=LEASE_S, RENEW_S=RENEW_S, LOOK_S=0.05), _machines():
        for folder in studies(place, ledger):
            machines: list[_Machine] = []
            for number in range(place.left(ledger)):
                off_s = place.drawn.choice(JUMPS_S) * place.drawn.uniform(0.5, 1.0)
                machines.append(_Machine(f"machine {number}", off_s, folder, ledger))
                if not machines[-1].works():
                    break
                time.sleep(place.drawn.uniform(0.0, 0.5))
                if len(machines) > 1:
                    machines[-2].wake()
                if ledger.faults < place.wanted and machines[-1].sleeps():
                    ledger.strike()
            for each in machines:
                each.wake()
                each.thread.join()
            ledger.struck_at = None
            ended(Controller(STUDY, url_of(folder)), place, ledger)


class _Machine:
    """A controller in a thread of a machine with a name and a clock of its own."""

    def __init__(self, name: str, off_s: float, folder: Path, ledger: Ledger) -> None:
        self.name, self.off_s, self.folder, self.ledger = name, off_s, folder, ledger
        self.awake, self.at_work, self.over = threading.Event(), threading.Event(), False
        self.awake.set()
        self.thread = threading.Thread(target=self._body)
        self.thread.start()

    def works(self) -> bool:
        """Wait for its first step; whether there is one."""
        self.at_work.wait()
        return not self.over

    def sleeps(self) -> bool:
        """Have all of it rest; whether it was at work."""
        self.awake.clear()
        return not self.over

    def wake(self) -> None:
        self.awake.set()

    def _body(self) -> None:
        MACHINE.set(self)
        try:
            with contextlib.suppress(LeaseLost):
                Controller(STUDY, url_of(self.folder)).run(self._tell, wait=True)
        finally:
            self.over = True
            self.at_work.set()

    def _tell(self, event: Event) -> None:
        if "stage" in event:
            self.awake.wait()
            self.ledger.on_event(event)
            self.at_work.set()


MACHINE: ContextVar[_Machine] = ContextVar("machine")
"""The one that a thread is on, also those that its threads start."""


@contextlib.contextmanager
def _machines() -> Iterator[None]:
    """Give the lease the name, the processes and the clock of the machine that it is taken on."""
    here = platform.node()

    class Clock:
        sleep, monotonic = staticmethod(time.sleep), staticmethod(time.monotonic)

        @staticmethod
        def time() -> float:
            machine = MACHINE.get(None)
            if machine is not None:
                machine.awake.wait()
            return time.time() + (0.0 if machine is None else machine.off_s)

    class Thread(threading.Thread):
        def __init__(self, **given: Any) -> None:
            target, context = given.pop("target"), copy_context()
            super().__init__(target=context.run, **{**given, "args": (target, *given["args"])})

    class Platform:
        @staticmethod
        def node() -> str:
            machine = MACHINE.get(None)
            return here if machine is None else machine.name

    with mock.patch.multiple(
        lease,
        time=Clock,
        threading=SimpleNamespace(Event=threading.Event, Thread=Thread),
        platform=Platform,
        _machine=Platform.node,
    ):
        yield


def _until_overtaken(folder: Path) -> None:
    with contextlib.suppress(LeaseLost, lease.LeaseHeld):
        Controller(STUDY, url_of(folder)).run()


def controller_killed(place: Place, ledger: Ledger) -> None:
    """With workers of its own; after each kill the same command."""
    for folder in studies(place, ledger):
        kills = 0
        while True:
            with _command(folder) as (process, log):
                if not _works(process, log):
                    break
                ledger.on_event({"stage": "pretrain"})
                if kills == MOST or ledger.faults >= place.wanted:
                    process.wait()
                    break
                if _killed(process, place.drawn.uniform(0.0, 1.0)):
                    kills += 1
                    ledger.strike()
            _look(folder, place, ledger)
        ended(Controller(STUDY, url_of(folder / "faults")), place, ledger)


def successor_waiting(place: Place, ledger: Ledger) -> None:
    """Two controllers at once: the one that works is killed, and the one that waits takes over.

    At once, as it sees that the process has ended. That the time of a lease is over, as it has to
    be where another machine has died, is the case of `clock_jump`.
    """
    for folder in studies(place, ledger):
        gate = folder / "gate"  # a study is over sooner than a successor has started: it waits
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(_command(folder, "--wait", gate=gate))
            for _ in range(place.left(ledger)):
                gate.touch()
                if not _works(*first):
                    break
                ledger.on_event({"stage": "pretrain"})
                second = stack.enter_context(_command(folder, "--wait", gate=gate))
                _until(lambda second=second: _says(second[1], b"waiting for process"), second[0])
                gate.unlink()
                if _killed(first[0], place.drawn.uniform(0.0, 0.3)):
                    ledger.strike()
                first = second
            gate.unlink(missing_ok=True)
            if _works(*first):
                ledger.on_event({"stage": "pretrain"})
            first[0].wait()
            ledger.struck_at = None
        ended(Controller(STUDY, url_of(folder / "faults")), place, ledger)


@contextlib.contextmanager
def _command(
    folder: Path, *more: str, gate: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """`hpo run` with a worker process, and what it says; it rests while there is the gate."""
    words = ["run", str(FILE), "--out", str(folder), "--executor", "processes", "--workers", "1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    if gate is not None:
        environment[GATE] = str(gate)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hpo.cli.main", *words, *more],
            stdout=log, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()


def _works(process: subprocess.Popen[bytes], log: IO[bytes]) -> bool:
    """Wait for the first step it tells of; whether there was one."""
    _until(lambda: _says(log, SIGN), process)
    return _says(log, SIGN)


def _says(log: IO[bytes], sign: bytes) -> bool:
    return sign in os.pread(log.fileno(), 2**16, 0)


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not ready():
        time.sleep(0.01)


def _killed(process: subprocess.Popen[bytes], after_s: float) -> bool:
    """Kill a process unless it ends by itself before."""
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def _look(folder: Path, place: Place, ledger: Ledger) -> None:
    """Hold what there is of a record against the undisturbed one."""
    with contextlib.suppress(ValueError, StorageError):  # killed before there was one
        trials = run_folder.read(run_folder.find_run("faults", folder, None)).trials
        ledger.compare(trials, place.expected, ended=False)
