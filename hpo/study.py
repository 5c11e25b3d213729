"""The controller: propose a wave, have it measured, record it; until the study is done.

1. Trials that an earlier process left running are measured first, with the same params and seed.
2. Else a wave of trials is asked of the sampler, each written down before any is measured.
3. The objective measures the wave as one batch.
4. Each result is recorded: user attributes first, then constraints, then the values.

One process writes a study; stopping it at any point loses at most the wave that is being measured,
and of that wave only what the objective had not stored.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from hpo import lease, search
from hpo.executors import Executor, Inline
from hpo.record import Run
from hpo.spec import Baseline, Choice, Domain, Event, Float, Goal, Request, Result, StudySpec, Value
from hpo.storage import guarded, open_study, plain, read_run, spec_data

PACKAGES = ("plasticity-hpo", "torch", "transformers", "peft", "optuna", "datasets", "numpy")


class StudyChanged(ValueError):
    """The study file no longer says what the run was started with."""


class Controller:
    """A study and its record."""

    def __init__(self, spec: StudySpec, url: str, executor: Executor | None = None) -> None:
        """Open the record, making it if it is not there; measure inline if no executor is given.

        Raises:
            StudyChanged: the record was started with other settings.
            StorageError: the storage cannot be used.
        """
        self.spec, self.url = spec, url
        self.executor: Executor = Inline(spec.objective) if executor is None else executor
        self.study = open_study(url, spec.name, spec.goals)
        with guarded(url):
            started = self.study.user_attrs.get("spec")
            now = plain(spec_data(spec))
            if started is None:
                self.study.set_user_attr("description", spec.description)
                self.study.set_user_attr("reproduce", reproduce(spec))
                self.study.set_user_attr("spec", now)
            elif started != now:
                raise StudyChanged(_changes(started, now))

    def run(
        self, on_event: Callable[[Event], None] = lambda event: None, *, wait: bool = False
    ) -> Run:
        """Measure until the trials or the budget are used up; returns the record.

        `wait`: for another controller of the study to end; else that is an error.

        Raises:
            lease.Held: another controller runs the study.
            lease.Overtaken: another has taken over from this one.
        """
        with lease.held(
            self.study, self.url, wait=wait, on_wait=lambda said: on_event({"waiting": said})
        ):
            self._begin()
            return self._measured(on_event)

    def _begin(self) -> None:
        with guarded(self.url):
            started, now = self.study.user_attrs["spec"], plain(spec_data(self.spec))
            if started != now:  # by another controller, at the same time
                raise StudyChanged(_changes(started, now))
            self.study.set_user_attr("planned", self.spec.trials)
            paper = None if self.spec.paper is None else self.spec.paper.to_dict()
            self.study.set_user_attr("paper", paper)

    def _measured(self, on_event: Callable[[Event], None]) -> Run:
        while True:
            with guarded(self.url):
                wave = self._wave()
                if not wave:
                    return read_run(self.study)
            numbers = [trial.number for trial in wave]
            on_event({"wave": numbers, "trials": self.spec.trials, "finished": numbers[0]})
            with guarded(self.url):
                requests = [_request(self._frozen(trial)) for trial in wave]
            results = self.executor.submit(requests, on_event).result()
            for trial, result in zip(wave, results, strict=True):
                self._record(trial, result)
            on_event({"recorded": numbers, "finished": numbers[-1] + 1})

    def _spent_s(self) -> float:
        """Seconds of measuring recorded so far."""
        return sum(trial.cost.get("time_s", 0.0) for trial in read_run(self.study).trials)

    def _wave(self) -> list[Trial]:
        """Trials begun and not finished, and new ones up to the end of the wave; empty when done.

        A wave ends at a multiple of its width, also where its proposing was cut short, so that each
        of its trials is proposed from the results that the undisturbed study would have had.
        """
        frozen = self.study.get_trials(deepcopy=False)
        running = [each for each in frozen if each.state == TrialState.RUNNING]
        width, begun = self.spec.wave, len(frozen)
        if running:
            end = -(-begun // width) * width
        elif self.spec.budget_s is not None and self._spent_s() >= self.spec.budget_s:
            end = begun
        else:
            end = begun // width * width + width
        wave = [self._complete(each._trial_id, each.number) for each in running]
        for number in range(begun, min(end, self.spec.trials)):
            trial_id = self.study._storage.create_new_trial(self.study._study_id)
            wave.append(self._complete(trial_id, number))
        return wave

    def _complete(self, trial_id: int, number: int) -> Trial:
        """Propose params for a trial that has been begun; the same ones however often called."""
        known = self.study._storage.get_trial(trial_id).user_attrs
        if "params" in known:
            return Trial(self.study, trial_id)
        seen = [trial for trial in read_run(self.study).trials if trial.number < number]
        values = search.propose(self.spec, number, seen)
        self.study.sampler = _fixed(values)
        trial = Trial(self.study, trial_id)
        if search.inside(self.spec.space, values):
            for path, domain in self.spec.space.items():
                _suggest(trial, path, domain)
        seed = self.spec.seed
        trial.set_user_attr("fidelity", 1.0)
        if number < len(self.spec.planned):
            planned = self.spec.planned[number]
            kind = "baseline" if isinstance(planned.point, Baseline) else "point"
            trial.set_user_attr(kind, planned.point.name)
            values = {**values, **planned.point.params}
            seed += planned.replicate
        trial.set_user_attr("seed", seed)
        trial.set_user_attr("params", values)
        return trial

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _record(self, trial: Trial, result: Result) -> None:
        goals = [float(result.metrics.get(goal.metric, math.nan)) for goal in self.spec.goals]
        failure = result.failure
        if failure is None and any(map(math.isnan, goals)):
            failure = _unmeasured(self.spec.goals, result.metrics)
        with guarded(self.url):
            for name in ("metrics", "curves", "cost", "notes", "labels"):
                trial.set_user_attr(name, plain(getattr(result, name)))
            if failure is not None:
                trial.set_user_attr("failure", failure)
                self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                return
            known = self._frozen(trial).constraints  # some, where a recording was cut short
            limits = search.constraints(self.spec.limits, result.metrics)
            for name, value in limits.items():
                if name not in known:
                    trial.set_constraint(name, value)
            self.study.tell(trial, goals, skip_if_finished=True)


def _unmeasured(goals: Sequence[Goal], metrics: Mapping[str, float]) -> str:
    """Why a result cannot be placed: goals without a number, and what there is."""
    numbers = [name for name, value in sorted(metrics.items()) if not math.isnan(value)]
    missing = [goal.metric for goal in goals if goal.metric not in numbers]
    known = ", ".join(numbers) or "nothing"
    return f"the objective gave no number for {' and '.join(missing)}; it gave {known}"


def _request(frozen: FrozenTrial) -> Request:
    attrs = frozen.user_attrs
    return Request(params=attrs["params"], fidelity=attrs["fidelity"], seed=attrs["seed"])


def _fixed(values: Mapping[str, Value]) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PartialFixedSampler(dict(values), RandomSampler(seed=0))


def _suggest(trial: Trial, path: str, domain: Domain) -> None:
    """Write a proposed value into Optuna's record of the trial."""
    if isinstance(domain, Choice):
        trial.suggest_categorical(path, domain.options)
    elif isinstance(domain, Float):
        trial.suggest_float(path, domain.low, domain.high, log=domain.log)
    else:
        trial.suggest_int(path, domain.low, domain.high, log=domain.log)


def reproduce(spec: StudySpec) -> dict[str, Any]:
    """What else reproduces a run: versions, device, code revision."""
    return plain_dict(
        versions={name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        machine=spec.objective.machine() | {"system": platform.system(), "cpus": os.cpu_count()},
        revision=_revision(),
    )


def plain_dict(**items: Any) -> dict[str, Any]:
    """The items as they come back from the storage."""
    data: dict[str, Any] = plain(items)
    return data


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The git revision of this code, with a mark if it was changed since; None outside git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _changes(started: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    before, after = _flat(started), _flat(now)
    changed = [
        f"{path}: {before.get(path, 'absent')!r} -> {after.get(path, 'absent')!r}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path, "absent") != after.get(path, "absent")
    ]
    shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
    return (
        f"the study was started with other settings ({shown}); undo the change, or add --fork to "
        "start a new run from here, which finds finished stages in the store."
    )


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    found: dict[str, Any] = {}
    for key, value in items:
        path = f"{prefix}.{key}".lstrip(".")
        if isinstance(value, Mapping | list) and value:
            found |= _flat(value, path)
        else:
            found[path] = value
    return found
