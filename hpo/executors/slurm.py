"""The executor of a SLURM cluster, by submitit: every batch is a job, those that begin together an
array (`slurm_arrays.py`).

1. A batch has a folder under the run's, named by what is asked. A job writes what a worker says
   into its file `outbox.jsonl`, which the controller reads: state is in files and nowhere else.
2. Results that are there are taken. A job of an earlier controller that still runs is listened to.
   Else a new job is submitted, with a ticket; a job whose ticket is no longer the folder's stops.
3. On preemption or at its time limit the job has the objective keep what it has, and is queued
   again; the store has the rest.

submitit keeps the call as a pickle beside its scripts and logs in `jobs/`: only strings are in it.
Nobody but its owner may enter the folder; nothing else is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpo.core import files
from hpo.executors.pool import Lost, Pool, WorkerConnection
from hpo.executors.processes import last_lines
from hpo.executors.slurm_arrays import Arrays, private, submitit
from hpo.executors.worker import BEAT_S, Message, beat, jsonable, loaded, measure
from hpo.study_files import StudyRequest

OUTBOX, TICKET, FOLDER, JOBS = "outbox.jsonl", "ticket", "slurm", "jobs"


LISTEN_S = 3 * BEAT_S
"""Seconds in which a job that runs says something."""


LOOK_S = 0.1


QUEUED, RUNS, ENDED = "queued", "runs", "ended"


ASK_S = 5.0
"""Seconds between questions to SLURM about a job; assumed: gentle on a controller of thousands."""


def slurm_pool(
    launch: StudyRequest,
    folder: Path,
    workers: int | None = None,
    patience_s: float | None = None,
    *,
    cpus: float = 1.0,
    gpus: float = 0.0,
    settings: Mapping[str, Any] | None = None,
) -> Pool:
    """A pool of at most `workers` jobs at once, one if not given; the first are one array.

    `settings`: submitit's for SLURM, such as partition, time (minutes), account, qos; `cluster`
    "local" runs jobs as processes of this machine, to try.

    Raises:
        ValueError: there is no submitit or no SLURM, a share of a GPU is asked for, or a name has
            what SLURM's scripts cannot hold.
    """
    given = dict(settings or {})
    cluster = str(given.pop("cluster", "slurm"))
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ValueError(
            "there is no SLURM here (no sbatch); run this on its login node, or add --slurm "
            "cluster=local to try it with processes."
        )
    if gpus != int(gpus) or cpus != int(cpus):
        raise ValueError(f"SLURM gives whole CPUs and GPUs, got {cpus:g} and {gpus:g}.")
    _check_names(folder, given)
    resources = {"cpus_per_task": max(1, int(cpus)), "gpus_per_node": int(gpus)}
    given = {name if cluster == "local" else f"slurm_{name}": v for name, v in given.items()}
    count, root = workers or 1, folder.absolute() / FOLDER
    arrays = Arrays(root / JOBS, cluster=cluster, parameters={**resources, **given}, most=count)
    links: list[WorkerConnection] = [
        Job(launch, folder=root, name=f"job {index}", arrays=arrays) for index in range(count)
    ]
    return Pool(links, patience_s=patience_s)


def _check_names(folder: Path, given: Mapping[str, Any]) -> None:
    """A line break would end a comment of the script, and a % represents a job's number."""
    if not str(folder.absolute()).isprintable() or "%" in str(folder.absolute()):
        raise ValueError(
            f"SLURM cannot use the folder {str(folder)!r}, whose name holds a % or a character "
            "that is not printed; choose another with --out."
        )
    for name, value in given.items():
        if not name.isidentifier() or (isinstance(value, str) and not value.isprintable()):
            raise ValueError(
                f"--slurm takes names and values of one line, got {f'{name}={value}'!r}."
            )


class Batch:
    """What a job does. Made of strings, as submitit pickles it."""

    def __init__(self, launch: str, expected: str, requests: str, folder: str, ticket: str) -> None:
        self.given = (launch, expected, requests, folder, ticket)

    def __call__(self) -> None:
        """Measure in a thread, so that the signal's handler can wait for it."""
        launch, expected, requests, folder, ticket = self.given
        self.asked, self.requeued = threading.Event(), False
        with os.fdopen(files.open_log(Path(folder) / OUTBOX), "a", encoding="utf-8") as outbox:
            lock = threading.Lock()

            def send(message: Message) -> None:
                if "stopped" in message and self.requeued:
                    message = {"event": {"stage": "queued again", "step": 0, "steps": 1}}
                with lock:
                    outbox.write(json.dumps(message, default=jsonable) + "\n")
                    outbox.flush()

            def stopping() -> bool:
                return self.asked.is_set() or _ticket(Path(folder)) != ticket

            def work() -> None:
                try:
                    objective = loaded(json.loads(launch), json.loads(expected), send)
                except ValueError as error:
                    send({"refused": " ".join(str(error).split())})
                    return
                if objective is not None:
                    measure(objective, json.loads(requests), send, stopping)

            if _ticket(Path(folder)) != ticket:  # it waited for longer than its controller
                return
            self.thread = threading.Thread(target=work, daemon=True)
            self.thread.start()
            while self.thread.is_alive():
                send(beat())
                self.thread.join(BEAT_S)

    def checkpoint(self) -> Any:
        """Keep what there is; what submitit queues again, or the same as before."""
        self.requeued = True
        self.asked.set()
        self.thread.join()
        return submitit().helpers.DelayedSubmission(Batch(*self.given))


class Job:
    """A link to one job after the other."""

    def __init__(self, launch: StudyRequest, *, folder: Path, name: str, arrays: Arrays) -> None:
        self.message = json.dumps(launch.message())
        self.asks = json.dumps(asdict(launch), sort_keys=True)
        self.root, self.name = folder.absolute(), name
        self.arrays, self.folder = arrays, self.root
        self.job: Any = None
        self.state, self.ask_at = QUEUED, 0.0
        self.read_to = 0
        self.begun = False

    def start(self) -> None:
        """Start a worker, in place of the one before. A job is submitted with its batch."""
        submitit()
        self.kill()
        private(self.root)

    def send(self, message: Message) -> None:
        """Send a message; raises Lost if nobody receives it."""
        requests = json.dumps(message["requests"], sort_keys=True)
        expected = json.dumps(message.get("conditions"), sort_keys=True)
        asks = f"{self.asks}\n{requests}" + ("" if expected == "null" else f"\n{expected}")
        key = hashlib.sha256(asks.encode()).hexdigest()[:24]
        self.folder, self.job = self.root / key, None
        self.state, self.ask_at = QUEUED, 0.0
        files.make_folder(self.folder)
        outbox = self.folder / OUTBOX
        if outbox.is_file() and b'"results"' in outbox.read_bytes():
            self.read_to, self.begun = 0, True
        elif _grows(outbox):
            self.read_to, self.begun = outbox.stat().st_size, True
        else:
            outbox.unlink(missing_ok=True)
            self.read_to, self.begun = 0, False
            ticket = uuid.uuid4().hex
            files.write(self.folder / TICKET, ticket)
            batch = Batch(self.message, expected, requests, str(self.folder), ticket)
            self.job = self.arrays.submit(batch)
            if _ticket(self.folder) != ticket:
                self.kill()
                raise Lost("asked to stop before it was submitted")

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None if none came in time; raises Lost if none will come.

        A job in the queue is not lost.
        """
        deadline = time.monotonic() + timeout_s
        while (message := self._line()) is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        if message is not None:
            self.begun = True
            return message
        state = self._state()
        if state.startswith(ENDED):
            if (message := self._line()) is not None:  # written after the look, before the end
                return message
            raise Lost(f"job {self.job.job_id} {state}")
        queued = {"event": {"stage": "in the queue", "step": 0, "steps": 1}, "queued": True}
        return queued if state == QUEUED or not self.begun else None

    def log(self) -> str:
        """The last lines that the worker wrote."""
        if self.job is None:
            return ""
        return last_lines(Path(self.job.paths.stderr), 0)

    def stop(self) -> None:
        """Ask the worker to store what it has and leave."""
        with contextlib.suppress(OSError):
            (self.folder / TICKET).unlink(missing_ok=True)

    def gone(self) -> bool:
        """Whether the worker has left."""
        return self.job is None or self._state().startswith(ENDED)

    def kill(self) -> None:
        """End the worker at once."""
        self.stop()
        job, self.job = self.job, None
        if job is not None:
            job.cancel(check=False)

    def _state(self) -> str:
        """QUEUED, RUNS, or a text that begins with ENDED.

        SLURM is asked by squeue, as submitit asks its accounting, which many clusters do not keep:
        a job that has left the queue has ended.
        """
        if self.job is None:
            return RUNS
        if self.arrays.cluster != "slurm":
            waits = self.job.state in ("PENDING", "REQUEUED", "UNKNOWN")
            state = QUEUED if waits else RUNS
            return f"{ENDED} as {self.job.state}" if self.job.done() else state
        if self.job.paths.result_pickle.exists():
            return f"{ENDED} well"
        if time.monotonic() >= self.ask_at:
            self.ask_at = time.monotonic() + ASK_S
            self.state = _in_queue(self.job.job_id) or self.state
        return self.state

    def _line(self) -> Message | None:
        """The next whole line that a job has written."""
        try:
            with (self.folder / OUTBOX).open("rb") as file:
                file.seek(self.read_to)
                line = file.readline()
        except OSError:
            return None
        if not line.endswith(b"\n"):
            return None
        self.read_to += len(line)
        message: Message = json.loads(line)
        return message


def _ticket(folder: Path) -> str:
    try:
        return (folder / TICKET).read_text(encoding="ascii")
    except OSError:
        return ""


def _in_queue(job_id: str) -> str | None:
    """What squeue says of a job; None where SLURM does not answer."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job_id}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    states = done.stdout.split()
    if not states:
        return f"{ENDED} without a result"
    return RUNS if states[0] in ("RUNNING", "COMPLETING") else QUEUED


def _grows(path: Path) -> bool:
    """Whether a job writes here."""
    if not path.is_file() or time.time() - path.stat().st_mtime > 60 * LISTEN_S:
        return False
    size, deadline = path.stat().st_size, time.monotonic() + LISTEN_S
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        if path.stat().st_size > size:
            return True
    return False
