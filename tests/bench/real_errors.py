"""The stated errors of `hpo.front.errors` on real trials, against held-out seeds and test rows.

A short study's baselines at SEEDS pretraining seeds, FINETUNES fine-tuning seeds each, scored on
2 x HALF rows a task, which are two disjoint test sets. A study is made of some of the seeds on one
set: two of one baseline, one of the others. Its values are held against those of all other seeds on
the other set. The held-out values have errors of their own, so an interval is that of the
difference: both errors together, Student's with the study's degrees of freedom. Studies share
trials, so the standard errors over studies are too small.

A metric is scored on test rows, or on validation sequences; of each the first half is one set.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpo.core.trial import Run, Trial
from hpo.front.errors import Estimate, errors_of, student
from hpo.front.paired_rows import rows_variance
from hpo.front.replicates import points
from objectives import Execution, PlasticityObjective, Request
from tests.bench.figures import Figure, Options, mean_of
from tests.bench.short_study import RECIPE, STUDY

SEEDS, FINETUNES, TEST_ROWS, BATCH = 8, 4, 128, 6


STUDIES = 100


METRICS = ("base_loss", "gain", "finetuned", "loss_gain_nats")


Rows = dict[tuple[int, int], dict[str, list[npt.NDArray[np.float64]]]]
"""Setting and seed -> metric -> the score of each row, an array a task."""


def run(options: Options) -> dict[str, Figure]:
    """Train, then compare."""
    rows = measured(options)
    found: dict[str, Figure] = {}
    held = {metric: [_study(rows, draw, metric) for draw in range(STUDIES)] for metric in METRICS}
    for place, name in enumerate(("level", "difference")):
        shares = {
            metric: [100 * float(np.mean(study[place])) for study in studies]
            for metric, studies in held.items()
        }
        pooled = [float(np.mean(each)) for each in zip(*shares.values(), strict=True)]
        found[f"real.{name}"] = mean_of(pooled, "%", options.speed_goal(">= 90"))
        found |= {f"real.{name}.{metric}": mean_of(each, "%") for metric, each in shares.items()}
    return found


def _study(rows: Rows, draw: int, metric: str) -> tuple[list[bool], list[bool]]:
    """Which intervals of levels, and of differences from the first setting, hold."""
    settings = len(STUDY.baselines)
    rng = np.random.default_rng([draw, 9])
    side, order = draw % 2, [rng.permutation(SEEDS) for _ in range(settings)]
    repeated = int(rng.integers(settings))
    used = [list(order[p][: 2 if p == repeated else 1]) for p in range(settings)]
    study = trials(rows, used, side, metric)
    rest = trials(rows, [list(order[p][len(used[p]) :]) for p in range(settings)], 1 - side, metric)
    found, other = (points(_run(some), some) for some in (study, rest))
    known, truth = errors_of(found, metric), errors_of(other, metric)
    levels = [_agree(known.level(a), truth.level(b)) for a, b in zip(found, other, strict=True)]
    differences = [
        _agree(known.difference(found[p], found[0]), truth.difference(other[p], other[0]))
        for p in range(1, settings)
    ]
    return levels, differences


def measured(options: Options) -> Rows:
    """All trials, trained."""
    short = {"pretrain.steps": 40, "finetune.steps": 10} if options.quick else {}
    recipe = replace(
        RECIPE, finetune=replace(RECIPE.finetune, seeds=FINETUNES, test_rows=TEST_ROWS)
    ).with_params(short)
    found: Rows = {}
    with tempfile.TemporaryDirectory() as folder:
        objective = PlasticityObjective(
            recipe, Execution(device=options.device, store=Path(folder) / "store")
        )
        every = [(p, seed) for seed in range(SEEDS) for p in range(len(STUDY.baselines))]
        for start in range(0, len(every), BATCH):
            some = every[start : start + BATCH]
            requests = [
                Request(params=dict(STUDY.baselines[p].params), fidelity=1.0, seed=seed)
                for p, seed in some
            ]
            for key, result in zip(some, objective.evaluate(requests), strict=True):
                found[key] = {
                    metric: [np.array(task) for task in result.row_scores[metric]]
                    for metric in METRICS
                }
            options.say(f"{len(found)} of {len(every)} trials")
    return found


def trials(rows: Rows, seeds: Sequence[Sequence[int]], side: int, metric: str) -> list[Trial]:
    """Trials of these seeds of each setting, scored on one of the two test sets."""
    found: list[Trial] = []
    for p, some in enumerate(seeds):
        first = len(found)
        for seed in some:
            mine = [np.array_split(task, 2)[side] for task in rows[p, int(seed)][metric]]
            metrics = {
                metric: float(np.mean([task.mean() for task in mine])),
                f"{metric}_rows_sem": math.sqrt(rows_variance(mine)),
            }
            found.append(
                Trial.measured(
                    number=len(found), state="complete", params={"setting": p}, seed=int(seed),
                    metrics=metrics, row_scores={metric: [list(map(float, t)) for t in mine]},
                    replicate_of=None if len(found) == first else first,
                )
            )  # fmt: skip
    return found


def _run(some: list[Trial]) -> Run:
    return Run(
        name="real", description="", goals=STUDY.goals, limits=(), trials=some,
        planned=len(some), space={}, reproduce={},
    )  # fmt: skip


def _agree(stated: Estimate, held_out: Estimate) -> bool:
    reach = student(stated.freedom) * stated.error
    return abs(stated.value - held_out.value) <= math.hypot(reach, 2 * held_out.error)
