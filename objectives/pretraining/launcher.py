"""The processes of one trial on several devices: started, watched and ended here.

The first rank's progress is handed on; an exception that it meets becomes a request to stop, after
which all lanes are stored. A rank that fails or is lost ends the others, with one sentence.

Ranks meet in a file and talk over the loopback interface: nothing of this machine is to be reached
from another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, NoReturn

import psutil
import torch

from objectives.store.store import StoreError

SETTLE_S = 5.0
"""Seconds in which ranks leave by themselves when one has failed or is lost; assumed."""


LOOPBACK = "127.0.0.1"


LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun says to this process is not for its ranks."""


KINDS: dict[str, type[Exception]] = {
    "ValueError": ValueError, "StoreError": StoreError, "MemoryError": MemoryError,
}  # fmt: skip
"""Failures of a rank that mean the same here; others may only follow from them."""


Message = dict[str, Any]


class RanksError(RuntimeError):
    """The processes of a trial did not come to an end together."""

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.trace = trace


class Processes:
    """The ranks of one call."""

    def __init__(self, asked: Message, count: int, folder: str) -> None:
        """Start them on what is asked; they meet in a file of the folder."""
        self.inbox: queue.SimpleQueue[tuple[int, Message | None]] = queue.SimpleQueue()
        self.open = set(range(count))
        """Ranks that may still say something."""
        handle, meeting = tempfile.mkstemp(dir=folder)
        os.close(handle)
        self.processes = [_start(count) for _ in range(count)]
        for rank, process in enumerate(self.processes):
            threading.Thread(target=self._read, args=(rank, process), daemon=True).start()
            self._send(rank, {**asked, "rank": rank, "count": count, "meeting": meeting})

    def run(self, report: Callable[[Message], None]) -> list[Message]:
        """Hand on progress until all have left; returns what came of the jobs.

        Raises:
            RanksError: a rank failed or was lost.
        """
        stop: BaseException | None = None
        done: list[Message] | None = None
        while self.open:
            rank, message = self.inbox.get()
            if message is None:
                self.open.discard(rank)
                if self.processes[rank].wait() != 0:
                    self._fail([])
            elif "error" in message:
                self._fail([message["error"]])
            elif "done" in message:
                done = message["done"]
            elif stop is None:
                stop = self._tell(message["event"], report)
        if stop is not None:
            raise stop
        assert done is not None
        return done

    def kill(self) -> None:
        """End what still runs."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]

    def _tell(self, event: Message, report: Callable[[Message], None]) -> BaseException | None:
        """Report a step; an exception is handed on as a request to stop, and returned."""
        try:
            report({**event, "loss": torch.tensor(event["loss"])})
        except BaseException as error:
            self._send(0, {"stop": True})
            return error
        return None

    def _fail(self, errors: list[Message]) -> NoReturn:
        """Raise what ended the ranks: what a loss was by, else what others may follow from."""
        errors.extend(self._last_words())
        count = len(self.processes)
        for rank, process in enumerate(self.processes):
            code = 0 if rank in self.open else process.wait()
            if code < 0:
                raise RanksError(_loss(rank, count, code))
        for error in errors:
            if error["kind"] in KINDS:
                raise KINDS[error["kind"]](error["text"])
        if not errors:
            raise RanksError(f"a process of {count} exited without an error message; see its log.")
        first = errors[0]
        text = f"training on {count} devices failed: {first['kind']}: {first['text']}"
        raise RanksError(text, first["trace"])

    def _last_words(self) -> Iterator[Message]:
        """Failures that ranks tell of before they leave, or before their time is over."""
        until = time.monotonic() + SETTLE_S
        while self.open and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                rank, message = self.inbox.get(timeout=0.1)
                if message is None:
                    self.open.discard(rank)
                elif "error" in message:
                    yield message["error"]

    def _send(self, rank: int, message: Message) -> None:
        stream = self.processes[rank].stdin
        assert stream is not None
        with contextlib.suppress(OSError):  # it has left, which its output tells
            stream.write(json.dumps(message) + "\n")
            stream.flush()

    def _read(self, rank: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for message in _messages(process.stdout):
            self.inbox.put((rank, message))
        self.inbox.put((rank, None))


def _messages(stream: IO[str]) -> Iterator[Message]:
    with contextlib.suppress(ValueError, OSError):  # half a line, or the stream was closed here
        for line in stream:
            yield json.loads(line)


def _start(count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "objectives.pretraining.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment(count),
    )


def environment(count: int) -> dict[str, str]:
    """Of one of so many ranks: its share of the threads, and this process's modules."""
    interface = _loopback()
    found = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    return {
        **found,
        "PYTHONHASHSEED": "0",  # sets of names are gone through in one order by all
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count)),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _loopback() -> str:
    """The name of the interface that only this machine reaches."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == socket.AF_INET and each.address == LOOPBACK for each in addresses):
            return str(name)
    raise RanksError(f"no network interface has the address {LOOPBACK}; train on one device.")


def _loss(rank: int, count: int, code: int) -> str:
    """How a rank was ended, and how to go on."""
    name = signal.Signals(-code).name
    hint = ", which is also how the system ends what takes too much memory" if code == -9 else ""
    return (
        f"rank {rank} of {count} was ended by {name}{hint}; what is stored is kept, run the same "
        "command to go on."
    )
