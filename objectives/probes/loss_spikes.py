"""Spikes of the training loss.

Without weight decay, runs in bf16 can become unstable late (arXiv 2310.04415). What a spike is
was not found there; this project's definition: a step whose loss is above the median of the WINDOW
steps before it by more than SPREADS times their spread (1.4826 times the median distance from the
median, which is the standard deviation of a normal law) and by more than LEAST_NATS. Steps in a row
are one spike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from objectives.probes.types import ProbeBatch, ProbeResult

WINDOW = 32


SPREADS = 6.0


LEAST_NATS = 0.1


def rises(losses_S: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rise of each step's loss over the median before it, nats, and whether it is a spike.

    Both [S - WINDOW], empty for shorter runs.
    """
    if len(losses_S) <= WINDOW:
        return np.empty(0), np.empty(0, bool)
    before = np.lib.stride_tricks.sliding_window_view(losses_S[:-1], WINDOW)
    median = np.median(before, 1)
    spread = 1.4826 * np.median(np.abs(before - median[:, None]), 1)
    rise = losses_S[WINDOW:] - median
    return rise, rise > np.maximum(SPREADS * spread, LEAST_NATS)


def measure_loss_spikes(group: ProbeBatch) -> list[ProbeResult]:
    """The number of spikes, and the largest rise over the running median, spike or not."""
    found = []
    for subject in group.subjects:
        rise, spiking = rises(subject.base.losses.astype(np.float64))
        starts = spiking & ~np.concatenate([[False], spiking])[: len(spiking)]
        metrics = {"count": float(starts.sum())}
        if len(rise):
            metrics["largest_rise_nats"] = float(rise.max())
        found.append(ProbeResult(metrics=metrics))
    return found
