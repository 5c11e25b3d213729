"""Searches against each other: relative hypervolume over what they have spent.

This project with rungs (1/9, 1/3, 1), one question at a time as the peers ask, and without;
Optuna's default (TPE), its GPSampler (with its 10 start-up points, and with 4) and NSGA-II at full
fidelity; there too BoTorch's qNEHVI, and with the same rungs Syne Tune's MOASHA, where they are
installed. All spend up to 24 full
evaluations; what is stopped early counts with the share that it took. Of each the front it reports
at 25, 50, 75 and 100 % is worth what the true values of its points dominate, over the exact front's
volume.

Reported is what a user sees: here `hpo.front.front.front`, so under noise the points whose
membership is probable enough, at their expected values; of the peers what is non-dominated as
observed. Under noise `ours` may spend REPLICATE_SHARE of the budget on repeating trials at other
seeds.

`measured` is what all points that were measured in full are worth in truth, whatever is reported.

`denoised` is what `hpo.front.front.front` reports of a peer's own results, told the true noise, as
peers repeat nothing that would tell it.

Under noise also: by how many points of that volume the reported values overstate the true ones, and
the share of reported points that no other point measured in full dominates in truth.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna

from hpo.controller import Controller
from hpo.core.goals import Goal
from hpo.core.history import History
from hpo.core.spec import StudySpec
from hpo.core.trial import Run, Trial
from hpo.front import front as scoring
from hpo.numerics import pareto
from tests.bench import figures, moasha
from tests.bench.figures import Figure, Options
from tests.bench.search_problems import GOALS, PROBLEMS, Analytic, Array

BUDGET = 24.0


SHARES = (0.25, 0.5, 0.75, 1.0)


NOISES = (0.0, 0.15)


SEEDS = 10


RUNGS = (1 / 9, 1 / 3, 1.0)


REPLICATE_SHARE = 0.2


CORRELATION = 0.9
"""Of a run's noise between its rungs."""


MOST_OVERSTATED, LEAST_TRUE = "<= 3", ">= 0.85"


GOAL_AT_HALF = {"branin-currin": ">= 0.85", "park": ">= 0.85"}


@dataclass(frozen=True)
class Reported:
    """A front as it was reported."""

    points: Array
    values: Array
    """As stated."""
    others: Array
    """All points measured at full fidelity."""
    denoised: Reported | None = None
    """Of a peer under noise, at the end: what this project's front reports of the same results."""


Search = Callable[[str, float, int, float], list[Reported]]
"""Of problem, noise, seed and budget: the front at each of SHARES."""


def run(options: Options) -> dict[str, Figure]:
    """All searches on all problems."""
    found: dict[str, Figure] = {}
    budget = 4.0 if options.quick else BUDGET
    count = options.repeats or (1 if options.quick else SEEDS)
    seeds = range(options.first_seed, options.first_seed + count)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = options.picked(list(PROBLEMS))
    for name in names[:1] if options.quick else names:
        for noise in NOISES:
            for method, search in searches().items():
                options.say(f"{name}, noise {noise}, {method}")
                fronts = [search(name, noise, seed, budget) for seed in seeds]
                judged = method == "ours" and not options.quick
                found |= _figures(f"{name}.noise_{noise}.{method}", name, noise, fronts, judged)
    return found


def searches() -> dict[str, Search]:
    """All that can run here."""
    found = SEARCHES | ({"syne_tune_moasha": syne_tune} if moasha.installed() else {})
    if importlib.util.find_spec("botorch") and importlib.util.find_spec("optuna_integration"):
        found["botorch_qnehvi"] = peer(_qnehvi)
    return found


def _qnehvi(seed: int) -> optuna.samplers.BaseSampler:
    """BoTorch's noisy expected hypervolume improvement (arXiv 2105.08195), after 4 start-ups."""
    module = importlib.import_module("optuna_integration.botorch.botorch")
    sampler: optuna.samplers.BaseSampler = module.BoTorchSampler(
        candidates_func=module.qnehvi_candidates_func, n_startup_trials=4, seed=seed
    )
    return sampler


def _figures(
    key: str, name: str, noise: float, fronts: Sequence[Sequence[Reported]], judged: bool
) -> dict[str, Figure]:
    problem = PROBLEMS[name]
    at_half = GOAL_AT_HALF.get(name) if judged and not noise else None
    most, least = (MOST_OVERSTATED, LEAST_TRUE) if judged else (None, None)
    found = {}
    for place, share in enumerate(SHARES):
        values = [
            problem.share(problem.values(each[place].points, 1.0)) if len(each[place].points) else 0
            for each in fronts
        ]
        found[f"{key}.at_{share:.0%}".rstrip("%")] = figures.mean_of(
            values, "of best", at_half if share == 0.5 else None
        )
    all_ = [problem.share(problem.values(each[-1].others, 1.0)) for each in fronts]
    found[f"{key}.measured"] = figures.mean_of(all_, "of best")
    if noise:
        last = [each[-1] for each in fronts]
        found |= _honesty(key, name, last, most, least)
        denoised = [each.denoised for each in last if each.denoised is not None]
        if denoised:
            worth = [problem.share(problem.values(each.points, 1.0)) for each in denoised]
            found[f"{key}.denoised.at_100"] = figures.mean_of(worth, "of best")
            found |= _honesty(f"{key}.denoised", name, denoised, None, None)
    return found


def _honesty(
    key: str, name: str, fronts: Sequence[Reported], most: str | None, least: str | None
) -> dict[str, Figure]:
    """By how much the fronts overstate, and which share of their points is on the true one."""
    overstated = [_overstated(name, each) for each in fronts]
    true = [_true(name, each) for each in fronts]
    return {
        f"{key}.overstated": figures.mean_of(overstated, "points", most),
        f"{key}.overstated_by": figures.mean_of([abs(each) for each in overstated], "points"),
        f"{key}.truly_on_front": figures.mean_of(true, "share", least),
    }


def _overstated(name: str, front: Reported) -> float:
    problem = PROBLEMS[name]
    return 100 * (problem.share(front.values) - problem.share(problem.values(front.points, 1.0)))


def _true(name: str, front: Reported) -> float:
    problem = PROBLEMS[name]
    mine, all_ = (problem.values(X, 1.0) for X in (front.points, front.others))
    beaten = (all_[:, None] <= mine[None]).all(axis=2) & (all_[:, None] < mine[None]).any(axis=2)
    return float(1 - beaten.any(axis=0).mean()) if len(mine) else 1.0  # nothing false was said


def ours(name: str, noise: float, seed: int, budget: float) -> list[Reported]:
    """With rungs, until the budget is spent; under noise with repetitions."""
    objective = Analytic(name=name, noise=noise, draw=seed, correlation=CORRELATION)
    spec = replace(
        analytic_study(objective, seed, budget), replicate_share=REPLICATE_SHARE if noise else 0.0
    )
    controller = Controller(spec, "sqlite://")
    controller.run()
    return [reported_at(spec, controller.record.history, share * budget) for share in SHARES]


def ours_without_rungs(name: str, noise: float, seed: int, budget: float) -> list[Reported]:
    """The same at full fidelity alone."""
    objective = Analytic(name=name, noise=noise, draw=seed)
    spec = replace(
        analytic_study(objective, seed, budget),
        rungs=(1.0,),
        replicate_share=REPLICATE_SHARE if noise else 0.0,
    )
    controller = Controller(spec, "sqlite://")
    controller.run()
    return [reported_at(spec, controller.record.history, share * budget) for share in SHARES]


def analytic_study(objective: Analytic, seed: int, budget: float) -> StudySpec:
    """One question at a time over three rungs, until the budget is spent."""
    return StudySpec(
        name="bench",
        objective=objective,
        space=PROBLEMS[objective.name].space,
        goals=tuple(Goal(metric=metric, direction="down") for metric in GOALS),
        trials=int(budget / RUNGS[0]) + 1,
        budget_s=budget,
        wave=1,
        rungs=RUNGS,
        replicate_share=0.0,
        seed=seed,
    )


def reported_at(spec: StudySpec, ledger: History, spent: float) -> Reported:
    """The front as a user sees it, of what was measured within a budget."""
    answers = sorted(
        ((answer, entry) for entry in ledger.trials for answer in entry.answers),
        key=lambda pair: pair[0].order,
    )
    total = np.cumsum([answer.cost["time_s"] for answer, _ in answers])
    seen = {answer.order for (answer, _), at in zip(answers, total, strict=True)
            if at <= spent + 1e-9}  # fmt: skip
    known = [
        replace(
            entry, asks=entry.asks[: len(those)], answers=those,
            state="complete" if those[-1].fidelity == 1 else "pruned",
        )
        for entry in ledger.trials
        if (those := tuple(each for each in entry.answers if each.order in seen))
    ]  # fmt: skip
    full = [entry for entry in known if entry.state == "complete"]
    front = scoring.front(Run.of(spec, known))
    problem = PROBLEMS[str(spec.objective.describe()["problem"])]
    stated = [front.estimates.get(trial.number, trial.metrics) for trial in front.trials]
    values = [[each[goal] for goal in GOALS] for each in stated]
    return Reported(
        problem.points([trial.params for trial in front.trials]),
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
        return _with_denoised(name, noise, X, Y, found)

    return search


def _with_denoised(
    name: str, noise: float, X: Array, Y: Array, found: list[Reported]
) -> list[Reported]:
    """The last one with what our front reports of all results; without noise as they are."""
    if not noise:
        return found
    return [*found[:-1], replace(found[-1], denoised=denoised(name, X, Y, noise))]


def denoised(name: str, X: Array, Y: Array, noise: float) -> Reported:
    """What our front reports of results at full fidelity whose noise is known."""
    problem = PROBLEMS[name]
    trials = [
        Trial.measured(
            number=number,
            state="complete",
            params=dict(zip(problem.space, map(float, x), strict=True)),
            metrics=dict(zip(GOALS, map(float, y), strict=True))
            | {f"{goal}_sem": noise for goal in GOALS},
        )
        for number, (x, y) in enumerate(zip(X, Y, strict=True))
    ]
    goals = tuple(Goal(metric=metric, direction="down") for metric in GOALS)
    run = Run(
        name=name, description="", goals=goals, limits=(), trials=trials, planned=len(trials),
        space=dict(problem.space), reproduce={},
    )  # fmt: skip
    front = scoring.front(run)
    values = [[front.estimates[trial.number][goal] for goal in GOALS] for trial in front.trials]
    return Reported(
        problem.points([t.params for t in front.trials]), np.array(values).reshape(-1, 2), X
    )


def syne_tune(name: str, noise: float, seed: int, budget: float) -> list[Reported]:
    """MOASHA, until the budget is spent."""
    X, Y, at = moasha.full_trials(name, noise, seed, budget)
    found = []
    for share in SHARES:
        count = int((at <= share * budget + 1e-9).sum())
        rows = pareto.non_dominated(Y[:count])
        found.append(Reported(X[:count][rows], Y[:count][rows], X[:count]))
    return _with_denoised(name, noise, X, Y, found)


SEARCHES: dict[str, Search] = {
    "ours": ours,
    "optuna_default": peer(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "ours_without_rungs": ours_without_rungs,
    "optuna_gp": peer(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "optuna_gp_4_start_ups": peer(
        lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=4)
    ),
    "optuna_nsga2": peer(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=8)),
}
