"""A study's record as the controller writes it: questions, answers, and the end of trials.

Each question and each answer is one transaction: its user attributes, constraints, and what makes
it count. What is written is in `StudyRecord.history` too, so that the record is read once.
What is written is described, and read again, in hpo/storage/trials.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from hpo.core import conditions, rows
from hpo.core.domains import distributions, inside
from hpo.core.goals import Goal
from hpo.core.history import Continue, Decision, History
from hpo.core.objective import Params
from hpo.core.results import TrialResult
from hpo.core.spec import Baseline, StudySpec, WarmStartTrial
from hpo.core.trial import Answer, Ask, Run, State, Trial
from hpo.front.losses import constraints
from hpo.storage import lease, widening
from hpo.storage.provenance import StudyChanged, changes, reproduce
from hpo.storage.record import (
    closing,
    database_of,
    guarded,
    name_values,
    open_study,
    read_run,
)
from hpo.storage.settings import json_roundtrip, spec_data
from hpo.storage.trials import ask_data, read_history, rung_data


class StudyRecord:
    """A study in its database, and the history of its trials."""

    def __init__(self, spec: StudySpec, url: str, *, widen: bool = False) -> None:
        """Open the record, making it if it is not there.

        `widen`: the settings may be wider than those that it was started with, see
        `hpo.storage.widening`; they take their place when it is held.

        Raises:
            StudyChanged: it was started with other settings.
            StorageError: the storage cannot be used.
        """
        self.spec, self.url, self.widen = spec, url, widen
        self.history, self.group = History(), 0
        self.widened = set[str]()
        """Choices that got options after the start."""
        self.study = open_study(url, spec.name, spec.goals)
        self.database, self.storage = database_of(self.study), self.study._storage
        with guarded(url), closing(self.study):
            if "spec" not in self._attributes():
                self.study.set_user_attr("description", spec.description)
                self.study.set_user_attr("reproduce", reproduce(spec))
                self.study.set_user_attr("spec", spec_data(spec))
            self._check_spec()
            self._read_start()

    @contextlib.contextmanager
    def held(self, *, wait: bool, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Hold the study's lease, see `hpo.storage.lease.held`; close the database at the end."""
        with closing(self.study), lease.held(self.study, self.url, wait=wait, on_wait=on_wait):
            yield

    def run(self) -> Run:
        """All that is recorded."""
        return read_run(self.study)

    def read(self, now: conditions.Conditions, *, accept_changes: bool) -> None:
        """Write down what may differ from the start before, and read the history.

        `now`: the conditions that new trials are measured under; see `hpo.core.conditions`.

        Raises:
            StudyChanged: the study was started with other settings, by a controller at the same
                time.
            ConditionsChanged: the conditions are new, and that is not accepted.
        """
        with guarded(self.url):
            self._check_spec()
            self._widen()
            name_values(self.study, [goal.metric for goal in self.spec.goals])
            self.study.set_user_attr("planned", self.spec.trials)
            paper = None if self.spec.paper is None else self.spec.paper.to_dict()
            self.study.set_user_attr("paper", paper)
            if "warm" not in self._attributes():
                warm = [[dict(each.params), dict(each.metrics)] for each in self.spec.warm]
                self.study.set_user_attr("warm", json_roundtrip(warm))
            trials = self.study.get_trials(deepcopy=False)
            if "prices" not in self._attributes():  # records from before there were any: tokens
                self.study.set_user_attr("prices", "tokens" if trials else self.spec.currency)
            self._read_start()
            self.history = read_history(trials, self.spec)
            self._note_contrasts()
            self._join_group(now, accept_changes)

    def _note_contrasts(self) -> None:
        """Write planned contrasts down where they are new, with how many results had come."""
        planned = None if self.spec.contrasts is None else self.spec.contrasts.to_dict()
        known = self._attributes().get("contrasts")
        if json_roundtrip(planned) == (None if known is None else known.get("planned")):
            return
        seen = sum(len(trial.answers) for trial in self.history.trials)
        noted = None if planned is None else {"planned": planned, "after": seen}
        self.study.set_user_attr("contrasts", noted)

    def _attributes(self) -> dict[str, Any]:
        return rows.checked(self.study.user_attrs, rows.OF_STUDY)

    def _check_spec(self) -> None:
        started, now = self._attributes()["spec"], spec_data(self.spec)
        if started == now:
            return
        refusal = widening.refusal if self.widen else widening.explained
        refused = refusal(started, now)
        if refused is not None:
            raise StudyChanged(refused)

    def _widen(self) -> None:
        """Write wider settings down; which choices are wider comes first, as it does no harm."""
        attributes, now = self._attributes(), spec_data(self.spec)
        known = attributes.get(widening.ATTRIBUTE, [])
        self.widened = {*known, *widening.widened_choices(attributes["spec"], now)}
        if self.widened != {*known}:
            self.study.set_user_attr(widening.ATTRIBUTE, sorted(self.widened))
        if attributes["spec"] != now:
            self.study.set_user_attr("spec", now)

    def _read_start(self) -> None:
        """What the search started with stays: prices, and an earlier study as it was then."""
        attributes = self._attributes()
        if "prices" in attributes:
            started, now = attributes["prices"], self.spec.prices
            if now not in ("auto", started):
                raise StudyChanged(changes({"prices": started}, {"prices": now}))
            self.spec = replace(self.spec, prices=started)
        recorded = attributes.get("warm")
        if recorded is not None:
            warm = tuple(
                WarmStartTrial(params=params, metrics=metrics) for params, metrics in recorded
            )
            self.spec = replace(self.spec, warm=warm)

    def _join_group(self, now: conditions.Conditions, accept: bool) -> None:
        """Find the group that new trials belong to, and end what others have left open."""
        attributes = self._attributes()
        known = attributes.get(conditions.ATTRIBUTE, [])
        measured = any(trial.answers for trial in self.history.trials)
        groups, self.group = conditions.group_of(known, now, measured=measured, accept=accept)
        if groups != known:
            self.study.set_user_attr(conditions.ATTRIBUTE, groups)
        if self.group != attributes.get(conditions.LATEST, 0):
            self.study.set_user_attr(conditions.LATEST, self.group)
        for trial in self.history.trials:
            if trial.group != self.group and not trial.ended:
                self._end_elsewhere(trial)

    def _end_elsewhere(self, trial: Trial) -> None:
        """Stop a trial whose conditions are gone, with what it measured at lower rungs."""
        if trial.waiting:
            self._stop(trial, self.history.last_wave() + 1)
            return

        failure = "not measured: the study's data or libraries changed before it was"

        def write() -> None:
            self._set(trial.trial_id, failure=failure)
            self.storage.set_trial_state_values(trial.trial_id, TrialState.FAIL)

        self.database.transaction(write)
        self.history.put(replace(trial, state="failed", failure=failure))

    def ask(self, decision: Decision, ask: Ask) -> None:
        """Write a question down; the attribute `asked` is what makes it one."""
        if isinstance(decision, Continue):
            trial = self.history.trials[decision.number]
            asks = (*trial.asks, ask)
            self._set(trial.trial_id, asked=[ask_data(each) for each in asks])
            self.history.put(replace(trial, asks=asks))
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
        if decision.kind == "confirmation":
            attrs["confirms"] = True
        attrs |= {"seed": decision.seed, "params": decision.params, "asked": [ask_data(ask)]}
        trial = Trial(
            number=number,
            params=decision.params,
            seed=decision.seed,
            asks=(ask,),
            confirms=decision.kind == "confirmation",
            replicate_of=decision.replicate_of,
            baseline=name.get("baseline"),
            point=name.get("point"),
            group=self.group,
            trial_id=self._begun(decision.params, json_roundtrip(attrs)),
        )
        self.history.put(trial)

    def _begun(self, params: Params, attrs: Mapping[str, Any]) -> int:
        """The storage's number of a new trial."""
        space = self.spec.space
        shared = distributions(space) if inside(space, params) else {}
        shared = {path: each for path, each in shared.items() if path not in self.widened}
        template = create_trial(
            state=TrialState.RUNNING,
            params={path: params[path] for path in shared},
            distributions=shared,
            user_attrs=dict(attrs),
        )
        return self.storage.create_new_trial(self.study._study_id, template)

    def answer(self, number: int, result: TrialResult) -> str | None:
        """Write an answer down; returns why the trial failed, None if it did not."""
        trial, spec = self.history.trials[number], self.spec
        ask, order = trial.asks[-1], self.history.num_answers
        early = spec.objective.early() if ask.base_only else None
        failure = failure_of(
            result, [goal for goal in spec.goals if early is None or goal.metric in early]
        )
        answer = Answer(
            ask.fidelity,
            order,
            json_roundtrip(result.metrics),
            json_roundtrip(result.cost),
            ask.base_only,
            json_roundtrip(result.row_scores) if failure is None and ask.fidelity == 1 else {},
        )
        state: State = "complete" if ask.fidelity == 1 else "running"
        known = replace(
            trial,
            state=state if failure is None else "failed",
            answers=(*trial.answers, answer),
            curves=result.curves,
            failure=failure,
            notes=result.notes,
            labels=result.labels,
        )
        with guarded(self.url):
            self.database.transaction(lambda: write_answer(self.storage, spec, known))
        self.history.put(known)
        return failure

    def stop_waiting(self) -> None:
        """What waits at a rung when the study ends is stopped there, with all it measured."""
        wave = self.history.last_wave() + 1
        for trial in [each for each in self.history.trials if each.waiting]:
            self._stop(trial, wave)

    def _stop(self, trial: Trial, wave: int) -> None:
        def write() -> None:
            self._set(trial.trial_id, stopped_at=wave)
            self.storage.set_trial_state_values(trial.trial_id, TrialState.PRUNED)

        self.database.transaction(write)
        self.history.put(replace(trial, state="pruned", stopped_at=wave))

    def _set(self, trial_id: int, **attrs: Any) -> None:
        for name, value in attrs.items():
            self.storage.set_trial_user_attr(trial_id, name, json_roundtrip(value))


def failure_of(result: TrialResult, wanted: Sequence[Goal]) -> str | None:
    """Why a trial failed; None if it has a finite number for each goal that was asked for."""
    if result.failure is not None:
        return result.failure
    missing = _missing(wanted, result.metrics)
    if not missing:
        return None
    known = [name for name, value in sorted(result.metrics.items()) if math.isfinite(value)]
    return (
        f"the objective gave no number for {' and '.join(missing)}; it gave "
        f"{', '.join(known) or 'nothing'}"
    )


def _missing(goals: Sequence[Goal], metrics: Mapping[str, float]) -> list[str]:
    """Goals without a finite number; an infinite one is named with its value."""
    found = []
    for name in [goal.metric for goal in goals]:
        value = metrics.get(name, math.nan)
        if not math.isfinite(value):
            found.append(name if math.isnan(value) else f"{name} ({value})")
    return found


def write_answer(storage: BaseStorage, spec: StudySpec, trial: Trial) -> None:
    """A trial's last answer, and its end where it is one; to be one transaction."""
    answer, trial_id = trial.answers[-1], trial.trial_id

    def put(**attrs: Any) -> None:
        for name, value in attrs.items():
            storage.set_trial_user_attr(trial_id, name, json_roundtrip(value))

    put(
        metrics=trial.metrics,
        curves=trial.curves,
        notes=trial.notes,
        labels=trial.labels,
        cost=trial.cost,
    )
    if len(spec.fidelities) > 1:
        put(fidelity=answer.fidelity)
    if not trial.ended:
        put(rungs=[rung_data(each) for each in trial.answers])
        return
    put(order=answer.order, step_cost=answer.cost)
    if trial.failure is not None:
        put(failure=trial.failure)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
        return
    if answer.row_scores:
        put(row_scores=answer.row_scores)
    goals = [answer.metrics.get(goal.metric, math.nan) for goal in spec.goals]
    limits = constraints(spec.limits, answer.metrics)
    for key, value in create_trial(values=goals, constraints=limits).system_attrs.items():
        storage.set_trial_system_attr(trial_id, key, value)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, goals)
