"""Which differences are significant: one rule for everything that is shown.

The settings that are compared are chosen after they were measured. So a difference is significant
where it exceeds, in its own standard errors (`hpo.front.errors`), what the choice alone would reach
in one study of twenty if all N settings were truly equal:

- against a baseline, which was named beforehand: the 95 % quantile of the largest of N - 1
  differences from one setting (Dunnett 1955);
- between two others: that of the largest difference of any two of N settings (Tukey 1949).

Both by simulation, with the degrees of freedom of the error; with K goals at 1 - 0.05 / K, as the
best by any of them may be named. Without a second pretraining seed of some setting nothing is
known.

The alternative was to count in the draws of the true values (`hpo.front.true_values`) how often a
difference has the other sign, with Holm's correction. Both keep false claims below 5 %, and it
found a fifth to two fifths of the true ones that this rule finds (200 simulated studies each of 12
and 24 trials, as in tests/bench/errors.py, seeds 900 to 909).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hpo.core.trial import Trial
from hpo.front.errors import CONFIDENCE, Errors, Estimate, errors_of
from hpo.front.replicates import Setting

Array = npt.NDArray[np.float64]


NULL_DRAWS = 4096


MOST_COMPARED = 1000
"""Settings in the null distributions; the quantiles grow by the logarithm of more."""


class Leads:
    """Differences between a run's settings, each with its error and significance."""

    def __init__(self, found: Sequence[Setting], num_goals: int) -> None:
        """`found`: all settings that compete, as anything among them may be chosen."""
        self.settings = {point.trial.number: point for point in found}
        self.num_goals = num_goals
        self.errors: dict[str, Errors] = {}

    def between(self, one: Trial, other: Trial, metric: str) -> Estimate:
        """The first setting minus the second, by the numbers of their trials.

        Raises:
            KeyError: there is no such setting.
        """
        if metric not in self.errors:
            self.errors[metric] = errors_of([*self.settings.values()], metric)
        errors = self.errors[metric]
        lead = errors.difference(self.settings[one.number], self.settings[other.number])
        if not errors.repeated or math.isnan(lead.error):
            return lead
        if lead.error == 0:
            return dataclasses.replace(lead, significant=lead.value != 0)
        given = one.baseline is not None or other.baseline is not None
        level = 1 - (1 - CONFIDENCE) / self.num_goals
        least = null_quantile(len(self.settings), lead.freedom, level, given=given)
        return dataclasses.replace(lead, significant=abs(lead.value) / lead.error > least)


def null_quantile(
    num_settings: int, freedom: float, level: float = CONFIDENCE, *, given: bool
) -> float:
    """This quantile of the largest |difference| among N settings that are truly equal.

    Args:
        num_settings: N.
        freedom: degrees of freedom of the standard errors, the unit of the quantile.
        level: which quantile.
        given: of differences from one setting that was named beforehand, else of any two.
    """
    largest_D, scale_D = _largest(min(num_settings, MOST_COMPARED), given), np.ones(NULL_DRAWS)
    if math.isfinite(freedom):
        rng = np.random.default_rng(1)
        scale_D = np.sqrt(rng.chisquare(freedom, NULL_DRAWS) / freedom)
    return float(np.quantile(largest_D / scale_D, level))


@functools.lru_cache(maxsize=64)
def _largest(num_settings: int, given: bool) -> Array:
    """Draws of it where the errors are known, in standard errors of a difference."""
    rng = np.random.default_rng(0)
    low_D = high_D = first_D = rng.standard_normal(NULL_DRAWS)
    for _ in range(max(1, num_settings - 1)):
        next_D = rng.standard_normal(NULL_DRAWS)
        low_D, high_D = np.minimum(low_D, next_D), np.maximum(high_D, next_D)
    spread_D = np.maximum(high_D - first_D, first_D - low_D) if given else high_D - low_D
    return np.asarray(spread_D / math.sqrt(2))
