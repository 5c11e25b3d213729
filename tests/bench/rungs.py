"""A study on text with rungs against the same study without: hypervolume over device seconds.

The recipe and space of `tests/bench/short_study.py`, shortened and with two of its tasks, on text
of the standard library, searched by the project's own sampler in ways that share nothing:

- full: every trial to its end;
- auto: as it comes, which chooses where to compare by the seconds of stages;
- rungs: from a ninth over a third to the whole, fine-tuned at every rung;
- decoupled: the same rungs, fine-tuned below the end only where it pays.

`--only long` pretrains three times as long, so that it costs about three times the fine-tuning, in
twice the seconds.

Each has the same device seconds: CPU seconds of the process, so that what else the machine does has
no part in them; on a GPU seconds by the clock. A front's volume is below a reference common to
the ways of a seed, a little behind the worst of what any of them reported, and is given in shares
of the volume of all their fronts together. It counts twice: as observed at 25, 50, 75 and 100 % of
the seconds, and at the end with the reported points measured again at a fresh seed, which favours
none of those that were chosen for a lucky draw.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from hpo.controller import Controller
from hpo.core.history import History
from hpo.core.objective import Event, Objective, Request
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.front import losses
from hpo.numerics import pareto
from hpo.storage.record import url_of
from objectives import Execution, PlasticityObjective, Result
from tests.bench import figures
from tests.bench.figures import Figure, Options
from tests.bench.search_problems import Array
from tests.bench.short_study import RECIPE, STUDY

SEEDS = 3


SECONDS, QUICK_SECONDS = 240.0, 4.0


SHARES = (0.25, 0.5, 0.75, 1.0)


RUNGS = (1 / 9, 1 / 3, 1.0)


WAVE = 2


TASKS = 2


FRESH = 1000
"""Added to a study's seed to measure its front again."""


SHORT: Mapping[str, Any] = {
    "corpus.sources": [{"kind": "stdlib", "max_bytes": 4_000_000}],
    "pretrain.steps": 216,
    "pretrain.schedule.warmup_steps": 16,
    "pretrain.eval_tokens": 8_192,
    "finetune.steps": 40,
    "finetune.test_rows": 100,
}


LONGER = 3


QUICK: Mapping[str, Any] = {
    "corpus.sources": [{"kind": "stdlib", "max_bytes": 300_000}],
    "corpus.vocab_size": 300,
    "pretrain.steps": 27,
    "pretrain.batch_size": 2,
    "pretrain.schedule.warmup_steps": 1,
    "pretrain.eval_tokens": 256,
    "finetune.lrs": [1e-2],
    "finetune.max_extensions": 0,
    "finetune.steps": 8,
    "finetune.schedule.warmup_steps": 1,
    "finetune.test_rows": 10,
}


@dataclass(frozen=True)
class Searched:
    """What one way found."""

    fronts: list[list[Trial]]
    """As reported at each of SHARES."""
    fresh: Array
    """Losses of the last of them at a fresh seed."""
    asked: dict[str, float]
    """Trials, and questions at the lowest rung and in full."""


@dataclass(frozen=True)
class Timed:
    """The objective, with the seconds that a batch took of the device as its cost."""

    objective: PlasticityObjective

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[Result]:
        """Measure a batch."""
        clock = time.process_time if self.objective.execution.device == "cpu" else time.monotonic
        started = clock()
        results = self.objective.evaluate(requests, on_event)
        each = (clock() - started) / len(requests)
        return [replace(found, cost=found.cost | {"time_s": each}) for found in results]


def run(options: Options) -> dict[str, Figure]:
    """All ways at all seeds."""
    long = options.only is not None and options.picked(["short", "long"]) == ["long"]
    seconds = QUICK_SECONDS if options.quick else SECONDS * (2 if long else 1)
    count = options.repeats or (1 if options.quick else SEEDS)
    seeds = range(options.first_seed, options.first_seed + count)
    found: dict[str, list[float]] = {}
    for seed in seeds:
        searched = {}
        for way, changes in WAYS.items():
            options.say(f"seed {seed}, {way}")
            with tempfile.TemporaryDirectory() as folder:
                spec = _spec(options, seed, seconds, Path(folder), changes)
                searched[way] = _search(spec, Path(folder))
        for name, value in _volumes(searched).items():
            found.setdefault(name, []).append(value)
        for way, each in searched.items():
            for name, value in each.asked.items():
                found.setdefault(f"{way}.{name}", []).append(value)
    units = {name: "of all fronts" if "volume" in name else "count" for name in found}
    return {name: figures.mean_of(values, units[name]) for name, values in found.items()}


WAYS: dict[str, dict[str, object]] = {
    "full": {"rungs": (1.0,)},
    "auto": {},
    "rungs": {"rungs": RUNGS, "finetune_at_rungs": "always"},
    "decoupled": {"rungs": RUNGS},
}


def _spec(
    options: Options, seed: int, seconds: float, folder: Path, changes: Mapping[str, object]
) -> StudySpec:
    fine = replace(RECIPE.finetune, tasks=RECIPE.finetune.tasks[:TASKS])
    short = SHORT | QUICK if options.quick else SHORT
    recipe = replace(RECIPE, finetune=fine).with_params(short)
    if options.only == "long":
        recipe = recipe.with_params({"pretrain.steps": LONGER * recipe.pretrain.steps})
    execution = Execution(device=options.device, store=folder / "store")
    return replace(
        STUDY,
        objective=cast(Objective, Timed(PlasticityObjective(recipe, execution))),
        baselines=(),
        trials=60 if options.quick else 1000,
        budget_s=seconds,
        wave=WAVE,
        replicate_share=0.0,
        seed=seed,
        **changes,  # type: ignore[arg-type]
    )


def _search(spec: StudySpec, folder: Path) -> Searched:
    # Text and tasks are read before the clock starts; nothing of this trial is used again.
    spec.objective.evaluate([Request(params={}, fidelity=RUNGS[0], seed=spec.seed + 1)])
    controller = Controller(spec, url_of(folder))
    controller.run()
    ledger = controller.record.history
    fronts = [_reported(spec, ledger, share) for share in SHARES]
    again = [
        Request(params=dict(trial.params), fidelity=1.0, seed=spec.seed + FRESH)
        for trial in fronts[-1]
    ]
    results = spec.objective.evaluate(again) if again else ()
    fresh = [
        trial.with_answer(metrics=dict(result.metrics))
        for trial, result in zip(fronts[-1], results, strict=True)
        if result.failure is None
    ]
    asks = [ask for entry in ledger.trials for ask in entry.asks]
    asked = {
        "trials": len(ledger.trials),
        "asked_in_full": sum(ask.fidelity == 1 for ask in asks),
        "asked_below": sum(ask.fidelity < 1 for ask in asks),
        "asked_for_the_base": sum(ask.base_only for ask in asks),
    }
    return Searched(
        fronts, losses.losses(fresh, spec.goals), {k: float(v) for k, v in asked.items()}
    )


def _reported(spec: StudySpec, ledger: History, share: float) -> list[Trial]:
    """What is non-dominated as observed among the trials that ended within a share of the seconds.

    All ways are at one seed, so that the noise between seeds has no part in it.
    """
    answers = sorted(
        ((answer, entry) for entry in ledger.trials for answer in entry.answers),
        key=lambda pair: pair[0].order,
    )
    spent = np.cumsum([answer.cost["time_s"] for answer, _ in answers])
    done = [
        entry
        for (answer, entry), at in zip(answers, spent, strict=True)
        if at <= share * spent[-1] + 1e-9 and answer.fidelity == 1 and entry.state == "complete"
    ]
    rows = pareto.non_dominated(losses.losses(done, spec.goals)) if done else []
    return [trial for trial, on_front in zip(done, rows, strict=True) if on_front]


def _volumes(searched: Mapping[str, Searched]) -> dict[str, float]:
    goals = STUDY.goals

    def shares(sides: Mapping[str, Sequence[Array]]) -> dict[str, list[float]]:
        every = np.vstack([rows for side in sides.values() for rows in side if len(rows)])
        reference = every.max(axis=0) + 0.1 * np.maximum(np.ptp(every, axis=0), 1e-12)
        whole = pareto.hypervolume(every, reference)
        return {
            way: [
                pareto.hypervolume(rows, reference) / whole if len(rows) else 0.0 for rows in side
            ]
            for way, side in sides.items()
        }

    observed = shares(
        {way: [losses.losses(f, goals) for f in each.fronts] for way, each in searched.items()}
    )
    fresh = shares({way: [each.fresh] for way, each in searched.items()})
    found = {}
    for way in searched:
        for share, value in zip(SHARES, observed[way], strict=True):
            found[f"{way}.volume_at_{100 * share:.0f}"] = value
        found[f"{way}.volume_at_a_fresh_seed"] = fresh[way][0]
    return found
