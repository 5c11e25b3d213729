"""Expected gain in hypervolume against sampling, and its boxes against the hypervolume itself."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.core.domains import Float
from hpo.numerics import hypervolume_improvement, pareto
from hpo.search import model
from hpo.search.unit_cube import Coordinates


@pytest.mark.parametrize("goals", [1, 2, 3, 4])
def test_what_a_sure_point_adds_is_the_gain_in_hypervolume(goals: int) -> None:
    rng = np.random.default_rng(goals)
    Y, corner = rng.random((6, goals)), np.ones(goals)
    bounds = hypervolume_improvement.boxes(Y, corner)
    before = pareto.hypervolume(Y, corner)
    asked = rng.random((40, goals)) * 1.2
    gain, chance = hypervolume_improvement.expected_gain(asked, np.full(asked.shape, 1e-9), bounds)
    for point, found, sure in zip(asked, gain, chance, strict=True):
        expected = pareto.hypervolume(np.vstack([Y, point]), corner) - before
        assert found == pytest.approx(expected, abs=1e-7)
        assert sure == pytest.approx(float(expected > 0), abs=1e-6)


def test_the_expected_gain_is_the_mean_over_draws() -> None:
    rng = np.random.default_rng(0)
    Y, corner = np.array([[0.2, 0.8], [0.5, 0.4], [0.9, 0.1]]), np.ones(2)
    mean, sd = np.array([[0.4, 0.4]]), np.array([[0.2, 0.1]])
    gain, chance = hypervolume_improvement.expected_gain(
        mean, sd, hypervolume_improvement.boxes(Y, corner)
    )
    draws = rng.normal(mean, sd, (20_000, 2))
    before = pareto.hypervolume(Y, corner)
    gains = [pareto.hypervolume(np.vstack([Y, draw]), corner) - before for draw in draws[:4000]]
    assert gain[0] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(len(gains)))
    assert chance[0] == pytest.approx(np.mean(np.array(gains) > 0), abs=0.03)


def test_without_a_front_all_below_the_corner_counts() -> None:
    bounds = hypervolume_improvement.boxes(np.empty((0, 2)), np.ones(2))
    gain, chance = hypervolume_improvement.expected_gain(
        np.array([[0.5, 0.25]]), np.full((1, 2), 1e-9), bounds
    )
    assert gain[0] == pytest.approx(0.5 * 0.75)
    assert chance[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("goals", "most"), [(2, 511), (3, 21), (4, 6)])
def test_a_long_front_is_thinned_and_keeps_its_first_end(goals: int, most: int) -> None:
    rng = np.random.default_rng(0)
    Y = np.abs(rng.normal(size=(600, goals)))
    front = Y / np.linalg.norm(Y, axis=1, keepdims=True)
    kept = hypervolume_improvement.thinned(front, np.full(goals, 2.0))
    assert len(kept) == most
    assert kept[:, 0].min() == front[:, 0].min()
    lower, _ = hypervolume_improvement.boxes(front, np.full(goals, 2.0))
    assert len(lower) <= hypervolume_improvement.MOST_CELLS


def test_the_reference_is_behind_the_front_and_not_behind_all() -> None:
    Y = np.array([[0.0, 1.0], [1.0, 0.0], [50.0, 50.0]])
    np.testing.assert_allclose(hypervolume_improvement.reference(Y), [1.1, 1.1])
    alone = np.array([[0.0, 0.0], [2.0, 4.0]])
    assert (hypervolume_improvement.reference(alone) > 0).all()


def test_a_front_that_is_short_in_a_goal_may_still_grow_in_it() -> None:
    """Losses x and 1 + 9 y - x: all that was measured near y = 0 has x near 0."""
    X = np.array([[0.0, 0.0], [0.02, 0.0], [0.5, 0.8], [0.9, 0.9], [0.3, 0.6], [0.7, 0.4]])
    Y = np.stack([X[:, 0], 1 + 9 * X[:, 1] - X[:, 0]], axis=1)
    results = model.Results(X, np.zeros(6), Y, np.zeros((6, 2)), np.empty((6, 0)))
    space = Coordinates({"x": Float(low=0.0, high=1.0), "y": Float(low=0.0, high=1.0)})
    known = model.fit(results, space, model.fit_hyperparameters(results, space))
    assert hypervolume_improvement.reference(Y)[0] < 0.05
    assert known.corner_G[0] > 0.35
    gain, _ = known.gain()(np.array([[0.3, 0.0]]))
    assert gain[0] > 0.01
