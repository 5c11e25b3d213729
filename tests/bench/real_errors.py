"""The stated errors of `hpo.front.errors` on real trials, against held-out seeds and test rows.

The quickstart's baselines at SEEDS pretraining seeds, FINETUNES fine-tuning seeds each, scored on
2 x HALF rows a task, which are two disjoint test sets. A study is made of some of the seeds on one
set: two of one baseline, one of the others. Its values are held against those of all other seeds on
the other set. The held-out values have errors of their own, so an interval is that of the
difference: both errors together, Student's with the study's degrees of freedom.
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
from studies.quickstart import RECIPE, STUDY
from tests.bench.figures import Figure, Options, mean_of

SEEDS, FINETUNES, HALF, BATCH = 8, 4, 64, 6


STUDIES = 40


Rows = dict[tuple[int, int], list[npt.NDArray[np.float64]]]
"""Setting and seed -> the gain of each row, an array a task."""


def run(options: Options) -> dict[str, Figure]:
    """Train, then compare."""
    rows = measured(options)
    held: dict[str, list[list[bool]]] = {"level": [], "difference": []}
    settings = len(STUDY.baselines)
    for draw in range(STUDIES):
        rng = np.random.default_rng([draw, 9])
        side, order = draw % 2, [rng.permutation(SEEDS) for _ in range(settings)]
        repeated = int(rng.integers(settings))
        used = [list(order[p][: 2 if p == repeated else 1]) for p in range(settings)]
        study = trials(rows, used, side)
        rest = trials(rows, [list(order[p][len(used[p]) :]) for p in range(settings)], 1 - side)
        found, other = (points(_run(some), some) for some in (study, rest))
        known, truth = errors_of(found, "gain"), errors_of(other, "gain")
        held["level"].append(
            [_agree(known.level(a), truth.level(b)) for a, b in zip(found, other, strict=True)]
        )
        held["difference"].append(
            [
                _agree(known.difference(found[p], found[0]), truth.difference(other[p], other[0]))
                for p in range(1, settings)
            ]
        )
    return {
        f"real.{name}": mean_of([100 * float(np.mean(each)) for each in some], "%")
        for name, some in held.items()
    }


def measured(options: Options) -> Rows:
    """All trials, trained."""
    short = {"pretrain.steps": 40, "finetune.steps": 10} if options.quick else {}
    recipe = replace(
        RECIPE, finetune=replace(RECIPE.finetune, seeds=FINETUNES, test_rows=2 * HALF)
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
                found[key] = [np.array(task) for task in result.row_scores["gain"]]
            options.say(f"{len(found)} of {len(every)} trials")
    return found


def trials(rows: Rows, seeds: Sequence[Sequence[int]], side: int) -> list[Trial]:
    """Trials of these seeds of each setting, scored on one of the two test sets."""
    found: list[Trial] = []
    for p, some in enumerate(seeds):
        first = len(found)
        for seed in some:
            mine = [task[side * HALF : (side + 1) * HALF] for task in rows[p, int(seed)]]
            metrics = {
                "gain": float(np.mean([task.mean() for task in mine])),
                "gain_rows_sem": math.sqrt(rows_variance(mine)),
            }
            found.append(
                Trial.measured(
                    number=len(found), state="complete", params={"setting": p}, seed=int(seed),
                    metrics=metrics, row_scores={"gain": [list(map(float, t)) for t in mine]},
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
