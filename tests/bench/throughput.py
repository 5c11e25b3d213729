"""What the controller costs a trial, and the same study inline, in two processes and on Ray.

1. `workers_W`: an analytic study of 10,000 trials on SQLite on disk, by the random sampler, with 1,
   8 and 64 simulated workers. They answer singly and out of order, a thousand times a second in
   all, so that everybody waits for the controller: seconds by the clock are what it costs. Beside
   the mean are the first and the last thousand trials.
2. `ask_N`: one decision of the model after 1,000 and 10,000 full trials with eight parameters and
   two goals, as a controller makes it that goes on; and the first one after a start, for which
   lengths are fitted and a selection made again.
3. `model_1`, only where `--only model` asks for it, as it takes longest: as `workers_1`, with the
   model in place of the random sampler.
4. `quickstart`: the study that ships, by `hpo run` in a new folder each time, on one thread in this
   process, on two, on two workers of one thread each, and divided among two. Seconds are the
   record's, from the first question to the last answer, so with the start of workers and without
   that of the command.
   `worker_start` is one local worker's, until it has loaded the study.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from hpo.controller import Controller
from hpo.core.domains import Float
from hpo.core.goals import Goal
from hpo.core.history import Begin, History
from hpo.core.objective import Event, Params, Request, Result
from hpo.core.spec import Sampler, StudySpec
from hpo.core.trial import Answer, Ask, Trial
from hpo.executors.processes import Process
from hpo.search.strategy import Searcher
from hpo.storage import run_folder
from hpo.storage.record import load_study, url_of
from hpo.study_files import StudyRequest
from tests.bench.figures import Figure, Options, mean_of
from tests.bench.search_problems import GOALS, PROBLEMS, Analytic, zdt1
from tests.toy_size import TOY, small_inputs

WORKERS = (1, 8, 64)


TRIALS, QUICK_TRIALS = 10_000, 40


SIMULATED_S = 1e-3
"""Mean time between two answers of all simulated workers together."""


ASKED_AT = (1000, 10_000)


PARAMETERS = 8


ASKS = 10


STUDY, STUDY_TRIALS, QUICK_STUDY_TRIALS = "quickstart", 12, 4


STARTS = 3


WAYS = {
    "inline_1_thread": (1, "inline"),
    "inline_2_threads": (2, "inline"),
    "processes_2_workers": (1, "processes"),
    "auto_2_workers": (1, "auto"),
    "ray_2_workers": (1, "ray"),
}
"""Name -> threads of a process, executor."""


ROOT = Path(__file__).parents[2]


def run(options: Options) -> dict[str, Figure]:
    """All but the model's study, or the one that `only` names."""
    parts = {"workers": controllers, "ask": asks, "quickstart": executors, "model": model}
    found: dict[str, Figure] = {}
    for name in options.picked(list(parts)):
        if name != "model" or options.only:
            found |= parts[name](options)
    return found


def controllers(options: Options) -> dict[str, Figure]:
    """Controller seconds a trial, by the number of simulated workers."""
    found = {}
    for workers in WORKERS:
        found |= _controller(options, f"workers_{workers}", "random", workers)
    return found


def model(options: Options) -> dict[str, Figure]:
    """The same with the model's decisions."""
    return _controller(options, "model_1", "gp", 1)


def _controller(options: Options, key: str, sampler: Sampler, workers: int) -> dict[str, Figure]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options.say(key)
    times_s, end_s = controlled(QUICK_TRIALS if options.quick else TRIALS, sampler, workers)
    each_ms = np.diff(times_s) * 1e3
    part = max(1, len(each_ms) // 10)
    return {
        f"{key}.ms_per_trial": mean_of(each_ms, "ms"),
        f"{key}.first_tenth_ms": mean_of(each_ms[:part], "ms"),
        f"{key}.last_tenth_ms": mean_of(each_ms[-part:], "ms"),
        f"{key}.read_at_the_end_s": Figure(value=end_s, unit="s"),
    }


def controlled(trials: int, sampler: Sampler, workers: int) -> tuple[list[float], float]:
    """When each trial of an analytic study was recorded, and seconds from the last one to the end.

    Trials that were recorded together share the time since the ones before.
    """
    times_s = [0.0]
    spec = analytic(trials, sampler, PROBLEMS["zdt1"].parameters, Analytic(name="zdt1"))
    with tempfile.TemporaryDirectory() as folder, Simulated(spec.objective, workers) as executor:
        controller = Controller(spec, url_of(Path(folder)), executor)
        started = time.perf_counter()

        def told(event: Event) -> None:
            if "recorded" in event:
                times_s.append(time.perf_counter() - started)

        record = controller.run(told)
        end_s = time.perf_counter() - started - times_s[-1]
    assert sum(trial.state == "complete" for trial in record.trials) == trials
    return times_s, end_s


def analytic(trials: int, sampler: Sampler, parameters: int, objective: Any) -> StudySpec:
    """An analytic study, one trial a wave."""
    return StudySpec(
        name="bench",
        objective=objective,
        space={f"x{place}": Float(low=0.0, high=1.0) for place in range(parameters)},
        goals=tuple(Goal(metric=metric, direction="down") for metric in GOALS),
        trials=trials,
        wave=1,
        replicate_share=0.0,
        sampler=sampler,
    )


class Simulated:
    """An executor whose workers take a drawn time and no computer."""

    def __init__(self, objective: Any, workers: int) -> None:
        self.objective, self.slots = objective, workers
        self.drawn, self.count = np.random.default_rng(0), itertools.count()
        self.due: list[tuple[float, int, Future[Sequence[Result]], Sequence[Result]]] = []
        self.changed, self.closed = threading.Condition(), False
        self.thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> Simulated:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self.thread.join()

    def submit(self, requests: Sequence[Request], on_event: object) -> Future[Sequence[Result]]:
        """See `hpo.executors.Executor.submit`."""
        future: Future[Sequence[Result]] = Future()
        at = time.monotonic() + self.drawn.exponential(SIMULATED_S * self.slots)
        with self.changed:
            results = self.objective.evaluate(requests)
            heapq.heappush(self.due, (at, next(self.count), future, results))
            self.changed.notify()
        return future

    def close(self) -> None:
        """Answer nothing more."""
        with self.changed:
            self.closed = True
            self.changed.notify()

    def _answer(self) -> None:
        with self.changed:
            while not self.closed:
                left_s = self.due[0][0] - time.monotonic() if self.due else None
                if left_s is None or left_s > 0:
                    self.changed.wait(left_s)
                else:
                    _, _, future, results = heapq.heappop(self.due)
                    future.set_result(results)


def asks(options: Options) -> dict[str, Figure]:
    """Seconds of one decision after many trials."""
    found = {}
    for count in ASKED_AT:
        options.say(f"asks after {count} trials")
        first_s, *seconds = asked(count, 2 if options.quick else ASKS)
        goal = options.speed_goal("<= 1")
        found |= {
            f"ask_{count}.seconds": mean_of(seconds, "s", goal),
            f"ask_{count}.longest_s": Figure(value=max(seconds), n=len(seconds), unit="s"),
            f"ask_{count}.after_a_start_s": Figure(value=first_s, unit="s"),
        }
    return found


def asked(count: int, times: int) -> list[float]:
    """Seconds of the first decision after so many random trials, and of as many more."""
    spec = analytic(count + times + 1, "gp", PARAMETERS, Wide(name="zdt1"))
    units = np.random.default_rng(0).random((count, PARAMETERS)).tolist()
    params = (dict(zip(spec.space, row, strict=True)) for row in units)
    ledger = History([_entry(number, each) for number, each in enumerate(params)])
    searcher, seconds = Searcher(spec, lambda run: None), []
    for number in range(count, count + times + 1):
        started = time.perf_counter()
        decided = searcher.decide(ledger)
        seconds.append(time.perf_counter() - started)
        assert isinstance(decided, Begin)
        ledger.put(_entry(number, decided.params))
    return seconds


class Wide(Analytic):
    """Of any parameters; nothing is measured."""

    def check(self, params: Params) -> None:
        """Any will do."""


def _entry(number: int, params: Mapping[str, Any]) -> Trial:
    """A full trial of ZDT1."""
    losses = zdt1(np.array([list(params.values())]), 1.0)[0].tolist()
    return Trial(
        number=number,
        params=params,
        seed=0,
        asks=(Ask(number, 0, 1.0, number),),
        answers=(Answer(1.0, number, dict(zip(GOALS, losses, strict=True)), {}),),
        state="complete",
    )


def executors(options: Options) -> dict[str, Figure]:
    """The study that ships, in each way that can run here."""
    found = {}
    ways = [name for name in WAYS if importlib.util.find_spec("ray") or "ray" not in name]
    for name in ways[::2] if options.quick else ways:
        options.say(f"{STUDY}, {name}")
        with tempfile.TemporaryDirectory() as folder:
            seconds = [measured_s(Path(folder), name, options) for _ in _repeats(options)]
        trials = QUICK_STUDY_TRIALS if options.quick else STUDY_TRIALS
        found |= {
            f"{STUDY}.{name}.seconds": mean_of(seconds, "s"),
            f"{STUDY}.{name}.trials_per_hour": mean_of(
                [3600 * trials / each for each in seconds], "trials/h"
            ),
        }
    options.say("a worker's start")
    with tempfile.TemporaryDirectory() as folder:
        starts = [started_s(Path(folder)) for _ in range(1 if options.quick else STARTS)]
    return found | {"worker_start.seconds": mean_of(starts, "s")}


def _repeats(options: Options) -> range:
    return range(options.repeats or 1)


def measured_s(folder: Path, name: str, options: Options) -> float:
    """Seconds from the first question to the last answer of a study in a folder of its own."""
    threads, executor = WAYS[name]
    out = Path(tempfile.mkdtemp(dir=folder))
    words = ["run", STUDY, "--out", str(out), "--device", options.device, "--executor", executor]
    words += ["--trials", str(QUICK_STUDY_TRIALS if options.quick else STUDY_TRIALS)]
    if executor != "inline":
        words += ["--workers", "2"]
    if options.quick:
        settings = TOY | small_inputs(out)
        words += [f"--set={path}={json.dumps(value)}" for path, value in settings.items()]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run(
        [sys.executable, "-m", "hpo.cli.main", *words],
        check=True, stdout=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    return _recorded_s(run_folder.find_run(STUDY, out, None).url)


def _recorded_s(url: str) -> float:
    trials = load_study(url, STUDY).get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    began = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    ended = [trial.datetime_complete for trial in trials if trial.datetime_complete is not None]
    return (max(ended) - min(began)).total_seconds()


def started_s(folder: Path) -> float:
    """Seconds until a local worker has loaded the study."""
    launch = StudyRequest(study=STUDY, store=str(folder / run_folder.STORE), device="cpu")
    with worker(launch, folder) as link:
        began = time.perf_counter()
        link.start()
        while "ready" not in (link.receive(60.0) or {}):
            pass
        return time.perf_counter() - began


@contextlib.contextmanager
def worker(launch: StudyRequest, folder: Path) -> Iterator[Process]:
    """A local worker that has not started yet."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    link = Process(launch, log=folder / "worker.log", name="worker", environment=environment)
    try:
        yield link
    finally:
        link.kill()
