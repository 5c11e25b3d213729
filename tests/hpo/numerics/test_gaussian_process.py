"""The surrogate against closed forms and finite differences, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.numerics import gaussian_process, gaussian_process_fit
from hpo.numerics.gaussian_process import Points

NUMBER = np.zeros(2, dtype=bool)


def points(count: int, seed: int = 0, dimensions: int = 2) -> Points:
    rng = np.random.default_rng(seed)
    return Points(rng.random((count, dimensions)), rng.choice([0.0, 0.5, 1.0], count))


def test_the_gradient_is_that_of_the_loss() -> None:
    known = points(12)
    rng = np.random.default_rng(1)
    y_N, sem_N = rng.normal(size=12), rng.uniform(0, 0.3, 12)
    is_choice_D = np.array([False, True])
    squares = gaussian_process.squares_of(known.X_ND, known.X_ND, is_choice_D)
    centre, width = np.zeros(9), np.full(9, 2.0)
    theta = np.array([-0.5, 0.3, -0.2, 0.1, 0.4, 0.2, -1.0, 0.3, -2.0])
    arguments = (squares, known.u_N, y_N, sem_N**2, centre, width)
    _, gradient = gaussian_process_fit._loss(theta, *arguments)
    for place in range(9):
        step = np.zeros(9)
        step[place] = 1e-6
        high, _ = gaussian_process_fit._loss(theta + step, *arguments)
        low, _ = gaussian_process_fit._loss(theta - step, *arguments)
        assert gradient[place] == pytest.approx((high - low) / 2e-6, rel=1e-5, abs=1e-7)


def test_the_posterior_is_the_textbooks() -> None:
    """Rasmussen and Williams 2006, equations 2.25 and 2.26, by a plain inverse."""
    known, asked = points(10), points(5, seed=3)
    y_N = np.sin(4 * known.X_ND.sum(axis=1))
    theta = np.array([-0.5, -0.2, 0.3, -0.4, 0.1, 0.0, -1.0, 0.2, -3.0])
    surface = gaussian_process.condition(known, NUMBER, y_N, np.zeros(10), theta)
    mean, sd = surface.at(asked)
    scaled = (y_N - y_N.mean()) / y_N.std()
    K = gaussian_process._covariance(known, known, theta, NUMBER) + np.diag(surface.noise_N)
    k = gaussian_process._covariance(asked, known, theta, NUMBER)
    prior = np.diag(gaussian_process._covariance(asked, asked, theta, NUMBER))
    expected = k @ np.linalg.inv(K) @ scaled * y_N.std() + y_N.mean()
    variance = (prior - np.einsum("ij,jk,ik->i", k, np.linalg.inv(K), k)) * y_N.var()
    np.testing.assert_allclose(mean, expected, rtol=1e-9)
    np.testing.assert_allclose(sd, np.sqrt(variance), rtol=1e-6)


def test_cheap_results_tell_of_full_fidelity_through_a_shift_and_a_scale() -> None:
    """Many results at the lowest rung, five in full: the surface in full is found between them."""
    rng = np.random.default_rng(0)
    X = rng.random((30, 2))

    def truth(Z: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(5 * Z[:, 0]) + Z[:, 1] ** 2)

    u_N = np.concatenate([np.ones(25), np.zeros(5)])
    y_N = np.where(u_N == 1, 0.6 * truth(X) + 2.0, truth(X))
    known = Points(X, u_N)
    centre, spread = gaussian_process.standardised(y_N)
    theta = gaussian_process_fit.learn(known, NUMBER, (y_N - centre) / spread, np.zeros(30))
    asked = Points(rng.random((50, 2)), np.zeros(50))
    mean, _ = gaussian_process.condition(known, NUMBER, y_N, np.zeros(30), theta).at(asked)
    alone = gaussian_process.condition(
        Points(X[25:], np.zeros(5)), NUMBER, y_N[25:], np.zeros(5), theta
    ).at(asked)[0]
    errors = np.abs(mean - truth(asked.X_ND))
    assert errors.mean() < 0.3 * np.abs(alone - truth(asked.X_ND)).mean()


def test_a_standard_error_makes_a_result_count_less() -> None:
    known = Points(np.array([[0.5, 0.5], [0.5, 0.5]]), np.zeros(2))
    theta = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0, 0.0, -6.0])
    sure = gaussian_process.condition(
        known, NUMBER, np.array([0.0, 1.0]), np.array([0.01, 0.5]), theta
    )
    assert 0.0 < sure.at(Points(known.X_ND[:1], np.zeros(1)))[0][0] < 0.1


def test_believing_a_point_narrows_it_and_leaves_the_mean() -> None:
    known = points(6)
    theta = np.array([-1.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, -4.0])
    surface = gaussian_process.condition(known, NUMBER, known.X_ND[:, 0], np.zeros(6), theta)
    asked = Points(np.array([[0.9, 0.1]]), np.zeros(1))
    before, after = surface.at(asked), surface.fantasize(asked).at(asked)
    assert after[0][0] == pytest.approx(before[0][0], abs=1e-6)
    assert after[1][0] < 0.5 * before[1][0]


def test_equal_values_are_learnt_without_a_division_by_zero() -> None:
    known = points(5)
    assert gaussian_process.standardised(np.full(5, 3.0)) == (3.0, 1.0)
    theta = gaussian_process_fit.learn(known, NUMBER, np.zeros(5), np.zeros(5))
    assert np.isfinite(theta).all()
