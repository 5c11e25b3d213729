"""A trial on several devices: tokens a second against one device, and how far the losses are apart.

1. The setting is trained on one device, by the loop that studies use.
2. For 2, 4, ... devices, as many as there are GPUs (2 on a CPU), and both kinds of sharding, it
   is trained by as many processes. The first WARM steps are not timed.
3. Losses of all steps are compared with those of one device.

Global batch and everything else stay the same, so a device's share of a step falls with their
number. One process's start is not counted.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from objectives.config.execution import Kind
from objectives.config.recipe import Recipe
from objectives.data import token_dataset
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining import run as parallel
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.store.store import Store
from objectives.training.runtime import Runtime
from tests.bench.figures import Figure, Options

BASE: dict[str, Any] = {
    "corpus.sources": [{"kind": "stdlib", "max_bytes": 4_000_000}],
    "corpus.vocab_size": 2048,
    "pretrain.schedule.warmup_steps": 2,
    "pretrain.eval_tokens": 256,
    "pretrain.evals": 1,
}


WARM = 10
"""Steps before the clock runs: the first ones allocate, and on a GPU choose kernels."""


@dataclass
class Clock:
    """When the steps after the first WARM were told of."""

    warm: int
    told: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, event: dict[str, Any]) -> None:
        """Note a step; its losses are numbers by now, so the device has done it."""
        event["loss"].tolist()
        if event["step"] >= self.warm:
            self.told.append((event["step"], time.perf_counter()))

    @property
    def steps_per_s(self) -> float:
        """Of the steps that were timed."""
        (first, began), (last, ended) = self.told[0], self.told[-1]
        return (last - first) / (ended - began)


def run(options: Options) -> dict[str, Figure]:
    """Every setting on one device and on several."""
    cuda = torch.device(options.device).type == "cuda"
    settings = QUICK if options.quick else (GPU if cuda else CPU)
    most = torch.cuda.device_count() if cuda else 2
    if most < 2:
        raise ValueError(f"the bench needs at least 2 GPUs, found {most}; use --device cpu.")
    found: dict[str, Figure] = {}
    for name in options.picked(list(settings)):
        with tempfile.TemporaryDirectory() as folder:
            recipe = Recipe().with_params(BASE | settings[name])
            options.say(f"{name}: preparing the corpus")
            store = Store(Path(folder))
            corpus = token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, store)
            found |= _compared(name, recipe, corpus, store, most, options)
            store.close()
    return found


def _compared(
    name: str, recipe: Recipe, corpus: TokenDataset, store: Store, most: int, options: Options
) -> dict[str, Figure]:
    """One setting."""
    one = PretrainJob(recipe, 0, recipe.pretrain.steps, options.device)
    alone, rate = _trained(one, corpus, store, options)
    tokens = recipe.pretrain.batch_size * recipe.pretrain.seq_len
    options.say(f"{name}: one device {rate * tokens:,.0f} tokens/s")
    found = {f"{name}.x1.tokens_per_s": Figure(value=rate * tokens, unit="tokens/s")}
    exact = None if recipe.pretrain.precision == "bf16" else "<= 0.001"
    devices = 2
    while devices <= most:
        for kind in get_args(Kind):
            many = replace(one, devices=devices, sharding=kind)
            base, other = _trained(many, corpus, store, options)
            apart = float(np.abs(base.losses - alone.losses).max())
            title = f"{name}.x{devices}_{kind}"
            options.say(f"{title}: {other * tokens:,.0f} tokens/s, {apart:.1e} nats apart")
            found |= {
                f"{title}.tokens_per_s": Figure(value=other * tokens, unit="tokens/s"),
                f"{title}.over_one_ratio": Figure(value=other / rate, unit="x"),
                f"{title}.loss_difference_nats": Figure(
                    value=apart, unit="nats, largest", n=len(base.losses), goal=exact
                ),
            }
        devices *= 2
    return found


def _trained(
    job: PretrainJob, corpus: TokenDataset, store: Store, options: Options
) -> tuple[BaseModel, float]:
    """The base, and steps a second."""
    clock = Clock(2 if options.quick else WARM)
    runtime = Runtime(store=store, report=clock, max_lanes=1, compiling="off")
    (base,) = parallel.pretrain([job], corpus, runtime)
    return base, clock.steps_per_s


def _setting(preset: str, steps: int, batch: int, seq_len: int, bf16: bool) -> dict[str, Any]:
    return {
        "model.preset": preset,
        "pretrain.steps": steps,
        "pretrain.batch_size": batch,
        "pretrain.seq_len": seq_len,
        "pretrain.precision": "bf16" if bf16 else "fp32",
    }


QUICK = {"llama-0.2m": _setting("llama-0.2m", 40, 4, 16, bf16=False)}


CPU = {"llama-1m": _setting("llama-1m", 60, 16, 64, bf16=False)}


GPU = {
    "llama-10m": _setting("llama-10m", 200, 64, 256, bf16=False),
    "llama-135m": _setting("llama-135m", 100, 64, 512, bf16=True),
    "llama-1b": _setting("llama-1b", 60, 16, 512, bf16=True),
}
