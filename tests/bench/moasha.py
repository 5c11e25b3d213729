"""Syne Tune's MOASHA as a peer: its scheduler's own decisions, asked one trial at a time.

The scheduler only decides; trials are measured here, in the problem's own time. One worker, as the
other searches ask one question at a time: a trial runs from rung to rung until the scheduler stops
it, and each step costs its share of a full evaluation. Settings are Syne Tune's defaults, with
rungs at 1, 3 and 9 ninths of the horizon.

Syne Tune is no dependency: `pip install --no-deps syne-tune==0.16.0` puts it beside this project's
packages; what else it asks for is not loaded by this scheduler.
"""

from __future__ import annotations

import importlib.util
from datetime import datetime

import numpy as np

from tests.bench.search_problems import GOALS, PROBLEMS, Analytic, Array

NINTHS = (1, 3, 9)


def installed() -> bool:
    """Whether Syne Tune is there."""
    return importlib.util.find_spec("syne_tune") is not None


def full_trials(name: str, noise: float, seed: int, budget: float) -> tuple[Array, Array, Array]:
    """What it measured in full: points, values as measured, and the budget spent by then."""
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import uniform
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    problem, objective = PROBLEMS[name], Analytic(name=name, noise=noise, draw=seed)
    np.random.seed(seed)  # noqa: NPY002, as the scheduler draws its points from there
    scheduler = MOASHA(
        config_space={path: uniform(0.0, 1.0) for path in problem.space},
        metrics=list(GOALS),
        time_attr="ninths",
        max_t=NINTHS[-1],
        grace_period=NINTHS[0],
        reduction_factor=3,
        random_seed=seed,
    )
    spent, number = 0.0, 0
    X: list[Array] = []
    Y: list[list[float]] = []
    at: list[float] = []
    while spent < budget - 1e-9:
        config = scheduler.suggest().config
        trial = Trial(trial_id=number, config=config, creation_time=datetime.min)
        scheduler.on_trial_add(trial)
        for ninths in NINTHS:
            measured = objective.measure(config, ninths / 9, 0)
            spent += measured.cost["time_s"]
            decision = scheduler.on_trial_result(trial, {"ninths": ninths, **measured.metrics})
            if ninths == NINTHS[-1]:
                X.append(problem.points([config])[0])
                Y.append([measured.metrics[goal] for goal in GOALS])
                at.append(spent)
            if decision == SchedulerDecision.STOP or spent >= budget - 1e-9:
                break
        number += 1
    shape = (len(X), problem.parameters)
    return np.array(X).reshape(shape), np.array(Y).reshape(-1, len(GOALS)), np.array(at)
