"""What pretraining is worth on the built-in tasks: bases beside fine-tuned initial weights.

Bases of `short_study.py`'s recipe at its standard params, fine-tuned by its adapters or in full,
each beside the control by the same method; `full, few steps` stops after a third of the steps. A
worth is paired over fine-tuning seeds and rows; its error here is over pretraining seeds.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from objectives import BuiltinTask, Execution, PlasticityObjective, Recipe, Request
from objectives.config.data import BuiltinTaskName
from tests.bench.figures import Figure, Options, mean_of
from tests.bench.short_study import RECIPE

SEEDS = 3


SETTINGS: dict[str, dict[str, Any]] = {
    "adapters": {},
    "full": {"method": "full", "lrs": (5e-4, 1.5e-3, 5e-3)},
    "full, few steps": {"method": "full", "lrs": (1.5e-3, 5e-3), "steps": 40},
}


MEASURED = ("after", "scratch", "over_scratch", "over_scratch_nats")


def run(options: Options) -> dict[str, Figure]:
    """Scores with and without pretraining, by setting and task."""
    found: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.picked(list(SETTINGS)):
            found |= _setting(name, Path(folder), options)
    return found


def _setting(name: str, store: Path, options: Options) -> dict[str, Figure]:
    recipe = _recipe(SETTINGS[name], options.quick)
    objective = PlasticityObjective(recipe, Execution(store=store, device=options.device))
    seeds = range(options.first_seed, options.first_seed + (options.repeats or SEEDS))
    asked = [Request(params={}, fidelity=1.0, seed=seed) for seed in seeds]
    metrics = [result.metrics for result in objective.evaluate(asked)]
    found = {}
    for task in recipe.finetune.tasks:
        for measure in MEASURED:
            values = [each[f"task.{task.name}.{measure}"] for each in metrics]
            unit = "nats/token" if measure.endswith("nats") else "score"
            found[f"{name}.{task.name}.{measure}"] = mean_of(values, unit)
        options.say(f"{name}: {task.name} {_worth(found, name, task.name)}")
    return found


def _recipe(changes: dict[str, Any], quick: bool) -> Recipe:
    names: Sequence[BuiltinTaskName] = get_args(BuiltinTaskName)
    tasks = tuple(BuiltinTask(name=each) for each in (names[:1] if quick else names))
    fine = dataclasses.replace(RECIPE.finetune, tasks=tasks, test_rows=200, **changes)
    pre, probes = RECIPE.pretrain, dataclasses.replace(RECIPE.probes, run=(), forgetting_tokens=0)
    if quick:
        fine = dataclasses.replace(fine, steps=12, test_rows=8, lrs=fine.lrs[:1], max_extensions=0)
        pre = dataclasses.replace(pre, steps=50, eval_tokens=256, batch_size=2)
    return dataclasses.replace(RECIPE, pretrain=pre, finetune=fine, probes=probes)


def _worth(found: dict[str, Figure], name: str, task: str) -> str:
    """For the line of progress."""
    score, nats = (found[f"{name}.{task}.{measure}"] for measure in MEASURED[2:])
    parts = [(score.value, score.sem), (nats.value, nats.sem)]
    return ", ".join(
        f"{value:+.3f} ± {math.nan if sem is None else sem:.3f}" for value, sem in parts
    )
