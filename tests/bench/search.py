"""Searches against each other: relative hypervolume over what they have spent.

Ours with rungs (1/9, 1/3, 1), one question at a time as the peers ask; Optuna's default (TPE), its
GPSampler and NSGA-II at full fidelity. All spend up to 24 full evaluations; what ours stops early
counts with the share that it took. Of each the front it reports at 25, 50, 75 and 100 % is worth
what the true values of its points dominate, over the exact front's volume.

Under noise also: by how many points of that volume the reported values overstate the true ones, and
the share of reported points that no other measured point dominates in truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from hpo import pareto, scoring
from hpo.ledger import Ledger, as_run
from hpo.spec import Goal, StudySpec
from hpo.study import Controller
from tests.bench import figures
from tests.bench.figures import Figure, Options
from tests.bench.search_problems import GOALS, PROBLEMS, Analytic, Array

BUDGET = 24.0
SHARES = (0.25, 0.5, 0.75, 1.0)
NOISES = (0.0, 0.15)
SEEDS = 10
RUNGS = (1 / 9, 1 / 3, 1.0)
GOAL_AT_HALF = {"branin-currin": ">= 0.85", "park": ">= 0.85"}


@dataclass(frozen=True)
class Reported:
    """A front as it was reported."""

    points: Array
    values: Array
    """As measured."""
    others: Array
    """All points measured at full fidelity."""


Search = Callable[[str, float, int, float], list[Reported]]
"""Of problem, noise, seed and budget: the front at each of SHARES."""


def run(options: Options) -> dict[str, Figure]:
    """All searches on all problems."""
    found: dict[str, Figure] = {}
    budget = 4.0 if options.quick else BUDGET
    seeds = range(options.repeats or (1 if options.quick else SEEDS))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = options.picked(list(PROBLEMS))
    for name in names[:1] if options.quick else names:
        for noise in NOISES:
            for method, search in SEARCHES.items():
                options.say(f"{name}, noise {noise}, {method}")
                fronts = [search(name, noise, seed, budget) for seed in seeds]
                goal = GOAL_AT_HALF.get(name) if method == "ours" and not noise else None
                found |= _figures(f"{name}.noise_{noise}.{method}", name, noise, fronts,
                                  options.speed_goal(goal))  # fmt: skip
    return found


def _figures(
    key: str, name: str, noise: float, fronts: Sequence[Sequence[Reported]], goal: str | None
) -> dict[str, Figure]:
    problem = PROBLEMS[name]
    found = {}
    for place, share in enumerate(SHARES):
        values = [
            problem.share(problem.values(each[place].points, 1.0)) if len(each[place].points) else 0
            for each in fronts
        ]
        found[f"{key}.at_{share:.0%}".rstrip("%")] = figures.mean_of(
            values, "of best", goal if share == 0.5 else None
        )
    if noise:
        last = [each[-1] for each in fronts]
        found[f"{key}.overstated"] = figures.mean_of([_overstated(name, e) for e in last], "points")
        found[f"{key}.truly_on_front"] = figures.mean_of([_true(name, e) for e in last], "share")
    return found


def _overstated(name: str, front: Reported) -> float:
    problem = PROBLEMS[name]
    return 100 * (problem.share(front.values) - problem.share(problem.values(front.points, 1.0)))


def _true(name: str, front: Reported) -> float:
    problem = PROBLEMS[name]
    mine, all_ = (problem.values(X, 1.0) for X in (front.points, front.others))
    beaten = (all_[:, None] <= mine[None]).all(axis=2) & (all_[:, None] < mine[None]).any(axis=2)
    return float(1 - beaten.any(axis=0).mean()) if len(mine) else 1.0  # nothing false was said


def ours(name: str, noise: float, seed: int, budget: float) -> list[Reported]:
    """With rungs, until the budget is spent."""
    spec = StudySpec(
        name="bench",
        objective=Analytic(name=name, noise=noise, draw=seed),
        space=PROBLEMS[name].space,
        goals=tuple(Goal(metric=metric, direction="down") for metric in GOALS),
        trials=int(budget / RUNGS[0]) + 1,
        budget_s=budget,
        wave=1,
        rungs=RUNGS,
        seed=seed,
    )
    controller = Controller(spec, "sqlite://")
    controller.run()
    return [_reported(spec, controller.ledger, share * budget) for share in SHARES]


def _reported(spec: StudySpec, ledger: Ledger, spent: float) -> Reported:
    """The front of what was measured in full within a budget."""
    answers = sorted(
        ((answer, entry) for entry in ledger.entries for answer in entry.answers),
        key=lambda pair: pair[0].order,
    )
    total, full = 0.0, []
    for answer, entry in answers:
        total += answer.cost["time_s"]
        if answer.fidelity == 1 and total <= spent + 1e-9:
            full.append(entry)
    front = scoring.front(as_run(spec, full)).trials
    problem = PROBLEMS[str(spec.objective.describe()["problem"])]
    values = [[trial.metrics[goal] for goal in GOALS] for trial in front]
    return Reported(
        problem.points([trial.params for trial in front]),
        np.array(values).reshape(-1, 2),
        problem.points([entry.params for entry in full]),
    )


def peer(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Search:
    """An Optuna study at full fidelity."""

    def search(name: str, noise: float, seed: int, budget: float) -> list[Reported]:
        problem, objective = PROBLEMS[name], Analytic(name=name, noise=noise, draw=seed)
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler(seed))

        def measure(trial: optuna.Trial) -> list[float]:
            params = {path: trial.suggest_float(path, 0.0, 1.0) for path in problem.space}
            metrics = objective.measure(params, 1.0, 0).metrics
            return [metrics[goal] for goal in GOALS]

        study.optimize(measure, n_trials=int(budget))
        X = problem.points([trial.params for trial in study.trials])
        Y = np.array([trial.values for trial in study.trials])
        found = []
        for share in SHARES:
            count = int(share * budget)
            rows = pareto.non_dominated(Y[:count])
            found.append(Reported(X[:count][rows], Y[:count][rows], X[:count]))
        return found

    return search


SEARCHES: dict[str, Search] = {
    "ours": ours,
    "optuna_default": peer(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "optuna_gp": peer(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "optuna_nsga2": peer(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=8)),
}
