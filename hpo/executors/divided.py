"""One wave at a time, divided among the workers of a pool.

The wave is decided as a whole and recorded as a whole, so that the search sees the same answers in
the same order whatever the number of workers. Requests that train the same steps go to one worker
where that does not keep the others waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from hpo.core import conditions
from hpo.core.failures import ObjectiveError
from hpo.core.objective import Event, Objective, Request, Result
from hpo.executors.pool import Pool

FINETUNING = 1.0
"""Cost of what follows pretraining, in pretrainings at full fidelity; measured at the quickstart's
size, where both take half of a trial."""


ALIKE = 0.5
"""Share of a request's training from which it belongs to another's group; assumed."""


WAITS = "done, waits for the rest of the wave"


class Divided:
    """An executor that measures each batch on all workers of a pool."""

    slots = 1

    def __init__(self, pool: Pool, objective: Objective) -> None:
        self.pool, self.objective = pool, objective

    @property
    def conditions(self) -> conditions.Conditions | None:
        """What every worker must have."""
        return self.pool.conditions

    @conditions.setter
    def conditions(self, given: conditions.Conditions | None) -> None:
        self.pool.conditions = given

    def begin(self) -> None:
        """Start all workers now."""
        self.pool.begin()

    def submit(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> Future[Sequence[Result]]:
        """Queue a batch; see `Executor.submit`.

        Events have the `places` in the batch that they are about. Where the objective raises, the
        future waits for the other parts, which keep what they finish.
        """
        parts = divide(requests, self.pool.slots, self.objective)
        whole = _Whole(parts, len(requests), lambda event: self.pool.tell(on_event, event))
        for index, part in enumerate(parts):
            some = [requests[place] for place in part]
            future = self.pool.submit(some, whole.listener(index, on_event))
            future.add_done_callback(lambda done, index=index: whole.add(index, done))  # type: ignore[misc]
        return whole.future

    def close(self) -> None:
        """End what is still running."""
        self.pool.close()


class _Whole:
    """A batch whose parts are measured side by side."""

    def __init__(
        self, parts: Sequence[Sequence[int]], size: int, tell: Callable[[Event], None]
    ) -> None:
        self.parts, self.tell = parts, tell
        self.future: Future[Sequence[Result]] = Future()
        self.results: dict[int, Result] = {}
        self.left = len(parts)
        self.error: ObjectiveError | None = None
        self.idle: list[Event] = []
        """Of workers that are done, for when the others are."""
        self._lock = threading.Lock()

    def listener(self, index: int, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
        """Names the part's places; a worker that is done is shown to wait for the others."""
        places = list(self.parts[index])

        def listen(event: Event) -> None:
            if "idle" in event:
                self.idle.append(event)
                event = {name: value for name, value in event.items() if name != "idle"}
                event |= {"stage": WAITS, "done_frac": 1.0}
            on_event({**event, "places": places})

        return listen

    def add(self, index: int, done: Future[Sequence[Result]]) -> None:
        """Take a part's results, or what went wrong."""
        with self._lock:
            self.left -= 1
            try:
                found = done.result()
                self.results |= zip(self.parts[index], found, strict=True)
            except ObjectiveError as error:
                self.error = self.error or error
            except BaseException as error:  # an interruption, or a worker that refuses the study
                self._fail(error)
        if self.left == 0:
            self._end()

    def _fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def _end(self) -> None:
        try:
            for event in self.idle:
                self.tell(event)
        except BaseException as error:
            self._fail(error)
        if self.error is not None:
            self._fail(self.error)
        if not self.future.done():
            self.future.set_result([self.results[place] for place in sorted(self.results)])


def divide(requests: Sequence[Request], most: int, objective: Objective) -> list[list[int]]:
    """Places of the requests in at most `most` parts of like cost, in order within each part.

    Requests are spread singly, and as groups that train much of the same; the way is taken in which
    the most expensive part costs less. What a part trains once is counted once.
    """
    places = range(len(requests))
    if most <= 1 or len(requests) <= 1:
        return [list(places)]
    shares = {
        (one, other): objective.reused(requests[one], requests[other])
        for one in places
        for other in places
        if one != other
    }

    def cost(part: Sequence[int]) -> float:
        """In pretrainings at full fidelity."""
        return sum(
            requests[one]["fidelity"] * (1 - max((shares[one, o] for o in part[:at]), default=0.0))
            + (0.0 if requests[one].get("base_only") else FINETUNING)
            for at, one in enumerate(part)
        )

    ways = [
        _spread(groups, min(most, len(requests)), cost)
        for groups in ([[place] for place in places], _alike(len(requests), shares))
    ]
    best = min(ways, key=lambda parts: (max(map(cost, parts)), sum(map(cost, parts))))
    return [sorted(part) for part in best if part]


def _spread(
    groups: Sequence[list[int]], most: int, cost: Callable[[Sequence[int]], float]
) -> list[list[int]]:
    """The most expensive group first, each goes to the part that is least expensive with it."""
    parts: list[list[int]] = [[] for _ in range(most)]
    for group in sorted(groups, key=cost, reverse=True):
        least = min(range(most), key=lambda index: cost(parts[index] + group))
        parts[least] += group
    return parts


def _alike(count: int, shares: Mapping[tuple[int, int], float]) -> list[list[int]]:
    """Groups in which each request shares much with one before it."""
    groups: list[list[int]] = []
    for place in range(count):
        near = (g for g in groups if any(shares[place, other] >= ALIKE for other in g))
        group = next(near, None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    return groups
