"""Where batches of requests are measured: one small interface with futures.

The controller submits and records; an executor is stateless but for the work it holds, so that a
study goes on with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hpo.core.objective import Event, Request, Result
    from hpo.core.spec import StudySpec
    from hpo.study_files import StudyRequest


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says of an executor."""

    workers: int | None = None
    """Batches side by side; None leaves it to the executor."""
    patience_s: float | None = None
    """Seconds without progress after which a worker is replaced; None leaves it to the executor."""
    cpus: float = 1.0
    """CPUs of a worker in a cluster."""
    gpus: float = 0.0
    """GPUs of a worker in a cluster; may be a fraction."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """Settings of SLURM jobs."""


class Executor(Protocol):
    """What the controller needs of the place where work is done."""

    @property
    def slots(self) -> int:
        """Batches that are measured side by side."""

    def submit(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> Future[Sequence[Result]]:
        """Begin a batch; the future gives one result a request, in order, or what went wrong.

        `on_event` receives progress events, in any thread. Where the batch is measured before this
        returns, an exception that `on_event` raises comes out here.
        """

    def close(self) -> None:
        """End what is still running; what the objective has stored is kept."""


Make: TypeAlias = "Callable[[StudySpec, StudyRequest, Path, Options], Executor]"
"""Of a study, how it was asked for, the run's folder and options; starts nothing yet."""


def _auto(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.auto import local_executor

    return local_executor(spec, request, folder, options)


def _inline(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.inline import Inline

    return Inline(spec.objective)


def _processes(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.processes import local_pool

    return local_pool(request, folder, options.workers, options.patience_s)


def _ray(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.ray_actors import ray_pool

    return ray_pool(
        request, folder, options.workers, options.patience_s, cpus=options.cpus, gpus=options.gpus
    )


def _slurm(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.slurm import slurm_pool

    return slurm_pool(
        request,
        folder,
        options.workers,
        options.patience_s,
        cpus=options.cpus,
        gpus=options.gpus,
        settings=options.slurm,
    )


EXECUTORS: dict[str, Make] = {
    "auto": _auto,
    "inline": _inline,
    "processes": _processes,
    "ray": _ray,
    "slurm": _slurm,
}
"""Each is imported when it is used: the names alone are on the command line."""
