"""Pretraining of many jobs as one sweep over the steps, every shared stretch trained once.

A job's weights at step t depend on its model, data, seed and optimizer constants (its trunk) and on
lr[0:t] and wd[0:t]; not on its horizon nor on what follows. The key of "pretrained up to t" hashes
exactly that. Therefore:

1. A job starts from its latest stored step.
2. At every moment, jobs with the same key at the next event are one lane. An event is a start, a
   step where two jobs part, a point of the validation curve, a first phase's end, or a horizon.
3. Lanes of all jobs that can share a program train together; where jobs part, the lane is copied.
4. Where jobs part, at horizons, at the end of a first phase, from time to time and on
   interruption, lanes are stored. What was stored from time to time goes when the lane is stored
   again.
5. A job whose decay is merged trains the constant rate; checkpoints of it are stored on the way,
   and its base is their weighted mean.

Several ranks (`objectives.training.process_group`) run this together, in step: all of it but what
the first rank alone says and writes.

K lanes, S steps, P parameters of a lane.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from objectives.config.execution import Compiling
from objectives.data.orders import Orders
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm, draws
from objectives.pretraining import checkpoints
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob, branch_points, segment_boundaries
from objectives.store.maintenance import IN_PROGRESS
from objectives.store.stages import Stages
from objectives.training import (
    batch,
    device_memory,
    evaluation,
    fsdp,
    lanes,
    loop,
    optimizers,
    weight_decay_policies,
)
from objectives.training.process_group import ALONE, ProcessGroup
from objectives.training.sharding import Replicated, Sharding

CHECKPOINT_S = 60.0
"""Seconds of training after which all lanes are stored; assumed: a minute is cheap to lose."""


MOST_LANES = 64
"""Lanes of one program where none are asked for; assumed."""


COMPILE_STEPS = 2000
"""Steps from which compiling pays on a GPU; assumed. On a CPU it is left to the user: it takes 3 to
30 s, gains 15 to 30 %, and rounds otherwise than eager code."""


VANISHED = "a cached result was deleted while in use; rerun the command."


Report = Callable[[dict[str, Any]], None]


@dataclass(eq=False)
class _Lane:
    """One lane of the sweep: the jobs it represents and what it has seen."""

    jobs: list[int]
    losses: Tensor
    """[steps so far], on the CPU"""
    norms: Tensor
    """[steps so far], of all weights after each step; on the CPU"""
    validation: list[list[float]]
    device_s: float
    passing: list[str] = field(default_factory=list)
    """Keys of stored states on the way that the next one stored supersedes."""


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
    """Pretrain jobs of one corpus; one base a job, in order.

    Of those that follow another run's effective rate the norms are known; see
    `objectives.pretraining.effective_lr`, which trains that run first.

    An exception that `report` raises stops the work at the end of a step, with all lanes stored.
    As many lanes train at once as a measured step says will fit, or `max_lanes`. When memory runs
    out all the same, lanes are stored and go on with half as many at once; of several ranks the one
    without memory leaves. Sharded parameters train one lane at a time.

    Raises:
        ValueError: a schedule that does not fit its horizon, an unknown model.
        StoreError: the store cannot be written.
        MemoryError: even one lane does not fit.
    """
    bases: dict[int, BaseModel] = {}
    programs: dict[str, list[int]] = {}

    def stored(index: int) -> bool:
        base = checkpoints.finished(store, corpus, jobs[index])
        if base is not None:
            bases[index] = base
        return base is not None

    for index, job in enumerate(jobs):
        if not stored(index):
            programs.setdefault(job.program_key(corpus), []).append(index)
    for members in programs.values():
        members.sort(key=lambda index: (jobs[index].trunk_key(corpus), list(jobs[index].lr)))

        def run(chunk: Sequence[int]) -> None:
            some = [index for index in chunk if not stored(index)]  # one before may be the same
            later = [job for i, job in enumerate(jobs) if i not in bases and i not in some]
            if some:
                chosen = [jobs[i] for i in some]
                with ranks.bound():
                    sweep = Sweep(chosen, corpus, store, report, compiling, later, ranks)
                    bases.update(zip(some, sweep.run(), strict=True))

        most = 1 if jobs[members[0]].sharding == "fsdp" else max_lanes
        if most is None:
            all_of_them = [jobs[index] for index in members]
            sweep = Sweep(all_of_them, corpus, store, report, "off", ranks=ranks)
            wanted = min(len(members), MOST_LANES)
            fit = device_memory.max_lanes_that_fit(
                sweep.try_step, sweep.device, wanted, sharers=ranks.count
            )
            most = ranks.least(fit)
        device_memory.in_chunks(members, most, run)
    return [bases[index] for index in range(len(jobs))]


class Sweep:
    """The jobs of one program, trained together."""

    def __init__(
        self,
        jobs: Sequence[PretrainJob],
        corpus: TokenDataset,
        store: Stages,
        report: Report,
        compiling: Compiling,
        later: Sequence[PretrainJob] = (),
        ranks: ProcessGroup = ALONE,
    ) -> None:
        """`later`: jobs that will be trained after these and may start from what these store."""
        self.later, self.ranks = later, ranks
        self.jobs, self.corpus, self.store, self.report = list(jobs), corpus, store, report
        self.device = jobs[0].device
        self.pre = jobs[0].recipe.pretrain
        self.config = causal_lm.build_config(jobs[0].recipe.model, corpus.vocab_size)
        self.module = self._module()
        pays = self.device != "cpu" and jobs[0].steps >= COMPILE_STEPS
        sharded = jobs[0].sharding == "fsdp"
        # a traced pass would keep the activations that are to be computed again, and would draw
        # dropout from the process's generator
        drops = causal_lm.has_dropout(self.config)
        traceable = not (self.pre.activation_checkpointing or sharded or drops)
        self.compiled = traceable and (compiling == "on" or (compiling == "auto" and pays))
        self.sharding, self.program = self._sharded() if sharded else self._whole()
        self.shapes = {name: p.shape for name, p in self.module.named_parameters()}
        self.policy_size = weight_decay_policies.memory_size(self.module, self.pre)
        self.lanes: list[_Lane] = []
        self.state: loop.State | None = None
        self.steps, self.seconds = [0.0] * len(jobs), [0.0] * len(jobs)
        """Trained for each job so far, its share of its lanes."""
        self.bases: dict[int, BaseModel] = {}
        self.stored_at = time.monotonic()

    def _module(self) -> nn.Module:
        """The model without parameters."""
        return causal_lm.build_module(
            self.config, self.device, checkpointing=self.pre.activation_checkpointing
        )

    def _whole(self) -> tuple[Sharding, lanes.LaneModel]:
        """All parameters on every rank, and how to run them."""
        bf16 = self.pre.precision == "bf16"
        program = lanes.LaneModel(self.module, bf16=bf16, compiled=self.compiled)
        return Replicated(self.ranks), program

    def _sharded(self) -> tuple[Sharding, lanes.LaneModel]:
        """A part of each on every rank, and how to run them."""
        cut = fsdp.Shards(self._module(), self.ranks, self.device)
        bf16 = self.pre.precision == "bf16"
        return cut, lanes.LaneModel(cut.module, bf16=bf16, holding=True)

    def try_step(self, count: int) -> None:
        """Take a first step with `count` lanes, to see what it needs."""
        jobs = [self.jobs[place % len(self.jobs)] for place in range(count)]
        initial = causal_lm.initial_parameters(jobs[0].recipe.model, self.config, jobs[0].seed)
        values = batch.join_rows([initial] * count).to(self.device)
        state = loop.State.fresh(self.shapes, values, self._moments(values), self.sharding)
        batch_at = batches(jobs, self.corpus, self.device, ranks=self.ranks)
        loop.train(self.program, state, self._plan(jobs, 1), batch_at, until=1)

    def run(self) -> list[BaseModel]:
        """Train all jobs to their horizons."""
        stored = checkpoints.startable(self.store)
        starts = [
            checkpoints.latest_start(self.store, stored, self.corpus, job) for job in self.jobs
        ]
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
                self._enter(live, begin, end)
                self._validate(begin)
                self._train(begin, end)
                self._leave(end)
        return [self.bases[index] for index in range(len(self.jobs))]

    def _enter(self, live: Sequence[int], begin: int, end: int) -> None:
        """Make one lane of all live jobs that have the same key at `end`."""
        by_key: dict[str, list[int]] = {}
        for index in live:
            by_key.setdefault(self.jobs[index].key(self.corpus, end), []).append(index)
        held = {job: place for place, lane in enumerate(self.lanes) for job in lane.jobs}
        entering, rows = [], []
        for members in by_key.values():
            place = held.get(members[0])
            if place is None or self.state is None:
                lane, row = self._open(members, begin)
            else:
                old = self.lanes[place]
                lane = _Lane(
                    members,
                    old.losses,
                    old.norms,
                    list(old.validation),
                    old.device_s,
                    list(old.passing),
                )
                row = (self.state.rows.values[place], *self.state.moments.lane(place).parts)
            entering.append(lane)
            rows.append(row)
        values, *moments = (torch.stack(parts) for parts in zip(*rows, strict=True))
        memory = optimizers.Moments(*moments)
        self.state = loop.State.fresh(self.shapes, values, memory, self.sharding)
        self.state.step = begin
        self.lanes = entering

    def _open(self, members: list[int], begin: int) -> tuple[_Lane, tuple[Tensor, ...]]:
        """A lane that starts here: from its stored checkpoint, or from its seed."""
        job = self.jobs[members[0]]
        if begin == 0:
            initial = causal_lm.initial_parameters(job.recipe.model, self.config, job.seed)
            values = self.sharding.here(batch.join_rows([initial])[0]).to(self.device)
            lane = _Lane(members, torch.empty(0), torch.empty(0), [], 0.0)
            return lane, (values, *self._moments(values).parts)
        key = job.key(self.corpus, begin)
        found = checkpoints.load_start(self.store, job, self.corpus, begin)
        if found is None:
            raise RuntimeError(VANISHED)
        stored, moments_P, stage = found
        here = self.sharding.here
        values = here(batch.join_rows([stored.params], self.shapes)[0])
        first, second = (here(part) if len(part) else part for part in moments_P.parts[:2])
        row = (values, first, second, moments_P.policy)
        losses, norms = torch.from_numpy(stored.losses), torch.from_numpy(stored.norms)
        same_sample = stored.curve_tokens == self.pre.curve_tokens
        validation = list(stored.validation) if same_sample else []
        passing = [key] if stage == IN_PROGRESS else []
        lane = _Lane(members, losses, norms, validation, stored.device_s, passing)
        return lane, tuple(part.to(self.device) for part in row)

    def _moments(self, values: Tensor) -> optimizers.Moments:
        """What the optimizer and the decay policy remember before the first step."""
        sgd = self.pre.optimizer == "sgd"
        return optimizers.Moments.zeros_like(values, self.policy_size, sgd=sgd)

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

    def _train(self, begin: int, end: int) -> None:
        assert self.state is not None
        jobs = [self.jobs[lane.jobs[0]] for lane in self.lanes]
        plan = self._plan(jobs, end)
        state, seen = self.state, list[Tensor]()
        clock = time.monotonic()

        def keep() -> None:
            """Add what the steps just done have given to the lanes."""
            nonlocal clock
            seconds, clock = time.monotonic() - clock, time.monotonic()
            self._keep(seen, seconds)
            seen.clear()

        def after_step(step: int, loss_K: Tensor) -> None:
            seen.append(torch.stack([loss_K, loop.weight_norms(state.rows)]))
            stop: BaseException | None = None
            try:
                self._tell(step, loss_K)
            except BaseException as error:
                stop = error
            late = self.ranks.broadcast_int(int(time.monotonic() - self.stored_at > CHECKPOINT_S))
            if stop is not None or late:
                keep()
                self._store_all(step)
            if stop is not None:
                raise stop

        batch_at = batches(jobs, self.corpus, self.device, ranks=self.ranks)
        try:
            loop.train(self.program, state, plan, batch_at, until=end, after_step=after_step)
        except Exception as error:
            # Half an update is not kept, nor what other ranks would have to give their part of.
            if device_memory.is_out_of_memory(error) and state.whole and self.ranks.count == 1:
                keep()
                self._store_all(state.step)
            raise
        keep()

    def _plan(self, jobs: Sequence[PretrainJob], end: int) -> loop.Plan:
        """What these jobs do up to step `end`, one lane a job."""
        followed = [job.followed for job in jobs]
        assert all(job.reference is None or job.followed is not None for job in jobs)
        own = np.full(end, np.nan)
        norms_SK = np.stack([own if each is None else each[:end] for each in followed], 1)
        return loop.Plan(
            lr_SK=torch.tensor(np.stack([job.lr[:end] for job in jobs], 1)),
            followed_SK=None if np.isnan(norms_SK).all() else torch.tensor(norms_SK),
            decay_SK=torch.tensor(np.stack([job.decay[:end] for job in jobs], 1)),
            constants=optimizers.of_recipes(
                [job.recipe.pretrain for job in jobs], self.module, self.device, self.sharding
            ),
            accumulation=self.pre.accumulation,
        )

    def _keep(self, seen: list[Tensor], seconds: float) -> None:
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

    def _leave(self, end: int) -> None:
        """Store what parts or ends here, drop the lost."""
        assert self.state is not None
        for place, lane in enumerate(self.lanes):
            lost_at = int(self.state.lost_at[place])
            ending = [job for job in lane.jobs if self.jobs[job].steps == end]
            if lost_at == loop.NEVER and self._store_for_good(place, end):
                self._supersede(lane, [])
            for job in lane.jobs if lost_at != loop.NEVER else ending:
                base = self._finished(job, place, lost_at)
                self.bases[job] = dataclasses.replace(
                    base, trained_steps=self.steps[job], trained_s=self.seconds[job]
                )

    def _finished(self, index: int, place: int, lost_at: int) -> BaseModel:
        """The base of a job that ends here."""
        job = self.jobs[index]
        if job.merge is None or lost_at != loop.NEVER:
            return self._base(place, job.steps, lost_at)
        merged = checkpoints.merge(self.store, self.corpus, job)
        if merged is None:
            raise RuntimeError(VANISHED)
        return merged

    def _base(self, place: int, step: int, lost_at: int = loop.NEVER) -> BaseModel:
        """A lane as it is, under its key at `step`."""
        assert self.state is not None
        lane = self.lanes[place]
        job, norms = self.jobs[lane.jobs[0]], lane.norms.numpy().copy()
        row = self.sharding.gathered(self.state.rows.values[place])
        params = {} if row is None else batch.split_rows(self.shapes, row[None])
        return BaseModel(
            key=job.key(self.corpus, step),
            params={name: p[0].clone() for name, p in params.items()},
            losses=lane.losses.numpy().copy(),
            validation=list(lane.validation),
            curve_tokens=self.pre.curve_tokens,
            lost_at=lost_at,
            device_s=lane.device_s,
            norms=norms,
            rates=None if job.reference is None else job.taken(norms),
        )

    def _store_all(self, step: int) -> None:
        """Store every living lane where it is, then drop what was stored of it on the way."""
        assert self.state is not None
        passing: dict[int, list[str]] = {}
        for place, lost_at in enumerate(self.state.lost_at.tolist()):
            blown_up = not self.lanes[place].norms[-1:].isfinite().all()
            if lost_at == loop.NEVER and not blown_up:
                passing[place] = []
                if not self._store_for_good(place, step):
                    base = self._base(place, step)
                    checkpoints.save_passing(self.store, base, self._memory(place))
                    passing[place].append(base.key)
        for place, keys in passing.items():
            self._supersede(self.lanes[place], keys)
        self.stored_at = time.monotonic()

    def _store_for_good(self, place: int, step: int) -> bool:
        """Store a lane at a step that others may want; whether that does for going on from here.

        AdamW's memory goes with it where training may go on.
        """
        assert self.state is not None
        lane = self.lanes[place]
        jobs = [self.jobs[job] for job in lane.jobs]
        ending = any(job.steps == step for job in jobs)
        parting = len({job.key(self.corpus, min(step + 1, job.steps)) for job in jobs}) > 1
        goes_on = parting or any(step in job.left_open() for job in jobs)
        if ending or goes_on or any(step in job.kept_steps() for job in jobs):
            memory = self._memory(place) if goes_on else None
            checkpoints.save(self.store, self._base(place, step), memory)
        return ending or goes_on

    def _memory(self, place: int) -> optimizers.Moments:
        """What the optimizer and the policy remember of a lane; empty but for the first rank."""
        assert self.state is not None
        moments = self.state.moments.lane(place)
        first, second = (
            self.sharding.gathered(part) if len(part) else part for part in moments.parts[:2]
        )
        empty = moments.first.new_empty(0)
        return optimizers.Moments(
            empty if first is None else first, empty if second is None else second, moments.policy
        )

    def _supersede(self, lane: _Lane, passing: list[str]) -> None:
        """Drop the states on this lane's way, but for those that other lanes or later jobs need."""
        old, lane.passing = lane.passing, passing
        needed = {key for each in self.lanes for key in each.passing}
        for key in set(old) - needed:
            step = int(key.split("-")[0])
            if not any(job.steps > step and job.key(self.corpus, step) == key
                       for job in self.later):  # fmt: skip
                self.store.supersede(IN_PROGRESS, key)

    def _tell(self, step: int, loss_K: Tensor) -> None:
        self.report(
            {
                "stage": "pretrain, compiled" if self.compiled else "pretrain",
                "step": step,
                "steps": max(job.steps for job in self.jobs),
                "lanes": len(self.lanes),
                "tokens": len(self.lanes) * self.pre.batch_size * self.pre.seq_len,
                "loss": loss_K,
            }
        )


def batches(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    device: str,
    starts: Sequence[int] | None = None,
    ranks: ProcessGroup = ALONE,
) -> Callable[[int], batch.TokenBatch]:
    """Shared rows where all lanes have one seed, text and place, else each lane's own.

    `starts`: the step of its own run at which each lane is at step 0; 0 without. Of several
    ranks each takes its share of the rows, and drops units of its own where the model does.
    """
    pre = jobs[0].recipe.pretrain
    drops = causal_lm.has_dropout(causal_lm.build_config(jobs[0].recipe.model, corpus.vocab_size))

    orders = Orders()

    def batch_at(step: int) -> batch.TokenBatch:
        # the same whatever was drawn before, and whichever lanes run together
        draw = draws.generator(step * ranks.count + ranks.rank, device) if drops else None
        rows: dict[Any, NDArray[np.int64]] = {}
        wanted = []
        for job, start in zip(jobs, starts or [0] * len(jobs), strict=True):
            text, at, phase = job.text_at(corpus, start + step)
            wanted.append((text.key, text.weights, job.seed, at, phase))
            if wanted[-1] not in rows:
                rows[wanted[-1]] = text.batch(
                    job.seed, at, pre.batch_size, pre.seq_len, phase=phase, orders=orders
                )
        ids = rows[wanted[0]] if len(rows) == 1 else np.stack([rows[each] for each in wanted])
        return batch.TokenBatch(torch.from_numpy(ids).to(device), draw=draw).split(ranks.count)[
            ranks.rank
        ]

    return batch_at
