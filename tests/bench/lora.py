"""Which setting of LoRA tracks full fine-tuning: does it order bases as full fine-tuning does?

1. Bases of a grid of weight decay x schedule are pretrained from one seed, as lanes.
2. Each is fine-tuned in full and by every setting of LoRA, at a rate of its own, chosen on
   validation from one grid of ratio 2.5 that grows at its edges and is refined around the best.
3. Over the bases, each setting's completion loss on test rows is compared with full fine-tuning's:
   Spearman's rank correlation, its 95 % interval by the bootstrap over bases, the same for its
   difference from adapters of rank 8 alone, and the mean loss behind full.

Text and task are the running Python's, or those of `--corpus` and `--task`. The model ties its head
to the embeddings, so that either trains both.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from objectives import (
    BuiltinTask,
    Corpus,
    Execution,
    Files,
    FileTask,
    Finetune,
    Model,
    PlasticityObjective,
    Pretrain,
    Recipe,
    Request,
    Schedule,
    Stdlib,
)
from tests.bench.figures import Figure, Options

DECAYS = (0.0, 0.03, 0.1, 0.3)


SCHEDULES: dict[str, dict[str, Any]] = {
    "cosine": {"decay_frac": 1.0, "shape": "cosine", "floor_ratio": 0.1},
    "WSD": {"decay_frac": 0.25, "shape": "linear", "floor_ratio": 0.0},
    "constant": {"decay_frac": 0.0},
}


FULL, ALONE = "full", "rank 8"


SETTINGS: dict[str, dict[str, Any]] = {
    FULL: {"method": "full"},
    ALONE: {},
    "rank 8, embeddings, norms": {"lora.modules_to_save": ["embeddings", "norms"]},
    "rank 8, embeddings": {"lora.modules_to_save": ["embeddings"]},
    "rank 8, norms": {"lora.modules_to_save": ["norms"]},
    "rank 32": {"lora.rank": 32, "lora.alpha": 64.0},
}


LRS = (5e-3, 1.25e-2, 3.1e-2)


RESAMPLES = 2000


def run(options: Options) -> dict[str, Figure]:
    """Figures of each setting, and of full fine-tuning how far its losses tell bases apart."""
    recipe = _recipe(options)
    (task,) = recipe.finetune.tasks
    metric = f"task.{task.name}.loss_after_nats"
    losses: dict[str, NDArray[np.float64]] = {}
    found: dict[str, Figure] = {}
    names = [FULL, ALONE, *(name for name in options.picked(list(SETTINGS))
                            if name not in (FULL, ALONE))]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        objective = PlasticityObjective(recipe, Execution(store=folder, device=options.device))
        for name in names:
            metrics = _measure(objective, name, options)
            losses[name] = np.array([each[metric] for each in metrics])
            errors = np.array([each[f"{metric}_sem"] for each in metrics])
            found[f"{name}.loss_nats"] = _mean(losses[name], "nats/token")
            found |= _compare(name, losses) if name != FULL else _spread(losses[FULL], errors)
            options.say(f"{name}: {_line(found, name)}")
    return found


def _measure(
    objective: PlasticityObjective, name: str, options: Options
) -> list[Mapping[str, float]]:
    """Metrics of every base of the grid, fine-tuned by one setting."""
    fine = {f"finetune.{path}": value for path, value in SETTINGS[name].items()}
    grid = [
        {"pretrain.weight_decay": decay}
        | {f"pretrain.schedule.{path}": value for path, value in schedule.items()}
        for schedule in SCHEDULES.values()
        for decay in (DECAYS[::3] if options.quick else DECAYS)
    ]
    asked = [Request(params=base | fine, fidelity=1.0, seed=options.first_seed) for base in grid]
    results = objective.evaluate(asked)
    for result in results:
        if result.failure is not None:
            raise ValueError(f"a base of {name} has no loss: {result.failure}.")
    return [result.metrics for result in results]


def _recipe(options: Options) -> Recipe:
    most, steps = (300_000, 30) if options.quick else (8_000_000, 2000)
    source = (
        Stdlib(max_bytes=most)
        if options.corpus is None
        else Files(paths=(str(options.corpus),), max_bytes=most)
    )
    recipe = Recipe(
        model=Model(preset="llama-0.06m"),
        corpus=Corpus(sources=(source,), vocab_size=512),
        pretrain=Pretrain(
            steps=steps, batch_size=8, seq_len=64, lr=5e-3, evals=1,
            schedule=Schedule(warmup_steps=steps // 20),
        ),
        finetune=Finetune(
            tasks=(_task(options.task),), lrs=LRS, steps=150, batch_size=8, seeds=2,
            max_length=128, train_rows=2400, validation_rows=200, test_rows=400,
            from_scratch="off",
        ),
    )  # fmt: skip
    probes = dataclasses.replace(recipe.probes, run=(), forgetting_tokens=0)
    recipe = dataclasses.replace(recipe, probes=probes)
    if not options.quick:
        return recipe
    small = {"steps": 4, "lrs": LRS[:1], "max_extensions": 0, "validation_rows": 8, "test_rows": 8}
    return dataclasses.replace(recipe, finetune=dataclasses.replace(recipe.finetune, **small))


def _task(folder: Path | None) -> BuiltinTask | FileTask:
    if folder is None:
        return BuiltinTask(name="docstring")
    split = {name: str(folder / f"{name}.jsonl") for name in ("train", "validation", "test")}
    return FileTask(name="given", label_field=None, **split)


def _spread(losses: NDArray[np.float64], errors: NDArray[np.float64]) -> dict[str, Figure]:
    """Spread of the bases' losses, and which part of it is not noise of fine-tuning seeds."""
    variance = float(losses.var(ddof=1))
    reliability = 1 - float((errors**2).mean()) / variance
    return {
        f"{FULL}.spread_nats": Figure(value=math.sqrt(variance), unit="nats/token", n=len(losses)),
        f"{FULL}.reliability": Figure(value=reliability, unit="of variance", n=len(losses)),
    }


def _compare(name: str, losses: Mapping[str, NDArray[np.float64]]) -> dict[str, Figure]:
    """A setting beside full fine-tuning of the same bases."""
    own, full, alone = losses[name], losses[FULL], losses[ALONE]
    count = len(full)
    rho = spearman(own, full)
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    resampled = np.array([spearman(own[ids], full[ids]) for ids in draws])
    figures = {"behind_full_nats": _mean(own - full, "nats/token")}
    figures |= _with_interval("rank_correlation", rho, resampled, count)
    if name != ALONE:
        apart = resampled - np.array([spearman(alone[ids], full[ids]) for ids in draws])
        figures |= _with_interval("over_rank_8", rho - spearman(alone, full), apart, count)
    return {f"{name}.{key}": figure for key, figure in figures.items()}


def _with_interval(
    name: str, value: float, resampled: NDArray[np.float64], count: int
) -> dict[str, Figure]:
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    named = {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    return {key: Figure(value=each, unit="", n=count) for key, each in named.items()}


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; NaN where one does not vary."""
    with np.errstate(invalid="ignore"):
        ranks = np.stack([rankdata(x), rankdata(y)])
        centred = ranks - ranks.mean(1, keepdims=True)
        return float(centred[0] @ centred[1] / np.sqrt((centred**2).sum(1).prod()))


def _mean(values: NDArray[np.float64], unit: str) -> Figure:
    """Over bases; their spread is what is studied, and no error."""
    return Figure(value=float(values.mean()), unit=unit, n=len(values))


def _line(found: Mapping[str, Figure], name: str) -> str:
    """For the line of progress."""
    own: Sequence[tuple[str, Figure]] = [
        (key, each) for key, each in found.items() if key.rpartition(".")[0] == name
    ]
    return ", ".join(f"{key.rpartition('.')[2]} {each.value:.4g}" for key, each in own)
