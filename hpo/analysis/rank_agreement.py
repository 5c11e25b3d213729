"""Where what fine-tuning gains and what it gives order trials differently.

A gain can be won by a base that merely starts worse.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.core.metrics import Measure, measure
from hpo.core.trial import Run, Trial
from hpo.front.front import counted
from hpo.numerics.pareto import Losses

NAMED_PAIRS = 1000


PAIRED_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """How far the two orders are apart."""

    num_trials: int
    tau: float
    """Kendall's tau-b between the two orders: 1 the same, -1 reversed; NaN if undefined."""
    num_pairs: int
    """Pairs (a, b): a has more gain than b, and b is better after fine-tuning."""
    pairs: tuple[tuple[int, int], ...]
    """The largest of these, by the product of the two differences; NAMED_PAIRS at most."""
    top_by_gain: tuple[Trial, ...]
    top_by_finetuned: tuple[Trial, ...]


def disagreements(run: Run, top: int = 3) -> Disagreement:
    """Compare both orders over trials that have both, in scores or in losses on answers."""
    how = measure(run)
    trials = [trial for trial in counted(run) if _has_both(trial, how)]
    gain = np.array([trial.metrics[how.gain] for trial in trials])
    after = how.sign * np.array([trial.metrics[how.after] for trial in trials])
    pairs, num_pairs = _conflicts(gain, after)
    return Disagreement(
        num_trials=len(trials),
        tau=_kendall(gain, after),
        num_pairs=num_pairs,
        pairs=tuple((trials[a].number, trials[b].number) for a, b in pairs),
        top_by_gain=_best(trials, gain, top),
        top_by_finetuned=_best(trials, after, top),
    )


def _best(trials: Sequence[Trial], values: Losses, top: int) -> tuple[Trial, ...]:
    return tuple(trials[row] for row in np.argsort(-values, kind="stable")[:top])


def _has_both(trial: Trial, how: Measure) -> bool:
    return all(math.isfinite(trial.metrics.get(name, math.nan)) for name in (how.gain, how.after))


def _conflicts(first: Losses, second: Losses) -> tuple[list[tuple[int, int]], int]:
    """Pairs of rows that the two order differently, the largest NAMED_PAIRS, and how many.

    A block of rows at a time: all pairs of a long run would fill the memory.
    """
    found, count = np.empty((0, 3)), 0
    for start in range(0, len(first), PAIRED_ROWS):
        some = slice(start, start + PAIRED_ROWS)
        more = first[some, None] - first[None, :]
        size = np.where(more > 0, -more * (second[some, None] - second[None, :]), 0.0)
        count += int((size > 0).sum())
        least = (
            np.partition(size, -NAMED_PAIRS, axis=None)[-NAMED_PAIRS]
            if size.size > NAMED_PAIRS
            else 0.0
        )
        a, b = np.nonzero((size > 0) & (size >= least))
        found = np.concatenate([found, np.column_stack([-size[a, b], a + start, b])])
        found = found[np.lexsort(found.T[::-1])][:NAMED_PAIRS]
    return [(int(a), int(b)) for _, a, b in found], count


def _kendall(first: Losses, second: Losses) -> float:
    """Tau-b (Kendall 1945)."""
    if len(first) < 2:
        return math.nan
    # Imported here: it takes most of a second, and few commands need it.
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no variation gives NaN, which is the answer
        return float(stats.kendalltau(first, second).statistic)
