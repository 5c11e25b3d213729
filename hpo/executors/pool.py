"""A pool of workers behind links: batches go to free ones, dead and hung ones are replaced.

1. A slot is a thread with a link to one worker at a time. It takes a batch, sends it, and hands on
   what the worker says until the results come.
2. Where the worker is lost (dead, silent, without progress) the slot starts another and sends the
   same batch; the store has what was finished. A loss counts only if the batch got no further than
   before, so that a long batch on an unsteady machine ends as long as it moves.
3. A batch lost `MOST_LOSSES` times in a row is halved, down to single trials, and a trial that
   takes its worker with it every time fails with the reason; the others are measured.

What the objective itself raises is no loss: it comes out of the future.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from hpo.core import conditions
from hpo.core.failures import ObjectiveError
from hpo.core.objective import Event, Request, Result
from hpo.core.passwords import mask
from hpo.core.results import TrialResult
from hpo.executors.worker import Message

TICK_S = 0.5
"""Seconds between looks at the clock while a worker is silent."""


SILENCE_S = 120.0
"""Seconds without a sign of life after which a worker is lost; assumed: its own thread gives one
each second, unless the machine or the interpreter is held up."""


PATIENCE_S = 3600.0
"""Seconds without progress after which a worker hangs; assumed: no step takes as long."""


PREPARATION_S = 600.0
"""The same while a worker loads the study, unless it computes, and after an event that has
`preparing`: while data is read, up to the first step; assumed: what reads or compiles for longer
says how far it is. What asks a question that nobody hears would wait for ever."""


BUSY_S = 1.0
"""CPU seconds by which a worker that loads a study shows that it computes, such as checksums of a
large corpus; assumed: more than waiting takes in `PREPARATION_S`."""


MOST_LOSSES = 3


CLOSE_S = 13.0
"""Seconds that workers have to leave in; assumed: within the 15 that preemption gives."""


class Lost(Exception):
    """The worker is dead or hangs; the message says how it is known."""


class WorkerConnection(Protocol):
    """One worker at the other end."""

    name: str
    """What people call it."""

    def start(self) -> None:
        """Start a worker, in place of the one before, and have it load the study."""

    def send(self, message: Message) -> None:
        """Raises Lost if nobody is there."""

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None if none came in time. Raises Lost if none will come."""

    def log(self) -> str:
        """The last lines that the worker wrote."""

    def stop(self) -> None:
        """Ask the worker to keep what it has and leave."""

    def gone(self) -> bool:
        """Whether it has left."""

    def kill(self) -> None:
        """End it at once, also where it has left."""


@dataclass
class Job:
    """A batch and who waits for it."""

    requests: Sequence[Request]
    on_event: Callable[[Event], None]
    future: Future[Sequence[Result]] = field(default_factory=Future)


class Pool:
    """An executor over links; threads and workers start with the first batch."""

    def __init__(
        self,
        links: Sequence[WorkerConnection],
        *,
        patience_s: float | None = None,
        silence_s: float = SILENCE_S,
        most_losses: int = MOST_LOSSES,
    ) -> None:
        self.links = links
        self.patience_s = PATIENCE_S if patience_s is None else patience_s
        self.preparation_s = PREPARATION_S if patience_s is None else patience_s
        self.loading_s = self.preparation_s
        self.silence_s = silence_s
        self.most_losses = most_losses
        self.conditions: conditions.Conditions | None = None
        """What every worker must have; None asks for nothing."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._used = False
        self._closing = threading.Event()
        self._telling = threading.Lock()

    @property
    def slots(self) -> int:
        """Batches that are measured side by side."""
        return len(self.links)

    def submit(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> Future[Sequence[Result]]:
        """Queue a batch; see `Executor.submit`. Events name the worker and its batch's size."""
        if self._closing.is_set():
            raise RuntimeError("the executor is closed; make a new one.")
        if len(self._threads) < len(self.links):  # one a batch, so that idle workers never start
            self._start_thread(begin=False)
        job = Job(list(requests), on_event)
        self._used = True
        self._jobs.put(job)
        return job.future

    def begin(self) -> None:
        """Start all workers now, so that they load the study while the first batch is decided."""
        while len(self._threads) < len(self.links):
            self._start_thread(begin=True)

    def _start_thread(self, *, begin: bool) -> None:
        """The next slot; it lives as long as the pool: Linux ends a worker with its thread."""
        index = len(self._threads)
        thread = threading.Thread(target=self._work, args=(index, begin), daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Ask all workers to leave, wait for them, end those that do not."""
        self._closing.set()
        for _ in self._threads:
            self._jobs.put(None)
        started = self.links[: len(self._threads)]
        for link in started:
            link.stop() if self._used else link.kill()  # without a batch there is nothing to keep
        deadline = time.monotonic() + CLOSE_S
        while not all(link.gone() for link in started) and time.monotonic() < deadline:
            time.sleep(0.02)
        for link in started:
            link.kill()
        for thread in self._threads:
            thread.join(timeout=TICK_S * 4)
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    job.future.cancel()

    def _work(self, index: int, begin: bool) -> None:
        slot = Slot(self.links[index], index, self)
        if begin:
            slot.begin()
        while (job := self._jobs.get()) is not None and not self._closing.is_set():
            job.future.set_running_or_notify_cancel()
            try:
                results = slot.measured(job.requests, job.on_event)
            except BaseException as error:  # also an interruption that an event's receiver raised
                job.future.set_exception(error)
            else:
                job.future.set_result(results)
        if job is not None:
            job.future.cancel()

    def tell(self, on_event: Callable[[Event], None], event: Event) -> None:
        """Tell of an event, one at a time."""
        with self._telling:
            on_event(event)

    @property
    def closing(self) -> bool:
        """Whether nothing new should be started."""
        return self._closing.is_set()


class Slot:
    """One worker after the other, and the batch that is measured there."""

    def __init__(self, link: WorkerConnection, index: int, pool: Pool) -> None:
        self.link, self.index, self.pool = link, index, pool
        self.alive = False
        self.moved, self.preparing = 0.0, False
        self.loading_since: float | None = None
        self.cpu_s = 0.0

    def begin(self) -> None:
        """Start the worker before there is a batch; what goes wrong shows with the batch."""
        try:
            self._start()
        except (Lost, OSError):
            self.alive = False
            self.link.kill()

    def measured(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> list[Result]:
        """Results of a batch; those of trials that no worker survives are failures."""
        reached: dict[str, float] = {}
        losses = 0
        while losses < self.pool.most_losses:
            before = dict(reached)
            try:
                return self._measure(requests, on_event, reached)
            except Lost as lost:
                if self.pool.closing:
                    raise
                reason = f"{lost}{self._last_log_lines()}"
                losses = losses + 1 if reached == before else 1
                self._tell(on_event, requests, {"stage": f"replaced: {lost}"})
        if len(requests) > 1:
            half = (len(requests) + 1) // 2
            first = self.measured(requests[:half], on_event)
            return first + self.measured(requests[half:], on_event)
        failure = f"its worker died {losses} times in a row: {reason}"
        return [TrialResult(failure=failure)]

    def _measure(
        self,
        requests: Sequence[Request],
        on_event: Callable[[Event], None],
        reached: dict[str, float],
    ) -> list[Result]:
        """One try. `reached` is the furthest step of every stage in all tries."""
        self.moved, self.preparing = time.monotonic(), False
        try:
            if not self.alive:
                self._tell(on_event, requests, {"stage": "start"})
                self._start()
            self.link.send({"requests": list(requests), "conditions": self.pool.conditions})
            while True:
                message = self._next()
                if "results" in message:
                    self._tell(on_event, requests, {"idle": True})
                    return [TrialResult(**each) for each in message["results"]]
                if "error" in message:
                    raise ObjectiveError(**message["error"])
                event = message.get("event", {"beat": True})
                if "beat" not in message:
                    self.preparing = bool(event.get("preparing"))
                if isinstance(stage := event.get("stage"), str):
                    step = event.get("step", 0)
                    step = step if isinstance(step, int | float) else 0
                    reached[stage] = max(step, reached.get(stage, -1))
                self._tell(on_event, requests, event)
        except (ValueError, ObjectiveError):  # the worker is whole and waits
            raise
        except BaseException as error:
            self.alive = False
            if isinstance(error, Lost):
                self.link.kill()
            else:
                self.link.stop()
            raise

    def _start(self) -> None:
        self.loading_since, self.cpu_s = time.monotonic(), 0.0
        self.link.start()
        self.alive = True
        if self.pool.closing:  # `close` may have looked before there was a worker
            raise Lost("the executor is closed")

    def _next(self) -> Message:
        """The worker's next message but refusals and farewells, which are raised."""
        heard = time.monotonic()
        while (message := self.link.receive(TICK_S)) is None:
            if time.monotonic() - heard > self.pool.silence_s:
                raise Lost(f"no sign of life for {self.pool.silence_s:.0f} s")
        if "beat" in message:
            self._check_progress(message)
        else:
            self.moved = time.monotonic()
            self.loading_since = self.moved if "queued" in message else None
        if "ready" in message and self.pool.conditions is not None:
            here = message.get("conditions", {})
            if changed := conditions.difference(self.pool.conditions, here):
                self.alive = False
                raise conditions.ConditionsChanged(
                    f"{self.link.name} has other data or libraries than this study's trials: "
                    f"{changed}. Restore it and run the same command to go on, or add "
                    "--accept-changes."
                )
        if "refused" in message:
            self.alive = False
            raise ValueError(f"{self.link.name} cannot load the study: {message['refused']}")
        if "stopped" in message:
            raise Lost("told to stop from elsewhere")
        return message

    def _check_progress(self, beat: Message) -> None:
        """Raise Lost if a worker that beats gets no further."""
        now, patience_s, where = time.monotonic(), self.pool.patience_s, ""
        if self.loading_since is not None:
            cpu_s = beat.get("cpu_s", 0.0)
            if cpu_s - self.cpu_s > BUSY_S and now - self.loading_since <= patience_s:
                self.moved, self.cpu_s = now, cpu_s
            patience_s, where = self.pool.loading_s, " while it loaded the study"
        elif self.preparing:
            patience_s, where = self.pool.preparation_s, " while it prepared its data"
        if now - self.moved > patience_s:
            raise Lost(f"no progress for {patience_s:.0f} s{where}")

    def _tell(
        self, on_event: Callable[[Event], None], requests: Sequence[Request], event: Event
    ) -> None:
        about = {"worker": self.link.name, "batch": len(requests)}
        self.pool.tell(on_event, {"step": 0, "steps": 1, **event, **about})

    def _last_log_lines(self) -> str:
        tail = mask(" / ".join(self.link.log().split("\n")))
        return f"; last log lines: {tail}" if tail else ""
