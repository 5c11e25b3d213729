"""Tokens saved by training every stage once, on a study of schedules.

The Warmup-Stable-Only grid (arXiv 2603.16127): decay fractions 0.05, 0.1, 0.2 and 0.25, each to a
floor of 0 and of 0.1, and the constant rate; at a quarter, a half and the whole of the horizon, as
three calls one after the other, like the rungs of a search.

1. All of it with one store: trunks are shared, branches leave them, longer horizons continue.
2. Each of the 27 runs by itself with a store of its own.

Trained steps of a lane are counted twice: by the results' own accounting, and in the training loop,
by the length of the losses that each step gives. The tokens of a step are the same on both sides.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.config.recipe import Recipe
from objectives.data import token_dataset
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.run import pretrain
from objectives.store.store import Store
from objectives.training.runtime import Runtime
from tests.bench.figures import Figure, Options

DECAY_FRACS = (0.05, 0.1, 0.2, 0.25)


FLOORS = (0.0, 0.1)


FIDELITIES = (0.25, 0.5, 1.0)


STEPS, QUICK_STEPS = 400, 20


RECIPE = Recipe().with_params(
    {
        "corpus.sources": [{"kind": "stdlib", "max_bytes": 1_000_000}],
        "corpus.vocab_size": 300,
        "pretrain.batch_size": 2,
        "pretrain.seq_len": 16,
        "pretrain.schedule.warmup_steps": 4,
        "pretrain.eval_tokens": 256,
        "pretrain.evals": 2,
    }
)


@dataclass
class Counter:
    """Lane-steps that the training loop really did."""

    steps: int = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Count a step by the losses it gives, one a lane."""
        if event["stage"].startswith("pretrain"):
            assert len(event["loss"]) == event["lanes"]
            self.steps += event["lanes"]


@dataclass(frozen=True)
class Side:
    """What one way of training the grid took."""

    counted: int
    accounted: float
    seconds: float
    losses: list[float]
    """Training loss of each run's last step, in nats."""


def run(options: Options) -> dict[str, Figure]:
    """Shared against independent."""
    recipe = RECIPE.with_params({"pretrain.steps": QUICK_STEPS if options.quick else STEPS})
    with tempfile.TemporaryDirectory() as folder:
        options.say("preparing the corpus")
        corpus = token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, Store(Path(folder)))
        waves = [jobs(recipe, fidelity, options.device) for fidelity in FIDELITIES]
        shared = _train(waves, corpus, Path(folder) / "shared")
        options.say(f"shared: {shared.counted} steps of a lane")
        alone = _independent(waves, corpus, Path(folder))
        options.say(f"independent: {alone.counted} steps of a lane")
    apart = [abs(one - other) for one, other in zip(shared.losses, alone.losses, strict=True)]
    tokens = recipe.pretrain.batch_size * recipe.pretrain.seq_len
    return {
        "tokens_shared": Figure(value=shared.counted * tokens, unit="tokens"),
        "tokens_independent": Figure(value=alone.counted * tokens, unit="tokens"),
        "tokens_saved_ratio": Figure(value=alone.counted / shared.counted, unit="x", goal=">= 4"),
        "tokens_saved_ratio_accounted": Figure(
            value=alone.accounted / shared.accounted, unit="x", goal=">= 4"
        ),
        "accounting_difference_steps": Figure(
            value=abs(shared.accounted - shared.counted), unit="steps", goal="<= 0.001"
        ),
        "time_ratio": Figure(value=alone.seconds / shared.seconds, unit="x"),
        "loss_difference_nats": Figure(
            value=max(apart), unit="nats, largest", n=len(apart), goal="<= 0.001"
        ),
    }


def jobs(recipe: Recipe, fidelity: float, device: str) -> list[PretrainJob]:
    """The grid at a fidelity."""
    shapes = [{"pretrain.schedule.decay_frac": 0.0}]
    shapes += [
        {"pretrain.schedule.decay_frac": decay_frac, "pretrain.schedule.floor_ratio": floor}
        for decay_frac in DECAY_FRACS
        for floor in FLOORS
    ]
    steps = round(recipe.pretrain.steps * fidelity)
    return [PretrainJob(recipe.with_params(shape), 0, steps, device) for shape in shapes]


def _train(waves: Sequence[Sequence[PretrainJob]], corpus: TokenDataset, store: Path) -> Side:
    """Waves of jobs, one after the other, with one store."""
    counter, bases = Counter(), list[BaseModel]()
    started = time.perf_counter()
    for wave in waves:
        runtime = Runtime(store=Store(store), report=counter, max_lanes=len(wave))
        bases += pretrain(wave, corpus, runtime)
    seconds = time.perf_counter() - started
    accounted = sum(base.trained_steps for base in bases)
    return Side(counter.steps, accounted, seconds, [float(base.losses[-1]) for base in bases])


def _independent(
    waves: Sequence[Sequence[PretrainJob]], corpus: TokenDataset, folder: Path
) -> Side:
    """Every job by itself with a store of its own."""
    every = [job for wave in waves for job in wave]
    sides = [_train([[job]], corpus, folder / f"alone-{index}") for index, job in enumerate(every)]
    return Side(
        sum(side.counted for side in sides),
        sum(side.accounted for side in sides),
        sum(side.seconds for side in sides),
        [loss for side in sides for loss in side.losses],
    )
