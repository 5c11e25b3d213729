"""Which trials of a rung go on, by what they have measured there: asynchronous successive halving.

Trials of a rung are ranked by non-domination, those within the limits first, and within a rank by
crowding distance (Deb et al. 2002, NSGA-II), the widest gaps first. Of n trials measured at a rung
the best n / eta may go on, eta the ratio of the next rung to this one (Li et al. 2020, ASHA; for
several goals Schmucker et al. 2021, arXiv 2106.12639). It is decided on what is there: no trial
waits for another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo.core.spec import StudySpec
from hpo.core.trial import Answer, Trial
from hpo.front import losses as scoring
from hpo.numerics import pareto


def promotable(spec: StudySpec, trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
    """Waiting trials that may go on and to which fidelity; higher rungs and better trials first."""
    found = []
    for rung in reversed(range(len(spec.fidelities) - 1)):
        here, above = spec.fidelities[rung], spec.fidelities[rung + 1]
        peers = [(trial, at) for trial in trials if (at := _at(trial, here)) is not None]
        keep = math.floor(len(peers) * here / above + 1e-9)
        order = ranked(spec, peers)[:keep]
        found += [(trial, above) for trial in order if trial.waiting and _last(trial) == here]
    return found


def ranked(spec: StudySpec, peers: Sequence[tuple[Trial, Answer]]) -> list[Trial]:
    """The trials of a rung, best first."""
    if not peers:
        return []
    answers = [answer for _, answer in peers]
    losses = scoring.losses(answers, spec.goals)
    kept = np.array([scoring.feasible(answer, spec.limits) for answer in answers])
    rank = np.empty(len(peers), dtype=np.int64)
    rank[kept] = pareto.ranks(losses[kept]) if kept.any() else 0
    rank[~kept] = len(peers) + (pareto.ranks(losses[~kept]) if not kept.all() else 0)
    crowd = np.empty(len(peers))
    for level in np.unique(rank):
        crowd[rank == level] = crowding(losses[rank == level])
    numbers = np.array([trial.number for trial, _ in peers])
    order = np.lexsort((numbers, -crowd, rank))
    return [peers[index][0] for index in order]


def crowding(losses_NG: pareto.Losses) -> pareto.Losses:
    """Crowding distance of each of N rows; infinite at the ends of every goal."""
    found = np.zeros(len(losses_NG))
    for column in losses_NG.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        span = values[-1] - values[0]
        gaps = np.full(len(values), np.inf)
        if len(values) > 2 and np.isfinite(span):
            gaps[1:-1] = (values[2:] - values[:-2]) / span if span > 0 else 0.0
        found[order] += gaps
    return found


def _at(trial: Trial, fidelity: float) -> Answer | None:
    """A searched trial's answer at a rung."""
    if trial.kind != "proposed" or trial.state == "failed":
        return None
    return next((each for each in trial.answers if each.fidelity == fidelity), None)


def _last(trial: Trial) -> float:
    return trial.answers[-1].fidelity
