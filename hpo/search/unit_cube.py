"""The space a study searches: its points as values, in Optuna's terms, and as shares of domains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from hpo.core.domains import Domain
from hpo.core.objective import Value

Array = npt.NDArray[np.float64]


Mask = npt.NDArray[np.bool_]


def sobol_units(dimensions: int, seed: int, index: int) -> Array:
    """The index-th point of a scrambled Sobol sequence in the unit cube."""
    engine = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    if index:
        engine.fast_forward(index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # balance only matters for integration
        return np.asarray(engine.random(1)[0])


def sobol_point(space: Mapping[str, Domain], seed: int, index: int) -> dict[str, Value]:
    """The index-th point of the study's scrambled Sobol sequence."""
    if not space:
        return {}
    units = sobol_units(len(space), seed, index)
    return {
        path: domain.at(float(unit))
        for (path, domain), unit in zip(space.items(), units, strict=True)
    }


@dataclass(frozen=True)
class Coordinates:
    """The space as a unit cube for a model: shares of domains, of a choice its option's middle."""

    space: Mapping[str, Domain]

    @property
    def is_choice_D(self) -> Mask:
        """Where only equal and different mean anything."""
        return np.array([each.is_choice for each in self.space.values()], dtype=bool)

    @property
    def is_real_D(self) -> Mask:
        """Where every share of the domain is another value."""
        return np.array([each.is_real for each in self.space.values()], dtype=bool)

    def of(self, values: Mapping[str, Value]) -> Array:
        """A point's coordinates: D."""
        return np.array([domain.share_of(values[path]) for path, domain in self.space.items()])

    def values(self, x_D: Array) -> dict[str, Value]:
        """The point at these coordinates."""
        pairs = zip(self.space.items(), x_D, strict=True)
        return {path: domain.at(float(unit)) for (path, domain), unit in pairs}

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Points at random: count x D."""
        return self.rounded(rng.random((count, len(self.space))))

    def near(self, rng: np.random.Generator, X_MD: Array, width: float, count: int) -> Array:
        """Count perturbed copies of each point, moved in half of the dimensions on average.

        A number goes a normal step of this width, a choice changes with this probability.
        """
        X = np.repeat(X_MD, count, axis=0)
        moved = rng.random(X.shape) < 0.5
        moved[~moved.any(axis=1)] = True
        walked = np.clip(X + width * rng.standard_normal(X.shape), 0.0, 1.0)
        drawn = np.where(rng.random(X.shape) < width, rng.random(X.shape), X)
        return self.rounded(np.where(moved, np.where(self.is_choice_D, drawn, walked), X))

    def rounded(self, X_MD: Array) -> Array:
        """Discrete coordinates at the middle of their value's share."""
        X = X_MD.copy()
        for column, domain in enumerate(self.space.values()):
            X[:, column] = domain.rounded(X[:, column])
        return X
