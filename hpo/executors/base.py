"""What the controller needs of an executor, and what the command line says of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hpo.core.objective import Event, Request, Result


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
