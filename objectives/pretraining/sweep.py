"""Pretraining of many jobs as one sweep over the steps, every shared stretch trained once.

A job's weights at step t depend on its model, data, seed and optimizer constants (its trunk) and on
lr[0:t] and wd[0:t]; not on its horizon nor on what follows. The key of "pretrained up to t" hashes
exactly that. Therefore:

1. A job starts from its latest stored step.
2. At every moment, jobs with the same key at the next event are one lane. An event is a start, a
   step where two jobs part, a point of the validation curve, a first phase's end, or a horizon.
3. Lanes of all jobs that can share a program train together; where jobs part, the lane is copied.
4. Where jobs part, at horizons, at the end of a first phase, from time to time and on
   interruption, lanes are stored (`objectives.pretraining.lane_checkpoints`). What was stored from
   time to time goes when the lane is stored again.
5. A job whose decay is merged trains the constant rate; checkpoints of it are stored on the way,
   and its base is their weighted mean.

Several ranks (`objectives.training.process_group`) run this together, in step: all of it but what
the first rank alone reports and writes.

K lanes, S steps, P parameters of a lane.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm
from objectives.pretraining import checkpoints
from objectives.pretraining.batches import batches
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob, branch_points, segment_boundaries
from objectives.pretraining.lane_checkpoints import DELETED, Lane, LaneCheckpoints
from objectives.progress import Event
from objectives.training import batch, evaluation, fsdp, lanes, loop, optimizers, out_of_memory
from objectives.training.runtime import Runtime
from objectives.training.setup import Checkpointer, fresh_state, moments_of, plan_of, step_event
from objectives.training.sharding import Replicated, Sharding

COMPILE_STEPS = 2000
"""Steps from which compiling pays on a GPU; assumed. On a CPU it is left to the user: it takes 3 to
30 s, gains 15 to 30 %, and rounds otherwise than eager code."""


def train_bases(
    jobs: Sequence[PretrainJob], corpus: TokenDataset, runtime: Runtime
) -> list[BaseModel]:
    """Train jobs of one corpus in this process; one base a job, in order.

    Jobs that follow another run's effective rate have the norms of that run. Jobs that are stored,
    or equal to one that has just been trained, are not trained again. Sharded parameters train one
    lane at a time.

    Raises:
        ValueError, StoreError, MemoryError: as `objectives.pretraining.run.pretrain`.
    """
    bases: dict[int, BaseModel] = {}
    programs: dict[str, list[int]] = {}

    def stored(index: int) -> bool:
        base = checkpoints.finished(runtime.store, corpus, jobs[index])
        if base is not None:
            bases[index] = base
        return base is not None

    def train(chunk: Sequence[int]) -> None:
        some = [index for index in chunk if not stored(index)]
        later = [job for i, job in enumerate(jobs) if i not in bases and i not in some]
        if some:
            with runtime.ranks.raise_oom_everywhere():
                sweep = Sweep([jobs[i] for i in some], corpus, runtime, later)
                bases.update(zip(some, sweep.run(), strict=True))

    for index, job in enumerate(jobs):
        if not stored(index):
            programs.setdefault(job.program_key(corpus), []).append(index)
    for members in programs.values():
        members.sort(key=lambda index: (jobs[index].trunk_key(corpus), list(jobs[index].lr)))
        most = _lanes_at_once([jobs[index] for index in members], corpus, runtime)
        out_of_memory.in_chunks(members, most, train)
    return [bases[index] for index in range(len(jobs))]


def _lanes_at_once(jobs: Sequence[PretrainJob], corpus: TokenDataset, runtime: Runtime) -> int:
    """How many of the jobs of one program to train together."""
    if jobs[0].sharding == "fsdp":
        return 1
    if runtime.max_lanes is not None:
        return runtime.max_lanes
    sweep = Sweep(jobs, corpus, dataclasses.replace(runtime, compiling="off"))
    return runtime.lanes_that_fit(sweep.try_step, sweep.device, len(jobs))


class Sweep:
    """The jobs of one program, trained together."""

    def __init__(
        self,
        jobs: Sequence[PretrainJob],
        corpus: TokenDataset,
        runtime: Runtime,
        later: Sequence[PretrainJob] = (),
    ) -> None:
        """`later`: jobs that will be trained after these and may start from what these store."""
        self.jobs, self.corpus, self.runtime = list(jobs), corpus, runtime
        self.ranks, self.device = runtime.ranks, jobs[0].device
        self.pre = jobs[0].recipe.pretrain
        self.config = causal_lm.build_config(jobs[0].recipe.model, corpus.vocab_size)
        self.module = self._module()
        sharded = jobs[0].sharding == "fsdp"
        self.compiled = not sharded and self._compiles()
        self.sharding, self.program = self._sharded() if sharded else self._replicated()
        self.shapes = {name: p.shape for name, p in self.module.named_parameters()}
        self.checkpoints = LaneCheckpoints(
            runtime.store, corpus, self.jobs, later, self.shapes, self.sharding
        )
        self.checkpointer = Checkpointer(runtime.report, self.ranks)
        self.lanes: list[Lane] = []
        self.state: loop.State | None = None
        self.steps, self.seconds = [0.0] * len(jobs), [0.0] * len(jobs)
        """Trained for each job so far, its share of its lanes."""
        self.bases: dict[int, BaseModel] = {}

    def _module(self) -> nn.Module:
        """The model without parameters."""
        return causal_lm.build_module(
            self.config, self.device, checkpointing=self.pre.activation_checkpointing
        )

    def _compiles(self) -> bool:
        """Whether the step is compiled.

        A traced pass would keep the activations that are to be computed again, and would draw
        dropout from the process's generator.
        """
        if self.pre.activation_checkpointing or causal_lm.has_dropout(self.config):
            return False
        pays = self.device != "cpu" and self.jobs[0].steps >= COMPILE_STEPS
        compiling = self.runtime.compiling
        return compiling == "on" or (compiling == "auto" and pays)

    def _replicated(self) -> tuple[Sharding, lanes.LaneModel]:
        """All parameters on every rank, and how to run them."""
        bf16 = self.pre.precision == "bf16"
        program = lanes.LaneModel(self.module, bf16=bf16, compiled=self.compiled)
        return Replicated(self.ranks), program

    def _sharded(self) -> tuple[Sharding, lanes.LaneModel]:
        """A part of each on every rank, and how to run them."""
        shards = fsdp.Shards(self._module(), self.ranks, self.device)
        bf16 = self.pre.precision == "bf16"
        return shards, lanes.LaneModel(shards.module, bf16=bf16, owns_params=True)

    def try_step(self, count: int) -> None:
        """Take a first step with `count` lanes and evaluate them, to see what that needs.

        Where a step has fewer tokens than a batch of the evaluation, that one needs more.
        """
        jobs = [self.jobs[lane % len(self.jobs)] for lane in range(count)]
        initial = causal_lm.initial_parameters(jobs[0].recipe.model, self.config, jobs[0].seed)
        values = batch.join_rows([initial] * count).to(self.device)
        state = fresh_state(values, self.module, self.pre, self.shapes, self.sharding)
        batch_at = batches(jobs, self.corpus, self.device, ranks=self.ranks)
        loop.train(self.program, state, self._plan(jobs, 1), batch_at, until=1)
        sample = self.corpus.sample("validation", self.pre.curve_tokens, self.pre.seq_len)
        some = evaluation.Lanes(self.program, state.rows.views)
        evaluation.mean_loss(some, sample[: evaluation.ROWS])

    def run(self) -> list[BaseModel]:
        """Train all jobs to their horizons."""
        store = self.runtime.store
        stored = checkpoints.startable(store)
        starts = [checkpoints.latest_start(store, stored, self.corpus, job) for job in self.jobs]
        events = sorted(
            {*starts, *branch_points(self.jobs, self.corpus), *segment_boundaries(self.jobs)}
        )
        for begin, end in pairwise(events):
            live = [
                index
                for index, job in enumerate(self.jobs)
                if starts[index] <= begin < job.steps and index not in self.bases
            ]
            if live:
                self._form_lanes(live, begin, end)
                self._validate(begin)
                self._train(end)
                self._finish_segment(end)
        return [self.bases[index] for index in range(len(self.jobs))]

    def _form_lanes(self, live: Sequence[int], begin: int, end: int) -> None:
        """Make one lane of all live jobs that have the same key at `end`."""
        by_key: dict[str, list[int]] = {}
        for index in live:
            by_key.setdefault(self.jobs[index].key(self.corpus, end), []).append(index)
        held = {job: index for index, lane in enumerate(self.lanes) for job in lane.jobs}
        entering, rows = [], []
        for members in by_key.values():
            at = held.get(members[0])
            if at is None or self.state is None:
                lane, row = self._load_lane(members, begin)
            else:
                lane = self.lanes[at].copy(members)
                row = [self.state.rows.values[at], *self.state.moments.lane(at).parts]
            entering.append(lane)
            rows.append(row)
        values, *parts = (torch.stack(each) for each in zip(*rows, strict=True))
        moments = optimizers.Moments(*parts)
        self.state = loop.State.fresh(self.shapes, values, moments, self.sharding)
        self.state.step = begin
        self.lanes = entering

    def _load_lane(self, members: list[int], begin: int) -> tuple[Lane, list[Tensor]]:
        """A lane that starts here: from its stored checkpoint, or from its seed."""
        if begin:
            return self.checkpoints.load(members, begin)
        job = self.jobs[members[0]]
        initial = causal_lm.initial_parameters(job.recipe.model, self.config, job.seed)
        values = self.sharding.shard(batch.join_rows([initial])[0]).to(self.device)
        lane = Lane(members, torch.empty(0), torch.empty(0), [], 0.0)
        return lane, [values, *moments_of(values, self.module, self.pre).parts]

    def _validate(self, step: int) -> None:
        """Measure lanes whose curve has a point here; whether they came here now or were stored."""
        assert self.state is not None
        due = [
            lane
            for lane in self.lanes
            if any(step in self.jobs[job].eval_steps() for job in lane.jobs)
        ]
        if due:
            sample = self.corpus.sample("validation", self.pre.curve_tokens, self.pre.seq_len)
            loss_K = evaluation.mean_loss(
                evaluation.Lanes(self.program, self.state.rows.views), sample
            )
            for lane, loss in zip(self.lanes, loss_K, strict=True):
                if lane in due:
                    lane.validation.append([float(step), float(loss)])

    def _train(self, end: int) -> None:
        """Train the lanes up to step `end`."""
        assert self.state is not None
        state, seen, clock = self.state, list[Tensor](), time.monotonic()
        jobs = [self.jobs[lane.jobs[0]] for lane in self.lanes]

        def record() -> None:
            """Add what the steps just done have given to the lanes."""
            nonlocal clock
            seconds, clock = time.monotonic() - clock, time.monotonic()
            self._record_losses(seen, seconds)
            seen.clear()

        def store() -> None:
            record()
            self.checkpoints.store_all(self.lanes, state, state.step)

        def after_step(step: int, loss_K: Tensor) -> None:
            seen.append(torch.stack([loss_K, loop.weight_norms(state.rows)]))
            self.checkpointer.after_step(self._event(step, loss_K), store)

        batch_at = batches(jobs, self.corpus, self.device, ranks=self.ranks)
        plan = self._plan(jobs, end)
        try:
            loop.train(self.program, state, plan, batch_at, until=end, after_step=after_step)
        except Exception as error:
            # Half an update is not kept, nor what other ranks would have to give their part of.
            short = out_of_memory.is_out_of_memory(error)
            if short and state.consistent and self.ranks.count == 1:
                store()
            raise
        record()

    def _plan(self, jobs: Sequence[PretrainJob], end: int) -> loop.Plan:
        """What these jobs do up to step `end`, one lane a job."""
        followed = [job.reference_norms for job in jobs]
        assert all(job.reference is None or job.reference_norms is not None for job in jobs)
        own = np.full(end, np.nan)
        norms_SK = np.stack([own if each is None else each[:end] for each in followed], 1)
        return plan_of(
            [job.recipe.pretrain for job in jobs],
            self.module,
            self.device,
            lr=[job.lr[:end] for job in jobs],
            decay=[job.decay[:end] for job in jobs],
            followed_SK=None if np.isnan(norms_SK).all() else torch.tensor(norms_SK),
            accumulation=self.pre.accumulation,
            sharding=self.sharding,
        )

    def _record_losses(self, seen: list[Tensor], seconds: float) -> None:
        """Add losses and norms of steps, [2, K] each, to the lanes."""
        if not seen:
            return
        losses_KS, norms_KS = torch.stack(seen, -1).cpu()
        for lane, losses, norms in zip(self.lanes, losses_KS, norms_KS, strict=True):
            lane.losses = torch.cat([lane.losses, losses])
            lane.norms = torch.cat([lane.norms, norms])
            share = seconds * self.ranks.count / len(self.lanes)
            lane.device_s += share
            for job in lane.jobs:
                self.steps[job] += len(seen) / len(lane.jobs)
                self.seconds[job] += share / len(lane.jobs)

    def _finish_segment(self, end: int) -> None:
        """Store what parts or ends here, drop the diverged."""
        assert self.state is not None
        for index, lane in enumerate(self.lanes):
            diverged_at = self.state.diverged_step(index)
            ending = [job for job in lane.jobs if self.jobs[job].steps == end]
            if diverged_at is None and self.checkpoints.store_for_good(
                lane, self.state, index, end
            ):
                self.checkpoints.supersede(self.lanes, lane, [])
            for job in lane.jobs if diverged_at is not None else ending:
                self.bases[job] = dataclasses.replace(
                    self._finished(job, lane, index, diverged_at),
                    trained_steps=self.steps[job],
                    trained_s=self.seconds[job],
                )

    def _finished(self, number: int, lane: Lane, index: int, diverged_at: int | None) -> BaseModel:
        """The base of a job that ends here."""
        assert self.state is not None
        job = self.jobs[number]
        if job.merge is None or diverged_at is not None:
            return self.checkpoints.base(lane, self.state, index, job.steps, diverged_at)
        merged = checkpoints.merge(self.runtime.store, self.corpus, job)
        if merged is None:
            raise RuntimeError(DELETED)
        return merged

    def _event(self, step: int, loss_K: Tensor) -> Event:
        stage = "pretrain, compiled" if self.compiled else "pretrain"
        tokens = len(self.lanes) * self.pre.batch_size * self.pre.seq_len
        return step_event(stage, step, max(job.steps for job in self.jobs), loss_K, tokens)
