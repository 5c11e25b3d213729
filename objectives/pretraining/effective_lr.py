"""Runs that follow the effective rate lr_t / |w_t| of a run with another decay (arXiv 2310.04415).

In a network with norms decay acts by way of |w|: the same rate turns smaller weights further. A run
without decay that takes lr_t / |w_t| from the run with it shows how much of what decay does that
is. The follower's rate is

    lr_t |w_t| / |w'_t|,   |w_t| its norm and |w'_t| the reference's, of all weights, before step t

with the schedule's lr_t. Its own decay, if it has one, is multiplied by this rate. The formula is
not from the paper, which says that the effective rate is matched, not how.

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

from objectives.config.execution import Compiling
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining import checkpoints, sweep
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.sweep import Report
from objectives.store.maintenance import IN_PROGRESS, MEMORY, WEIGHTS
from objectives.store.stages import Stages
from objectives.store.store import StoreError
from objectives.training import loop
from objectives.training.process_group import ALONE, ProcessGroup


def pretrain(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    store: Stages,
    report: Report,
    *,
    max_lanes: int | None = None,
    compiling: Compiling = "auto",
    ranks: ProcessGroup = ALONE,
) -> list[BaseModel]:
    """`objectives.pretraining.sweep.pretrain` of jobs of which some follow others; one base a job,
    in order.

    What training a reference took counts for the follower, split with a request for the same run.

    Raises:
        ValueError, StoreError, MemoryError: as there.
    """

    def run(some: Sequence[PretrainJob]) -> list[BaseModel]:
        return sweep.pretrain(
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
        if reference.lost_at != loop.NEVER:
            bases[index] = _diverged_reference(reference, jobs[index].base_key(corpus))
    ready = [index for index in waiting if index not in bases]
    followers = [_with_reference_norms(jobs[index], references[index]) for index in ready]
    for index, base in zip(ready, run(followers), strict=True):
        bases[index] = _with_cost(base, references[index])
    return [bases[index] for index in range(len(jobs))]


def _with_reference_norms(follower: PretrainJob, reference: BaseModel) -> PretrainJob:
    """The follower with the norms of its reference."""
    if _unmeasured(reference):
        raise StoreError(
            "the shared store holds the run that pretrain.effective_lr_of names as an earlier "
            "version left it, without its norms; drop it there, or leave out --share."
        )
    before = np.concatenate([[np.nan], reference.norms[:-1]])
    return dataclasses.replace(follower, followed=before)


def _with_cost(follower: BaseModel, reference: BaseModel) -> BaseModel:
    """The follower with what the reference has cost now."""
    return dataclasses.replace(
        follower,
        trained_steps=follower.trained_steps + reference.trained_steps,
        trained_s=follower.trained_s + reference.trained_s,
        device_s=follower.device_s + reference.trained_s,
        reference_steps=reference.trained_steps,
    )


def _diverged_reference(reference: BaseModel, key: str) -> BaseModel:
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


def _forget_unmeasured(store: Stages, corpus: TokenDataset, reference: PretrainJob) -> None:
    """Drop what an earlier version has stored of a run without its norms: they cannot be followed.

    The run is the same, so what depends on it stays.
    """
    stored = checkpoints.startable(store) | set(store.keys(WEIGHTS))
    steps = sorted({int(key.split("-")[0]) for key in stored if key.split("-")[0].isdigit()})
    for step in (step for step in steps if step <= reference.steps):
        key = reference.key(corpus, step)
        for stage in (WEIGHTS, IN_PROGRESS):
            base = None
            if key in stored:
                base = checkpoints.load(store, reference, corpus, step, stage)
            if base is not None and _unmeasured(base):
                store.remove(stage, key)
                store.remove(MEMORY, key)


def _unmeasured(base: BaseModel) -> bool:
    """Whether its first steps were stored without norms."""
    return bool(np.isnan(base.norms[:1]).any())
