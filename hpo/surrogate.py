"""A Gaussian process over parameters and fidelity: what each trial would give at full fidelity.

For parameters x and fidelity s, with u(s) = log(1/s) over its largest value, so that u is 0 at full
fidelity and 1 at the lowest rung, two results have the covariance

    M(x, x') [v (1 + a u)(1 + a u') + w u u'] + u u' + 1

with M a Matern-5/2 kernel of one length a parameter. A lower rung thus shows the same surface
scaled by 1 + a u, plus a deviation of its own, plus a shift (Kennedy and O'Hagan 2000, in the form
of a coregionalisation). The 1 is an unknown mean. The diagonal adds a learnt variance of single
results and the squared standard error that one came with. v, w, a, lengths and variance are those
of highest posterior density.

NumPy and SciPy only, as hpo does not import torch; and Optuna's own process takes neither standard
errors nor asks for full fidelity while its incumbents were measured below.

Letters: N results, M points asked about, D parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]

LENGTH_PRIOR = 0.5
"""Centre of the lengths' log-normal prior, times the root of D, in shares of a domain; assumed."""
PRIORS = {"scale": (0.0, 0.5), "v": (0.0, 1.0), "w": (math.log(0.1), 1.5), "noise": (-7.0, 2.5)}
"""Centre and width: of a as it is, of v, w and the variance in logarithms, for values of spread 1;
assumed."""
LENGTH_WIDTH = 1.0
LEAST_NOISE = 1e-6
"""Keeps the matrix regular; far below what a trial's noise is."""
ITERATIONS = 60


@dataclass(frozen=True)
class Points:
    """Where results were measured or are asked for."""

    X_ND: Array
    """Shares of the domains in [0, 1]; of a choice the option's index."""
    u_N: Array
    """0 at full fidelity, 1 at the lowest."""

    def joined(self, other: Points) -> Points:
        """These, then the others."""
        return Points(np.vstack([self.X_ND, other.X_ND]), np.concatenate([self.u_N, other.u_N]))


@dataclass(frozen=True)
class Surface:
    """What is believed of one metric."""

    points: Points
    is_choice_D: npt.NDArray[np.bool_]
    theta: Array
    noise_N: Array
    centre: float
    spread: float
    factor: tuple[Array, bool]
    weights_N: Array
    y_N: Array

    def at(self, points: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of the noise-free metric at M points."""
        cross_MN = _covariance(points, self.points, self.theta, self.is_choice_D)
        mean_M = cross_MN @ self.weights_N
        half_NM = solve_triangular(self.factor[0], cross_MN.T, lower=True, check_finite=False)
        prior_M = _diagonal(points, self.theta, len(self.is_choice_D))
        variance_M = np.maximum(prior_M - (half_NM**2).sum(axis=0), 1e-12)
        return self.centre + self.spread * mean_M, self.spread * np.sqrt(variance_M)

    def believing(self, points: Points) -> Surface:
        """The surface if each of these points had come out as expected (Kriging believer)."""
        if not len(points.u_N):
            return self
        mean_M, _ = self.at(points)
        return _conditioned(
            self.points.joined(points),
            np.concatenate([self.y_N, (mean_M - self.centre) / self.spread]),
            np.concatenate([self.noise_N, np.full(len(mean_M), _noise(self.theta))]),
            self.is_choice_D,
            self.theta,
            (self.centre, self.spread),
        )


def learn(points: Points, is_choice_D: npt.NDArray[np.bool_], y_N: Array, sem_N: Array) -> Array:
    """The parameters theta of highest posterior density, for standardised values.

    theta: D log lengths, a, log v, log w, log of the variance.
    """
    D = len(is_choice_D)
    squares = _squares(points.X_ND, points.X_ND, is_choice_D)
    centre = np.concatenate(
        [
            np.full(D, math.log(LENGTH_PRIOR * math.sqrt(max(D, 1)))),
            [PRIORS[name][0] for name in ("scale", "v", "w", "noise")],
        ]
    )
    width = np.concatenate(
        [np.full(D, LENGTH_WIDTH), [PRIORS[name][1] for name in ("scale", "v", "w", "noise")]]
    )
    best: tuple[float, Array] | None = None
    for start in (centre, centre + np.concatenate([np.full(D, -1.0), [0.0, 0.0, 0.0, 3.0]])):
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


def standardised(y_N: Array) -> tuple[float, float]:
    """Centre and spread by which values are brought to about 0 and 1."""
    spread = float(y_N.std())
    return float(y_N.mean()), spread if spread > 1e-12 * max(1.0, float(np.abs(y_N).max())) else 1.0


def condition(
    points: Points,
    is_choice_D: npt.NDArray[np.bool_],
    y_N: Array,
    sem_N: Array,
    theta: Array,
) -> Surface:
    """What is believed after these results, with known theta."""
    centre, spread = standardised(y_N)
    noise_N = _noise(theta) + (sem_N / spread) ** 2
    return _conditioned(
        points, (y_N - centre) / spread, noise_N, is_choice_D, theta, (centre, spread)
    )


def _conditioned(
    points: Points,
    y_N: Array,
    noise_N: Array,
    is_choice_D: npt.NDArray[np.bool_],
    theta: Array,
    scale: tuple[float, float],
) -> Surface:
    K_NN = _covariance(points, points, theta, is_choice_D)
    factor = cho_factor(K_NN + np.diag(noise_N), lower=True, check_finite=False)
    weights_N = cho_solve(factor, y_N, check_finite=False)
    return Surface(points, is_choice_D, theta, noise_N, *scale, factor, weights_N, y_N)


def _noise(theta: Array) -> float:
    return LEAST_NOISE + math.exp(theta[-1])


def _squares(X_MD: Array, Z_ND: Array, is_choice_D: npt.NDArray[np.bool_]) -> Array:
    """D x M x N squared differences; between two options of a choice always 1."""
    gaps = (X_MD.T[:, :, None] - Z_ND.T[:, None, :]) ** 2
    gaps[is_choice_D] = gaps[is_choice_D] > 0
    return gaps


def _matern(squares: Array, theta: Array) -> tuple[Array, Array]:
    """The kernel and its derivative by the squared scaled distance."""
    weights_D = np.exp(-2 * theta[: len(squares)])
    root = np.sqrt(5 * np.tensordot(weights_D, squares, axes=1))
    fall = np.exp(-root)
    return (1 + root + root**2 / 3) * fall, -5 / 6 * (1 + root) * fall


def _covariance(
    left: Points, right: Points, theta: Array, is_choice_D: npt.NDArray[np.bool_]
) -> Array:
    kernel, _ = _matern(_squares(left.X_ND, right.X_ND, is_choice_D), theta)
    a, v, w = theta[-4], math.exp(theta[-3]), math.exp(theta[-2])
    shared = v * np.outer(1 + a * left.u_N, 1 + a * right.u_N)
    both = np.outer(left.u_N, right.u_N)
    return np.asarray(kernel * (shared + w * both) + both + 1.0)


def _diagonal(points: Points, theta: Array, D: int) -> Array:
    a, v, w = theta[D], math.exp(theta[D + 1]), math.exp(theta[D + 2])
    return np.asarray(v * (1 + a * points.u_N) ** 2 + (w + 1) * points.u_N**2 + 1.0)


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
    kernel, slope = _matern(squares, theta)
    a, v, w = theta[D], math.exp(theta[D + 1]), math.exp(theta[D + 2])
    lift_N = 1 + a * u_N
    shared, both = v * np.outer(lift_N, lift_N), np.outer(u_N, u_N)
    mix = shared + w * both
    K_NN = kernel * mix + both + 1.0 + np.diag(variance_N + _noise(theta))
    factor = cho_factor(K_NN, lower=True, check_finite=False)
    weights_N = cho_solve(factor, y_N, check_finite=False)
    inverse = cho_solve(factor, np.eye(N), check_finite=False)
    pull = 0.5 * (inverse - np.outer(weights_N, weights_N))  # of the loss by each entry of K
    steep = pull * slope * mix
    gradient = np.empty_like(theta)
    scales_D = -2 * np.exp(-2 * theta[:D])
    gradient[:D] = scales_D * np.tensordot(squares, steep, axes=2) if D else 0.0
    weighted = pull * kernel
    gradient[D] = 2 * v * float(u_N @ weighted @ lift_N)
    gradient[D + 1] = float((weighted * shared).sum())
    gradient[D + 2] = w * float((weighted * both).sum())
    gradient[D + 3] = math.exp(theta[D + 3]) * float(np.trace(pull))
    offset = (theta - centre) / width
    value = 0.5 * float(y_N @ weights_N) + float(np.log(np.diag(factor[0])).sum())
    return value + 0.5 * float(offset @ offset), gradient + offset / width
