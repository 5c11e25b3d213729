"""What a study's results let one expect.

1. Each goal and each limited metric has a surface over parameters and fidelity
   (hpo/numerics/gaussian_process.py), fitted from the results of all rungs that have it: of a base
   alone only the early metrics.
2. The front to beat is that of the trials measured at full fidelity, and of those under way, as if
   they came out as expected. Where the true values lie is uncertain, and so are the surfaces'
   lengths and variances, so NUM_SAMPLES surfaces are drawn from their posterior, and from each of
   them the front's true values.
3. Of any point: the expected gain in hypervolume at full fidelity over each of these fronts, given
   its values, in the mean (noisy expected hypervolume improvement, Daulton et al. 2021), times the
   probability of keeping the limits, and the probability that there is a gain
   (hpo/search/candidates.py weighs both by the cost).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from hpo.numerics import gaussian_process, gaussian_process_fit, hypervolume_improvement, pareto
from hpo.numerics.gaussian_process import Array, Points, Surface
from hpo.search.unit_cube import Coordinates

NUM_SAMPLES = 4
"""Surfaces, and fronts, that a gain is averaged over; each takes the time of one."""


CANDIDATES = 512
"""Points at random, and half as many near the front, from which the search for the best begins."""


ANYWHERE = 256
"""Points at random that represent the space."""


ROUNDS = 4
"""Rounds in which the best are perturbed, each half as far as the one before."""


SURVIVORS = 8


SEEDS = 16


POLISHED = 3


CLIMBS = 20


STEP = 1e-5
"""Of finite differences, in shares of a domain: the surfaces are exact to about 1e-10."""


CHILDREN = 24


@dataclass(frozen=True)
class Results:
    """N results; losses are made small, limits are kept at or below 0."""

    X_ND: Array
    u_N: Array
    """0 at full fidelity, 1 at the lowest rung."""
    loss_NG: Array
    """NaN where only the base was asked for and the goal comes later; limits too."""
    loss_sem_NG: Array
    limit_NL: Array


@dataclass(frozen=True)
class SurrogateModel:
    """Surfaces and the front to beat."""

    space: Coordinates
    goals: tuple[Surface, ...]
    limits: tuple[Surface, ...]
    full_FD: Array
    """Points measured at full fidelity or taken to be."""
    seen_ND: Array
    """Points of all results, and of those under way."""
    samples: tuple[tuple[Surface, ...], ...]
    """The goals' surfaces by other lengths and variances, drawn from their posterior."""

    @property
    def corner_G(self) -> Array:
        """The reference point: behind the front of all measured points as they would be at full,
        and no nearer in a goal than half of the space is.

        Behind the front alone, a first front that is short in a goal would stay so: whatever is
        beyond the reference adds nothing.
        """
        mean, _ = self.losses(self.seen_ND)
        kept = self.chance(self.seen_ND) > 0.5
        near = hypervolume_improvement.reference(mean[kept] if kept.any() else mean)
        everywhere, _ = self.losses(self.space.sample(np.random.default_rng(0), ANYWHERE))
        return np.asarray(np.maximum(near, np.median(everywhere, axis=0)))

    @property
    def scale_G(self) -> Array:
        """From each goal's best to the reference point."""
        best = self.losses(self.seen_ND)[0].min(axis=0)
        return np.asarray(np.maximum(self.corner_G - best, 1e-12))

    def losses(self, X_MD: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at full fidelity, M x G each."""
        points = Points(X_MD, np.zeros(len(X_MD)))
        found = [surface.at(points) for surface in self.goals]
        return np.stack([m for m, _ in found], axis=1), np.stack([s for _, s in found], axis=1)

    def chance(self, X_MD: Array) -> Array:
        """Probability of keeping all limits at full fidelity: M."""
        points = Points(X_MD, np.zeros(len(X_MD)))
        kept = np.ones(len(X_MD))
        for surface in self.limits:
            mean, sd = surface.at(points)
            kept *= ndtr(-mean / sd)
        return kept

    def fantasize(self, X_PD: Array, u_P: Array) -> SurrogateModel:
        """The model if the points came out as expected and went on to full fidelity."""
        points = Points(X_PD, u_P)
        return SurrogateModel(
            self.space,
            tuple(surface.fantasize(points) for surface in self.goals),
            tuple(surface.fantasize(points) for surface in self.limits),
            np.vstack([self.full_FD, X_PD]),
            np.vstack([self.seen_ND, X_PD]),
            tuple(tuple(each.fantasize(points) for each in goals) for goals in self.samples),
        )

    def seeds(self) -> Array:
        """Points of the front as the model expects it, at most SEEDS of them."""
        X = self.seen_ND
        mean, _ = self.losses(X)
        rows = np.flatnonzero(pareto.non_dominated(mean))
        rows = rows[np.argsort(mean[rows, 0], kind="stable")]
        spread = np.unique(np.linspace(0, len(rows) - 1, SEEDS).round().astype(int))
        return np.asarray(X[rows[spread]])

    def gain(self) -> Callable[[Array], tuple[Array, Array]]:
        """A function of M points: expected gain within the limits, and the chance of one."""
        corner, scale = self.corner_G, self.scale_G
        front = self.full_FD[self.chance(self.full_FD) > 0.5]
        sampled = [
            (surfaces, hypervolume_improvement.boxes(values_FG / scale, corner / scale))
            for surfaces, values_FG in self._fronts(front)
        ]

        def function(X_MD: Array) -> tuple[Array, Array]:
            points = Points(X_MD, np.zeros(len(X_MD)))
            total = np.zeros((2, len(X_MD)))
            for surfaces, bounds in sampled:
                found = [surface.at(points) for surface in surfaces]
                mean, sd = (np.stack(each, axis=1) / scale for each in zip(*found, strict=True))
                total += hypervolume_improvement.expected_gain(mean, sd, bounds)
            gain, chance = total * self.chance(X_MD) / len(sampled)
            return gain, chance

        return function

    def _fronts(self, front_FD: Array) -> list[tuple[tuple[Surface, ...], Array]]:
        """Surfaces and the true values of the points F x G, drawn together."""
        if not len(front_FD):
            return [(goals, np.empty((0, len(goals)))) for goals in self.samples]
        points, rng = Points(front_FD, np.zeros(len(front_FD))), np.random.default_rng(0)
        found = []
        for goals in self.samples:
            values = [each.draw(points, rng.standard_normal(len(front_FD))) for each in goals]
            known = [each.given(points, y) for each, y in zip(goals, values, strict=True)]
            found.append((tuple(known), np.stack(values, axis=1)))
        return found

    def volume(self) -> float:
        """What the points measured in full dominate, in the unit of gains."""
        front = self.full_FD[self.chance(self.full_FD) > 0.5]
        if not len(front):
            return 0.0
        return pareto.hypervolume(
            self.losses(front)[0] / self.scale_G, self.corner_G / self.scale_G
        )


def search_best(
    space: Coordinates, score: Callable[[Array], Array], seeds_SD: Array, rng: np.random.Generator
) -> tuple[Array, float]:
    """The point with the highest score that was found, and the score."""
    X = space.sample(rng, CANDIDATES)
    if len(seeds_SD):
        X = np.vstack([X, space.near(rng, seeds_SD, 0.1, max(1, CANDIDATES // 2 // len(seeds_SD)))])
    found = score(X)
    width = 0.1
    for _ in range(ROUNDS):
        best = np.argsort(-found, kind="stable")[:SURVIVORS]
        near = space.near(rng, X[best], width, CHILDREN)
        X, found = np.vstack([X[best], near]), np.concatenate([found[best], score(near)])
        width /= 2.5
    for place in np.argsort(-found, kind="stable")[:POLISHED]:
        x_D = polished(space, score, X[place])
        X, found = np.vstack([X, x_D]), np.append(found, score(x_D[None]))
    top = int(np.argmax(found))
    return X[top], float(found[top])


def polished(space: Coordinates, score: Callable[[Array], Array], x_D: Array) -> Array:
    """A point moved uphill in its real coordinates, by L-BFGS-B on the score's logarithm."""
    free = np.flatnonzero(space.is_real_D)
    if not len(free):
        return x_D

    def climb(moved: Array) -> tuple[float, Array]:
        X = np.repeat(x_D[None], len(free) + 1, axis=0)
        X[:, free] = moved
        steps = np.where(moved < 0.5, STEP, -STEP)
        X[np.arange(1, len(X)), free] += steps
        heights = -np.log(np.maximum(score(X), 1e-300))
        return float(heights[0]), (heights[1:] - heights[0]) / steps

    found = minimize(
        climb,
        x_D[free],
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * len(free),
        options={"maxiter": CLIMBS},
    )
    better = x_D.copy()
    better[free] = np.clip(found.x, 0.0, 1.0)
    return better


def compress_bad_outliers(results: Results) -> Results:
    """The results with what is worse than the front's ends drawn nearer, by a logarithm.

    Losses behind the reference never add volume, yet a few large ones (a trial that diverged) would
    set the scale and the lengths of a whole surface. The order stays, and so do all values that can
    count.
    """
    Y = results.loss_NG
    low = np.nanmin(Y, axis=0)
    whole = Y[np.isfinite(Y).all(axis=1)]
    corner = np.maximum(hypervolume_improvement.reference(whole), np.nanmedian(Y, axis=0))
    span = np.maximum(corner - low, 1e-12)
    past = np.maximum(Y - corner, 0.0) / span
    drawn = np.where(past > 0, corner + span * np.log1p(past), Y)
    return replace(results, loss_NG=drawn, loss_sem_NG=results.loss_sem_NG / (1 + past))


def fit_hyperparameters(results: Results, space: Coordinates) -> list[list[Array]]:
    """Of each goal's and each limit's surface the most probable theta, then NUM_SAMPLES drawn."""
    thetas = []
    for column, (points, y, sem) in enumerate(_columns(results)):
        centre, spread = gaussian_process.standardised(y)
        known = points, space.is_choice_D, (y - centre) / spread, sem / spread
        mode = gaussian_process_fit.learn(*known)
        sobol = qmc.Sobol(len(mode), scramble=True, rng=np.random.default_rng(column))
        normal = ndtri(sobol.random(NUM_SAMPLES))
        thetas.append([mode, *gaussian_process_fit.theta_draws(mode, *known, normal)])
    return thetas


def fit(results: Results, space: Coordinates, thetas: Sequence[Sequence[Array]]) -> SurrogateModel:
    """The model of these results."""
    surfaces = [
        [
            gaussian_process.condition(points, space.is_choice_D, y, sem, theta)
            for theta in (every if column < results.loss_NG.shape[1] else every[:1])
        ]
        for column, ((points, y, sem), every) in enumerate(
            zip(_columns(results), thetas, strict=True)
        )
    ]
    G = results.loss_NG.shape[1]
    modes = [each[0] for each in surfaces]
    full = results.X_ND[results.u_N == 0]
    samples = tuple(zip(*(each[1:] for each in surfaces[:G]), strict=True))
    return SurrogateModel(space, tuple(modes[:G]), tuple(modes[G:]), full, results.X_ND, samples)


def _columns(results: Results) -> list[tuple[Points, Array, Array]]:
    """Goal by goal, then limit by limit: the points that have it, values and standard errors."""
    goals = zip(results.loss_NG.T, results.loss_sem_NG.T, strict=True)
    columns = [*goals, *((limit, np.zeros_like(limit)) for limit in results.limit_NL.T)]
    return [
        (Points(results.X_ND[there], results.u_N[there]), y[there], sem[there])
        for y, sem in columns
        for there in [~np.isnan(y)]
    ]
