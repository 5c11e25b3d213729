"""The posterior of true values, against closed forms and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpo.numerics.noise_fit import Measured
from hpo.numerics.noisy_values import draw


def measured(losses: np.ndarray, point: np.ndarray, seed: np.ndarray, **fields: float) -> Measured:
    known = {"between": None, "within": 0.0} | fields
    return Measured(losses_T=losses, point_T=point, seed_T=seed, **known)  # type: ignore[arg-type]


def once(losses: np.ndarray, **fields: float) -> Measured:
    count = len(losses)
    return measured(losses, np.arange(count), np.zeros(count, dtype=int), **fields)


def repeated(num_points: int, seeds: int, noise: float, shared: float = 0.0) -> Measured:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=num_points)
    off = shared * rng.normal(size=seeds)[:, None] + noise * rng.normal(size=(seeds, num_points))
    y_SP = truth + off
    between = float(y_SP.var(axis=0, ddof=1).mean())
    point = np.tile(np.arange(num_points), seeds)
    return measured(y_SP.ravel(), point, np.repeat(np.arange(seeds), num_points), between=between)


def test_many_points_without_params_shrink_as_normal_means_with_a_normal_prior_do() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(2.0, 1.0, 140)
    losses = truth + rng.normal(0, 0.7, 140)
    draws_DP = draw(once(losses, within=0.49), ())
    factor = 1 - 0.49 / losses.var()
    expected = losses.mean() + factor * (losses - losses.mean())
    np.testing.assert_allclose(draws_DP.mean(axis=0), expected, atol=0.12)
    assert draws_DP.std(axis=0).mean() == pytest.approx(math.sqrt(0.49 * factor), rel=0.1)


def test_a_smooth_trend_tells_more_of_a_point_than_its_own_measurement() -> None:
    x = np.linspace(0, 1, 40)
    truth = np.sin(3 * x)
    losses = truth + np.random.default_rng(2).normal(0, 0.2, 40)
    draws_DP = draw(once(losses, within=0.04), (x[:, None],))
    off = draws_DP.mean(axis=0) - truth
    assert np.sqrt((off**2).mean()) < 0.1
    assert np.mean(np.abs(off) < 2 * draws_DP.std(axis=0)) > 0.9


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 100.0), (1e-3, 0.0), (50.0, -7.0)])
def test_units_and_origin_of_a_metric_do_not_matter(factor: float, shift: float) -> None:
    given = repeated(10, 3, 0.3)
    assert given.between is not None
    moved = measured(
        factor * given.losses_T + shift, given.point_T, given.seed_T,
        between=factor**2 * given.between,
    )  # fmt: skip
    np.testing.assert_allclose(
        draw(moved, ()), factor * draw(given, ()) + shift, rtol=1e-4, atol=1e-4 * factor
    )


def test_without_noise_the_draws_are_the_observed_values() -> None:
    losses = np.array([3.0, 1.0, 2.0, 2.0])
    exact = draw(once(losses, between=0.0), (), num_draws=5)
    np.testing.assert_array_equal(exact, np.tile(losses, (5, 1)))
    nearly = draw(once(losses, between=1e-10), (), num_draws=64)
    np.testing.assert_allclose(nearly, np.tile(losses, (64, 1)), atol=1e-3)


def test_what_a_seed_does_to_all_points_alike_leaves_their_order() -> None:
    given = repeated(12, 4, noise=0.01, shared=3.0)
    draws_DP = draw(given, ())
    apart = draws_DP[:, 0] - draws_DP[:, 1]
    assert draws_DP[:, 0].std() > 0.5
    assert apart.std() < 0.05


def test_few_repetitions_leave_the_truth_wider_than_many() -> None:
    unlike = (math.sqrt(0.5) * np.eye(3),)
    few, many = repeated(3, 2, 0.5), repeated(3, 12, 0.5)
    width = [draw(each, unlike).std(axis=0).mean() for each in (few, many)]
    assert width[0] > 2 * width[1]


def test_intervals_cover_the_truth_where_two_repetitions_tell_of_the_noise() -> None:
    covered = []
    for study in range(30):
        rng = np.random.default_rng(study)
        x, centre = rng.random((10, 3)), rng.random(3)
        truth = ((x - centre) ** 2).sum(axis=1)
        point = np.array([*range(10), 0, 1])
        y_T = truth[point] + 0.3 * truth.std() * rng.normal(size=12)
        between = float(np.mean([(y_T[row] - y_T[10 + row]) ** 2 / 2 for row in (0, 1)]))
        given = measured(y_T, point, (np.arange(12) >= 10).astype(int), between=between)
        draws_DP = draw(given, tuple(x.T[:, :, None]), num_draws=256)
        apart_DP, true_P = draws_DP - draws_DP.mean(axis=1)[:, None], truth - truth.mean()
        low_P, high_P = np.quantile(apart_DP, (0.025, 0.975), axis=0)
        covered.append(((low_P <= true_P) & (true_P <= high_P)).mean())
    assert np.mean(covered) > 0.86


def test_a_diverged_point_stays_where_it_was_and_does_not_stretch_the_scale() -> None:
    losses = np.concatenate([np.random.default_rng(3).normal(size=20), [1e4, math.inf]])
    draws_DP = draw(once(losses, within=0.25), ())
    assert np.isinf(draws_DP[:, -1]).all()
    assert draws_DP[:, -2].mean() == pytest.approx(1e4, rel=1e-2)
    assert np.isfinite(draws_DP[:, :-1]).all()
    assert draws_DP[:, :20].std(axis=0).max() < 0.6


@pytest.mark.parametrize("spread", [0.0, 1e-15, 1e-12, 1e-8])
def test_losses_that_differ_by_rounding_have_the_error_of_their_rows(spread: float) -> None:
    losses = 0.25 + spread * np.random.default_rng(5).normal(size=10)
    point, seed = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 4]), np.arange(10)
    given = measured(losses, point, seed, between=spread**2, rows=1e-4)
    draws_DP = draw(given, (np.linspace(0, 1, 5)[:, None],))
    np.testing.assert_allclose(draws_DP.mean(axis=0), 0.25, atol=1e-3)
    np.testing.assert_allclose(draws_DP.std(axis=0), 0.01, rtol=0.1)


def test_the_same_measurements_give_the_same_draws() -> None:
    given = repeated(8, 2, 0.3)
    np.testing.assert_array_equal(draw(given, ()), draw(given, ()))
    assert not np.array_equal(draw(given, (), seed=1), draw(given, ()))


def test_one_point_has_the_error_of_its_mean() -> None:
    given = measured(np.array([1.0, 3.0]), np.zeros(2, int), np.arange(2), between=2.0)
    draws_DP = draw(given, ())
    assert draws_DP.mean() == pytest.approx(2.0, abs=0.1)
    assert draws_DP.std() == pytest.approx(1.0, rel=0.1)


def test_many_trials_are_fitted_in_part() -> None:
    rng = np.random.default_rng(4)
    x = rng.random(400)
    losses = (x - 0.5) ** 2 + rng.normal(0, 0.05, 400)
    draws_DP = draw(once(losses, within=0.0025), (x[:, None],), num_draws=64)
    off = draws_DP.mean(axis=0) - (x - 0.5) ** 2
    assert np.sqrt((off**2).mean()) < 0.02
