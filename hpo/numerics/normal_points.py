"""Evenly spread draws of a normal law: scrambled Sobol points through its quantiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special


def normal_points(count: int, dims: int) -> npt.NDArray[np.float64]:
    """The first `count` of them, always the same; [count, dims]."""
    # Imported here: it takes most of a second, and few commands need it.
    from scipy.stats import qmc

    sobol = qmc.Sobol(dims, scramble=True, rng=np.random.default_rng(0))
    points: npt.NDArray[np.float64] = special.ndtri(sobol.random(count))
    return points
