"""What each probe costs: its seconds as a share of a short trial without probes.

1. One trial of `short_study.py`, timed from its corpus to its scores, with a store of its own.
2. The same trial with every probe, all else taken from the store; as often as there are repeats,
   the stored findings removed in between.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from objectives import Execution, PlasticityObjective
from objectives.config.probes import ProbeName
from tests.bench import figures
from tests.bench.figures import Figure, Options
from tests.bench.short_study import RECIPE
from tests.toy_size import TOY, small_inputs

REPEATS = 3


GOAL = "<= 0.02"
"""For the probes that run by default, together; chosen here: a few percent of a trial."""


def run(options: Options) -> dict[str, Figure]:
    """Seconds and share of every probe, and of the default ones together."""
    names: list[str] = options.picked(list(get_args(ProbeName)))
    repeats = options.repeats or (1 if options.quick else REPEATS)
    with tempfile.TemporaryDirectory() as folder:
        changes: dict[str, Any] = TOY | small_inputs(Path(folder)) if options.quick else {}
        store = Path(folder) / "store"
        objective = PlasticityObjective(
            RECIPE.with_params({**changes, "probes.run": []}),
            Execution(device=options.device, store=store),
        )
        options.say("one trial without probes")
        started = time.perf_counter()
        trial = objective({})
        trial_s = time.perf_counter() - started
        assert trial.failure is None, trial.failure
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for repeat in range(repeats):
            options.say(f"probes, {repeat + 1} of {repeats}")
            shutil.rmtree(store / "probe", ignore_errors=True)
            result = objective({"probes.run": names})
            for note in result.notes:
                options.say(note)
            for name in names:
                seconds[name].append(result.cost[f"probe.{name}_s"])
    return {"trial_s": Figure(value=trial_s, unit="s")} | _figures(seconds, trial_s, options)


def _figures(
    seconds: dict[str, list[float]], trial_s: float, options: Options
) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for name, each in seconds.items():
        found[f"{name}.seconds"] = figures.mean_of(each, "s")
        found[f"{name}.share"] = figures.mean_of([s / trial_s for s in each], "of a trial")
    default = [name for name in RECIPE.probes.run if name in seconds]
    if len(default) == len(RECIPE.probes.run):
        together = [
            sum(each) / trial_s for each in zip(*(seconds[n] for n in default), strict=True)
        ]
        goal = options.speed_goal(GOAL)
        found["default.share"] = figures.mean_of(together, "of a trial", goal)
    return found
