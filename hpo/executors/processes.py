"""The executor of one machine: a worker process for each GPU, or for each group of CPUs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from hpo.core import files
from hpo.executors.pool import Lost, Pool, WorkerConnection
from hpo.executors.worker import Message
from hpo.study_files import StudyRequest

CPU_GROUP = 4
"""CPUs a worker where there is no GPU and no number is given; assumed."""


CPU_SHARE = Path("/sys/fs/cgroup/cpu.max")


SHARERS = "HPO_SHARERS"
"""Environment variable of a worker: how many share the memory of its device."""


LOGS = "workers"


LAST_LINES, LAST_CHARACTERS = 4, 600


DEVICES = "import torch; print(torch.cuda.device_count())"


def local_pool(
    launch: StudyRequest, folder: Path, workers: int | None = None, patience_s: float | None = None
) -> Pool:
    """A pool of local processes; each one's log is a file in the run's folder.

    Without a number: as many as there are GPUs for, or one for each `CPU_GROUP` CPUs a device. A
    single worker has as many threads as this process would, and so gives the same results to the
    last bit; several share the CPUs, and another number of threads adds in another order, which
    moves a float's last digits.
    """
    devices = launch.devices or 1
    gpus = [] if launch.device not in (None, "cuda") else _groups(_gpus(), devices)
    cpus = num_cpus()
    count = workers or len(gpus) or max(1, cpus // (CPU_GROUP * devices))
    threads = None if count == 1 else max(1, cpus // count)
    links: list[WorkerConnection] = [
        Process(
            launch,
            log=folder / LOGS / f"worker-{index}.log",
            name=_name(index, gpus),
            environment=_environment(index, gpus, threads)
            | {SHARERS: str(-(-count // max(1, len(gpus))))},
        )
        for index in range(count)
    ]
    return Pool(links, patience_s=patience_s)


def num_cpus() -> int:
    """CPUs that this process may use, also of a container with a share of them (cgroup v2)."""
    here = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        share, period = CPU_SHARE.read_text(encoding="ascii").split()
        return max(1, min(here, int(share) // int(period)))
    except (OSError, ValueError):  # none, or "max"
        return here


def _name(index: int, gpus: list[str]) -> str:
    return f"worker {index}" + (f" on GPU {gpus[index % len(gpus)]}" if gpus else "")


def _groups(gpus: list[str], size: int) -> list[str]:
    """GPUs as one worker sees them; where there are not enough for one, all of them."""
    whole = max(size, len(gpus) // size * size)
    return [",".join(gpus[at : at + size]) for at in range(0, min(whole, len(gpus)), size)]


def _environment(index: int, gpus: list[str], threads: int | None) -> dict[str, str]:
    """A GPU or more of its own, at most so many threads, and the modules that this process sees."""
    found = dict(os.environ)
    if gpus:
        found["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            asked = found.get(name, "")
            found[name] = str(min(threads, int(asked)) if asked.isdigit() else threads)
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return found


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them.

    Asked of another process: this package does not import torch.
    """
    done = subprocess.run([sys.executable, "-P", "-c", DEVICES], capture_output=True, text=True)
    count = int(done.stdout) if done.returncode == 0 else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(index) for index in range(count)]


class Process:
    """A link to `python -m hpo.executors.worker` over its standard streams."""

    def __init__(
        self, launch: StudyRequest, *, log: Path, name: str, environment: Mapping[str, str]
    ) -> None:
        self.launch, self.path, self.name = launch, log, name
        self.environment = environment
        self.process: subprocess.Popen[str] | None = None
        self.inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.log_from = 0

    def start(self) -> None:
        """Start a worker, in place of the one before.

        A session of its own: Ctrl-C is for the controller to hand on.
        """
        self.kill()
        files.make_folder(self.path.parent)
        with os.fdopen(files.open_log(self.path), "a", encoding="utf-8") as log:
            self.log_from = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hpo.executors.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=self.environment,
                start_new_session=True,
            )
        self.inbox = queue.SimpleQueue()
        assert self.process.stdout is not None
        reader = threading.Thread(target=_read, args=(self.process.stdout, self.inbox), daemon=True)
        reader.start()
        self.send(self.launch.message())

    def send(self, message: Message) -> None:
        """Send a message; raises Lost if nobody receives it."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            raise Lost(self._end()) from None

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None if none came in time; raises Lost if none will come."""
        try:
            message = self.inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message is None:
            raise Lost(self._end())
        return message

    def log(self) -> str:
        """The last lines that the worker wrote."""
        return last_lines(self.path, self.log_from)

    def stop(self) -> None:
        """Ask the worker to store what it has and leave."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def gone(self) -> bool:
        """Whether the worker has left."""
        return self.process is None or self.process.poll() is not None

    def kill(self) -> None:
        """End the worker at once. Its own children, which share its session, go with it."""
        process = self.process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]

    def _end(self) -> str:
        """How the worker's process ended."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "its output ended"
        if code >= 0:
            return f"it left with code {code}"
        name = signal.Signals(-code).name
        hint = ", which is also how the system ends what takes too much memory"
        return f"it was ended by {name}{hint if -code == signal.SIGKILL else ''}"


def last_lines(path: Path, start: int) -> str:
    """The end of what a log has from this byte on; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            lines = deque(file.read().decode(errors="replace").splitlines(), LAST_LINES)
    except OSError:
        return ""
    return "\n".join(lines)[-LAST_CHARACTERS:]


def _read(stream: IO[str], inbox: queue.SimpleQueue[Message | None]) -> None:
    """Hand on what the worker says until it says no more."""
    with contextlib.suppress(ValueError, OSError):  # half a line, or the stream was closed here
        for line in stream:
            inbox.put(json.loads(line))
    inbox.put(None)
