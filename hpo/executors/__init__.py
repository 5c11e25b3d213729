"""Where batches of requests are measured: one small interface with futures.

The controller submits and records; an executor is stateless but for the work it holds, so that a
study goes on with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from hpo.executors.inline import Inline
from hpo.spec import Event, Request, Result

__all__ = ["Executor", "Inline"]


class Executor(Protocol):
    """What the controller needs of the place where work is done."""

    @property
    def slots(self) -> int:
        """Batches that are measured side by side."""

    def submit(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> Future[Sequence[Result]]:
        """Begin a batch; the future gives one result a request, in order, or what went wrong.

        `on_event` is told of progress, in any thread. Where the batch is measured before this
        returns, an exception that `on_event` raises comes out here.
        """

    def close(self) -> None:
        """End what is still running; what the objective has stored is kept."""
