"""A worker: loads a study as `hpo run` does and measures batches. JSON lines in, JSON lines out.

In: {"launch": {...}, "folder": F} once, then {"requests": [...]}, one batch at a time. The end of
the input ends the worker, so none outlives its controller.

Out: {"ready": true, "conditions": {...}} or {"refused": TEXT}; {"beat": true, "cpu_s": S} every
second from a thread of its own; for a batch {"event": {...}} any number of times, then one of
{"results": [...]}, {"error": {"kind", "text", "trace", "fatal"}} and {"stopped": true}.

SIGTERM, SIGINT and the end of the input let the objective keep what it has at the next event; where
none comes in time the worker leaves without, which loses no more than kill -9 does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import IO, Any, TypeAlias

from hpo.core import conditions, events, failures, results
from hpo.core.objective import Event, Objective, Request, Result
from hpo.executors.interrupts import FURTHER, GRACE_S, Interrupted
from hpo.study_files import received

Message: TypeAlias = dict[str, Any]


Send: TypeAlias = Callable[[Message], None]


BEAT_S = 1.0
"""Seconds between signs of life."""


LAST_S = GRACE_S + 3
"""Seconds after which a worker whose input has ended leaves whatever it does; assumed: within the
15 that preemption gives, also where the interpreter is held up in C code."""


LEFT = 130


PR_SET_PDEATHSIG = 1
"""Linux, <linux/prctl.h>."""


def load(message: Mapping[str, Any]) -> Objective:
    """The objective of the study that a launch message names.

    Raises:
        ValueError: the study cannot be loaded here.
    """
    try:
        os.chdir(message["folder"])
    except OSError as error:
        raise ValueError(
            f"the worker cannot enter {message['folder']} ({error.strerror}); start the study from "
            "a folder that every worker sees."
        ) from None
    return received(message).spec().objective


def loaded(
    launch: Mapping[str, Any], expected: Mapping[str, str] | None, send: Send
) -> Objective | None:
    """Load the study's objective and say so; None where it would measure under other conditions
    than the expected ones, which the controller refuses when it hears of them.

    Raises:
        ValueError: as `load`.
    """
    objective = load(launch)
    here = conditions.of_objective(objective)
    send({"ready": True, "conditions": here})
    return objective if expected is None or here == expected else None


def measure(
    objective: Objective, requests: Sequence[Request], send: Send, stopping: Callable[[], bool]
) -> None:
    """Measure a batch and send what comes of it."""

    def on_event(event: Event) -> None:
        if stopping():
            signal.setitimer(signal.ITIMER_REAL, 0)  # what is being kept now is kept to its end
            raise Interrupted
        send({"event": events.clean(event)})

    try:
        found = results.results(objective.evaluate(requests, on_event), len(requests))
    except Interrupted:
        send({"stopped": True})
    except (Exception, SystemExit, GeneratorExit) as error:
        send({"error": error_message(error)})
    else:
        send({"results": [plain_result(result) for result in found]})


def beat() -> Message:
    """A sign of life, with the CPU seconds of this process."""
    return {"beat": True, "cpu_s": time.process_time()}


def plain_result(result: Result) -> dict[str, Any]:
    """A result as JSON-able data."""
    return {name: getattr(result, name) for name in results.FIELDS}


def error_message(error: BaseException) -> dict[str, Any]:
    """An exception as JSON-able data."""
    found = failures.raised(error)
    return {name: getattr(found, name) for name in ("kind", "text", "trace", "fatal")}


def jsonable(value: object) -> float | str:
    """What JSON has no word for, such as in an event: a number where it is one, else text."""
    try:
        return results.number(value)
    except ValueError:
        return results.text(value)


def main() -> int:
    """Serve the controller at the other end of stdin and stdout; returns the exit code."""
    _die_with_parent()
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    source = _private_input()
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stop = threading.Event()

    def asked(number: int, frame: FrameType | None) -> None:
        if not stop.is_set():
            stop.set()
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)
            lines.put(None)  # safe in a handler, as SimpleQueue is reentrant

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    for number in FURTHER:
        signal.signal(number, signal.SIG_IGN)  # the controller hears them, and asks to stop
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(LEFT))
    lock = threading.Lock()

    def send(message: Message) -> None:
        text = json.dumps(message, default=jsonable)
        with lock, contextlib.suppress(BrokenPipeError):  # the input ends then, too
            wire.write(text + "\n")
            wire.flush()

    threading.Thread(target=_read, args=(source, lines), daemon=True).start()
    threading.Thread(target=_beat, args=(send,), daemon=True).start()
    _serve(iter(lines.get, None), send, stop.is_set)
    return LEFT if stop.is_set() else 0


def _serve(lines: Iterator[str], send: Send, stopping: Callable[[], bool]) -> None:
    first = next(lines, None)
    if first is None:
        return
    try:
        objective = load(json.loads(first))
        here = conditions.of_objective(objective)
    except ValueError as error:
        send({"refused": " ".join(str(error).split())})
        return
    send({"ready": True, "conditions": here})
    for line in lines:
        if stopping():
            return
        measure(objective, json.loads(line)["requests"], send, stopping)


def _private_input() -> IO[str]:
    """The controller's messages; a library that reads the standard input finds it empty."""
    source = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return source


def _read(source: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    """Hand on the input; at its end the worker is asked to stop, as by a signal."""
    for line in source:
        lines.put(line)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_S)
    os._exit(LEFT)


def _beat(send: Send) -> None:
    while True:
        send(beat())
        time.sleep(BEAT_S)


def _die_with_parent() -> None:
    """Have Linux send SIGTERM when the controller is gone, also while the input is not read."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    # Threads of libraries may hold up the interpreter's end; all that matters is on disk.
    code = main()
    sys.stderr.flush()
    os._exit(code)
