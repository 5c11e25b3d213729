"""What probes measured, against weight decay and against the goals, as plain data.

Correlations are taken over settings, each the mean over its seeds: counted one by one, seeds of one
setting would make chance look significant.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.analysis.slices import DECAY, Slice, metric_slice, settings, slice_data, varied
from hpo.core.metrics import metric_names
from hpo.core.trial import Run, Trial

SHOWN = (
    "probe.separability.last",
    "probe.ranks.qk_effective",
    "probe.ranks.vo_effective",
    "probe.alphas.mean",
    "probe.sharpness.trace",
    "probe.norms.effective_lr_end",
    "probe.norms.weight_norm",
    "forgetting_nats",
)
"""Measures with figures of their own, where a run has them: those that the papers explain with."""


FEWEST = 5  # Settings below which a rank correlation is not given; assumed.


@dataclass(frozen=True, kw_only=True)
class Association:
    """How the order of settings by a measure agrees with their order by something else."""

    measure: str
    against: str
    tau: float
    """Kendall's tau-b: 1 the same order, -1 reversed; NaN with too few settings or no variation."""
    p: float
    """Two-sided, of no association."""
    num_settings: int


def measures(run: Run) -> list[str]:
    """The probes' metrics and forgetting, without those of single tasks."""
    tasks = {name.split(".")[1] for name in metric_names(run) if name.startswith("task.")}
    return [
        name
        for name in metric_names(run)
        if name == "forgetting_nats"
        or (name.startswith("probe.") and not tasks & set(name.split(".")))
    ]


def against(run: Run) -> list[str]:
    """Decay, where it was varied, and the goals."""
    decay = [DECAY] if DECAY in varied(run) else []
    return decay + [goal.metric for goal in run.goals]


def associations(run: Run) -> tuple[tuple[Association, ...], ...]:
    """A row a measure, an entry each of `against`; empty where no probe ran."""
    if not _probed(run):
        return ()
    trials = settings(run)
    return tuple(
        tuple(_association(trials, measure, other) for other in against(run))
        for measure in measures(run)
    )


def _probed(run: Run) -> bool:
    return any(name.startswith("probe.") for name in measures(run))


def mechanism_slices(run: Run) -> tuple[Slice, ...]:
    """Every shown measure over decay, and every goal over the measure."""
    if not _probed(run):
        return ()
    there = measures(run)
    found = []
    for measure in (name for name in SHOWN if name in there):
        found += [slice_data(run, DECAY, measure)] if DECAY in against(run) else []
        found += [metric_slice(run, measure, goal.metric) for goal in run.goals]
    return tuple(each for each in found if each.trials)


def _association(trials: Sequence[Trial], measure: str, other: str) -> Association:
    """Over settings."""
    pairs = [(trial.metrics.get(measure, math.nan), _value(trial, other)) for trial in trials]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    # Imported here: it takes most of a second, and few figures need it.
    from scipy import stats

    tau = p = math.nan
    if len(pairs) >= FEWEST:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no variation gives NaN, which is the answer
            tau, p = stats.kendalltau(*zip(*pairs, strict=True))
    return Association(
        measure=measure, against=other, tau=float(tau), p=float(p), num_settings=len(pairs)
    )


def _value(trial: Trial, name: str) -> float:
    value = trial.params.get(name) if name == DECAY else trial.metrics.get(name)
    return float(value) if isinstance(value, int | float) else math.nan
