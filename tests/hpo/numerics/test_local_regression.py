"""Trends: exact on lines, a line where the weights are flat, wider bands with more noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hpo.numerics.local_regression import FEWEST, PLACES, trend


def test_a_line_is_found_exactly_with_no_band() -> None:
    x = np.array([0.0, 0.3, 0.4, 1.0, 1.1, 2.0, 3.7, 4.0, 5.0])
    found = trend(x, 2 - 3 * x)
    assert found is not None
    assert len(found.x) == PLACES
    assert (found.x[0], found.x[-1]) == (0.0, 5.0)
    expected = 2 - 3 * np.array(found.x)
    for values in (found.mean, found.low, found.high):
        assert values == pytest.approx(expected, abs=1e-6)


def test_with_flat_weights_it_is_least_squares_with_its_usual_band() -> None:
    rng = np.random.default_rng(0)
    x, y = np.linspace(0, 1, 30), rng.normal(size=30)
    found = trend(x, y, bandwidth=1e6)
    assert found is not None
    fit = stats.linregress(x, y)
    at = np.array(found.x)
    assert found.mean == pytest.approx(fit.intercept + fit.slope * at, abs=1e-6)
    residual = y - fit.intercept - fit.slope * x
    error = np.sqrt((residual**2).sum() / 28 * (1 / 30 + (at - 0.5) ** 2 / ((x - 0.5) ** 2).sum()))
    reach = stats.t.ppf(0.975, 28) * error
    assert np.array(found.high) - np.array(found.mean) == pytest.approx(reach, rel=1e-3)


@pytest.mark.parametrize("x", [np.arange(FEWEST - 1), np.zeros(20), np.repeat([0.0, 1.0], 10)])
def test_too_little_to_tell_a_trend(x: np.ndarray) -> None:
    assert trend(x, np.arange(len(x))) is None


def test_the_band_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(200):
        x = rng.uniform(size=40)
        found = trend(x, x + rng.normal(0, 0.2, 40))
        assert found is not None
        middle = PLACES // 2
        held.append(found.low[middle] <= found.x[middle] <= found.high[middle])
    assert 0.9 <= np.mean(held) <= 0.99
