"""The controller: decide a wave, have it measured, record it; until the study is done.

1. What an earlier process left unanswered is measured first, with the same params, seeds,
   fidelities and batches.
2. A wave of questions is decided (hpo/search/strategy.py), each written down before any is
   measured.
3. The executor measures the wave as one batch; with several slots, several waves side by side.
4. Each answer is recorded (hpo/recording.py).

One process writes a study; stopping it at any point loses at most the waves that are being
measured, and of those only what the objective had not stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from hpo.core import conditions
from hpo.core.failures import ObjectiveError
from hpo.core.objective import Event, Request, Result
from hpo.core.results import TrialResult, results
from hpo.core.spec import StudySpec
from hpo.core.trial import Ask, Run, Trial
from hpo.executors import Executor
from hpo.executors.divided import Divided
from hpo.executors.inline import Inline
from hpo.executors.pool import Pool
from hpo.front import reevaluation
from hpo.recording import StudyRecord
from hpo.search import stopping
from hpo.search.group_search import GroupSearch
from hpo.search.stopping import StopReason
from hpo.storage.record import guarded


class Controller:
    """Measures a study and records it."""

    def __init__(
        self,
        spec: StudySpec,
        url: str,
        executor: Executor | None = None,
        *,
        wall_s: float | None = None,
        accept_changes: bool = False,
        widen: bool = False,
        next_replicate: Callable[[Run], int | None] = reevaluation.next_replicate,
    ) -> None:
        """Open the record, making it if it is not there; measure inline if no executor is given.

        No new wave starts `wall_s` seconds after measuring began. With `accept_changes` other data
        or library versions than those of earlier trials begin a group of trials of their own.
        With `widen` the space may be wider than the one that the record was started with.
        `next_replicate` says which trial deserves another seed.

        Raises:
            ValueError: the sampler needs a package that is not installed.
            StudyChanged: the record was started with other settings.
            StorageError: the storage cannot be used.
        """
        self.record = StudyRecord(spec, url, widen=widen)
        self.executor: Executor = Inline(spec.objective) if executor is None else executor
        self.wall_s, self.started_s = wall_s, 0.0
        self.accept_changes, self.next_replicate = accept_changes, next_replicate
        self.stop_reason: StopReason | None = None
        """Why no wave started although trials were left."""
        self.failures: list[tuple[str, bool]] = []
        """Failures in a row that this process has seen: the reason, and whether it was raised."""
        self.log: Callable[[str], None] = lambda trace: None
        """Takes the traceback of what the objective raised for a trial."""
        self.submitted: set[int] = set()
        """Waves that this process has decided to their end."""
        self.search = self._new_search()

    def run(
        self, on_event: Callable[[Event], None] = lambda event: None, *, wait: bool = False
    ) -> Run:
        """Measure until the trials or a limit are used up; returns the record.

        `wait`: for another controller of the study to end; else that is an error.

        Raises:
            lease.LeaseHeld: another controller runs the study.
            lease.LeaseLost: another has taken over from this one.
            ConditionsChanged: the data or the libraries are not those of earlier trials.
        """
        with self.record.held(wait=wait, on_wait=lambda text: on_event({"waiting": text})):
            self._begin()
            self._measure(on_event)
            with guarded(self.record.url):
                if self.stop_reason is None or self.stop_reason.limit is not None:
                    self.record.stop_waiting()
                return self.record.run()

    def _begin(self) -> None:
        now = conditions.of_objective(self.record.spec.objective)
        if isinstance(
            self.executor, Pool | Divided
        ):  # a worker may start later, or on another machine
            self.executor.conditions = now
        self.record.read(now, accept_changes=self.accept_changes)
        self.search = self._new_search()
        self.submitted, self.failures, self.stop_reason = set(), [], None
        self.started_s = time.monotonic()

    def _new_search(self) -> GroupSearch:
        record = self.record
        return GroupSearch(record.spec, record.history, record.group, self.next_replicate)

    def _measure(self, on_event: Callable[[Event], None]) -> None:
        """Ask, submit, record."""
        left = self.record.history.unanswered_waves()
        in_flight: dict[Future[Sequence[Result]], list[int]] = {}
        while True:
            while len(in_flight) < self.executor.slots:
                with guarded(self.record.url):
                    numbers = left.pop(0) if left else self._ask_wave()
                if not numbers:
                    break
                on_event({"wave": numbers, "trials": self.spec.trials, "finished": self.finished})
                requests = [_request(self.record.history.trials[each]) for each in numbers]
                in_flight[self.executor.submit(requests, _naming(on_event, numbers))] = numbers
            if not in_flight:
                return
            done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
            for future in [each for each in in_flight if each in done]:
                numbers = in_flight.pop(future)
                again = self._answered(numbers, future)
                left = again + left
                if not again:
                    on_event({"recorded": numbers, "finished": self.finished})

    def _ask_wave(self) -> list[int]:
        """Decide the next wave, or go on with one that was cut short; empty when there is none."""
        history = self.record.history
        seen, last = history.num_answers, history.last_wave()
        begun = history.asked_in(last) if last not in self.submitted else []
        wave = last
        if not begun or begun[0].seen != seen:
            wave, begun = last + 1, []
            self.stop_reason = self._stop_reason()
            if self.stop_reason is not None:
                return []
        for index in range(len(begun), self.spec.wave):
            decision = self.search.decide(history)
            if decision is None:
                break
            ask = Ask(wave, index, decision.fidelity, seen, decision.base_only)
            self.record.ask(decision, ask)
        self.submitted.add(wave)
        return history.unanswered_in(wave)

    def _stop_reason(self) -> StopReason | None:
        late = self.wall_s is not None and time.monotonic() - self.started_s >= self.wall_s
        return stopping.reason(
            self.spec,
            self.record.history,
            group=self.record.group,
            failures=self.failures,
            time_is_up=late,
        )

    def _answered(self, numbers: list[int], answer: Future[Sequence[Result]]) -> list[list[int]]:
        """Record what came of a batch; returns the batches to measure again.

        Where the objective raised, the trials are measured one by one, so that only those fail that
        raise again.

        Raises:
            Exception: what was no trial's fault; see `hpo.core.failures`.
        """
        raised = False
        try:
            found = results(answer.result(), len(numbers))
        except ObjectiveError as error:
            if error.fatal:
                original = error.error or error
                raise original from original.__cause__
            self.log(error.trace)
            if len(numbers) > 1:
                return [[number] for number in numbers]
            raised, found = True, [TrialResult(failure=error.reason)]
        for number, result in zip(numbers, found, strict=True):
            failure = self.record.answer(number, result)
            self.failures = [] if failure is None else [*self.failures, (failure, raised)]
        return []

    @property
    def spec(self) -> StudySpec:
        """The study, with the trials that its record says it was started from."""
        return self.record.spec

    @property
    def finished(self) -> int:
        """Trials that have ended."""
        return self.record.history.num_ended


def _request(trial: Trial) -> Request:
    ask = trial.asks[-1]
    request = Request(params=dict(trial.params), fidelity=ask.fidelity, seed=trial.seed)
    if ask.base_only:
        request["base_only"] = True
    return request


def _naming(on_event: Callable[[Event], None], numbers: list[int]) -> Callable[[Event], None]:
    """Name the trials that an event is about: several waves, or parts of one, may be under way."""

    def named(event: Event) -> None:
        places = event.get("places", range(len(numbers)))
        on_event({"numbers": [numbers[place] for place in places], **event})

    return named
