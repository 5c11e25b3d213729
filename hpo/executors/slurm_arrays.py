"""Calls that begin together become one SLURM job array, by submitit; each element a job like any.

A pool's threads hand their calls in one by one. The first of them waits until all of the pool are
there or no more came for `GATHER_S`, and submits what it has: many as an array, one as a job. So
the first batches of a study are one entry of the queue, and one that is asked for later, such as
the replacement of a job that died, is a job of its own. Elements are named ARRAY_INDEX; SLURM
starts, preempts, requeues and cancels each by itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeAlias

GATHER_S = 2.0
"""Seconds without a further call after which those that are there are submitted; assumed: to decide
a wave takes less, and a queue more."""


TIMEOUTS = 1000
"""How often a job may reach its time limit; the pool sees to those that make no progress."""


Call: TypeAlias = Callable[[], None]


class Arrays:
    """Where the jobs of a pool are submitted."""

    def __init__(
        self, folder: Path, *, cluster: str, parameters: Mapping[str, Any], most: int
    ) -> None:
        """`folder`: of submitit's files; `most`: calls that may come together."""
        self.folder, self.cluster, self.most = folder.absolute(), cluster, most
        self.parameters = {"slurm_array_parallelism": most, **parameters}
        self.waiting: list[tuple[Call, Future[Any]]] = []
        self.changed = threading.Condition()

    def submit(self, call: Call) -> Any:
        """The job of a call, once it is submitted."""
        future: Future[Any] = Future()
        with self.changed:
            self.waiting.append((call, future))
            self.changed.notify_all()
            if len(self.waiting) == 1:
                self._gather()
                calls, self.waiting = self.waiting, []
            else:
                calls = []
        if calls:
            self._send(calls)
        return future.result()

    def _gather(self) -> None:
        """Wait until no more calls come."""
        seen = 0
        while seen < len(self.waiting) < self.most:
            seen = len(self.waiting)
            self.changed.wait_for(lambda: len(self.waiting) > seen, GATHER_S)  # noqa: B023

    def _send(self, calls: list[tuple[Call, Future[Any]]]) -> None:
        try:
            private(self.folder)
            executor = submitit().AutoExecutor(
                folder=self.folder, cluster=self.cluster, slurm_max_num_timeout=TIMEOUTS
            )
            executor.update_parameters(name="hpo", **self.parameters)
            with executor.batch():
                jobs = [executor.submit(call) for call, _ in calls]
        except Exception as error:
            unknown = isinstance(error, NameError)  # submitit's word for a setting it does not know
            failure = ValueError(f"--slurm: {error}") if unknown else error
            for _, future in calls:
                future.set_exception(failure)
            return
        for job, (_, future) in zip(jobs, calls, strict=True):
            future.set_result(job)


def submitit() -> Any:
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError(
            "submitit is not installed; run pip install 'plasticity-hpo[slurm]'."
        ) from None
    return submitit


def private(folder: Path) -> None:
    """Make a folder that only its owner may enter: a job runs what is pickled there.

    Raises:
        ValueError: it is another user's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ValueError(f"{folder} belongs to another user; choose another folder with --out.")
    folder.chmod(0o700)
