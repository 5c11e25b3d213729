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

import numpy as np

from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob


def with_reference_norms(follower: PretrainJob, reference: BaseModel) -> PretrainJob:
    """The follower with the norms of its reference."""
    before = np.concatenate([[np.nan], reference.norms[:-1]])
    return dataclasses.replace(follower, reference_norms=before)


def with_reference_cost(follower: BaseModel, reference: BaseModel) -> BaseModel:
    """The follower with what the reference has cost now."""
    return dataclasses.replace(
        follower,
        trained_steps=follower.trained_steps + reference.trained_steps,
        trained_s=follower.trained_s + reference.trained_s,
        device_s=follower.device_s + reference.trained_s,
        reference_steps=reference.trained_steps,
    )


def diverged_reference(reference: BaseModel, key: str) -> BaseModel:
    """The base, with this key, of a follower whose reference diverged."""
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
