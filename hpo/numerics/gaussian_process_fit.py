"""The parameters of a Gaussian process over parameters and fidelity, fitted to results.

The model and its letters are in `hpo.numerics.gaussian_process`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from hpo.numerics.gaussian_process import (
    Array,
    Points,
    matern,
    noise_of,
    shape_of,
    squares_of,
)

LENGTH_PRIOR = 0.5
"""Centre of the lengths' log-normal prior, times the root of D, in shares of a domain; assumed."""


PRIORS = {"a": (0.0, 0.5), "v": (0.0, 1.0), "w": (math.log(0.1), 1.5), "k": (0.0, 0.5),
          "noise": (-7.0, 2.5)}  # fmt: skip
"""Centre and width: of a as it is, of v, w, k and the variance in logarithms, for values of spread
1; assumed."""


LENGTH_WIDTH = 1.0


STRETCH_WIDTH = 0.5
"""Of the deviation's lengths around the surface's, in logarithms; assumed."""


ITERATIONS = 60


STEP = 1e-3
"""Of differences of the gradient, in units of theta."""


def learn(points: Points, is_choice_D: npt.NDArray[np.bool_], y_N: Array, sem_N: Array) -> Array:
    """The parameters theta of highest posterior density, for standardised values.

    theta: D log lengths of the surface, D logarithms of how much longer those of the deviation are,
    then as in PRIORS.
    """
    D = len(is_choice_D)
    squares = squares_of(points.X_ND, points.X_ND, is_choice_D)
    centre, width = _prior(D)
    noisy = np.array([-1.0] * D + [0.0] * (D + 4) + [3.0])
    best: tuple[float, Array] | None = None
    for start in (centre, centre + noisy):
        found = minimize(
            _loss,
            start,
            args=(squares, points.u_N, y_N, sem_N**2, centre, width),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(centre - 4 * width, centre + 4 * width, strict=True)),
            options={"maxiter": ITERATIONS},
        )
        if best is None or found.fun < best[0]:
            best = (float(found.fun), np.asarray(found.x))
    assert best is not None
    return best[1]


def theta_draws(
    theta: Array,
    points: Points,
    is_choice_D: npt.NDArray[np.bool_],
    y_N: Array,
    sem_N: Array,
    normal_SP: Array,
) -> list[Array]:
    """Parameters from their posterior, taken as normal around its mode `theta`.

    S draws from standard normal numbers; the curvature is that of the density, and at least the
    prior's.
    """
    D = len(is_choice_D)
    centre, width = _prior(D)
    squares = squares_of(points.X_ND, points.X_ND, is_choice_D)

    def slope(at: Array) -> Array:
        return _loss(at, squares, points.u_N, y_N, sem_N**2, centre, width)[1]

    steps = STEP * np.eye(len(theta))
    rows = np.array([(slope(theta + each) - slope(theta - each)) / (2 * STEP) for each in steps])
    scaled = (rows + rows.T) / 2 * np.outer(width, width)  # the prior's curvature is 1 in these
    values, vectors = np.linalg.eigh(scaled)
    root = width[:, None] * vectors / np.sqrt(np.maximum(values, 1.0))
    low, high = centre - 4 * width, centre + 4 * width
    return [np.clip(theta + root @ normal_P, low, high) for normal_P in normal_SP]


def _prior(D: int) -> tuple[Array, Array]:
    """Centre and width of theta's normal prior."""
    length = math.log(LENGTH_PRIOR * math.sqrt(max(D, 1)))
    centre = np.array([length] * D + [0.0] * D + [centre for centre, _ in PRIORS.values()])
    widths = [LENGTH_WIDTH] * D + [STRETCH_WIDTH] * D
    return centre, np.array(widths + [width for _, width in PRIORS.values()])


def _loss(
    theta: Array,
    squares: Array,
    u_N: Array,
    y_N: Array,
    variance_N: Array,
    centre: Array,
    width: Array,
) -> tuple[float, Array]:
    """Minus the log posterior density, and its gradient."""
    D, N = len(squares), len(y_N)
    surface, slope = matern(squares, theta[:D])
    lengths_D = theta[:D] + theta[D : 2 * D]
    own, own_slope = matern(squares, lengths_D)
    a, v, w, k = shape_of(theta)
    t_N = u_N**k
    lift_N = 1 + a * t_N
    shared, both = v * np.outer(lift_N, lift_N), np.outer(t_N, t_N)
    K_NN = surface * shared + both * (w * own + 1.0) + 1.0 + np.diag(variance_N + noise_of(theta))
    factor = cho_factor(K_NN, lower=True, check_finite=False)
    weights_N = cho_solve(factor, y_N, check_finite=False)
    inverse = cho_solve(factor, np.eye(N), check_finite=False)
    pull = 0.5 * (inverse - np.outer(weights_N, weights_N))  # of the loss by each entry of K
    rise_N = k * t_N * np.log(np.where(u_N > 0, u_N, 1.0))  # of t by log k
    toward_lift = (pull * surface) @ lift_N * v
    toward_t = (pull * (w * own + 1.0)) @ t_N
    gradient = np.empty_like(theta)
    gradient[D : 2 * D] = _by_lengths(squares, pull * own_slope * both * w, lengths_D)
    gradient[:D] = _by_lengths(squares, pull * slope * shared, theta[:D]) + gradient[D : 2 * D]
    gradient[-5] = 2 * float(t_N @ toward_lift)
    gradient[-4] = float((pull * surface * shared).sum())
    gradient[-3] = w * float((pull * own * both).sum())
    gradient[-2] = 2 * float(rise_N @ (a * toward_lift + toward_t))
    gradient[-1] = math.exp(theta[-1]) * float(np.trace(pull))
    offset = (theta - centre) / width
    value = 0.5 * float(y_N @ weights_N) + float(np.log(np.diag(factor[0])).sum())
    return value + 0.5 * float(offset @ offset), gradient + offset / width


def _by_lengths(squares: Array, steep: Array, lengths_D: Array) -> Array:
    """Gradient by the logarithms of lengths."""
    if not len(squares):
        return np.empty(0)
    return np.asarray(-2 * np.exp(-2 * lengths_D) * np.tensordot(squares, steep, axes=2))
