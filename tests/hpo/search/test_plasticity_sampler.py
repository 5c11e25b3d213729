"""The search as an Optuna sampler: Optuna's conformance suite, and what it promises beyond."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from hpo.numerics import pareto
from hpo.search.plasticity_sampler import PlasticitySampler


class TestConformance(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    """Optuna's suite."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: PlasticitySampler(seed=0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def measure(trial: optuna.Trial) -> tuple[float, float]:
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return x + 2 * y, (1 - x) ** 2 + y


def studied(trials: int, seed: int = 0) -> optuna.Study:
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=PlasticitySampler(seed=seed)
    )
    study.optimize(measure, n_trials=trials)
    return study


def test_it_finds_a_front_that_random_points_miss() -> None:
    """The exact front is y = 0; volumes under (1.5, 1.5), of which it has 1.667."""
    found = np.array([trial.values for trial in studied(15).trials])
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 15))
    random = np.stack([x + 2 * y, (1 - x) ** 2 + y], axis=1)
    exact = 1.5**2 - 0.25 - 1 / 3
    share = pareto.hypervolume(found, (1.5, 1.5)) / exact
    assert share > 0.85
    assert share > pareto.hypervolume(random, (1.5, 1.5)) / exact + 0.1


def test_a_study_that_is_read_again_goes_on_as_it_would_have() -> None:
    whole, part = studied(9), studied(6)
    again = optuna.create_study(
        directions=["minimize", "minimize"], sampler=PlasticitySampler(seed=0)
    )
    again.add_trials(part.trials)
    again.optimize(measure, n_trials=3)
    assert [t.params for t in again.trials] == [t.params for t in whole.trials]
    assert studied(6, seed=1).trials[5].params != part.trials[5].params


def test_trials_asked_for_together_differ() -> None:
    study = studied(6)
    space = study.trials[0].distributions
    asked = [study.ask(space) for _ in range(3)]
    points = np.array([[trial.params["x"], trial.params["y"]] for trial in asked])
    assert all(np.abs(points[a] - points[b]).max() > 1e-3 for a, b in [(0, 1), (0, 2), (1, 2)])


def test_constraints_keep_proposals_where_they_hold() -> None:
    study = optuna.create_study(sampler=PlasticitySampler(seed=0))

    def bounded(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("x at least 0.4", 0.4 - x)
        return x

    study.optimize(bounded, n_trials=14)
    assert all(trial.params["x"] > 0.35 for trial in study.trials[-4:])
    assert study.best_trial.params["x"] < 0.5


@pytest.mark.parametrize("value", [1e200, -1e200, 1.7e308, 5e-324, math.inf])
@pytest.mark.parametrize("every", [1, 3])
def test_a_value_of_any_size_ends_no_study(value: float, every: int) -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        odd = trial.number % every == 0
        return (value if odd else x), (-value if odd else y)

    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=PlasticitySampler(seed=0)
    )
    study.optimize(objective, n_trials=10)
    assert len(study.trials) == 10
