"""Threads of one process: each trial gives what it gives alone, and so does what is stored."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from objectives import Execution, PlasticityObjective, VisionObjective, turns
from objectives.config.probes import Probes
from objectives.config.recipe import Recipe
from objectives.config.training import Schedule
from objectives.config.vision import Digits, ResNet, Training, VisionProbes, VisionRecipe
from objectives.types import Request
from tests.objectives import toy

TRIALS, THREADS = 8, 4


Params = dict[str, Any]


@pytest.fixture(scope="module")
def recipe(toy_folder: Path) -> Recipe:
    base = toy.recipe(toy_folder, steps=4, evals=1, schedule=Schedule(warmup_steps=1))
    fine = toy.finetune(seeds=1, schedule=Schedule(warmup_steps=1), train_rows=30, test_rows=4)
    probes = Probes(run=("norms",), forgetting_tokens=48, tokens=48)
    return Recipe(
        model=base.model, corpus=base.corpus, pretrain=base.pretrain, finetune=fine, probes=probes
    )


def params_of(number: int) -> Params:
    """Another base for each number; every third trial drops units of its adapters."""
    return {
        "pretrain.weight_decay": 0.05 * number,
        "pretrain.beta1": 0.8 + number / 200,
        "finetune.lora.dropout": 0.1 * (number % 3 == 0),
    }


def objective(recipe: Recipe, folder: Path) -> PlasticityObjective:
    return PlasticityObjective(recipe, Execution(device="cpu", store=folder))


def weights(store: Path) -> dict[str, str]:
    """Hashes of all weights in a store; files with times in them are left out."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for stage in ("pretrain", "tune")
        for path in sorted((store / stage).rglob("*.safetensors"))
    }


@pytest.fixture
def disturbed() -> Iterator[None]:
    """Another thread seeds and draws from torch's global generator all the time."""
    stop = threading.Event()

    def draw() -> None:
        while not stop.wait(1e-4):
            torch.manual_seed(0)
            torch.rand(10)

    thread = threading.Thread(target=draw)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.usefixtures("disturbed")
def test_trials_of_four_threads_and_of_optunas_jobs_are_those_of_one_at_a_time(
    recipe: Recipe, tmp_path: Path
) -> None:
    one = objective(recipe, tmp_path / "alone")
    alone = [one(params_of(number)).metrics for number in range(TRIALS)]

    shared = objective(recipe, tmp_path / "threads")
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda number: shared(params_of(number)).metrics, range(TRIALS)))
    assert found == alone

    def measure(trial: optuna.Trial) -> float:
        own = objective(recipe, tmp_path / "optuna")  # as many objectives as trials
        trial.set_user_attr("metrics", own(params_of(trial.number)).metrics)
        return 0.0

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    study.optimize(measure, n_trials=TRIALS, n_jobs=THREADS)
    assert [trial.user_attrs["metrics"] for trial in study.trials] == alone
    kept = weights(tmp_path / "alone")
    assert len(kept) >= 2 * TRIALS
    assert weights(tmp_path / "threads") == kept
    assert weights(tmp_path / "optuna") == kept


@pytest.mark.usefixtures("disturbed")
def test_image_classifiers_of_four_threads_are_those_of_one_at_a_time(tmp_path: Path) -> None:
    recipe = VisionRecipe(
        images=Digits(train_rows=32),
        model=ResNet(widths=(4, 8), depths=(1, 1)),
        pretrain=Training(steps=3, batch_size=8, schedule=Schedule(), eval_rows=32),
        probes=VisionProbes(run=("norms",)),
    )

    def rates(store: str, threads: int) -> list[dict[str, float]]:
        one = VisionObjective(recipe, Execution(device="cpu", store=tmp_path / store))
        with ThreadPoolExecutor(threads) as pool:
            lrs = [0.01 * (number + 1) for number in range(8)]
            return list(pool.map(lambda lr: one({"pretrain.lr": lr}).metrics, lrs))

    assert rates("threads", 4) == rates("alone", 1)


def test_callbacks_that_wait_for_each_other_do_not_lock_the_threads_out(
    recipe: Recipe, tmp_path: Path
) -> None:
    met = threading.Barrier(2)

    def evaluate(number: int) -> int:
        first = True

        def meet(event: dict[str, Any]) -> None:
            nonlocal first
            if first:
                first = False
                met.wait(timeout=60)

        request = Request(params=params_of(number), fidelity=1.0, seed=0)
        (result,) = objective(recipe, tmp_path).evaluate([request], meet)
        return len(result.metrics)

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(evaluate, (1, 2)))


class Stop(BaseException):
    """Like KeyboardInterrupt, but not pytest's own business."""


def test_an_interruption_lets_the_next_thread_go(recipe: Recipe, tmp_path: Path) -> None:
    def stop(event: dict[str, Any]) -> None:
        raise Stop

    with pytest.raises(Stop):
        objective(recipe, tmp_path).evaluate([Request(params={}, fidelity=1.0, seed=0)], stop)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: objective(recipe, tmp_path)({}).failure).result(60) is None


def another_thread_gets_a_turn(wait_s: float) -> bool:
    def take() -> bool:
        if taken := turns._LOCK.acquire(timeout=wait_s):
            turns._LOCK.release()
        return taken

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).result(60)


def test_a_turn_that_was_interrupted_while_it_waited_ends_quietly() -> None:
    """The callback's thread lost its turn and an exception came before it had it again."""
    with turns.turn(None):
        turns._LOCK.release()
    assert another_thread_gets_a_turn(10)


def test_a_callback_may_evaluate_by_itself() -> None:
    seen: list[str] = []

    def inner(event: dict[str, Any]) -> None:
        with turns.turn(lambda event: seen.append("inner")) as tell:
            tell({})

    with turns.turn(inner) as tell:
        tell({})
        assert not another_thread_gets_a_turn(0)
    assert seen == ["inner"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_not_locked_out_by_a_thread_that_it_does_not_have() -> None:
    # In a process of its own: this one may have threads of which Python warns at a fork.
    code = """
import os, threading
from objectives import turns
held, done = threading.Event(), threading.Event()
def hold():
    with turns.turn(None):
        held.set(); done.wait(60)
threading.Thread(target=hold).start()
held.wait(60)
child = os.fork()
if child == 0:
    os._exit(0 if turns._LOCK.acquire(timeout=10) else 1)
status = os.waitpid(child, 0)[1]
done.set()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, timeout=120, check=False).returncode == 0


MEASURE = """
import json, sys, torch
from pathlib import Path
from objectives import Execution, PlasticityObjective, Recipe
torch.set_num_threads(1)
recipe, params, store = json.loads(sys.stdin.read())
objective = PlasticityObjective(
    Recipe.from_dict(recipe), Execution(device="cpu", lanes=1, store=Path(store))
)
print(json.dumps([objective(each).metrics for each in params]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_that_share_a_store_give_what_one_gives(
    recipe: Recipe, tmp_path: Path
) -> None:
    params = [params_of(number) for number in range(2)]

    def measured(store: str, count: int) -> list[Any]:
        """What so many processes measure at once, each of them all trials."""
        given = json.dumps([recipe.to_dict(), params, str(tmp_path / store)])
        begun = [
            subprocess.Popen(
                [sys.executable, "-c", MEASURE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]  # fmt: skip
        with ThreadPoolExecutor(count) as pool:
            outputs = list(pool.map(lambda one: one.communicate(given)[0], begun))
        return [json.loads(output) for output in outputs]

    alone = [objective(recipe, tmp_path / "alone")(each).metrics for each in params]
    assert measured("shared", 2) == [alone, alone]
    assert weights(tmp_path / "shared") == weights(tmp_path / "alone") != {}
