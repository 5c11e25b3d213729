"""The executor of the controller's own process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from hpo.spec import Event, Objective, Request, Result


class Inline:
    """Measures a batch at once, while `submit` runs."""

    slots = 1

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def submit(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> Future[Sequence[Result]]:
        """A future that is done; see `Executor.submit`."""
        future: Future[Sequence[Result]] = Future()
        try:
            future.set_result(self.objective.evaluate(requests, on_event))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing is left running."""
