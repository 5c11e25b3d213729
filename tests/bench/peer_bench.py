"""Trials an hour against the peer: the same trials here as lanes, there one by one.

1. Corpus, tokenizer and tasks are prepared before any clock runs; this project starts from a store
   that holds the tokens and nothing else, and reads the tasks again inside its time.
2. The peer has a process of its own, as this project tells the allocator to keep what is freed.
   Both sides run a shrunken trial once, so that neither pays for what happens once a process.
3. In each repeat the peer runs some of the trials (it is slow), then this project runs all of them
   as one wave. The peer's trials are the next ones of the wave each time. Time is from requests to
   metrics: pretraining, fine-tuning, scoring.
4. The ratio is of trials an hour, one a repeat. Metrics of the same trial must agree: the base loss
   of each, and the means over trials after fine-tuning, where rounding may decide between two
   learning rates that do equally well.

On a GPU a last figure says how near one lane of GPT-2 124M comes to the rate of the device's matrix
products: tokens a second times operations a token over operations a second of an 8192^3 product.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
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

    peer_per_hour: float
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


def _compare(name: str, setting: Setting, options: Options) -> dict[str, Figure]:
    if options.quick:
        recipe = shrunk(setting.recipe).with_params(QUICK)
        setting = dataclasses.replace(setting, recipe=recipe, trials=1, peer_trials=1)
    wave = requests(setting.recipe, setting.trials)
    with tempfile.TemporaryDirectory() as folder:
        options.say(f"{name}: preparing corpus and tasks")
        prepared = Path(folder) / "prepared"
        recipe = setting.recipe
        token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, Store(prepared))
        process = ProcessPoolExecutor(
            1, get_context("spawn"), _prepare_peer, (recipe, prepared, options.device)
        )
        with process:
            if not options.quick:
                options.say(f"{name}: warming up")
                process.submit(_warm_peer, wave[:1]).result()
                _run_ours(shrunk(recipe), wave, setting.lanes, prepared, options)
            rounds = []
            for repeat in range(options.repeats or (1 if options.quick else 3)):
                order = np.arange(setting.peer_trials) + repeat * setting.peer_trials
                picked = [int(index) % len(wave) for index in order]
                rounds.append(_round(f"{name}, round {repeat + 1}", setting, process, wave, picked,
                                     prepared, options))  # fmt: skip
    return _figures(name, setting, rounds, options)


_material: peer_data.Material | None = None
"""In the peer's process."""


def _prepare_peer(recipe: Recipe, prepared: Path, device: str) -> None:
    global _material
    corpus = token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, Store(prepared))
    tasks = task_loading.load(recipe.finetune, corpus.tokenizer)
    _material = peer_data.prepare(recipe, corpus, tasks, device)


def _warm_peer(wave: Sequence[Request]) -> None:
    assert _material is not None
    small = dataclasses.replace(_material, recipe=shrunk(_material.recipe))
    peer.run_study(small, wave, lambda text: None)


def _run_peer(name: str, picked: Sequence[Request]) -> tuple[float, list[dict[str, float]]]:
    """Seconds and metrics of these trials."""
    assert _material is not None
    started = time.perf_counter()
    metrics = peer.run_study(_material, picked, lambda text: print(f"  {name}: {text}", flush=True))
    return time.perf_counter() - started, metrics


def _round(
    name: str,
    setting: Setting,
    process: ProcessPoolExecutor,
    wave: Sequence[Request],
    picked: Sequence[int],
    prepared: Path,
    options: Options,
) -> Round:
    """The peer's trials, then this project's."""
    took, theirs = process.submit(_run_peer, name, [wave[index] for index in picked]).result()
    peer_per_hour = 3600 * len(picked) / took
    options.say(f"{name}: peer {took / len(picked):.1f} s a trial")
    took, ours = _run_ours(setting.recipe, wave, setting.lanes, prepared, options)
    options.say(f"{name}: ours {took / len(wave):.1f} s a trial, {len(wave)} trials")
    differences = [
        {metric: ours[index][metric] - value for metric, value in other.items()}
        for index, other in zip(picked, theirs, strict=True)
    ]
    return Round(peer_per_hour, 3600 * len(wave) / took, differences)


def _run_ours(
    recipe: Recipe,
    wave: Sequence[Request],
    lanes: int | None,
    prepared: Path,
    options: Options,
) -> tuple[float, list[dict[str, float]]]:
    """Seconds and metrics of the wave, from a store that holds the tokens only."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        where = Execution(device=options.device, lanes=lanes, store=Path(folder))
        started = time.perf_counter()
        results = PlasticityObjective(recipe, where).evaluate(wave)
        took = time.perf_counter() - started
    failures = [result.failure for result in results if result.failure is not None]
    if failures:
        raise RuntimeError(f"{len(failures)} of our trials failed: {failures[0]}")
    return took, [result.metrics for result in results]


def _figures(
    name: str, setting: Setting, rounds: Sequence[Round], options: Options
) -> dict[str, Figure]:
    ours = [each.ours_per_hour for each in rounds]
    theirs = [each.peer_per_hour for each in rounds]
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    found = {
        f"{name}.ours_trials_per_hour": mean_of(ours, "trials/h"),
        f"{name}.peer_trials_per_hour": mean_of(theirs, "trials/h"),
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
