"""The variances and lengths of noisy values, fitted to a run; see `hpo.numerics.noisy_values`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize
from scipy.spatial import distance

from hpo.numerics.normal_points import normal_points

Array = npt.NDArray[np.float64]


NUM_SETTINGS = 16
"""Draws of the variances and lengths; each gives an equal share of the draws."""


PROPOSED, WIDENED = 64, 1.5
"""Settings that these are drawn from, spread so much wider than the normal around the mode."""


FIT_TRIALS = 150
"""Trials that variances and lengths are fitted to; more cost time and change them little."""


EXACT_TRIALS = 300
"""Beyond these the variances and lengths are taken at their mode."""


FLAT = 100.0  # Prior variance of m in units of the data's variance: as good as flat.


_LENGTH = (0.0, 0.7)  # Log of a length in units of the space's side: mean and deviation; assumed.


_SMOOTH = (0.0, 1.0)  # Log of a^2 against the data's variance; assumed.


_ROUGH = (math.log(0.001), 1.5)  # The same of c^2; assumed.


_SEED = (math.log(0.5), 1.5)  # Log of d^2 against v; assumed.


_HINT = (math.log(0.3), 1.5)  # The same of k^2; assumed.


# Where repetitions show v, its prior is Cauchy's: they may be alike to many digits.
_NOISE = (math.log(0.05), 2.0)  # Log of v against the data's variance; assumed.


RUNG_FREEDOM = 8.0  # Degrees of freedom that the noise of lower rungs is worth; assumed.


SHARED, SHARED_WIDTH = 0.7, 0.3
"""c: share of the noise of a trial's lower rungs that its full result has too; assumed."""


LEAST = 1e-12  # Of a variance against the data's.


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
    own_T: Array | None = None
    """Expected noise in the trial's own lower rungs, in the unit of losses; 0 where it has none."""
    hint_error_PP: Array | None = None
    """Covariance of the curve through lower rungs at the points."""
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
    own_TT: Array
    """Covariance of what the noise of lower rungs does beyond its expected share."""
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
    """Normal prior of theta, or Cauchy's."""
    is_cauchy: npt.NDArray[np.bool_]


def squared_distances(x_PC: Array) -> Array:
    """Squared distances P x P."""
    return np.asarray(distance.cdist(x_PC, x_PC, "sqeuclidean"))


def fitted(measured: Measured, params: Sequence[Array]) -> list[Array]:
    """Draws of theta from its posterior; of many trials the mode alone.

    Few repetitions leave the posterior far from normal: it is drawn by sampling importance
    resampling (Rubin 1987) from a normal around the mode, wider than the mode's own.
    """
    model = _model(measured, params)
    start, width = model.centre[model.free], model.width[model.free]
    low = np.where(model.is_cauchy[model.free], math.log(LEAST), start - 5 * width)
    high = start + 5 * width
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
    normal = normal_points(PROPOSED, len(start))
    root = WIDENED * _spread(model, found.x)
    proposed = np.clip(found.x + normal @ root.T, low, high)
    log_weight = 0.5 * (normal**2).sum(axis=1) - [_misfit(model, each)[0] for each in proposed]
    return [_whole(model, proposed[row]) for row in _resampled(log_weight)]


def _resampled(log_weight: Array) -> npt.NDArray[np.int64]:
    """NUM_SETTINGS rows, each as often as its weight says."""
    weight = np.exp(log_weight - log_weight.max())
    shares = np.cumsum(weight) / weight.sum()
    places = (np.arange(NUM_SETTINGS) + 0.5) / NUM_SETTINGS
    return np.asarray(np.searchsorted(shares, places))


def _model(measured: Measured, params: Sequence[Array]) -> _Model:
    kept, num_points = _kept(measured.point_T), int(measured.point_T.max()) + 1
    point_T, seed_T = measured.point_T[kept], measured.seed_T[kept]
    is_known = measured.between is not None or measured.rungs is not None
    lengths = len(params)
    shown = measured.rungs is None and len(kept) > len(np.unique(point_T))
    noise, noise_width = _NOISE if shown else _told_noise(measured)
    crossed = is_known and 1 < len(np.unique(seed_T)) < len(seed_T)
    apart = [squared_distances(x_PC[point_T]) for x_PC in params]
    hint_T = np.zeros(len(kept)) if measured.hint_P is None else measured.hint_P[point_T]
    return _Model(
        y_T=measured.losses_T[kept],
        hint_TT=np.outer(hint_T, hint_T),
        own_TT=of_rungs(measured, num_points)[0][np.ix_(kept, kept)],
        apart_KTT=np.array(apart).reshape(lengths, len(kept), len(kept)),
        same_point_TT=same(point_T),
        same_seed_TT=same(seed_T),
        within=measured.within,
        rows=measured.rows,
        free=np.array(
            [lengths > 0, True, crossed, is_known, measured.hint_P is not None] + [True] * lengths
        ),
        centre=np.array(
            [_SMOOTH[0], _ROUGH[0], noise + _SEED[0], noise, _HINT[0]] + [_LENGTH[0]] * lengths
        ),
        width=np.array(
            [_SMOOTH[1], _ROUGH[1], _SEED[1], noise_width, _HINT[1]] + [_LENGTH[1]] * lengths
        ),
        is_cauchy=np.arange(5 + lengths) == (3 if shown else -1),
    )


def _told_noise(measured: Measured) -> tuple[float, float]:
    """Mean and deviation of log v where no repetitions show it, or lower rungs do as well."""
    by = measured.between if measured.rungs is None else measured.rungs
    told = math.log(max((by or 0.0) - measured.within, measured.noise / 10, LEAST))
    return told, _NOISE[1] if measured.rungs is None else math.sqrt(2 / RUNG_FREEDOM)


def _kept(point_T: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Trials of the fit: all, or of too many the repeated ones and an even choice of the rest."""
    count = len(point_T)
    if count <= FIT_TRIALS:
        return np.arange(count)
    repeated = np.flatnonzero(np.bincount(point_T)[point_T] > 1)[: FIT_TRIALS // 2]
    rest = np.setdiff1d(np.arange(count), repeated)
    even = rest[np.linspace(0, len(rest) - 1, FIT_TRIALS - len(repeated)).astype(np.int64)]
    return np.sort(np.concatenate([repeated, even]))


def same(labels_T: npt.NDArray[np.int64]) -> Array:
    """1 where two labels are equal: T x T."""
    return np.asarray(labels_T[:, None] == labels_T[None, :], dtype=np.float64)


def of_rungs(measured: Measured, num_points: int) -> tuple[Array, Array, Array]:
    """Covariances that lower rungs add: of trials, of trials with points, and of points.

    The curve's error E is in a point's true value. What the curve leaves of a trial's own lower
    rungs is noise minus E, and c of it was taken off: of E the share 1 - c is left in the trial.
    """
    if measured.own_T is None or measured.hint_error_PP is None:
        none_TP = np.zeros((len(measured.point_T), num_points))
        return np.zeros((len(none_TP), len(none_TP))), none_TP, np.zeros((num_points, num_points))
    error_PP, own_T, point_T = measured.hint_error_PP, measured.own_T, measured.point_T
    continued_T = own_T != 0
    left_T = 1 - SHARED * continued_T
    error_TT = error_PP[np.ix_(point_T, point_T)]
    doubt_TT = SHARED_WIDTH**2 * (
        np.outer(own_T, own_T) + np.outer(continued_T, continued_T) * error_TT
    )
    return (
        np.outer(left_T, left_T) * error_TT + doubt_TT,
        left_T[:, None] * error_PP[point_T],
        error_PP,
    )


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
    shape_TT = np.zeros_like(model.same_point_TT) if r_TT is None else matern(r_TT)
    count = len(model.y_T)
    cov_TT = smooth * shape_TT + (rough + model.rows) * model.same_point_TT
    cov_TT += seed * model.same_seed_TT
    cov_TT += FLAT + hint * model.hint_TT + model.own_TT
    cov_TT.flat[:: count + 1] += noise + model.within + LEAST
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
    value = 0.5 * float(model.y_T @ pull_T) + float(np.log(np.diag(root)).sum())
    prior, prior_slopes = _prior(model, free)
    return value + prior, 0.5 * np.array(slopes)[model.free] + prior_slopes


def _prior(model: _Model, free: Array) -> tuple[float, Array]:
    """Negative log prior of theta, up to a constant, and its slope."""
    width, is_cauchy = model.width[model.free], model.is_cauchy[model.free]
    off = (free - model.centre[model.free]) / width
    value = np.where(is_cauchy, np.log1p(off**2), 0.5 * off**2)
    return float(value.sum()), np.where(is_cauchy, 2 * off / (1 + off**2), off) / width


def matern(r: Array) -> Array:
    """Matern-5/2 of the distance times sqrt 5."""
    return np.asarray((1 + r + r**2 / 3) * np.exp(-r))
