"""Rates between those of a grid, and the error that the choice of a rate brings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from objectives.finetuning.lr_refinement import choice_error, chosen_rate, refined_rates
from objectives.finetuning.lr_search import next_rates

GRID = (3e-3, 1e-2, 3e-2)


CURVATURE = 0.06
"""Nats per squared e-fold of the rate: three times the rate costs 0.07 nats."""


def parabola(best: float, c: float = CURVATURE) -> Callable[[float], float]:
    return lambda rate: 2.0 + c * math.log(rate / best) ** 2


@pytest.mark.parametrize("best", [6.5e-3, 7.9e-3, 1.3e-2, 1.6e-2])
@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_the_next_rate_is_at_the_vertex_of_the_parabola_whatever_rounding_does(
    best: float, rounding: float
) -> None:
    loss = parabola(best)
    (found,) = refined_rates({rate: loss(rate) + rounding * rate for rate in GRID})
    assert abs(math.log2(found / best)) <= 1 / 16 + 0.01
    assert [found] == refined_rates({rate: loss(rate) for rate in GRID})


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ({1e-2: 2.0}, []),  # the recipe gives a rate
        ({3e-3: 3.0, 1e-2: 2.0, 3e-2: 3.0}, []),  # the vertex is a tenth away
        ({3e-3: 3.0, 1e-2: 2.0, 3e-2: math.inf}, [1e-2 / 2**0.5, 1e-2 * 2**0.5]),
        ({3e-3: 3.0, 1e-2: 2.5, 3e-2: 2.0}, [3e-2 / 2**0.5, 3e-2 * 2**0.5]),
        ({7e-3: 2.1, 1e-2: 2.0, 3e-2: math.inf}, [1e-2 * 2**0.5]),
        ({3e-3: math.inf, 1e-2: math.inf}, []),
    ],
)
def test_both_sides_are_tried_where_no_parabola_is_known(
    tried: dict[float, float], expected: list[float]
) -> None:
    assert refined_rates(tried) == pytest.approx(expected)


def test_without_noise_the_error_is_what_the_chosen_rate_costs() -> None:
    loss = parabola(1.5e-2)
    assert choice_error({rate: loss(rate) for rate in GRID}, 0.0) == pytest.approx(loss(1e-2) - 2)


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ({1e-2: 2.0}, 0.0),
        ({1e-2: 2.0, 3e-2: 2.3}, 0.3),
        ({1e-3: 2.5, 1e-2: 2.2, 1e-1: 2.0}, 0.2),  # too far apart for a parabola
        ({5e-3: 2.3, 1e-2: 2.2, 2e-2: 2.0}, 0.2),  # falls ever faster
        ({1e-2: 2.0, 3e-2: math.inf}, math.nan),
    ],
)
def test_without_a_parabola_the_error_is_the_fall_from_the_nearest_rate(
    tried: dict[float, float], expected: float
) -> None:
    assert choice_error(tried, 0.01) == pytest.approx(expected, nan_ok=True)


def search(best: float, c: float, noise: float, rng: np.random.Generator) -> dict[float, float]:
    """What `Finetuner` tries where losses are a parabola with noise."""
    tried: dict[float, float] = {}
    loss = parabola(best, c)
    for extension in range(4):
        for rate in next_rates(GRID, tried, extension):
            tried[rate] = loss(rate) + noise * rng.standard_normal()
    for rate in refined_rates(tried):
        tried[rate] = loss(rate) + noise * rng.standard_normal()
    return tried


@pytest.mark.parametrize("c", [0.02, 0.2])
@pytest.mark.parametrize("noise", [0.001, 0.005, 0.02])
def test_the_error_covers_the_loss_at_the_best_rate_as_often_as_it_should(
    c: float, noise: float
) -> None:
    rng, repeats, seeds = np.random.default_rng(0), 400, 2
    covered, errors, excesses, coarse = 0, [], [], []
    for best in np.exp(rng.uniform(math.log(GRID[0]), math.log(GRID[-1]), repeats)):
        loss = parabola(best, c)
        tried = search(best, c, noise, rng)
        excesses.append(loss(chosen_rate(tried)) - 2)
        coarse.append(min(loss(rate) for rate in GRID) - 2)
        errors.append(choice_error(tried, noise))
        after = 2 + excesses[-1] + noise * rng.standard_normal(seeds).mean()
        covered += abs(after - 2) <= 1.96 * math.hypot(noise / math.sqrt(seeds), errors[-1])
    assert 0.93 <= covered / repeats <= 0.99
    stated, true = (math.sqrt(np.mean(np.square(each))) for each in (errors, excesses))
    assert 0.9 <= stated / true <= 1.8
    if noise < c / 10:  # refinement halves at least what the grid alone costs
        assert np.mean(excesses) < np.mean(coarse) / 2
