"""The power of two-sided t tests: how large an effect so many seeds find, and how many it takes.

For an effect with a standard error of n - 1 degrees of freedom, T = value / error is noncentral:

    power(effect) = P(|T| > t_{1 - alpha / 2, n - 1}),  T ~ t(n - 1, effect / error).

As T = (Z + effect / error) / S with a normal Z and (n - 1) S^2 chi-squared, |T| > t where
S < |Z + effect / error| / t: the mean over Z of a chi-squared distribution function. It is summed
over a grid of Z, as library functions of the noncentral t lose their digits in its tails.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

POWER = 0.8
"""The usual aim of a design (Cohen 1988)."""


ROUNDING = 1e-14
"""Relative spread that is none, some 45 times what a float is rounded by; assumed."""


MOST_SEEDS = 10_000


NORMAL = np.linspace(-9.0, 9.0, 3601)
"""Values of a standard normal variable."""


WEIGHTS = np.exp(-0.5 * NORMAL**2) / np.exp(-0.5 * NORMAL**2).sum()


def power(effect: float, error: float, freedom: float, alpha: float) -> float:
    """Of a two-sided t test for an effect, in the unit of its standard error."""
    if not (error > 0 and freedom > 0):
        return math.nan
    enough = _quantile(freedom, alpha)
    beyond = (NORMAL + abs(effect) / error) / enough
    return float(WEIGHTS @ special.chdtr(freedom, freedom * beyond**2))


def detectable(error: float, freedom: float, alpha: float) -> float:
    """The effect that is found with 80 % power; NaN where the error is unknown."""
    if not (error > 0 and freedom > 0):
        return math.nan
    high = 2.0 * _quantile(freedom, alpha) + 5.0
    found = optimize.brentq(lambda t: power(t, 1.0, freedom, alpha) - POWER, 0.0, high)
    return float(found) * error


def seeds_needed(effect: float, deviation: float, alpha: float) -> int | None:
    """Pairs for 80 % power at this effect and standard deviation of the differences."""
    if not deviation > 0 or effect == 0:
        return None

    def is_enough(seeds: int) -> bool:
        return power(effect, deviation / math.sqrt(seeds), seeds - 1, alpha) >= POWER

    low, high = 1, 2
    while not is_enough(high):
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _quantile(freedom: float, alpha: float) -> float:
    """Of |T| without an effect; from the lower tail, where a small level keeps its digits."""
    return -float(special.stdtrit(freedom, alpha / 2))
