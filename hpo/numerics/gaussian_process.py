"""A Gaussian process over parameters and fidelity: what each trial would give at full fidelity.

For parameters x and fidelity s, with u(s) = log(1/s) over its largest value, so that u is 0 at full
fidelity and 1 at the lowest rung, and t = u^k, two results have the covariance

    v (1 + a t)(1 + a t') M(x, x') + t t' [w L(x, x') + 1] + 1

with M and L Matern-5/2 kernels of one length a parameter each. A lower rung thus shows the same
surface scaled by 1 + a t, plus a deviation of its own, plus a shift (Kennedy and O'Hagan 2000, in
the form of a coregionalisation). The last 1 is an unknown mean. The diagonal adds a fitted variance
of single results and the squared standard error that one came with. v, w, a, k, lengths and
variance are those of highest posterior density. With the deviation's lengths tied to the surface's,
or k to 1, what a rung adds is taken for noise, and a search trusts its low rungs too long.

NumPy and SciPy only, as hpo does not import torch; and Optuna's own process takes neither standard
errors nor asks for full fidelity while its incumbents were measured below.

Letters: N results, M points asked about, D parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular

Array = npt.NDArray[np.float64]


LEAST_NOISE = 1e-6
"""Keeps the matrix regular; far below what a trial's noise is."""


KNOWN_NOISE = 1e-5
"""Of a value that is taken as known; keeps the matrix regular."""


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
    """One metric over parameters and fidelity: its mean and how certain that is."""

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
        prior_M = _diagonal(points, self.theta)
        variance_M = np.maximum(prior_M - (half_NM**2).sum(axis=0), 1e-12)
        return self.centre + self.spread * mean_M, self.spread * np.sqrt(variance_M)

    def joint(self, points: Points) -> tuple[Array, Array]:
        """Mean and covariance of the noise-free metric at M points: M, M x M."""
        cross_MN = _covariance(points, self.points, self.theta, self.is_choice_D)
        half_NM = solve_triangular(self.factor[0], cross_MN.T, lower=True, check_finite=False)
        cov_MM = _covariance(points, points, self.theta, self.is_choice_D) - half_NM.T @ half_NM
        return self.centre + self.spread * (cross_MN @ self.weights_N), self.spread**2 * cov_MM

    def draw(self, points: Points, normal_M: Array) -> Array:
        """Joint noise-free values at M points, from as many standard normal numbers."""
        mean_M, cov_MM = self.joint(points)
        values, vectors = np.linalg.eigh(cov_MM)
        return np.asarray(mean_M + (vectors * np.sqrt(np.maximum(values, 0.0))) @ normal_M)

    def given(self, points: Points, values_M: Array) -> Surface:
        """The surface if its noise-free values at these points were known."""
        return _conditioned(
            self.points.joined(points),
            np.concatenate([self.y_N, (values_M - self.centre) / self.spread]),
            np.concatenate([self.noise_N, np.full(len(values_M), KNOWN_NOISE)]),
            self.is_choice_D,
            self.theta,
            (self.centre, self.spread),
        )

    def mean_without(self, points: Points, left_out: Sequence[npt.NDArray[np.int64]]) -> Array:
        """Mean at M points, each as if these results had not been measured.

        With K the results' covariance and noise, w = K^-1 y and S the rows that are left out, the
        weights of the others are w - (K^-1)_:S ((K^-1)_SS)^-1 w_S.
        """
        cross_MN = _covariance(points, self.points, self.theta, self.is_choice_D)
        inverse = cho_solve(self.factor, np.eye(len(self.y_N)), check_finite=False)
        mean_M = cross_MN @ self.weights_N
        for m, rows in enumerate(left_out):
            if len(rows):
                known = np.linalg.solve(inverse[np.ix_(rows, rows)], self.weights_N[rows])
                mean_M[m] -= cross_MN[m] @ inverse[:, rows] @ known
        return self.centre + self.spread * mean_M

    @property
    def noise(self) -> float:
        """Fitted variance of one result, in the metric's unit squared."""
        return self.spread**2 * noise_of(self.theta)

    def expected_sd_reduction(self, x_D: Array, u: float) -> float:
        """By how much a result at u would lessen the standard deviation at full fidelity."""
        both = Points(np.stack([x_D, x_D]), np.array([0.0, u]))
        cross_2N = _covariance(both, self.points, self.theta, self.is_choice_D)
        half_N2 = solve_triangular(self.factor[0], cross_2N.T, lower=True, check_finite=False)
        known = _covariance(both, both, self.theta, self.is_choice_D) - half_N2.T @ half_N2
        result = known[1, 1] + float(np.median(self.noise_N))
        before = max(float(known[0, 0]), 1e-12)
        after = max(before - float(known[0, 1]) ** 2 / result, 0.0)
        return self.spread * (math.sqrt(before) - math.sqrt(after))

    def fantasize(self, points: Points) -> Surface:
        """The surface if each of these points had come out as expected (Kriging believer)."""
        if not len(points.u_N):
            return self
        mean_M, _ = self.at(points)
        return _conditioned(
            self.points.joined(points),
            np.concatenate([self.y_N, (mean_M - self.centre) / self.spread]),
            np.concatenate([self.noise_N, np.full(len(mean_M), noise_of(self.theta))]),
            self.is_choice_D,
            self.theta,
            (self.centre, self.spread),
        )


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
    """The surface after these results, with known theta."""
    centre, spread = standardised(y_N)
    noise_N = noise_of(theta) + (sem_N / spread) ** 2
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


def noise_of(theta: Array) -> float:
    return LEAST_NOISE + math.exp(theta[-1])


def squares_of(X_MD: Array, Z_ND: Array, is_choice_D: npt.NDArray[np.bool_]) -> Array:
    """D x M x N squared differences; between two options of a choice always 1."""
    gaps = (X_MD.T[:, :, None] - Z_ND.T[:, None, :]) ** 2
    gaps[is_choice_D] = gaps[is_choice_D] > 0
    return gaps


def matern(squares: Array, lengths_D: Array) -> tuple[Array, Array]:
    """The kernel and its derivative by the squared scaled distance, of logarithms of lengths."""
    root = np.sqrt(5 * np.tensordot(np.exp(-2 * lengths_D), squares, axes=1))
    fall = np.exp(-root)
    return (1 + root + root**2 / 3) * fall, -5 / 6 * (1 + root) * fall


def _covariance(
    left: Points, right: Points, theta: Array, is_choice_D: npt.NDArray[np.bool_]
) -> Array:
    squares = squares_of(left.X_ND, right.X_ND, is_choice_D)
    D = len(squares)
    a, v, w, k = shape_of(theta)
    left_t, right_t = left.u_N**k, right.u_N**k
    surface, _ = matern(squares, theta[:D])
    found = v * np.outer(1 + a * left_t, 1 + a * right_t) * surface + 1.0
    low, high = np.flatnonzero(left_t), np.flatnonzero(right_t)  # deviations are below full only
    own, _ = matern(squares[:, low[:, None], high], theta[:D] + theta[D : 2 * D])
    found[low[:, None], high] += np.outer(left_t[low], right_t[high]) * (w * own + 1.0)
    return np.asarray(found)


def _diagonal(points: Points, theta: Array) -> Array:
    a, v, w, k = shape_of(theta)
    t_N = points.u_N**k
    return np.asarray(v * (1 + a * t_N) ** 2 + (w + 1) * t_N**2 + 1.0)


def shape_of(theta: Array) -> tuple[float, float, float, float]:
    """a, v, w and k."""
    a, log_v, log_w, log_k = theta[-5:-1]
    return float(a), math.exp(log_v), math.exp(log_w), math.exp(log_k)
