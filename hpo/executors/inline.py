"""The executor of the controller's own process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from hpo.core.events import clean
from hpo.core.failures import raised
from hpo.core.objective import Event, Objective, Request, Result
from hpo.core.results import results


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
        own: list[BaseException] = []
        """What the receiver of events raised, which is no fault of the objective."""

        def tell(event: Event) -> None:
            try:
                on_event(clean(event))
            except BaseException as error:
                own.append(error)
                raise

        try:
            future.set_result(results(self.objective.evaluate(requests, tell), len(requests)))
        except (Exception, SystemExit, GeneratorExit) as error:  # an interruption is no failure
            future.set_exception(own[0] if own else raised(error))
        return future

    def close(self) -> None:
        """Nothing is left running."""
