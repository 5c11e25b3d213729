"""Trials an hour against the peer: the same trials here as lanes, there one by one.

1. Corpus, tokenizer and tasks are prepared before any clock runs; this project starts from a store
   that holds the tokens and nothing else, and reads the tasks again inside its time.
2. On a CPU this project divides its wave among processes of one thread, one for each core, as
   `hpo run` does. The peer runs the same trials both in that way and in one process of all threads;
   the faster way counts. On a GPU either has one process.
3. Processes live through all repeats and run a shrunken trial first, so that nobody pays for what
   happens once a process. They are not shared, as this project tells the allocator to keep what is
   freed.
4. In each repeat the peer runs some of the trials (it is slow), then this project runs all of them
   as one wave. The peer's trials are the next ones of the wave each time. Time is from requests to
   metrics: pretraining, fine-tuning, scoring.
5. The ratio is of trials an hour, one a repeat. Metrics of the same trial must agree: the base loss
   of each, and the means over trials after fine-tuning, where rounding may decide between two
   learning rates that do equally well.

On a GPU a last figure says how near one lane of GPT-2 124M comes to the rate of the device's matrix
products: tokens a second times operations a token over operations a second of an 8192^3 product.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from objectives import Execution, PlasticityObjective, Recipe, Request
from objectives.data import tasks as task_loading
from objectives.data import token_dataset
from objectives.store.store import Store
from tests.bench import peer, peer_data, speed
from tests.bench.figures import Figure, Options, mean_of
from tests.bench.peer_settings import CPU, GPU, QUICK, Setting, requests, shrunk

GPT2 = "gpt2-124m"


MATMUL_SHARE = ">= 0.45"


# Alike within noise: metric, unit, largest difference of the means. Accuracies of 100 test rows
# and two seeds have a standard error of about 0.03 a task.
ALIKE = (
    ("finetuned_loss_nats", "nats, mean", "<= 0.05"),
    ("forgetting_nats", "nats, mean", "<= 0.1"),
    ("gain", "mean", "<= 0.03"),
)


@dataclass(frozen=True)
class Round:
    """One repeat."""

    peer_per_hour: Mapping[str, float]
    """By the way in which it ran."""
    ours_per_hour: float
    differences: list[dict[str, float]]
    """This project minus the peer, by metric; one for each trial that both ran."""


def run(options: Options) -> dict[str, Figure]:
    """Both in turn, for every setting."""
    cuda = torch.device(options.device).type == "cuda"
    settings = GPU if cuda else CPU
    names = options.picked([*settings, *([GPT2] if cuda else [])])
    if options.quick and options.only is None:
        names = names[:1]
    found: dict[str, Figure] = {}
    for name in names:
        if name == GPT2:
            found |= _matmul_share(options)
        else:
            found |= _compare(name, settings[name], options)
    return found


def _ways(device: str) -> dict[str, tuple[int, int]]:
    """Name -> processes and threads of each."""
    cores = len(os.sched_getaffinity(0))
    if torch.device(device).type == "cuda" or cores == 1:
        return {"one_process": (1, cores)}
    return {"one_process": (1, cores), "process_a_core": (cores, 1)}


class Crew:
    """Processes that divide trials among them."""

    def __init__(self, num: int, threads: int, setting: Setting, prepared: Path, device: str):
        given = (setting.recipe, prepared, device, threads, setting.lanes)
        self.pools = [
            ProcessPoolExecutor(1, get_context("spawn"), _prepare, given) for _ in range(num)
        ]

    def warm(self, wave: Sequence[Request], *, peers: bool) -> None:
        """One shrunken trial in each process."""
        work = _warm_peer if peers else _warm_ours
        for future in [pool.submit(work, wave[:1]) for pool in self.pools]:
            future.result()

    def run(
        self, name: str, wave: Sequence[Request], *, store: Path | None
    ) -> tuple[float, list[dict[str, float]]]:
        """Seconds and metrics of the wave; by the peer where there is no store."""
        started = time.perf_counter()
        parts = [wave[place :: len(self.pools)] for place in range(len(self.pools))]
        futures = [
            pool.submit(_run_peer, name, part)
            if store is None
            else pool.submit(_run_ours, part, store)
            for pool, part in zip(self.pools, parts, strict=True)
            if part
        ]
        found: list[dict[str, float]] = [{}] * len(wave)
        for place, future in enumerate(futures):
            found[place :: len(self.pools)] = future.result()
        return time.perf_counter() - started, found

    def close(self) -> None:
        """End the processes."""
        for pool in self.pools:
            pool.shutdown()


def _compare(name: str, setting: Setting, options: Options) -> dict[str, Figure]:
    if options.quick:
        recipe = shrunk(setting.recipe).with_params(QUICK)
        setting = dataclasses.replace(setting, recipe=recipe, trials=1, peer_trials=1)
    wave = requests(setting.recipe, setting.trials)
    ways = _ways(options.device)
    if options.quick:
        ways = dict(list(ways.items())[:1])
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        options.say(f"{name}: preparing corpus and tasks")
        prepared = Path(folder) / "prepared"
        recipe = setting.recipe
        token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, Store(prepared))
        crews = {}
        for who, (num, threads) in [*ways.items(), ("ours", list(ways.values())[-1])]:
            crews[who] = Crew(num, threads, setting, prepared, options.device)
            stack.callback(crews[who].close)
            if not options.quick:
                options.say(f"{name}: warming up {who}")
                crews[who].warm(wave, peers=who != "ours")
        rounds = []
        for repeat in range(options.repeats or (1 if options.quick else 3)):
            order = np.arange(setting.peer_trials) + repeat * setting.peer_trials
            picked = [int(index) % len(wave) for index in order]
            text = f"{name}, round {repeat + 1}"
            rounds.append(_round(text, crews, wave, picked, prepared, options))
    return _figures(name, setting, rounds, options)


@dataclass(frozen=True)
class Prepared:
    """What a process has."""

    material: peer_data.Material
    lanes: int | None
    store: Path
    """It holds the tokens only."""


_prepared: Prepared | None = None
"""In a process of a crew."""


def _prepare(recipe: Recipe, prepared: Path, device: str, threads: int, lanes: int | None) -> None:
    global _prepared
    torch.set_num_threads(threads)
    corpus = token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, Store(prepared))
    tasks = task_loading.load(recipe.finetune, corpus.tokenizer)
    _prepared = Prepared(peer_data.prepare(recipe, corpus, tasks, device), lanes, prepared)


def _warm_peer(wave: Sequence[Request]) -> None:
    assert _prepared is not None
    material = _prepared.material
    small = dataclasses.replace(material, recipe=shrunk(material.recipe))
    peer.run_study(small, wave, lambda text: None)


def _warm_ours(wave: Sequence[Request]) -> None:
    assert _prepared is not None
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(_prepared.store, folder, dirs_exist_ok=True)
        _evaluate(shrunk(_prepared.material.recipe), wave, Path(folder))


def _run_peer(name: str, wave: Sequence[Request]) -> list[dict[str, float]]:
    assert _prepared is not None
    return peer.run_study(
        _prepared.material, wave, lambda text: print(f"  {name}: {text}", flush=True)
    )


def _run_ours(wave: Sequence[Request], store: Path) -> list[dict[str, float]]:
    assert _prepared is not None
    return _evaluate(_prepared.material.recipe, wave, store)


def _evaluate(recipe: Recipe, wave: Sequence[Request], store: Path) -> list[dict[str, float]]:
    assert _prepared is not None
    where = Execution(device=_prepared.material.device, lanes=_prepared.lanes, store=store)
    results = PlasticityObjective(recipe, where).evaluate(wave)
    failures = [result.failure for result in results if result.failure is not None]
    if failures:
        raise RuntimeError(f"{len(failures)} of our trials failed: {failures[0]}")
    return [dict(result.metrics) for result in results]


def _round(
    name: str,
    crews: Mapping[str, Crew],
    wave: Sequence[Request],
    picked: Sequence[int],
    prepared: Path,
    options: Options,
) -> Round:
    """The peer's trials in each of its ways, then this project's."""
    rates: dict[str, float] = {}
    theirs: list[dict[str, float]] = []
    for who, crew in crews.items():
        if who == "ours":
            continue
        took, theirs = crew.run(name, [wave[index] for index in picked], store=None)
        rates[who] = 3600 * len(picked) / took
        options.say(f"{name}: peer as {who} {took / len(picked):.1f} s a trial")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        took, ours = crews["ours"].run(name, wave, store=Path(folder))
    options.say(f"{name}: ours {took / len(wave):.1f} s a trial, {len(wave)} trials")
    differences = [
        {metric: ours[index][metric] - value for metric, value in other.items()}
        for index, other in zip(picked, theirs, strict=True)
    ]
    return Round(rates, 3600 * len(wave) / took, differences)


def _figures(
    name: str, setting: Setting, rounds: Sequence[Round], options: Options
) -> dict[str, Figure]:
    ours = [each.ours_per_hour for each in rounds]
    by_way = {way: [each.peer_per_hour[way] for each in rounds] for way in rounds[0].peer_per_hour}
    theirs = max(by_way.values(), key=lambda rates: float(np.mean(rates)))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    found = {
        f"{name}.ours_trials_per_hour": mean_of(ours, "trials/h"),
        **{
            f"{name}.peer_{way}_trials_per_hour": mean_of(rates, "trials/h")
            for way, rates in by_way.items()
        },
        f"{name}.ratio": mean_of(ratios, "x", options.speed_goal(setting.goal)),
    }
    differences = [difference for each in rounds for difference in each.differences]
    base = [abs(difference["base_loss"]) for difference in differences]
    found[f"{name}.base_loss_difference_nats"] = Figure(
        value=max(base), unit="nats, largest", n=len(base), goal=setting.loss_goal
    )
    for metric, unit, goal in ALIKE:
        mean = mean_of([difference[metric] for difference in differences], unit)
        found[f"{name}.{metric}_difference"] = dataclasses.replace(
            mean, value=abs(mean.value), goal=goal
        )
    return found


def _matmul_share(options: Options) -> dict[str, Figure]:
    """One lane of GPT-2 124M, as it runs and compiled."""
    shape = speed.Shape(
        preset="gpt2-124m", vocab_size=50304, batch_size=16, seq_len=1024, bf16=True
    )
    matmul = speed.matmul_flops(options.device, quick=options.quick)
    found = {"matmul_flops": Figure(value=matmul, unit="operations/s")}
    for kind in ("plain", "compiled"):
        options.say(f"{GPT2}, {kind}")
        stepper = speed.lane_stepper(shape, 1, options.device, compiled=kind == "compiled")
        repeats, seconds = (1, 0.1) if options.quick else (options.repeats or 5, 5.0)
        (rates,) = speed.rates([stepper], options.device, repeats=repeats, seconds=seconds)
        tokens = [rate * shape.tokens for rate in rates]
        shares = [each * shape.flops_per_token() / matmul for each in tokens]
        goal = options.speed_goal(MATMUL_SHARE) if kind == "plain" else None
        found[f"{GPT2}.tokens_per_s_{kind}"] = mean_of(tokens, "tokens/s")
        found[f"{GPT2}.matmul_share_{kind}"] = mean_of(shares, "of matmul rate", goal)
    return found
