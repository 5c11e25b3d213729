"""The headline: which search finds the better front in the same time on the same machine.

All arms (`tests/bench/race_arms.py`) search the quickstart's space for its goals, for the same
seconds by the clock on two CPU cores or one GPU (`--device cuda`). Arms share nothing but the
tokens, which are made before any clock starts.

1. Each arm at each seed writes a part, `ARM-SEED.json` in `--parts DIR`: the params of its front,
   as its user sees it, at times evenly over the seconds. Parts that are there are not measured
   again, so that a race can be run over several days: `--only ARM`, `--first-seed`, `--seeds`.
2. The judge measures every point of these fronts again at fresh seeds, the same for all arms, with
   this project's engine (which agrees with the peer's, see the bench `peer`), and writes
   `ARM-SEED.judged.json`. A front that owes its points to luck loses it here.
3. Volumes are below a reference a little behind the worst of all judged points, in shares of the
   volume of all of them together. From them: the volume over the time, and the share of the seconds
   after which the mean of an arm reaches what the better of Optuna's samplers has at the end.

Text and a task that nothing was tuned on are given with `--corpus PATH` and `--task DIR`, a whole
recipe with `--recipe FILE`. Of the quickstart's is left out what the peer does not do: rates
between those of the grid, and modules that are trained in full beside the adapters.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpo.core.trial import Trial
from hpo.front import losses
from hpo.numerics import pareto
from objectives import Execution, Files, PlasticityObjective, Recipe, Request, scaffold
from studies.quickstart import RECIPE, STUDY
from tests.bench import figures, race_arms, rungs
from tests.bench.figures import Figure, Options
from tests.bench.race_arms import ARMS, ON_TRAINER, PEERS, Raced, Setting, Trainers
from tests.bench.search_problems import Array

SECONDS = 2700.0


QUICK_SECONDS, QUICK_TRIALS = 600.0, 2
"""It is the trials that end a smoke check."""


SEEDS = 5


PLAIN: Mapping[str, Any] = {"finetune.refine": 0, "finetune.lora.modules_to_save": ()}
"""What both sides can do."""


TIMES = 20
"""At which fronts are looked at, evenly over the seconds."""


FRESH, JUDGES = 1000, 2
"""Seeds of the judge: from FRESH on, so many."""


JUDGED = ".judged.json"


THIS_GOAL, SEARCH_GOAL = "<= 0.25", "<= 0.6"
"""Of the seconds, until the final volume of the better peer, and of random search, is reached."""


@dataclass(frozen=True)
class Part:
    """One arm at one seed, judged."""

    arm: str
    num_trials: int
    fronts: list[Array]
    """Losses of the front at each of the times, at fresh seeds."""


def run(options: Options) -> dict[str, Figure]:
    """Measure the parts that are missing, judge those that are not, and compare all there are."""
    arms = options.picked(ARMS)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    count = options.repeats or (1 if options.quick else SEEDS)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        setting = Setting(_recipe(options), seconds, scratch, device=options.device)
        if options.quick:
            setting = replace(setting, workers=1, most_trials=QUICK_TRIALS)
        parts = options.parts or scratch / "parts"
        parts.mkdir(parents=True, exist_ok=True)
        setting.prepare()
        trainers: Trainers | None = None
        for seed in range(options.first_seed, options.first_seed + count):
            for arm in arms:
                if (parts / f"{arm}-{seed}.json").exists():
                    continue
                options.say(f"{arm}, seed {seed}")
                if arm in ON_TRAINER and trainers is None:
                    trainers = Trainers(setting)
                    stack.callback(trainers.close)
                _write_part(
                    parts, setting, arm, seed, _raced(setting, trainers, arm, seed, options)
                )
        _judge(parts, setting, options)
        return compare(_parts(parts, setting), options)


def _recipe(options: Options) -> Recipe:
    """The quickstart's, with text and tasks of one's own where they are given.

    Raises:
        ValueError: they cannot be read.
    """
    recipe = RECIPE if options.recipe is None else Recipe.from_file(options.recipe)
    recipe = recipe.with_params(PLAIN)
    if options.quick and options.recipe is None:
        fine = replace(recipe.finetune, tasks=recipe.finetune.tasks[:1])
        recipe = replace(recipe, finetune=fine).with_params(rungs.QUICK)
    if options.corpus is not None:
        paths = (str(options.corpus.expanduser().resolve()),)
        recipe = replace(recipe, corpus=replace(recipe.corpus, sources=(Files(paths=paths),)))
    if options.task is not None:
        task = scaffold.task_at(str(options.task.expanduser().resolve()))
        recipe = replace(recipe, finetune=replace(recipe.finetune, tasks=(task,)))
    return recipe


def _times(seconds: float) -> list[float]:
    return [seconds * (place + 1) / TIMES for place in range(TIMES)]


def _raced(
    setting: Setting, trainers: Trainers | None, arm: str, seed: int, options: Options
) -> Raced:
    times = _times(setting.seconds)
    if arm in race_arms.SHIPPED:
        return race_arms.race_shipped(setting, arm, seed, times, options.say)
    assert trainers is not None
    return trainers.race(arm, seed, times, options.say)


def _print_of(setting: Setting) -> str:
    """Equal for parts that can be compared."""
    how = [setting.seconds, setting.workers, setting.device]
    data = json.dumps([setting.recipe.to_dict(), *how], sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def _write_part(parts: Path, setting: Setting, arm: str, seed: int, raced: Raced) -> None:
    data = {
        "arm": arm,
        "seed": seed,
        "seconds": setting.seconds,
        "setting": _print_of(setting),
        "machine": figures.machine(setting.device),
        "num_trials": raced.num_trials,
        "fronts": raced.fronts,
    }
    figures.write_json(parts / f"{arm}-{seed}.json", data)


def _judge(parts: Path, setting: Setting, options: Options) -> None:
    """Measure the points of all fronts that were not, together, at fresh seeds."""
    where = Execution(device=options.device, store=parts / "judge_store")
    objective = PlasticityObjective(setting.recipe, where)
    missing: dict[Path, set[str]] = {}
    points: dict[str, dict[str, Any]] = {}
    for path in sorted(parts.glob("*-*.json")):
        judged = path.with_name(f"{path.stem}{JUDGED}")
        if path.name.endswith(JUDGED) or judged.exists():
            continue
        known = {_key(p): p for front in _read(path, setting)["fronts"] for p in front}
        missing[judged], points = set(known), points | known
    options.say(f"judging {len(points)} points of {len(missing)} parts")
    found = _measured(objective, list(points.values()), 1 if options.quick else JUDGES)
    metrics = dict(zip(points, found, strict=True))
    for judged, keys in missing.items():
        figures.write_json(judged, {key: metrics[key] for key in sorted(keys)})


def _measured(
    objective: PlasticityObjective, points: Sequence[Mapping[str, Any]], judges: int
) -> list[dict[str, float] | None]:
    """Mean goals of each point over fresh seeds; None where one of them fails."""
    requests = [
        Request(params=dict(params), fidelity=1.0, seed=FRESH + judge)
        for params in points
        for judge in range(judges)
    ]
    results = list(objective.evaluate(requests)) if requests else []
    names = [goal.metric for goal in STUDY.goals]
    found: list[dict[str, float] | None] = []
    for place in range(len(points)):
        own = results[place * judges : (place + 1) * judges]
        failed = any(result.failure is not None for result in own)
        means = {} if failed else {n: float(np.mean([r.metrics[n] for r in own])) for n in names}
        found.append(means or None)
    return found


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _read(path: Path, setting: Setting) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if data["setting"] != _print_of(setting):
        raise ValueError(
            f"{path.name} was raced with another recipe or other seconds, such as "
            f"{data['seconds']:g}; give the same ones, or another --parts."
        )
    return data


def _parts(parts: Path, setting: Setting) -> list[Part]:
    found = []
    for path in sorted(parts.glob(f"*{JUDGED}")):
        known = json.loads(path.read_text(encoding="utf-8"))
        part = _read(parts / f"{path.name.removesuffix(JUDGED)}.json", setting)
        fronts = [
            losses.losses(
                [
                    Trial.measured(index, params, known[_key(params)], state="complete")
                    for index, params in enumerate(front)
                    if known[_key(params)] is not None
                ],
                STUDY.goals,
            )
            for front in part["fronts"]
        ]
        found.append(Part(part["arm"], part["num_trials"], fronts))
    return found


def compare(parts: Sequence[Part], options: Options) -> dict[str, Figure]:
    """Volumes over the time, and when each arm has what others have at the end."""
    curves = volumes(parts)
    found: dict[str, Figure] = {}
    for arm in [arm for arm in ARMS if arm in curves]:
        counts = [float(part.num_trials) for part in parts if part.arm == arm]
        found[f"{arm}.trials"] = figures.mean_of(counts, "count")
        for share in (0.25, 0.5, 0.75, 1.0):
            values = [curve[round(share * TIMES) - 1] for curve in curves[arm]]
            key = f"{arm}.volume_at_{100 * share:.0f}"
            found[key] = figures.mean_of(values, "of all judged")
    peers = {arm: float(np.mean([c[-1] for c in curves[arm]])) for arm in PEERS if arm in curves}
    if peers:
        better = max(peers, key=lambda arm: peers[arm])
        for arm in curves:
            goal = THIS_GOAL if arm == "this" else None
            found[f"{arm}.reaches_{better}"] = _reaching(curves[arm], peers[better], goal, options)
    if {"this", "random"} <= curves.keys():
        level = float(np.mean([curve[-1] for curve in curves["random"]]))
        found["this.reaches_random"] = _reaching(curves["this"], level, SEARCH_GOAL, options)
    return found


def _reaching(
    curves: Sequence[Sequence[float]], level: float, goal: str | None, options: Options
) -> Figure:
    """Share of the seconds after which the mean over seeds is at a level; more than 1: never."""
    mean = np.mean(curves, axis=0)
    reached = np.flatnonzero(mean >= level - 1e-12)
    share = (int(reached[0]) + 1) / TIMES if len(reached) else 1 + 1 / TIMES
    return Figure(value=share, unit="of the seconds", n=len(curves), goal=options.speed_goal(goal))


def volumes(parts: Sequence[Part]) -> dict[str, list[list[float]]]:
    """Of each arm a curve a seed, in shares of what all judged points dominate together."""
    every = np.vstack([front for part in parts for front in part.fronts])
    if not len(every):
        return {}
    reference = every.max(axis=0) + 0.1 * np.maximum(np.ptp(every, axis=0), 1e-12)
    whole = pareto.hypervolume(every, reference)
    found: dict[str, list[list[float]]] = {}
    for part in parts:
        curve = [
            pareto.hypervolume(front, reference) / whole if len(front) else 0.0
            for front in part.fronts
        ]
        found.setdefault(part.arm, []).append(curve)
    return found
