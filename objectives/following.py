"""Runs that follow the effective rate lr_t / |w_t| of a run with another decay (arXiv 2310.04415).

In a network with norms decay acts by way of |w|: the same rate turns smaller weights further. A run
without decay that takes lr_t / |w_t| from the run with it shows how much of what decay does that
is. The follower's rate is

    lr_t |w_t| / |w'_t|,   |w_t| its norm and |w'_t| the reference's, of all weights, before step t

with the schedule's lr_t. Its own decay, if it has one, is multiplied by this rate. The formula is
ours: the paper says that the effective rate is matched, not how.

Rates of all other runs are known before they start. Therefore:

1. References are trained like any other run, with all that are no followers; one that is asked for
   as well is the same lane. The norm after every step is stored with every run's losses.
2. Followers come after. The key of a follower's state at a step hashes the reference's course up to
   there, so followers of one reference share what they have in common.
3. Where the reference diverged there is nothing to follow, and the follower is not trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from objectives import checkpoints, train
from objectives import pretrain as sweeps
from objectives.checkpoints import Base
from objectives.corpus import Corpus
from objectives.jobs import Job
from objectives.pretrain import Compiling, Report
from objectives.ranks import ALONE, Ranks
from objectives.shelf import MEMORY, PASSING, WEIGHTS
from objectives.store import Stages, StoreError


def pretrain(
    jobs: Sequence[Job],
    corpus: Corpus,
    store: Stages,
    report: Report,
    *,
    max_lanes: int | None = None,
    compiling: Compiling = "auto",
    ranks: Ranks = ALONE,
) -> list[Base]:
    """`objectives.pretrain.pretrain` of jobs of which some follow others; one base a job, in order.

    What training a reference took counts for the follower, split with a request for the same run.

    Raises:
        ValueError, StoreError, MemoryError: as there.
    """

    def run(some: Sequence[Job]) -> list[Base]:
        return sweeps.pretrain(
            some, corpus, store, report, max_lanes=max_lanes, compiling=compiling, ranks=ranks
        )

    waiting = {
        index: job.reference
        for index, job in enumerate(jobs)
        if job.reference is not None and checkpoints.finished(store, corpus, job) is None
    }
    for job in waiting.values():
        _forget_unmeasured(store, corpus, job)
    first = [index for index in range(len(jobs)) if index not in waiting]
    trained = run([*(jobs[index] for index in first), *waiting.values()])
    bases = dict(zip(first, trained, strict=False))
    references = dict(zip(waiting, trained[len(first) :], strict=True))
    for index, reference in references.items():
        if reference.lost_at != train.NEVER:
            bases[index] = _untrained(reference, jobs[index].base_key(corpus))
    ready = [index for index in waiting if index not in bases]
    followers = [_knowing(jobs[index], references[index]) for index in ready]
    for index, base in zip(ready, run(followers), strict=True):
        bases[index] = _with_cost(base, references[index])
    return [bases[index] for index in range(len(jobs))]


def _knowing(follower: Job, reference: Base) -> Job:
    """The follower with the norms of its reference."""
    if _unmeasured(reference):
        raise StoreError(
            "the shared store holds the run that pretrain.effective_lr_of names as an earlier "
            "version left it, without its norms; drop it there, or leave out --share."
        )
    before = np.concatenate([[np.nan], reference.norms[:-1]])
    return dataclasses.replace(follower, followed=before)


def _with_cost(follower: Base, reference: Base) -> Base:
    """The follower with what the reference has cost now."""
    return dataclasses.replace(
        follower,
        trained_steps=follower.trained_steps + reference.trained_steps,
        trained_s=follower.trained_s + reference.trained_s,
        device_s=follower.device_s + reference.trained_s,
        reference_steps=reference.trained_steps,
    )


def _untrained(reference: Base, key: str) -> Base:
    """A follower whose reference diverged."""
    return dataclasses.replace(
        reference,
        key=key,
        losses=np.empty(0),
        validation=[],
        norms=np.empty(0),
        rates=np.empty(0),
        device_s=reference.trained_s,
        reference_steps=reference.trained_steps,
        reference_lost=True,
    )


def _forget_unmeasured(store: Stages, corpus: Corpus, reference: Job) -> None:
    """Drop what an earlier version has stored of a run without its norms: they cannot be followed.

    The run is the same, so what depends on it stays.
    """
    stored = checkpoints.startable(store) | set(store.keys(WEIGHTS))
    steps = sorted({int(key.split("-")[0]) for key in stored if key.split("-")[0].isdigit()})
    for step in (step for step in steps if step <= reference.steps):
        key = reference.key(corpus, step)
        for stage in (WEIGHTS, PASSING):
            base = None
            if key in stored:
                base = checkpoints.load(store, reference, corpus, step, stage)
            if base is not None and _unmeasured(base):
                store.remove(stage, key)
                store.remove(MEMORY, key)


def _unmeasured(base: Base) -> bool:
    """Whether its first steps were stored without norms."""
    return bool(np.isnan(base.norms[:1]).any())
