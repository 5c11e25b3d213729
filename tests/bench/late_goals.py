"""A search whose second goal comes late and is expensive: asked where it pays, always, or without
rungs.

The analytic problems of the search bench, where measuring the second goal costs a share or a
multiple of the whole horizon at any fidelity, as fine-tuning does. All ways spend what 24 full
trials cost. Figures are as in the search bench: the true values of what is reported at 25, 50, 75
and 100 % of the cost, over the exact front's volume; no noise.
"""

from __future__ import annotations

from dataclasses import replace

from hpo.controller import Controller
from hpo.core.spec import StudySpec
from tests.bench import figures
from tests.bench.figures import Figure, Options
from tests.bench.search import BUDGET, SHARES, analytic_study, reported_at
from tests.bench.search_problems import PROBLEMS, Analytic

SEEDS = 6


PRICES = (0.5, 2.0)
"""Of the late goal, in horizons."""


NAMES = ("branin-currin", "park", "zdt1")


WAYS: dict[str, dict[str, object]] = {
    "where_it_pays": {},
    "always": {"finetune_at_rungs": "always"},
    "without_rungs": {"rungs": (1.0,)},
}


def run(options: Options) -> dict[str, Figure]:
    """All ways on all problems."""
    budget = 4.0 if options.quick else BUDGET
    seeds = range(options.repeats or (1 if options.quick else SEEDS))
    found: dict[str, Figure] = {}
    for name in options.picked(list(NAMES))[: 1 if options.quick else None]:
        for price in PRICES:
            for way, changes in WAYS.items():
                options.say(f"{name}, the late goal at {price} horizons, {way}")
                spent = budget * (1 + price)
                rows = []
                for seed in seeds:
                    objective = Analytic(name=name, draw=seed, finetuning=price)
                    spec = analytic_study(objective, seed, spent)
                    rows.append(_volumes(replace(spec, **changes), spent))  # type: ignore[arg-type]
                for place, share in enumerate(SHARES):
                    key = f"{name}.price_{price}.{way}.at_{100 * share:.0f}"
                    found[key] = figures.mean_of([row[place] for row in rows], "of best")
    return found


def _volumes(spec: StudySpec, spent: float) -> list[float]:
    controller = Controller(spec, "sqlite://")
    controller.run()
    problem = PROBLEMS[str(spec.objective.describe()["problem"])]
    fronts = [reported_at(spec, controller.record.history, share * spent) for share in SHARES]
    return [problem.share(problem.values(f.points, 1.0)) if len(f.points) else 0.0 for f in fronts]
