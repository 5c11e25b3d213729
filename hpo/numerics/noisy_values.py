"""What the true values of a run's points may be, given measurements with noise.

The best observed value is as a rule a lucky one, so "observed plus or minus its error" overstates
every winner. What the other points say corrects that (empirical Bayes): per goal, with y_t the loss
of trial t, at point p(t) and seed s(t),

    y_t = m + g h_p + f(x_p) + u_p + q_p + b_s + e_t
    f ~ GP(0, a^2 Matern-5/2 with one length a parameter), g ~ N(0, k^2), u_p ~ N(0, c^2),
    q_p ~ N(0, r), b_s ~ N(0, d^2), e_t ~ N(0, v + w)

m has a flat prior. h_p is what lower rungs say of the point, where there are any
(hpo/front/low_fidelity.py), at mean 0 and spread 1. f is what nearby params have in common, u what
is a point's own, q what the test rows at hand do to it alone (r is known, see
`hpo.front.paired_rows`), b what a seed does to all points alike (comparisons are paired: it cancels
between points of the same seeds), v the spread between seeds, shown by repeated trials, w the mean
square of the errors measured within trials. The true value is m + g h + f + u.

Variances and lengths have log-normal priors around what the run suggests. That of v is centred on
the noise of lower rungs, where there are enough of them, and worth RUNG_FREEDOM degrees of freedom;
repetitions come in by the likelihood. Without rungs it is wide around what repetitions say. The
posterior of all of them is taken as normal around its mode, from which NUM_SETTINGS are drawn, so
that what few repetitions leave open about the noise widens the answer as Student's t would.

Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", chapters 2 and 5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, stats
from scipy.spatial import distance

Array = npt.NDArray[np.float64]


NUM_DRAWS = 2048


NUM_SETTINGS = 16
"""Draws of the variances and lengths; each gives an equal share of the draws."""


FIT_TRIALS = 150
"""Trials that variances and lengths are fitted to; more cost time and change them little."""


EXACT_TRIALS = 300
"""Beyond these the variances and lengths are taken at their mode."""


_FLAT = 100.0  # Prior variance of m in units of the data's variance: as good as flat.


_FENCE = 3.0  # Interquartile ranges above the upper quartile where a loss counts as an outlier.


_LENGTH = (0.5, 1.0)  # Log of a length in units of the space's side: mean and deviation; assumed.


_SMOOTH = (0.0, 1.0)  # Log of a^2 against the data's variance; assumed.


_ROUGH = (math.log(0.001), 1.5)  # The same of c^2; assumed.


_SEED = (math.log(0.5), 1.5)  # Log of d^2 against v; assumed.


_HINT = (math.log(0.3), 1.5)  # The same of k^2; assumed.


_NOISE_DEVIATION = 2.0  # Of log v around what repeated trials say; they say it again in the fit.


RUNG_FREEDOM = 8.0  # Degrees of freedom that the noise of lower rungs is worth; assumed.


_LEAST = 1e-12  # Of a variance against the data's.


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One goal's losses, trial by trial (T trials, P points)."""

    losses_T: Array
    """To be made small."""
    point_T: npt.NDArray[np.int64]
    """Row of the trial's point."""
    seed_T: npt.NDArray[np.int64]
    between: float | None
    """Variance between seeds, pooled over repeated trials; None where nothing is repeated."""
    within: float
    """Mean square of the errors measured within trials; 0 where there are none."""
    hint_P: Array | None = None
    """What lower rungs say of each point, in any unit; None where there are none."""
    rungs: float | None = None
    """Variance of one trial between seeds by the lower rungs; None where they do not tell it."""
    rows: float = 0.0
    """Variance of a point from what the rows it is scored on do to it alone."""

    @property
    def noise(self) -> float:
        """Variance of one trial."""
        return max(self.between or self.rungs or 0.0, self.within)

    @property
    def exact(self) -> bool:
        """Whether repeated trials agree to the last bit, so that there is no noise."""
        return self.between == 0 and self.within == 0 and self.rows == 0


@dataclass(frozen=True, kw_only=True)
class _Model:
    """The trials of a fit in units of their spread, and what is known of theta before it.

    theta holds the logs of a^2, c^2, d^2, v and k^2 and of K lengths.
    """

    y_T: Array
    hint_TT: Array
    """Products of the hints; 0 without any."""
    apart_KTT: Array
    """Squared distances, one layer a parameter."""
    same_point_TT: Array
    same_seed_TT: Array
    within: float
    rows: float
    free: npt.NDArray[np.bool_]
    """Which of theta are fitted; a variance that is not is 0."""
    centre: Array
    width: Array
    """Normal prior of theta."""


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
    fenced_T = _fenced(measured.losses_T)
    centre, scale = float(np.mean(fenced_T)), float(np.std(fenced_T))
    rng = np.random.default_rng(seed)
    if measured.exact or num_points < 2 or scale == 0:
        error_P = np.sqrt(measured.noise / np.bincount(measured.point_T))
        return np.asarray(raw_P + error_P * rng.normal(size=(num_draws, num_points)))
    scaled = dataclasses.replace(
        measured,
        losses_T=(fenced_T - centre) / scale,
        between=None if measured.between is None else measured.between / scale**2,
        within=measured.within / scale**2,
        hint_P=_scaled(measured.hint_P),
        rungs=None if measured.rungs is None else measured.rungs / scale**2,
        rows=measured.rows / scale**2,
    )
    settings = _settings(scaled, params)
    share = -(-num_draws // len(settings))
    parts = [
        _posterior(scaled, params, theta, rng.normal(size=(share, num_points)))
        for theta in settings
    ]
    draws_DP = np.concatenate(parts)[:num_draws] * scale + centre
    inside_P = point_means(fenced_T, measured.point_T)
    return draws_DP + np.where(raw_P == inside_P, 0.0, raw_P - inside_P)


def point_means(losses_T: Array, point_T: npt.NDArray[np.int64]) -> Array:
    """Mean loss of each point."""
    return np.asarray(np.bincount(point_T, weights=losses_T) / np.bincount(point_T))


def _scaled(hint_P: Array | None) -> Array | None:
    """At mean 0 and spread 1; None if all are alike."""
    if hint_P is None or not np.ptp(hint_P):
        return None
    return np.asarray((hint_P - hint_P.mean()) / hint_P.std())


def _apart(x_PC: Array) -> Array:
    """Squared distances P x P."""
    return np.asarray(distance.cdist(x_PC, x_PC, "sqeuclidean"))


def _fenced(losses_T: Array) -> Array:
    """Losses with those far out on the bad side moved to a fence.

    One diverged run would else set the scale for all; its distance is added again afterwards.
    """
    finite = losses_T[np.isfinite(losses_T)]
    if not len(finite):
        return np.zeros_like(losses_T)
    low, high = np.quantile(finite, [0.25, 0.75])
    fence = high + _FENCE * (high - low) if high > low else finite.max()
    return np.clip(losses_T, finite.min(), min(fence, finite.max()))


def _settings(measured: Measured, params: Sequence[Array]) -> list[Array]:
    """Draws of theta from the normal around its mode; of many trials the mode alone."""
    model = _model(measured, params)
    start, width = model.centre[model.free], model.width[model.free]
    low, high = start - 5 * width, start + 5 * width
    found = optimize.minimize(
        lambda free: _misfit(model, free),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 60},
    )
    if len(measured.losses_T) > EXACT_TRIALS:
        return [_whole(model, found.x)]
    sobol = stats.qmc.Sobol(len(start), scramble=True, rng=np.random.default_rng(0))
    normal = stats.norm.ppf(sobol.random(NUM_SETTINGS))
    root = _spread(model, found.x)
    return [_whole(model, np.clip(found.x + root @ each, low, high)) for each in normal]


def _model(measured: Measured, params: Sequence[Array]) -> _Model:
    kept = _kept(measured.point_T)
    point_T, seed_T = measured.point_T[kept], measured.seed_T[kept]
    told = measured.between is not None or measured.rungs is not None
    lengths = len(params)
    by = measured.between if measured.rungs is None else measured.rungs
    noise = math.log(max((by or 0.0) - measured.within, measured.noise / 10, _LEAST))
    noise_width = _NOISE_DEVIATION if measured.rungs is None else math.sqrt(2 / RUNG_FREEDOM)
    crossed = told and 1 < len(np.unique(seed_T)) < len(seed_T)
    apart = [_apart(x_PC[point_T]) for x_PC in params]
    hint_T = np.zeros(len(kept)) if measured.hint_P is None else measured.hint_P[point_T]
    return _Model(
        y_T=measured.losses_T[kept],
        hint_TT=np.outer(hint_T, hint_T),
        apart_KTT=np.array(apart).reshape(lengths, len(kept), len(kept)),
        same_point_TT=_same(point_T),
        same_seed_TT=_same(seed_T),
        within=measured.within,
        rows=measured.rows,
        free=np.array(
            [lengths > 0, True, crossed, told, measured.hint_P is not None] + [True] * lengths
        ),
        centre=np.array(
            [_SMOOTH[0], _ROUGH[0], noise + _SEED[0], noise, _HINT[0]] + [_LENGTH[0]] * lengths
        ),
        width=np.array(
            [_SMOOTH[1], _ROUGH[1], _SEED[1], noise_width, _HINT[1]] + [_LENGTH[1]] * lengths
        ),
    )


def _kept(point_T: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Trials of the fit: all, or of too many the repeated ones and an even choice of the rest."""
    count = len(point_T)
    if count <= FIT_TRIALS:
        return np.arange(count)
    repeated = np.flatnonzero(np.bincount(point_T)[point_T] > 1)[: FIT_TRIALS // 2]
    rest = np.setdiff1d(np.arange(count), repeated)
    even = rest[np.linspace(0, len(rest) - 1, FIT_TRIALS - len(repeated)).astype(np.int64)]
    return np.sort(np.concatenate([repeated, even]))


def _same(labels_T: npt.NDArray[np.int64]) -> Array:
    return np.asarray(labels_T[:, None] == labels_T[None, :], dtype=np.float64)


def _spread(model: _Model, mode: Array) -> Array:
    """A root of the covariance of theta around its mode, by differences of the slope."""
    step = 1e-3
    rows = np.array(
        [
            (_misfit(model, mode + each)[1] - _misfit(model, mode - each)[1]) / (2 * step)
            for each in step * np.eye(len(mode))
        ]
    )
    values, vectors = np.linalg.eigh((rows + rows.T) / 2)
    # The prior's curvature is there in every direction, whatever the differences say.
    least = float((model.width[model.free] ** -2.0).min())
    return np.asarray(vectors / np.sqrt(np.maximum(values, least)))


def _whole(model: _Model, free: Array) -> Array:
    """All of theta; a variance that is off has the log -inf."""
    theta = np.full(len(model.free), -np.inf)
    theta[model.free] = free
    return theta


def _misfit(model: _Model, free: Array) -> tuple[float, Array]:
    """Negative log posterior of theta, up to a constant, and its slope."""
    theta = _whole(model, free)
    smooth, rough, seed, noise, hint = np.exp(theta[:5])
    weights = np.exp(-2 * theta[5:])
    r_TT = np.sqrt(5 * np.tensordot(weights, model.apart_KTT, 1)) if len(weights) else None
    shape_TT = np.zeros_like(model.same_point_TT) if r_TT is None else _matern(r_TT)
    count = len(model.y_T)
    cov_TT = smooth * shape_TT + (rough + model.rows) * model.same_point_TT
    cov_TT += seed * model.same_seed_TT
    cov_TT += _FLAT + hint * model.hint_TT
    cov_TT.flat[:: count + 1] += noise + model.within + _LEAST
    root = linalg.cholesky(cov_TT, lower=True, check_finite=False)
    inverse_TT = linalg.cho_solve((root, True), np.eye(count), check_finite=False)
    pull_T = inverse_TT @ model.y_T
    slope_TT = inverse_TT - np.outer(pull_T, pull_T)
    slopes = [
        smooth * float((slope_TT * shape_TT).sum()),
        rough * float((slope_TT * model.same_point_TT).sum()),
        seed * float((slope_TT * model.same_seed_TT).sum()),
        noise * float(np.trace(slope_TT)),
        hint * float((slope_TT * model.hint_TT).sum()),
    ]
    if r_TT is not None:
        inner = slope_TT * (smooth * 5 / 3) * (1 + r_TT) * np.exp(-r_TT)
        slopes += list(weights * np.tensordot(model.apart_KTT, inner, 2))
    off = (free - model.centre[model.free]) / model.width[model.free]
    value = 0.5 * float(model.y_T @ pull_T) + float(np.log(np.diag(root)).sum())
    return value + 0.5 * float(off @ off), (
        0.5 * np.array(slopes)[model.free] + off / model.width[model.free]
    )


def _matern(r: Array) -> Array:
    """Matern-5/2 of the distance times sqrt 5."""
    return np.asarray((1 + r + r**2 / 3) * np.exp(-r))


def _posterior(
    measured: Measured, params: Sequence[Array], theta: Array, normal_DP: Array
) -> Array:
    """Draws of m + g h + f + u at the points, for one setting of theta."""
    smooth, rough, seed, noise, hint = np.exp(theta[:5])
    point_T, num_points = measured.point_T, normal_DP.shape[1]
    prior_PP = np.full((num_points, num_points), _FLAT)
    if params:
        scaled = [x_PC * math.exp(-log) for x_PC, log in zip(params, theta[5:], strict=True)]
        prior_PP += smooth * _matern(np.sqrt(5 * _apart(np.concatenate(scaled, axis=1))))
    if measured.hint_P is not None:
        prior_PP += hint * np.outer(measured.hint_P, measured.hint_P)
    prior_PP.flat[:: num_points + 1] += rough
    cov_TT = prior_PP[np.ix_(point_T, point_T)] + seed * _same(measured.seed_T)
    cov_TT += measured.rows * _same(point_T)
    cov_TT.flat[:: len(point_T) + 1] += noise + measured.within + _LEAST
    root = linalg.cholesky(cov_TT, lower=True, check_finite=False)
    cross_TP = linalg.solve_triangular(root, prior_PP[point_T], lower=True, check_finite=False)
    y_T = linalg.solve_triangular(root, measured.losses_T, lower=True, check_finite=False)
    cov_PP = prior_PP - cross_TP.T @ cross_TP
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
