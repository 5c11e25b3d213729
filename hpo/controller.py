"""The controller: decide a wave, have it measured, record it; until the study is done.

1. What an earlier process left unanswered is measured first, with the same params, seeds,
   fidelities and batches.
2. A wave of questions is decided (hpo/search/strategy.py), each written down before any is
   measured.
3. The executor measures the wave as one batch; with several slots, several waves side by side.
4. Each answer is recorded in one transaction: user attributes, constraints, what makes it count.
   So is each question, with the trial that it begins.

One process writes a study; stopping it at any point loses at most the waves that are being
measured, and of those only what the objective had not stored. The record is read once, at the
start.

User attributes of a trial: `asked`, its questions [wave, place, fidelity, answers seen] with a 1 at
the end where only the base is asked for; `rungs`, its answers below full fidelity; `metrics`,
`fidelity`, those of the last answer; `cost`, of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Any

from optuna.trial import TrialState, create_trial

from hpo.core import conditions, rows
from hpo.core.conditions import GroupView
from hpo.core.distributions import distributions
from hpo.core.domains import inside
from hpo.core.failures import ObjectiveError
from hpo.core.history import Answer, Ask, Continue, Decision, Ended, Entry, History
from hpo.core.objective import Event, Params, Request, Result
from hpo.core.results import TrialResult, results
from hpo.core.spec import Baseline, StudySpec, WarmStartTrial
from hpo.core.trial import Run
from hpo.executors import Executor
from hpo.executors.inline import Inline
from hpo.front import reevaluation
from hpo.recording import failure_of, write_answer
from hpo.search import stopping
from hpo.search.strategy import Searcher
from hpo.storage import history, lease
from hpo.storage.provenance import StudyChanged, changes, reproduce
from hpo.storage.record import (
    closing,
    database_of,
    guarded,
    json_roundtrip,
    name_values,
    open_study,
    read_run,
    spec_data,
)


class Controller:
    """A study and its record."""

    def __init__(
        self,
        spec: StudySpec,
        url: str,
        executor: Executor | None = None,
        *,
        wall_s: float | None = None,
        accept_changes: bool = False,
        next_replicate: Callable[[Run], int | None] = reevaluation.next_replicate,
    ) -> None:
        """Open the record, making it if it is not there; measure inline if no executor is given.

        No new wave starts `wall_s` seconds after measuring began. With `accept_changes` other data
        or library versions than those of earlier trials begin a group of trials of their own.
        `next_replicate` says which trial deserves another seed.

        Raises:
            ValueError: the sampler needs a package that is not installed.
            StudyChanged: the record was started with other settings.
            StorageError: the storage cannot be used.
        """
        self.spec, self.url, self.next_replicate = spec, url, next_replicate
        self.executor: Executor = Inline(spec.objective) if executor is None else executor
        self.wall_s, self.started_s = wall_s, 0.0
        self.accept_changes, self.group = accept_changes, 0
        self.over: tuple[str, str] | None = None
        """Why no wave started although trials were left, and the option for more."""
        self.broken: str | None = None
        """The reason for which everything fails, so that no new wave starts."""
        self.failures: list[tuple[str, bool]] = []
        """Failures in a row that this process has seen: the reason, and whether it was raised."""
        self.log: Callable[[str], None] = lambda trace: None
        """Takes the traceback of what the objective raised for a trial."""
        self.others = False
        """Whether trials of other groups are in the ledger."""
        self.searcher: Searcher | None = None
        self.ledger = History()
        self.submitted: set[int] = set()
        """Waves that this process has decided to their end."""
        self.study = open_study(url, spec.name, spec.goals)
        self.database = database_of(self.study)
        with guarded(url), closing(self.study):
            started = self._attributes().get("spec")
            now = json_roundtrip(spec_data(spec))
            if started is None:
                self.study.set_user_attr("description", spec.description)
                self.study.set_user_attr("reproduce", reproduce(spec))
                self.study.set_user_attr("spec", now)
            elif started != now:
                raise StudyChanged(changes(started, now))
            self._read_warm()

    def run(
        self, on_event: Callable[[Event], None] = lambda event: None, *, wait: bool = False
    ) -> Run:
        """Measure until the trials or a limit are used up; returns the record.

        `wait`: for another controller of the study to end; else that is an error.

        Raises:
            lease.Held: another controller runs the study.
            lease.Overtaken: another has taken over from this one.
            ConditionsChanged: the data or the libraries are not those of earlier trials.
        """
        with (
            closing(self.study),
            lease.held(
                self.study, self.url, wait=wait, on_wait=lambda said: on_event({"waiting": said})
            ),
        ):
            self._begin()
            return self._measured(on_event)

    def _begin(self) -> None:
        """Write down what may differ from the start before, and read the record."""
        with guarded(self.url):
            started, now = self._attributes()["spec"], json_roundtrip(spec_data(self.spec))
            if started != now:  # by another controller, at the same time
                raise StudyChanged(changes(started, now))
            name_values(self.study, [goal.metric for goal in self.spec.goals])
            self.study.set_user_attr("planned", self.spec.trials)
            paper = None if self.spec.paper is None else self.spec.paper.to_dict()
            self.study.set_user_attr("paper", paper)
            if "warm" not in self._attributes():
                warm = [[dict(each.params), dict(each.metrics)] for each in self.spec.warm]
                self.study.set_user_attr("warm", json_roundtrip(warm))
            self._read_warm()
            self.ledger = history.read(self.study.get_trials(deepcopy=False), self.spec)
            self._join_group()
        self.submitted, self.failures, self.broken = set(), [], None
        self.started_s = time.monotonic()

    def _join_group(self) -> None:
        """Find the group that new trials belong to, and end what others have left open."""
        now = conditions.of_objective(self.spec.objective)
        attributes = self._attributes()
        known = attributes.get(conditions.ATTRIBUTE, [])
        measured = any(entry.answers for entry in self.ledger.entries)
        groups, self.group = conditions.group_of(
            known, now, measured=measured, accept=self.accept_changes
        )
        if groups != known:
            self.study.set_user_attr(conditions.ATTRIBUTE, groups)
        if self.group != attributes.get(conditions.LATEST, 0):
            self.study.set_user_attr(conditions.LATEST, self.group)
        for entry in self.ledger.entries:
            if entry.group != self.group and entry.ended is None:
                self._end_elsewhere(entry)
        left = conditions.group_spec(self.spec, self.ledger.entries, self.group)
        self.searcher = None if left is None else Searcher(left, self.next_replicate)
        self.others = any(entry.group != self.group for entry in self.ledger.entries)

    def _end_elsewhere(self, entry: Entry) -> None:
        """Stop a trial whose conditions are gone, with what it measured at lower rungs."""
        if entry.waiting:
            self._stop_at(entry, self.ledger.last_wave() + 1)
            return
        failure = "not measured: the study's data or libraries changed before it was"
        self.database.together(lambda: self._fail(entry.trial_id, failure))
        self.ledger.put(replace(entry, ended="failed"))

    def _fail(self, trial_id: int, failure: str) -> None:
        self._set(trial_id, failure=failure)
        self.study._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _attributes(self) -> dict[str, Any]:
        return rows.checked(self.study.user_attrs, rows.OF_STUDY)

    def _read_warm(self) -> None:
        """What the search started from stays, whatever the earlier study has done since."""
        recorded = self._attributes().get("warm")
        if recorded is not None:
            warm = tuple(
                WarmStartTrial(params=params, metrics=metrics) for params, metrics in recorded
            )
            self.spec = replace(self.spec, warm=warm)
        self.searcher = Searcher(self.spec, self.next_replicate)

    def _measured(self, on_event: Callable[[Event], None]) -> Run:
        left = self._unanswered()
        flying: dict[Future[Sequence[Result]], list[int]] = {}
        while True:
            while len(flying) < self.executor.slots:
                with guarded(self.url):
                    numbers = left.pop(0) if left else self._wave()
                if not numbers:
                    break
                on_event({"wave": numbers, "trials": self.spec.trials, "finished": self.finished})
                requests = [_request(self.ledger.entries[number]) for number in numbers]
                flying[self.executor.submit(requests, _telling(on_event, numbers))] = numbers
            if not flying:
                break
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in [each for each in flying if each in done]:
                numbers = flying.pop(future)
                again = self._answered(numbers, future)
                left = again + left
                if not again:
                    on_event({"recorded": numbers, "finished": self.finished})
        with guarded(self.url):
            if self.broken is None:
                self._stop_waiting()
            return read_run(self.study)

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
            failure = self._record(number, result)
            self.failures = [] if failure is None else [*self.failures, (failure, raised)]
        return []

    @property
    def finished(self) -> int:
        """Trials that have ended."""
        return self.ledger.num_ended

    def _unanswered(self) -> list[list[int]]:
        """Waves that an earlier process was measuring; the last one may still have to be decided.

        A wave that was cut short while it was decided is recognised by no answer having come since,
        and `_wave` goes on with it.
        """
        waves: dict[int, list[Ask]] = {}
        numbers: dict[Ask, int] = {}
        for entry in self.ledger.entries:
            if entry.flying and entry.asks:
                waves.setdefault(entry.asks[-1].wave, []).append(entry.asks[-1])
                numbers[entry.asks[-1]] = entry.number
        last = self.ledger.last_wave()
        if last in waves and self.ledger.asked_in(last)[0].seen == self.ledger.num_answers:
            del waves[last]
        return [[numbers[ask] for ask in sorted(waves[wave])] for wave in sorted(waves)]

    def _wave(self) -> list[int]:
        """Decide the next wave, or go on with one that was cut short; empty when there is none."""
        seen = self.ledger.num_answers
        last = self.ledger.last_wave()
        begun = self.ledger.asked_in(last)
        cut = bool(begun) and begun[0].seen == seen and last not in self.submitted
        wave = last if cut else last + 1
        if not cut:
            begun = []
            if self._is_over():
                return []
        for place in range(len(begun), self.spec.wave):
            decision = self._decide()
            if decision is None:
                break
            self._ask(decision, Ask(wave, place, decision.fidelity, seen, decision.base_only))
        self.submitted.add(wave)
        asked = [(self.ledger.entries[each].asks[-1], each) for each in self.ledger.flying]
        return [number for ask, number in sorted(asked) if ask.wave == wave]

    def _decide(self) -> Decision | None:
        """The next question, from what the trials of this group have given."""
        if self.searcher is None:
            return None
        whole = self.ledger.whole()
        if not self.others:
            return self.searcher.decide(whole)
        view = GroupView.of(whole, self.group)
        decision = self.searcher.decide(view.ledger)
        return None if decision is None else view.in_study(decision, len(whole.entries))

    def _is_over(self) -> bool:
        """Whether a limit is reached, or all fails; says in `over` or `broken` which."""
        self.broken = stopping.common_failure(self.spec, self.ledger, self.failures, self.group)
        if self.broken is not None:
            return True
        self.over = stopping.reason(self.spec, self.ledger, self.group)
        if self.wall_s is not None and time.monotonic() - self.started_s >= self.wall_s:
            self.over = ("The time is up", "--wall TIME")
        return self.over is not None

    def _ask(self, decision: Decision, ask: Ask) -> None:
        """Write a question down; the attribute `asked` is what makes it one."""
        if isinstance(decision, Continue):
            entry = self.ledger.entries[decision.number]
            asks = (*entry.asks, ask)
            self._set(entry.trial_id, asked=[_ask_data(each) for each in asks])
            self.ledger.put(replace(entry, asks=asks))
            return
        spec, number = self.spec, decision.number
        attrs: dict[str, Any] = {"fidelity": decision.fidelity}
        name: dict[str, str] = {}
        if decision.planned is not None:
            point = spec.planned[decision.planned].point
            name = {"baseline" if isinstance(point, Baseline) else "point": point.name}
        attrs |= name | conditions.trial_attribute(self.group)
        if decision.replicate_of is not None:
            attrs["replicate_of"] = decision.replicate_of
        if decision.kind == "confirms":
            attrs["confirms"] = True
        attrs |= {"seed": decision.seed, "params": decision.params, "asked": [_ask_data(ask)]}
        entry = Entry(
            number=number,
            params=decision.params,
            seed=decision.seed,
            asks=(ask,),
            kind=decision.kind,
            replicate_of=decision.replicate_of,
            baseline=name.get("baseline"),
            point=name.get("point"),
            group=self.group,
            trial_id=self._begun(number, decision.params, json_roundtrip(attrs)),
        )
        self.ledger.put(entry)

    def _begun(self, number: int, params: Params, attrs: Mapping[str, Any]) -> int:
        """The storage's number of a trial that holds these; it may be there without its question.

        Records from before a trial and its question were one transaction have such trials.
        """
        space = self.spec.space
        shared = distributions(space) if inside(space, params) else {}
        storage, entries = self.study._storage, self.ledger.entries
        if number == len(entries):
            template = create_trial(
                state=TrialState.RUNNING,
                params={path: params[path] for path in shared},
                distributions=shared,
                user_attrs=dict(attrs),
            )
            return storage.create_new_trial(self.study._study_id, template)
        trial_id = entries[number].trial_id

        def write() -> None:
            known = storage.get_trial(trial_id).params
            for path, each in shared.items():
                if path not in known:
                    value = each.to_internal_repr(params[path])
                    storage.set_trial_param(trial_id, path, value, each)
            self._set(trial_id, **attrs)

        self.database.together(write)
        return trial_id

    def _set(self, trial_id: int, **attrs: Any) -> None:
        for name, value in attrs.items():
            self.study._storage.set_trial_user_attr(trial_id, name, json_roundtrip(value))

    def _record(self, number: int, result: TrialResult) -> str | None:
        """Write an answer down; returns why the trial failed, None if it did not."""
        entry, spec = self.ledger.entries[number], self.spec
        ask, order = entry.asks[-1], self.ledger.num_answers
        fidelity, early = ask.fidelity, spec.objective.early() if ask.base_only else None
        wanted = [goal for goal in spec.goals if early is None or goal.metric in early]
        failure = failure_of(result, wanted)
        answer = Answer(
            fidelity,
            order,
            json_roundtrip(result.metrics),
            json_roundtrip(result.cost),
            ask.base_only,
        )
        ended: Ended | None = "failed" if failure is not None else None
        if failure is None and fidelity == 1:
            ended = "complete"
        known = replace(entry, answers=(*entry.answers, answer), ended=ended)
        with guarded(self.url):
            self.database.together(
                lambda: write_answer(self.study._storage, spec, known, result, failure)
            )
        self.ledger.put(known)
        return failure

    def _stop_waiting(self) -> None:
        """What waits at a rung when the study ends is stopped there, with all it measured."""
        wave = self.ledger.last_wave() + 1
        for entry in [each for each in self.ledger.entries if each.waiting]:
            self._stop_at(entry, wave)

    def _stop_at(self, entry: Entry, wave: int) -> None:
        self.database.together(lambda: self._stop(entry.trial_id, wave))
        self.ledger.put(replace(entry, ended="pruned", stopped_at=wave))

    def _stop(self, trial_id: int, wave: int) -> None:
        self._set(trial_id, stopped_at=wave)
        self.study._storage.set_trial_state_values(trial_id, TrialState.PRUNED)


def _request(entry: Entry) -> Request:
    ask = entry.asks[-1]
    request = Request(params=dict(entry.params), fidelity=ask.fidelity, seed=entry.seed)
    if ask.base_only:
        request["base_only"] = True
    return request


def _telling(on_event: Callable[[Event], None], numbers: list[int]) -> Callable[[Event], None]:
    """Tell also which trials an event is about: several waves may be under way."""
    return lambda event: on_event({"numbers": numbers, **event})


def _ask_data(ask: Ask) -> list[float]:
    return [ask.wave, ask.place, ask.fidelity, ask.seen, *([1] if ask.base_only else [])]
