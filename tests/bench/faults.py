"""Faults of every kind at random instants of a study: what is lost, recorded twice, or wrong.

A study of analytic trials (`faults_study.py`) is run undisturbed, then again and again while one
kind of fault strikes at times drawn uniformly, until each kind has had its number. Where a fault
ends the controller, the same command is run again. After every study its record is held against
the undisturbed one:

- lost: trials that were finished when last seen and are not, or that are missing at the end;
- twice: trials beyond the planned ones;
- wrong: trials with other params, metrics, curves or states, to the last bit.

The time to recover is that from a fault to the next step that is told of. A power cut is not among
the faults, so databases lie in memory where there is room: a disk's pace would only slow the bench.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import optuna
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from hpo import lease, runs
from hpo.database import ConnectionLost
from hpo.executors.pool import Pool
from hpo.executors.processes import Process, local_pool
from hpo.launch import Launch
from hpo.lease import Overtaken
from hpo.record import Trial
from hpo.spec import Event
from hpo.storage import StorageError, url_of
from hpo.study import Controller
from tests import folders, postgres
from tests.bench.faults_study import GATE, STUDY
from tests.bench.figures import Figure, Options, mean_of

FILE = Path(__file__).with_name("faults_study.py")
ROOT = Path(__file__).parents[2]
SEED = 0
SILENCE_S = 3.0
"""Instead of the pool's own, so that hung workers are found within the bench."""
MOST = 12
"""Faults a study at most, so that each ends."""
SIGN = b"| pretrain |"
"""What stands in a line of progress."""


@dataclass
class Ledger:
    """What one kind of fault did."""

    faults: int = 0
    studies: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    recover_s: list[float] = field(default_factory=list)
    struck_at: float | None = None

    def strike(self) -> None:
        """Note a fault that happens now."""
        self.faults += 1
        self.struck_at = time.monotonic()

    def on_event(self, event: Event) -> None:
        """Note the first step after a fault."""
        if event.get("stage") == "pretrain" and self.struck_at is not None:
            self.recover_s.append(time.monotonic() - self.struck_at)
            self.struck_at = None

    def compare(self, trials: list[Trial], expected: list[Trial], *, ended: bool) -> None:
        """Hold a record against the undisturbed one; one that has not ended may be shorter."""
        done = {each.number: each for each in trials if each.state != "running"}
        wanted = expected if ended else [each for each in expected if each.number in done]
        self.lost += sum(each.number not in done for each in wanted)
        self.wrong += sum(done.get(each.number, each) != each for each in wanted)
        self.twice += (
            max(0, len(trials) - len(expected))
            + len(trials)
            - len({each.number for each in trials})
        )


@dataclass(frozen=True)
class Place:
    """Where a kind of fault works, and what it should come to."""

    folder: Path
    wanted: int
    drawn: random.Random
    expected: list[Trial]


Kind = Callable[[Place, Ledger], None]


def run(options: Options) -> dict[str, Figure]:
    """All kinds, or the one of `--only`; `repeats` is the number of faults of each."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    figures: dict[str, Figure] = {}
    totals = Ledger()
    for name in options.picked(list(KINDS)):
        kind, count, few = KINDS[name]
        wanted = options.repeats or (few if options.quick else count)
        ledger = Ledger()
        with tempfile.TemporaryDirectory(dir=folders.in_memory()) as folder:
            drawn = random.Random(f"{SEED} {name}")
            kind(Place(Path(folder), wanted, drawn, undisturbed()), ledger)
        options.say(f"{name}: {ledger.faults} faults in {ledger.studies} studies, "
                    f"{ledger.lost} lost, {ledger.twice} twice, {ledger.wrong} wrong")  # fmt: skip
        figures |= _figures(name, ledger)
        for each in ("faults", "studies", "lost", "twice", "wrong"):
            setattr(totals, each, getattr(totals, each) + getattr(ledger, each))
    enough = None if options.quick or options.only or options.repeats else ">= 200"
    total = _figures("all", totals)
    total["all.faults"] = Figure(value=totals.faults, unit="faults", goal=enough)
    return figures | total


@functools.cache
def undisturbed() -> list[Trial]:
    """The trials of the study without a fault."""
    return Controller(STUDY, "sqlite://").run().trials


def _figures(name: str, ledger: Ledger) -> dict[str, Figure]:
    count = ledger.studies * STUDY.trials
    found = {f"{name}.faults": Figure(value=ledger.faults, unit="faults")}
    for what in ("lost", "twice", "wrong"):
        value = getattr(ledger, what)
        found[f"{name}.{what}"] = Figure(value=value, unit="trials", n=count, goal="= 0")
    if ledger.recover_s:
        found[f"{name}.recover_s"] = mean_of(ledger.recover_s, "s")
    return found


def _signalled(number: int) -> Kind:
    """A signal to the worker of a pool of one."""

    def kind(place: Place, ledger: Ledger) -> None:
        for folder in _studies(place, ledger):
            launch = Launch(study=str(FILE), store=str(folder / "store"), device="cpu")
            made = local_pool(launch, folder, workers=1)
            pool = Pool(made.links, silence_s=SILENCE_S)
            (link,) = pool.links
            assert isinstance(link, Process)

            def strike(link: Process = link) -> bool:
                process = link.process
                if process is None or process.poll() is not None:
                    return False
                process.send_signal(number)
                return True

            with contextlib.closing(pool), _struck(strike, place, ledger, (0.3, 2.5)):
                controller = Controller(STUDY, url_of(folder), pool)
                _ended(controller, place, ledger)

    return kind


def _database_restarted(place: Place, ledger: Ledger) -> None:
    with postgres.server() as server:

        def strike() -> bool:
            server.restart()
            return True

        for folder in _studies(place, ledger):
            url = server.database(folder.name.replace("-", "_"))
            with _struck(strike, place, ledger, (0.2, 1.0)):
                _ended(Controller(STUDY, url), place, ledger)


def _connection_lost(place: Place, ledger: Ledger) -> None:
    commit = Session.commit

    def losing(self: Session) -> None:
        heard, now = place.drawn.random() < 0.5, place.drawn.random() < 0.05
        if heard or not now or ledger.faults >= place.wanted:
            commit(self)
        if now and ledger.faults < place.wanted:
            ledger.strike()
            raise ConnectionLost("cut by the bench")

    for folder in _studies(place, ledger):
        controller = Controller(STUDY, url_of(folder))
        Session.commit = losing  # type: ignore[method-assign]
        try:
            trials = controller.run(ledger.on_event).trials
        finally:
            Session.commit = commit  # type: ignore[method-assign]
        ledger.compare(trials, place.expected, ended=True)


def _disk_full(place: Place, ledger: Ledger) -> None:
    """A database that may grow by a few pages only, which gives SQLite's own error."""

    def limit(connection: Any, record: object) -> None:
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count = {pages + place.drawn.randint(1, 3)}")

    for folder in _studies(place, ledger):
        for _ in range(MOST):
            controller = Controller(STUDY, url_of(folder))
            controller.study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
            event.listen(Engine, "connect", limit)
            try:
                controller.run(ledger.on_event)
                break
            except StorageError:
                ledger.strike()
            finally:
                event.remove(Engine, "connect", limit)
        _ended(Controller(STUDY, url_of(folder)), place, ledger)


def _clock_jump(place: Place, ledger: Ledger) -> None:
    """The clock is set forward by an hour, and a second controller comes and takes over."""
    jumped = 0.0

    class Clock:
        sleep = staticmethod(time.sleep)

        @staticmethod
        def time() -> float:
            return time.time() + jumped

    lease.time = Clock  # type: ignore[attr-defined]
    try:
        for folder in _studies(place, ledger):
            controllers = [threading.Thread(target=_until_overtaken, args=(folder,))]
            controllers[0].start()
            for _ in range(min(MOST, place.wanted - ledger.faults)):
                time.sleep(place.drawn.uniform(0.1, 0.5))
                jumped += 3600
                ledger.strike()
                controllers.append(threading.Thread(target=_until_overtaken, args=(folder,)))
                controllers[-1].start()
            for each in controllers:
                each.join()
            ledger.struck_at = None
            jumped += 3600
            _ended(Controller(STUDY, url_of(folder)), place, ledger)
    finally:
        lease.time = time  # type: ignore[attr-defined]


def _until_overtaken(folder: Path) -> None:
    with contextlib.suppress(Overtaken, lease.Held):
        Controller(STUDY, url_of(folder)).run()


def _controller_killed(place: Place, ledger: Ledger) -> None:
    """With workers of its own; after each kill the same command."""
    for folder in _studies(place, ledger):
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
        _ended(Controller(STUDY, url_of(folder / "faults")), place, ledger)


def _successor_waiting(place: Place, ledger: Ledger) -> None:
    """Two controllers at once: the one that works is killed, and the one that waits takes over.

    At once, as it sees that the process has ended. That the time of a lease is over, as it has to
    be where another machine has died, is the case of `clock_jump`.
    """
    for folder in _studies(place, ledger):
        gate = folder / "gate"  # a study is over sooner than a successor has started: it waits
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(_command(folder, "--wait", gate=gate))
            for _ in range(min(MOST, place.wanted - ledger.faults)):
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
        _ended(Controller(STUDY, url_of(folder / "faults")), place, ledger)


def _studies(place: Place, ledger: Ledger) -> Iterator[Path]:
    """Folders, until there were faults enough."""
    while ledger.faults < place.wanted:
        folder = place.folder / f"study-{ledger.studies}"
        folder.mkdir()
        ledger.studies += 1
        yield folder


def _ended(controller: Controller, place: Place, ledger: Ledger) -> None:
    """Run the study to its end and hold it against the undisturbed one."""
    ledger.compare(controller.run(ledger.on_event).trials, place.expected, ended=True)


@contextlib.contextmanager
def _struck(
    strike: Callable[[], bool], place: Place, ledger: Ledger, gap_s: tuple[float, float]
) -> Iterator[None]:
    """Faults at random instants while the context lasts."""
    over = threading.Event()

    def body() -> None:
        most = min(place.wanted, ledger.faults + MOST)
        while ledger.faults < most and not over.wait(place.drawn.uniform(*gap_s)):
            if strike():
                ledger.strike()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
            [sys.executable, "-m", "hpo.cli", *words, *more],
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
        trials = runs.read(runs.find_place("faults", folder, None)).trials
        ledger.compare(trials, place.expected, ended=False)


KINDS: dict[str, tuple[Kind, int, int]] = {
    "worker_killed": (_signalled(signal.SIGKILL), 50, 2),
    "worker_hung": (_signalled(signal.SIGSTOP), 10, 1),
    "worker_stopped": (_signalled(signal.SIGTERM), 15, 1),
    "controller_killed": (_controller_killed, 15, 1),
    "successor_waiting": (_successor_waiting, 12, 1),
    "clock_jump": (_clock_jump, 25, 2),
    "connection_lost": (_connection_lost, 60, 4),
    "database_restarted": (_database_restarted, 10, 1),
    "disk_full": (_disk_full, 15, 2),
}
"""Kind -> how it strikes, faults in the bench, and in a smoke check."""
