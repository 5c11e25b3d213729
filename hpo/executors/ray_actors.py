"""The executor of a Ray cluster: an actor for each worker, which loads the study by its path.

RAY_ADDRESS names a cluster that runs; without it Ray takes the one of this machine, or starts one.
Actors get JSON text and give JSON text; every machine needs this package and the study's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from hpo.core import files
from hpo.core.failures import StorageError
from hpo.core.format import escape_controls
from hpo.core.objective import Objective
from hpo.core.passwords import mask
from hpo.executors.pool import Lost, Pool, WorkerConnection
from hpo.executors.processes import LOGS, last_lines
from hpo.executors.worker import BEAT_S, Message, beat, jsonable, loaded, measure
from hpo.study_files import StudyRequest

START: dict[str, Any] = {
    "log_to_driver": False,
    "include_dashboard": False,
    "logging_level": "warning",
}


START_S = 55.0
"""Seconds in which Ray has to start; assumed: it needs 5 to 20."""


def ray_pool(
    launch: StudyRequest,
    folder: Path,
    workers: int | None = None,
    patience_s: float | None = None,
    *,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Pool:
    """A pool of actors, each with this share of CPUs and GPUs; without a number as many as fit.

    Raises:
        ValueError: Ray is not installed, or the cluster is too small for one.
    """
    ray = _ray()
    there = ray.cluster_resources()
    fitting = [there.get("CPU", 0.0) / cpus] if cpus else []
    fitting += [there.get("GPU", 0.0) / gpus] if gpus else []
    most = int(min(fitting, default=1))
    if most < 1:
        raise ValueError(
            f"the Ray cluster has {there.get('CPU', 0.0):g} CPUs and {there.get('GPU', 0.0):g} "
            f"GPUs, and a worker asks for {cpus:g} and {gpus:g}; lower --worker-cpus or "
            "--worker-gpus."
        )
    resources = {"num_cpus": cpus, "num_gpus": gpus}
    logs = (folder / LOGS).absolute()
    links: list[WorkerConnection] = [
        Actor(launch, log=logs / f"worker-{index}.log", name=f"worker {index}", resources=resources)
        for index in range(workers or most)
    ]
    return Pool(links, patience_s=patience_s)


def _ray() -> Any:
    """Ray, connected.

    Raises:
        ValueError: it is not installed.
        StorageError: it cannot start.
    """
    if find_spec("ray") is None:
        raise ValueError("Ray is not installed; run pip install 'plasticity-hpo[ray]'.")
    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
        _try_start()
        import ray

        try:
            ray.init(**START)
        except (Exception, SystemExit) as error:  # Ray fails in many ways, and with many types
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise _cannot_start(lines[0]) from None
    return sys.modules["ray"]


def _cannot_start(reason: str) -> StorageError:
    return StorageError(
        f"Ray cannot start here ({escape_controls(mask(reason))}); check RAY_ADDRESS and `ray "
        f"status`, or "
        "take --executor processes."
    )


def _try_start() -> None:
    """Start Ray in another process first, which can be ended when it hangs.

    Ray waits for a cluster that does not answer for minutes, deaf to signals, and ends the process
    then.

    Raises:
        StorageError: it cannot start.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-c", f"import ray; ray.init(**{START!r})"]
    with tempfile.TemporaryFile() as errors:
        child = psutil.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
        )
        try:
            code = child.wait(START_S)
        except BaseException as error:  # also an interruption
            for each in [*child.children(recursive=True), child]:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            child.wait()
            if not isinstance(error, psutil.TimeoutExpired | subprocess.TimeoutExpired):
                raise
            raise _cannot_start(f"no answer within {START_S:.0f} s") from None
        if code:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise _cannot_start(_reason(lines) or f"exit code {code}")


def _reason(lines: Sequence[str]) -> str:
    """The first line of an error's text; below a traceback it is what is not indented."""
    traces = [place for place, line in enumerate(lines) if line.startswith("Traceback ")]
    below = lines[traces[-1] + 1 :] if traces else lines[-1:]
    found = next((line for line in below if line.strip() and not line.startswith(" ")), "")
    kind, colon, text = found.partition(": ")
    return text if colon and " " not in kind else found


class Served:
    """What lives in an actor's process."""

    def __init__(self, message: str, log: str) -> None:
        files.make_folder(Path(log).parent)
        handle = files.open_log(Path(log))
        for stream in (1, 2):
            os.dup2(handle, stream)
        self.message = message
        self.objective: Objective | None = None
        self.asked, self.idle = threading.Event(), threading.Event()
        self.idle.set()

    def talk(self, message: str) -> Iterator[str]:
        """Measure a batch in a thread, and say what it says, with signs of life between."""
        self.idle.clear()
        outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(json.loads(message), outbox), daemon=True).start()
        while True:
            try:
                each = outbox.get(timeout=BEAT_S)
            except queue.Empty:
                each = beat()
            if each is None:
                return
            yield json.dumps(each, default=jsonable)

    def leave(self) -> None:
        """Have the batch stop at its next event, and wait until it has."""
        self.asked.set()
        self.idle.wait()

    def _work(self, message: Message, outbox: queue.SimpleQueue[Message | None]) -> None:
        try:
            outbox.put({"beat": True})
            if self.objective is None:
                launch, expected = json.loads(self.message), message.get("conditions")
                self.objective = loaded(launch, expected, outbox.put)
            if self.objective is not None:
                measure(self.objective, message["requests"], outbox.put, self.asked.is_set)
        except ValueError as error:
            outbox.put({"refused": " ".join(str(error).split())})
        finally:
            self.idle.set()
            outbox.put(None)


class Actor:
    """A link to an actor."""

    def __init__(
        self, launch: StudyRequest, *, log: Path, name: str, resources: dict[str, float]
    ) -> None:
        self.launch, self.path, self.name, self.resources = launch, log, name, resources
        self.actor: Any = None
        self.says: Any = None
        self.leaving: Any = None
        self.begun = False
        self.log_from = 0

    def start(self) -> None:
        """Start a worker, in place of the one before.

        A dead actor is not Ray's to restart: its batch would be lost.
        """
        self.kill()
        self.log_from = self.path.stat().st_size if self.path.is_file() else 0
        modules = os.pathsep.join(path for path in sys.path if path)
        made = (
            _ray()
            .remote(Served)
            .options(
                **self.resources,
                max_restarts=0,
                max_concurrency=2,
                runtime_env={"env_vars": {"PYTHONPATH": modules}},
            )
        )
        self.actor = made.remote(json.dumps(self.launch.message()), str(self.path))
        self.leaving, self.begun = None, False

    def send(self, message: Message) -> None:
        """Send a message; raises Lost if nobody receives it."""
        talk = self.actor.talk.options(num_returns="streaming")
        self.says = talk.remote(json.dumps(message))

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None if none came in time; raises Lost if none will come.

        An actor that waits for its share of the cluster is not lost.
        """
        ray = _ray()
        try:
            ready, _ = ray.wait([self.says], timeout=timeout_s)
            if not ready:
                event = {"stage": "wait for the cluster", "step": 0, "steps": 1}
                return None if self.begun else {"event": event, "queued": True}
            self.begun = True
            message: Message = json.loads(ray.get(next(self.says)))
        except StopIteration:
            raise Lost("it ended in the middle") from None
        except ray.exceptions.RayError as error:
            raise Lost(str(error).strip().splitlines()[0]) from None
        return message

    def log(self) -> str:
        """The last lines that the worker wrote."""
        return last_lines(self.path, self.log_from)

    def stop(self) -> None:
        """Ask the worker to store what it has and leave."""
        if self.actor is not None and self.leaving is None:
            self.leaving = self.actor.leave.remote()

    def gone(self) -> bool:
        """Whether the worker has left."""
        if self.actor is None or (not self.begun and self.leaving is not None):
            return True
        return self.leaving is not None and bool(_ray().wait([self.leaving], timeout=0)[0])

    def kill(self) -> None:
        """End the worker at once."""
        actor, self.actor = self.actor, None
        if actor is not None:
            with contextlib.suppress(Exception):  # Ray's own end may have come before
                _ray().kill(actor)
