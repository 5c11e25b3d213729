"""The arms of the race: who searches, and what trains.

| arm | search | trained by |
|---|---|---|
| this | this project's, as it comes | this project, as `hpo run` does |
| random | random | this project |
| optuna_gp, optuna_tpe | Optuna's GPSampler, its default TPESampler | Trainer and PEFT |
| search_on_trainer | this project's, as an Optuna sampler | Trainer and PEFT |

Those on Trainer and PEFT are two processes of one thread that share an Optuna study, as a careful
user of two cores would run them; their text and tasks are ready before the clock starts. The others
are the command, whose clock starts with its first request, before text and tasks are read.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from hpo import PlasticitySampler, StudySpec
from hpo.core.domains import distributions
from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from hpo.front import front, losses
from hpo.numerics import pareto
from hpo.storage import run_folder
from hpo.storage.record import load_study
from objectives import PlasticityObjective, Recipe
from objectives.data import tasks as task_loading
from objectives.data import token_dataset
from objectives.store.store import Store
from studies.quickstart import STUDY
from tests.bench import peer, peer_data

SHIPPED = {"this": "gp", "random": "random"}
"""Arms that are the command, and the study's sampler."""


PEERS = ("optuna_gp", "optuna_tpe")


ON_TRAINER: Mapping[str, Callable[[int, int], optuna.samplers.BaseSampler]] = {
    # Two processes with one seed would propose the same start-up points.
    "optuna_gp": lambda seed, worker: optuna.samplers.GPSampler(seed=2 * seed + worker),
    "optuna_tpe": lambda seed, worker: optuna.samplers.TPESampler(seed=2 * seed + worker),
    "search_on_trainer": lambda seed, worker: PlasticitySampler(seed=seed),
}


ARMS = ("this", *PEERS, "random", "search_on_trainer")


ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Raced:
    """One arm at one seed."""

    fronts: list[list[dict[str, Any]]]
    """Params of the front as its user sees it at each of the times."""
    num_trials: int
    """Measured in full within the seconds."""


@dataclass(frozen=True)
class Setting:
    """What all arms have in common."""

    recipe: Recipe
    seconds: float
    folder: Path
    """For what is prepared and for runs; the store is in it."""
    workers: int = 2
    device: str = "cpu"
    most_trials: int = 10_000
    """As a rule the clock ends an arm."""

    @property
    def recipe_file(self) -> Path:
        return self.folder / "recipe.json"

    @property
    def prepared(self) -> Path:
        """A store that holds the tokens and nothing else."""
        return self.folder / "prepared"

    def prepare(self) -> None:
        """Write the recipe down and make the tokens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recipe_file.write_text(json.dumps(self.recipe.to_dict()), encoding="utf-8")
        store, pre = Store(self.prepared), self.recipe.pretrain
        token_dataset.prepare(self.recipe.corpus, pre.seq_len, store)


def study_of(recipe_file: str, sampler: Any, seconds: float, seed: int, trials: int) -> StudySpec:
    """The quickstart's study of a recipe; the study files of the runs call it."""
    recipe = Recipe.from_file(recipe_file)
    return replace(
        STUDY,
        name="race",
        objective=PlasticityObjective(recipe),
        baselines=(),
        trials=trials,
        wave=min(STUDY.wave, trials),
        budget_s=seconds * 100,  # it is the wall clock that ends it
        sampler=sampler,
        seed=seed,
    )


def race_shipped(
    setting: Setting, arm: str, seed: int, times: Sequence[float], say: Callable[[str], None]
) -> Raced:
    """The command on a study file, from the start of its process."""
    folder = setting.folder / f"{arm}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    given = (
        str(setting.recipe_file), SHIPPED[arm], setting.seconds, seed, setting.most_trials
    )  # fmt: skip
    study = folder / "race_study.py"
    study.write_text(
        f"from tests.bench.race_arms import study_of\n\nSTUDY = study_of{given!r}\n",
        encoding="utf-8",
    )
    out = folder / "runs"
    _copy_store(setting.prepared, out / run_folder.STORE)
    command = [sys.executable, "-m", "hpo", "run", str(study), "--out", str(out)]
    command += ["--wall", f"{setting.seconds}s", "--device", setting.device]
    if setting.workers == 1:
        command += ["--executor", "inline"]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{arm} failed: {done.stderr.strip()[-2000:]}")
    place = run_folder.find_run("race", out, None)
    run = run_folder.read(place)
    stored = load_study(place.url, "race").get_trials()
    started = min(each.datetime_start for each in stored if each.datetime_start is not None)
    at = {
        trial.number: (each.datetime_complete - started).total_seconds()
        for trial, each in zip(run.trials, stored, strict=True)
        if each.datetime_complete is not None and trial.state == "complete"
    }
    say(f"{arm}, seed {seed}: {len(at)} trials in full")
    spec = study_of(*given)
    fronts = [_front_of(spec, [t for t in run.trials if at.get(t.number, np.inf) <= when])
              for when in times]  # fmt: skip
    return Raced(fronts, sum(each <= setting.seconds for each in at.values()))


def _front_of(spec: StudySpec, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """As `hpo show` reports it."""
    if not trials:
        return []
    return [dict(trial.params) for trial in front.front(Run.of(spec, trials)).trials]


def _copy_store(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


class Trainers:
    """Processes that train with Trainer and PEFT; text and tasks are read once."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.pool = ProcessPoolExecutor(
            setting.workers,
            get_context("spawn"),
            _prepare,
            (str(setting.recipe_file), str(setting.prepared), setting.device),
        )

    def race(
        self, arm: str, seed: int, times: Sequence[float], say: Callable[[str], None]
    ) -> Raced:
        """One study that all processes share."""
        workers, log = self.setting.workers, self.setting.folder / f"{arm}-{seed}.log"
        log.unlink(missing_ok=True)
        for each in [self.pool.submit(_ready, 1.0) for _ in range(workers)]:
            each.result()
        optuna.create_study(
            study_name="race",
            storage=_storage(log),
            directions=[_direction(goal) for goal in STUDY.goals],
        )
        started = time.time()
        given = (str(log), arm, seed, started + self.setting.seconds, self.setting.most_trials)
        for future in [self.pool.submit(_search, *given, worker) for worker in range(workers)]:
            future.result()
        study = optuna.load_study(study_name="race", storage=_storage(log))
        done = [
            (each.datetime_complete.timestamp() - started, each)
            for each in study.get_trials()
            if each.state == optuna.trial.TrialState.COMPLETE and each.datetime_complete is not None
        ]
        say(f"{arm}, seed {seed}: {len(done)} trials")
        fronts = [_non_dominated([trial for at, trial in done if at <= when]) for when in times]
        return Raced(fronts, sum(at <= self.setting.seconds for at, _ in done))

    def close(self) -> None:
        """End the processes."""
        self.pool.shutdown()


def _non_dominated(trials: Sequence[optuna.trial.FrozenTrial]) -> list[dict[str, Any]]:
    """As `study.best_trials`."""
    if not trials:
        return []
    measured = [
        Trial.measured(
            index,
            trial.params,
            {goal.metric: y for goal, y in zip(STUDY.goals, trial.values, strict=True)},
        )
        for index, trial in enumerate(trials)
    ]
    rows = pareto.non_dominated(losses.losses(measured, STUDY.goals))
    return [dict(trial.params) for trial, on_front in zip(trials, rows, strict=True) if on_front]


def _direction(goal: Goal) -> str:
    return "minimize" if goal.direction == "down" else "maximize"


def _storage(log: Path) -> optuna.storages.BaseStorage:
    backend = optuna.storages.journal.JournalFileBackend(str(log))
    return optuna.storages.JournalStorage(backend)


_material: peer_data.Material | None = None
"""In a process that trains."""


def _prepare(recipe_file: str, prepared: str, device: str) -> None:
    global _material
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recipe = Recipe.from_file(recipe_file)
    corpus = token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, Store(Path(prepared)))
    tasks = task_loading.load(recipe.finetune, corpus.tokenizer)
    _material = peer_data.prepare(recipe, corpus, tasks, device)


def _ready(seconds: float) -> None:
    """Long enough that each process takes one of these calls, and has prepared by then."""
    time.sleep(seconds)


def _search(log: str, arm: str, seed: int, until: float, most_trials: int, worker: int) -> None:
    """Measure trials of the shared study until the clock says so."""
    material = _material
    assert material is not None
    sampler = ON_TRAINER[arm](seed, worker)
    study = optuna.load_study(study_name="race", storage=_storage(Path(log)), sampler=sampler)
    space = distributions(STUDY.space)

    def objective(trial: optuna.Trial) -> list[float]:
        params = {path: trial._suggest(path, domain) for path, domain in space.items()}
        metrics = peer.run_trial(material, params, seed)
        return [metrics[goal.metric] for goal in STUDY.goals]

    while time.time() < until and len(study.get_trials(deepcopy=False)) < most_trials:
        study.optimize(objective, n_trials=1, catch=(RuntimeError, FloatingPointError))
