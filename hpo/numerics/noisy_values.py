"""What the true values of a run's points may be, given measurements with noise.

The best observed value is as a rule a lucky one, so "observed plus or minus its error" overstates
every winner. What the other points say corrects that (empirical Bayes): per goal, with y_t the loss
of trial t, at point p(t) and seed s(t),

    y_t = m + g h_p + f(x_p) + u_p + E_p + q_p + b_s + c (l_t - E_p) + e_t
    f ~ GP(0, a^2 Matern-5/2 with one length a parameter), g ~ N(0, k^2), u_p ~ N(0, c^2),
    E ~ N(0, S), q_p ~ N(0, r), b_s ~ N(0, d^2), e_t ~ N(0, v + w), c ~ N(SHARED, SHARED_WIDTH^2)

m has a flat prior. h_p is what lower rungs say of the point, where there are any
(hpo/front/low_fidelity.py), at mean 0 and spread 1. f is what nearby params have in common, u what
is a point's own, q what the test rows at hand do to it alone (r is known, see
`hpo.front.paired_rows`), b what a seed does to all points alike (comparisons are paired: it cancels
between points of the same seeds), v the spread between seeds, shown by repeated trials, w the mean
square of the errors measured within trials. The true value is m + g h + f + u + E.

A trial that continues keeps seed, data and trajectory, and it went on because it looked good below:
of those measured in full most were lucky, and share their luck in full. l_t is what the trial's own
lower rungs differ from the curve by, c the share of it that the full result has; the curve is wrong
by E, with the covariance S at the points, and l_t with it. Results without lower rungs, such as
repetitions at other seeds, have none of this.

Variances and lengths have log-normal priors in units of the data's variance and the space's side.
That of v is centred on the noise of lower rungs, where there are enough of them, and worth
RUNG_FREEDOM degrees of freedom. Else it is wide: repetitions come in by the likelihood alone, as a
prior centred on them would count them twice, and two repetitions may agree by luck. NUM_SETTINGS
draws of the posterior of all of them stand for it, so that what few repetitions leave open about
the noise widens the answer as Student's t would.

Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", chapters 2 and 5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg

from hpo.numerics.noise_fit import (
    FLAT,
    LEAST,
    SHARED,
    Array,
    Measured,
    fitted,
    matern,
    of_rungs,
    same,
    squared_distances,
)

NUM_DRAWS = 2048


ROUNDING, NEGLIGIBLE = 1e-12, 1e-5
"""Spreads of losses, against their mean and against their known errors, that tell nothing."""


_FENCE = 3.0  # Interquartile ranges above the upper quartile where a loss counts as an outlier.


def draw(
    measured: Measured, params: Sequence[Array], num_draws: int = NUM_DRAWS, seed: int = 0
) -> Array:
    """Draws from the posterior of the true losses: D draws x P points.

    Args:
        measured: every point needs a trial.
        params: what differs between points, an array P x columns for each parameter; distances are
            of order 1.
        num_draws: D.
        seed: of the draws; the same gives the same.
    """
    num_points = int(measured.point_T.max()) + 1
    raw_P = point_means(measured.losses_T, measured.point_T)
    own_T = np.zeros(len(measured.losses_T)) if measured.own_T is None else measured.own_T
    fenced_T = fenced(measured.losses_T)
    centre, scale = float(np.mean(fenced_T)), float(np.std(fenced_T))
    rng = np.random.default_rng(seed)
    if measured.exact or num_points < 2 or _is_alike(measured, centre, scale):
        error_P = np.sqrt(measured.noise / np.bincount(measured.point_T) + measured.rows)
        return np.asarray(raw_P + error_P * rng.normal(size=(num_draws, num_points)))
    scaled = dataclasses.replace(
        measured,
        losses_T=(fenced_T - SHARED * own_T - centre) / scale,
        own_T=own_T / scale,
        between=None if measured.between is None else measured.between / scale**2,
        within=measured.within / scale**2,
        hint_P=_scaled(measured.hint_P),
        rungs=None if measured.rungs is None else measured.rungs / scale**2,
        hint_error_PP=None if measured.hint_error_PP is None else measured.hint_error_PP / scale**2,
        rows=measured.rows / scale**2,
    )
    settings = fitted(scaled, params)
    share = -(-num_draws // len(settings))
    parts = [
        _posterior(scaled, params, theta, rng.normal(size=(share, num_points)))
        for theta in settings
    ]
    draws_DP = np.concatenate(parts)[:num_draws] * scale + centre
    inside_P = point_means(fenced_T, measured.point_T)
    return draws_DP + np.where(raw_P == inside_P, 0.0, raw_P - inside_P)


def _is_alike(measured: Measured, centre: float, scale: float) -> bool:
    """Whether the losses differ by rounding, or by next to nothing beside their known errors."""
    known = math.sqrt(measured.within + measured.rows)
    return scale <= max(ROUNDING * abs(centre), NEGLIGIBLE * known)


def point_means(losses_T: Array, point_T: npt.NDArray[np.int64]) -> Array:
    """Mean loss of each point."""
    return np.asarray(np.bincount(point_T, weights=losses_T) / np.bincount(point_T))


def _scaled(hint_P: Array | None) -> Array | None:
    """At mean 0 and spread 1; None if all are alike."""
    if hint_P is None or not np.ptp(hint_P):
        return None
    return np.asarray((hint_P - hint_P.mean()) / hint_P.std())


def fenced(losses_T: Array) -> Array:
    """Losses with those far out on the bad side moved to a fence.

    One diverged run would else set the scale for all; its distance is added again afterwards.
    """
    finite = losses_T[np.isfinite(losses_T)]
    if not len(finite):
        return np.zeros_like(losses_T)
    low, high = np.quantile(finite, [0.25, 0.75])
    fence = high + _FENCE * (high - low) if high > low else finite.max()
    return np.clip(losses_T, finite.min(), min(fence, finite.max()))


def _posterior(
    measured: Measured, params: Sequence[Array], theta: Array, normal_DP: Array
) -> Array:
    """Draws of m + g h + f + u + E at the points, for one setting of theta."""
    smooth, rough, seed, noise, hint = np.exp(theta[:5])
    point_T, num_points = measured.point_T, normal_DP.shape[1]
    own_TT, own_TP, own_PP = of_rungs(measured, num_points)
    prior_PP = np.full((num_points, num_points), FLAT)
    if params:
        scaled = [x_PC * math.exp(-log) for x_PC, log in zip(params, theta[5:], strict=True)]
        prior_PP += smooth * matern(np.sqrt(5 * squared_distances(np.concatenate(scaled, axis=1))))
    if measured.hint_P is not None:
        prior_PP += hint * np.outer(measured.hint_P, measured.hint_P)
    prior_PP.flat[:: num_points + 1] += rough
    cov_TT = prior_PP[np.ix_(point_T, point_T)] + seed * same(measured.seed_T)
    cov_TT += measured.rows * same(point_T) + own_TT
    cov_TT.flat[:: len(point_T) + 1] += noise + measured.within + LEAST
    root = linalg.cholesky(cov_TT, lower=True, check_finite=False)
    cross_TP = linalg.solve_triangular(
        root, prior_PP[point_T] + own_TP, lower=True, check_finite=False
    )
    y_T = linalg.solve_triangular(root, measured.losses_T, lower=True, check_finite=False)
    cov_PP = prior_PP + own_PP - cross_TP.T @ cross_TP
    return np.asarray(cross_TP.T @ y_T + normal_DP @ _root(cov_PP).T)


def _root(cov_PP: Array) -> Array:
    """A lower root of a covariance that rounding may have made slightly indefinite."""
    jitter = 1e-9 * max(float(np.diag(cov_PP).max()), 1e-6)
    while True:
        try:
            moved = cov_PP + jitter * np.eye(len(cov_PP))
            return np.asarray(linalg.cholesky(moved, lower=True, check_finite=False))
        except linalg.LinAlgError:
            jitter *= 10
