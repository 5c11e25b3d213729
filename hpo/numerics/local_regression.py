"""A smooth trend through scattered points, with the band in which its mean is.

Local linear regression: at PLACES evenly spaced places a straight line is fitted with Gaussian
weights around it, and between the places the trend runs straight. So the fit is linear in y: fitted
= L y. With r = y - L y and the degrees of freedom d = N - 2 tr(L) + tr(L'L), the variance of the
points is r'r / d, and a fitted value l y has the standard error sqrt(r'r / d * l'l) (Cleveland and
Devlin 1988, "Locally weighted regression"). The bias of smoothing is not in the band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]


BANDWIDTH = 0.25  # Standard deviation of the weights, as a share of the range of x; assumed.


FEWEST = 8  # Points below which no trend is drawn; assumed.


CONFIDENCE = 0.95


PLACES = 41


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The trend at evenly spaced places, and its 95 % band."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def trend(x: npt.ArrayLike, y: npt.ArrayLike, bandwidth: float = BANDWIDTH) -> Trend | None:
    """The trend over the range of x (N finite values each).

    None with fewer than FEWEST points, fewer than three different x, or points too few for their
    spread to be known.
    """
    x_N, y_N = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(x_N) < FEWEST or len(np.unique(x_N)) < 3:
        return None
    places = np.linspace(x_N.min(), x_N.max(), PLACES)
    L_PN = _smoother(places, x_N, bandwidth * float(np.ptp(x_N)))
    W_NP = _between(x_N, places)
    trace = float((W_NP * L_PN.T).sum())
    squares = float(((W_NP.T @ W_NP) * (L_PN @ L_PN.T)).sum())
    freedom = len(x_N) - 2 * trace + squares
    if freedom < 1:
        return None
    variance = float(((y_N - W_NP @ (L_PN @ y_N)) ** 2).sum()) / freedom
    mean = L_PN @ y_N
    quantile = special.stdtrit(freedom, (1 + CONFIDENCE) / 2)
    reach = quantile * np.sqrt(variance * (L_PN**2).sum(axis=1))
    low, high = mean - reach, mean + reach
    return Trend(x=tuple(places), mean=tuple(mean), low=tuple(low), high=tuple(high))


def _smoother(at_P: Array, x_N: Array, width: float) -> Array:
    """P x N: row p gives the fitted value at place p as weights of the y."""
    apart = x_N[None, :] - at_P[:, None]
    weights = np.exp(-0.5 * (apart / width) ** 2)
    first, second = (
        (weights * apart).sum(axis=1, keepdims=True),
        (weights * apart**2).sum(axis=1, keepdims=True),
    )
    weights = weights * (second - first * apart)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _between(x_N: Array, places_P: Array) -> Array:
    """N x P: row n gives the value at x_n as weights of the values at the places around it."""
    step = places_P[1] - places_P[0]
    position = np.clip((x_N - places_P[0]) / step, 0, len(places_P) - 1)
    left = np.minimum(position.astype(np.int64), len(places_P) - 2)
    W_NP = np.zeros((len(x_N), len(places_P)))
    rows = np.arange(len(x_N))
    W_NP[rows, left] = 1 - (position - left)
    W_NP[rows, left + 1] = position - left
    return W_NP
