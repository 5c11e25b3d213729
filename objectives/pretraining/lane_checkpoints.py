"""The lanes of a sweep in the store: where each starts from, and what is kept of it on the way.

K lanes, P parameters of a lane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from objectives.data.token_dataset import TokenDataset
from objectives.pretraining import checkpoints
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.store.maintenance import IN_PROGRESS
from objectives.store.stages import Stages
from objectives.training import batch, loop, optimizers
from objectives.training.sharding import Sharding

DELETED = "a cached result was deleted while in use; rerun the command."


@dataclass(eq=False)
class Lane:
    """One lane of the sweep: the jobs it represents and what it has seen."""

    jobs: list[int]
    losses: Tensor
    """[steps so far], on the CPU"""
    norms: Tensor
    """[steps so far], of all weights after each step; on the CPU"""
    validation: list[list[float]]
    device_s: float
    in_progress: list[str] = field(default_factory=list)
    """Keys of stored states on the way that the next one stored supersedes."""

    def copy(self, jobs: list[int]) -> Lane:
        """The lane as it is now, for some of its jobs."""
        return Lane(
            jobs,
            self.losses,
            self.norms,
            list(self.validation),
            self.device_s,
            list(self.in_progress),
        )


@dataclass(frozen=True)
class LaneCheckpoints:
    """What a sweep's lanes are loaded from and stored in."""

    store: Stages
    corpus: TokenDataset
    jobs: Sequence[PretrainJob]
    later: Sequence[PretrainJob]
    """Jobs that will be trained after these and may start from what these store."""
    shapes: Mapping[str, torch.Size]
    """Of whole parameters."""
    sharding: Sharding

    def load(self, members: list[int], step: int) -> tuple[Lane, list[Tensor]]:
        """A lane from its stored checkpoint, with its row of weights and its moments."""
        job = self.jobs[members[0]]
        found = checkpoints.load_start(self.store, job, self.corpus, step)
        if found is None:
            raise RuntimeError(DELETED)
        stored, moments_P, stage = found
        shard, device = self.sharding.shard, job.device
        values = shard(batch.join_rows([stored.params], self.shapes)[0])
        first, second = (shard(part) if len(part) else part for part in moments_P.parts[:2])
        losses, norms = torch.from_numpy(stored.losses), torch.from_numpy(stored.norms)
        same_sample = stored.curve_tokens == job.recipe.pretrain.curve_tokens
        validation = list(stored.validation) if same_sample else []
        in_progress = [stored.key] if stage == IN_PROGRESS else []
        lane = Lane(members, losses, norms, validation, stored.device_s, in_progress)
        return lane, [part.to(device) for part in (values, first, second, moments_P.policy)]

    def base(
        self, lane: Lane, state: loop.State, index: int, step: int, diverged_at: int | None = None
    ) -> BaseModel:
        """Lane `index` of the state as a model, under its key at `step`."""
        job, norms = self.jobs[lane.jobs[0]], lane.norms.numpy().copy()
        row = self.sharding.gather_to_rank0(state.rows.values[index])
        params = {} if row is None else batch.split_rows(self.shapes, row[None])
        return BaseModel(
            key=job.key(self.corpus, step),
            params={name: p[0].clone() for name, p in params.items()},
            losses=lane.losses.numpy().copy(),
            validation=list(lane.validation),
            curve_tokens=job.recipe.pretrain.curve_tokens,
            diverged_at=diverged_at,
            device_s=lane.device_s,
            norms=norms,
            rates=None if job.reference is None else job.applied_lr(norms),
        )

    def store_all(self, lanes: Sequence[Lane], state: loop.State, step: int) -> None:
        """Store every living lane as it is, then drop what was stored of it on the way."""
        stored: dict[int, list[str]] = {}
        for index, lane in enumerate(lanes):
            blown_up = not lane.norms[-1:].isfinite().all()
            if state.diverged_step(index) is None and not blown_up:
                stored[index] = []
                if not self.store_for_good(lane, state, index, step):
                    base = self.base(lane, state, index, step)
                    moments = self._moments(state, index)
                    checkpoints.save_in_progress(self.store, base, moments)
                    stored[index].append(base.key)
        for index, keys in stored.items():
            self.supersede(lanes, lanes[index], keys)

    def store_for_good(self, lane: Lane, state: loop.State, index: int, step: int) -> bool:
        """Store a lane at a step that others may want; whether that does for going on from here.

        The moments go with it where training may go on.
        """
        jobs = [self.jobs[job] for job in lane.jobs]
        ending = any(job.steps == step for job in jobs)
        parting = len({job.key(self.corpus, min(step + 1, job.steps)) for job in jobs}) > 1
        goes_on = parting or any(step in job.resumable_steps() for job in jobs)
        if ending or goes_on or any(step in job.checkpoint_steps() for job in jobs):
            moments = self._moments(state, index) if goes_on else None
            checkpoints.save_base(self.store, self.base(lane, state, index, step), moments)
        return ending or goes_on

    def supersede(self, lanes: Sequence[Lane], lane: Lane, in_progress: list[str]) -> None:
        """Drop the states on this lane's way, but for those that other lanes or later jobs need."""
        old, lane.in_progress = lane.in_progress, in_progress
        needed = {key for each in lanes for key in each.in_progress}
        for key in set(old) - needed:
            step = int(key.split("-")[0])
            starts = (job for job in self.later if job.steps > step)
            if not any(job.key(self.corpus, step) == key for job in starts):
                self.store.supersede(IN_PROGRESS, key)

    def _moments(self, state: loop.State, index: int) -> optimizers.Moments:
        """What the optimizer and the policy remember of a lane; empty but for the first rank."""
        moments = state.moments.lane(index)
        first, second = (
            self.sharding.gather_to_rank0(part) if len(part) else part for part in moments.parts[:2]
        )
        empty = moments.first.new_empty(0)
        return optimizers.Moments(
            empty if first is None else first, empty if second is None else second, moments.policy
        )
