"""Agreement of two orders against scipy, closed forms and simulated recipes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hpo.analysis.proxy_agreement import agreement, wilson


def decided(num: int) -> np.ndarray:
    return np.ones((num, num), dtype=bool)


def test_orders_are_compared_as_scipy_compares_them() -> None:
    rng = np.random.default_rng(0)
    x_R, y_RS = rng.normal(size=9), rng.normal(size=(9, 3))
    found = agreement(x_R, y_RS, decided(9))
    y_R = y_RS.mean(axis=1)
    assert found.spearman.value == pytest.approx(stats.spearmanr(x_R, y_R).statistic)
    assert found.kendall.value == pytest.approx(stats.kendalltau(x_R, y_R).statistic)
    assert found.accuracy.value == pytest.approx((1 + found.kendall.value) / 2)
    assert found.num_pairs == found.num_decided == 36


@pytest.mark.parametrize(("sign", "ends"), [(1.0, (0.879, 1.0)), (-1.0, (0.0, 0.121))])
def test_orders_that_agree_in_all_pairs_are_not_certain_to(
    sign: float, ends: tuple[float, float]
) -> None:
    x_R = np.arange(8.0)
    found = agreement(x_R, sign * x_R[:, None] * np.ones(2), decided(8))
    assert found.accuracy.value == (1 + sign) / 2
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(ends, abs=1e-3)  # 1 of 28
    assert found.spearman.value == pytest.approx(sign)


def test_only_pairs_that_the_larger_model_tells_apart_are_in_the_decided_share() -> None:
    x_R, y_RS = np.array([0.0, 1.0, 2.0]), np.array([[0.0], [5.0], [4.9]])
    told = np.array([[False, True, True], [True, False, False], [True, False, False]])
    found = agreement(x_R, y_RS, told)
    assert (found.accuracy.value, found.accuracy_decided.value) == (pytest.approx(2 / 3), 1.0)
    assert (found.num_pairs, found.num_decided) == (3, 2)
    none = agreement(x_R, y_RS, np.zeros((3, 3), dtype=bool))
    assert math.isnan(none.accuracy_decided.value)


def test_a_tie_of_the_proxy_decides_half_of_a_pair() -> None:
    x_R, y_RS = np.array([1.0, 1.0, 2.0]), np.array([[0.0], [1.0], [2.0]])
    assert agreement(x_R, y_RS, decided(3)).accuracy.value == pytest.approx(5 / 6)
    flat = agreement(np.ones(4), np.arange(4.0)[:, None], decided(4))
    assert math.isnan(flat.spearman.value)
    assert (flat.accuracy.value, flat.kendall.value) == (0.5, 0.0)


def test_of_two_recipes_no_order_can_be_compared() -> None:
    found = agreement(np.arange(2.0), np.ones((2, 2)), decided(2))
    assert math.isnan(found.accuracy.value)


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (1.0, 10, 0.7225, 1.0), (0.0, 4, 0.0, 0.4899)],
)
def test_wilsons_interval_has_its_textbook_values(
    share: float, count: float, low: float, high: float
) -> None:
    # Brown, Cai and DasGupta (2001), equation 4.
    assert wilson(share, count) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("noise", [0.15, 0.8, 2.0])
@pytest.mark.parametrize("num", [5, 8])
def test_intervals_hold_the_true_agreement_of_simulated_recipes(num: int, noise: float) -> None:
    """Losses mu at the larger model with seed noise 0.2, the proxy's mu with `noise`."""
    rng = np.random.default_rng(3)

    def draw(recipes: int) -> tuple[np.ndarray, np.ndarray]:
        mu = rng.normal(size=recipes)
        y = mu[:, None] + 0.2 * rng.normal(size=(recipes, 2))
        return mu + noise * rng.normal(size=recipes), y

    x, y = draw(100_000)
    half = len(x) // 2
    apart = (x[:half] - x[half:]) * (y.mean(1)[:half] - y.mean(1)[half:])
    accuracy, spearman = (apart > 0).mean(), stats.spearmanr(x, y.mean(1)).statistic
    found = [agreement(*draw(num), decided(num), seed=s) for s in range(100)]
    for each, true in (("accuracy", accuracy), ("spearman", spearman)):
        held = [getattr(f, each).low <= true <= getattr(f, each).high for f in found]
        assert np.mean(held) >= 0.9  # 95 % less 2.3 standard errors of 100 simulations
