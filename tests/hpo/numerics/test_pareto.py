"""The Pareto mathematics, against Optuna, closed forms and the definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna._hypervolume import compute_hypervolume

from hpo.numerics.pareto import (
    hypervolume,
    hypervolumes,
    knee,
    nadir,
    non_dominated,
    num_dominators,
    ranks,
)

INF, NAN = math.inf, math.nan


def optuna_front(Y_NG: np.ndarray) -> list[int]:
    study = optuna.create_study(directions=["minimize"] * Y_NG.shape[1])
    for row in Y_NG:
        study.add_trial(optuna.trial.create_trial(values=[float(value) for value in row]))
    return sorted(trial.number for trial in study.best_trials)


@pytest.mark.parametrize("goals", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_front_equals_optunas_best_trials_with_duplicates(goals: int, seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = np.random.default_rng(seed)
    Y_NG = rng.integers(0, 6, size=(40, goals)).astype(float)
    Y_NG[rng.integers(0, 40, 3), 0] = INF
    assert np.flatnonzero(non_dominated(Y_NG)).tolist() == optuna_front(Y_NG)


@pytest.mark.parametrize("goals", [1, 2, 3])
@pytest.mark.parametrize("highest", [30, 10**6], ids=["with duplicates", "without"])
def test_the_front_of_many_rows_is_the_one_of_the_definition(goals: int, highest: int) -> None:
    """More rows than are compared at a time."""
    Y_NG = np.random.default_rng(goals).integers(0, highest, size=(1300, goals)).astype(float)
    Y_NG[::50, 0], Y_NG[7, 0] = INF, NAN
    found = num_dominators(Y_NG) == 0
    assert non_dominated(Y_NG).tolist() == found.tolist()
    assert (ranks(Y_NG) == 0).tolist() == found.tolist()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 2], [1, 2]], [True, True]),
        ([[1, 2], [1, 3]], [True, False]),
        ([[NAN, 0], [1, 1]], [False, True]),
        ([[NAN, NAN]], [False]),
        ([[-INF, 5], [0, 0], [INF, INF]], [True, True, False]),
        ([[INF, INF]], [True]),
    ],
)
def test_front_of_edge_cases(rows: list[list[float]], expected: list[bool]) -> None:
    assert non_dominated(rows).tolist() == expected


def test_no_trials_have_no_front_no_ranks_no_volume_and_no_knee() -> None:
    empty = np.empty((0, 2))
    assert non_dominated(empty).tolist() == ranks(empty).tolist() == []
    assert hypervolume(empty, [1, 1]) == 0
    assert knee(empty) is None


@pytest.mark.parametrize("goals", [1, 2, 3])
def test_volumes_of_many_draws_are_those_of_each(goals: int) -> None:
    rng = np.random.default_rng(goals)
    draws = rng.integers(0, 6, size=(40, 9, goals)).astype(float)
    draws[::3, 2] = INF
    draws[-1, 3] = -INF
    corner = np.full(goals, 4.5)
    expected = [hypervolume(Y_NG, corner) for Y_NG in draws]
    np.testing.assert_allclose(hypervolumes(draws, corner), expected)
    assert hypervolumes(draws[:, :0], corner).tolist() == [0.0] * 40


def test_dominators_are_counted_by_the_definition() -> None:
    Y_NG = np.random.default_rng(0).integers(0, 5, size=(600, 2)).astype(float)
    Y_NG[7, 1] = NAN
    found = num_dominators(Y_NG)
    assert found[7] == 599
    for row in (0, 8, 599):
        ahead = Y_NG[row] - Y_NG
        assert found[row] == sum((each >= 0).all() and (each > 0).any() for each in ahead)
    assert (found == 0).tolist() == non_dominated(Y_NG).tolist()
    assert num_dominators(np.empty((0, 2))).tolist() == []


def test_losses_of_a_wrong_shape_are_refused() -> None:
    for wrong in ([1.0, 2.0], np.empty((3, 0))):
        with pytest.raises(ValueError, match=r"shape \(trials, goals\)"):
            non_dominated(wrong)


@pytest.mark.parametrize("goals", [1, 2, 3])
def test_ranks_equal_peeling_fronts_one_by_one(goals: int) -> None:
    Y_NG = np.random.default_rng(goals).integers(0, 8, size=(60, goals)).astype(float)
    left, level, expected = np.ones(60, dtype=bool), 0, np.zeros(60, dtype=int)
    while left.any():
        peeled = np.flatnonzero(left)[non_dominated(Y_NG[left])]
        expected[peeled] = level
        left[peeled] = False
        level += 1
    assert ranks(Y_NG).tolist() == expected.tolist()


def test_rows_without_a_measurement_rank_last() -> None:
    assert ranks([[1, 1], [NAN, 0], [2, 2], [0, NAN]]).tolist() == [0, 2, 1, 2]
    assert ranks([[NAN, NAN]]).tolist() == [0]


@pytest.mark.parametrize("goals", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_equals_optunas(goals: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Y_NG = np.round(rng.normal(size=(25, goals)), 1)
    reference = np.full(goals, 0.7)
    expected = compute_hypervolume(Y_NG[(reference > Y_NG).all(axis=1)], reference)
    assert hypervolume(Y_NG, reference) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("rows", "reference", "expected"),
    [
        ([[0, 0]], [1, 1], 1),
        ([[0, 0], [0, 0]], [2, 3], 6),
        ([[1, 3], [2, 2], [3, 1]], [4, 4], 6),
        ([[0, 0, 0]], [2, 3, 4], 24),
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [2, 2, 2], 4),
        ([[2, 0]], [2, 2], 0),
        ([[5, 5]], [1, 1], 0),
        ([[NAN, 0], [0, 0]], [1, 1], 1),
        ([[-INF, 0]], [1, 1], INF),
        ([[-INF, 1]], [1, 1], 0),
        ([[INF, -INF]], [1, 1], 0),
        ([[0, 0]], [INF, 1], INF),
    ],
)
def test_hypervolume_of_closed_forms(
    rows: list[list[float]], reference: list[float], expected: float
) -> None:
    assert hypervolume(rows, reference) == expected


def test_hypervolume_grows_by_a_new_non_dominated_row_and_only_then() -> None:
    Y_NG = np.random.default_rng(0).uniform(size=(20, 3))
    before = hypervolume(Y_NG, [1, 1, 1])
    assert hypervolume([*Y_NG, Y_NG[3] + 1e-3], [1, 1, 1]) == pytest.approx(before, rel=1e-12)
    assert hypervolume([*Y_NG, [0, 0, 0]], [1, 1, 1]) == pytest.approx(1)


def test_hypervolume_does_not_depend_on_the_order_of_rows_or_goals() -> None:
    rows = [[0.1, 0.8, 0.4], [0.5, 0.2, 0.6], [0.7, 0.6, 0.1]]
    volumes = [
        hypervolume(np.array(order)[:, list(goals)], [1, 1, 1])
        for order in itertools.permutations(rows)
        for goals in itertools.permutations(range(3))
    ]
    assert volumes == pytest.approx([volumes[0]] * len(volumes), rel=1e-12)


@pytest.mark.parametrize("reference", [[1], [1, 1, 1], [1, NAN]])
def test_a_wrong_reference_point_is_refused(reference: list[float]) -> None:
    with pytest.raises(ValueError, match="a reference point needs one number"):
        hypervolume([[0, 0]], reference)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 1]], 0),
        ([[1, 1], [1, 1]], 0),
        ([[5, 5], [1, 1]], 1),
        ([[0, 1], [1, 0]], None),
        ([[0, 1], [0.1, 0.2], [1, 0]], 1),
        ([[0, 1], [0.9, 0.9], [1, 0]], None),
        ([[0, 1], [0.5, 0.5], [1, 0]], None),
        ([[0, 1], [0.1, 0.2], [0.2, 0.1], [1, 0]], 1),
        ([[0, 1000], [1, 200], [10, 0]], 1),
        ([[NAN, -5], [0, 1], [0.1, 0.2], [1, 0]], 2),
        ([[-INF, 9], [0, 1], [0.1, 0.2], [1, 0]], 2),
        ([[INF, -INF]], None),
        ([[-1e308, 1e308], [-9e307, 0], [1e308, -1e308]], 1),
        ([[3], [2], [4]], 1),
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0.3, 0.3, 0.3]], 3),
        ([[NAN, NAN]], None),
    ],
)
def test_knee_of_known_fronts(rows: list[list[float]], expected: int | None) -> None:
    assert knee(rows) == expected


def test_knee_does_not_depend_on_the_goals_units() -> None:
    Y_NG = np.random.default_rng(4).uniform(size=(30, 2)) ** 2
    assert knee(Y_NG) == knee(Y_NG * [1000, 0.01] + [5, -7])


def test_the_worst_values_are_a_reference_without_what_diverged() -> None:
    rng = np.random.default_rng(0)
    ordinary = rng.random((20, 2))
    assert nadir(ordinary) == tuple(ordinary.max(axis=0))
    diverged = np.vstack([ordinary, [[900.0, 0.9], [np.inf, 0.1]]])
    assert nadir(diverged) == tuple(ordinary.max(axis=0))
    far = np.vstack([ordinary, [[50.0, -3.0]]])  # of the front, so it counts
    assert nadir(far)[0] == 50.0
    assert nadir(np.full((2, 2), np.nan)) is None
    assert nadir([[1.0, 2.0], [1.0, 2.0], [3.0, 2.0]]) == (3.0, 2.0)
