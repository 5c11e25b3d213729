"""Pretraining of many jobs as one sweep over the steps, every shared stretch trained once.

A job's weights at step t depend on its model, data, seed and optimizer constants (its trunk) and on
lr[0:t] and wd[0:t]; not on its horizon nor on what follows. The key of "pretrained up to t" hashes
exactly that. Therefore:

1. A job starts from its latest stored step.
2. At every moment, jobs with the same key at the next event are one lane. An event is a start, a
   step where two jobs part, a point of the validation curve, or a horizon.
3. Lanes of all jobs that can share a program train together; where jobs part, the lane is copied.
4. Where jobs part, at horizons, from time to time and on interruption, lanes are stored.

K lanes, S steps, P parameters of a lane.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from objectives import adamw, evaluate, lanes, models, schedules, train
from objectives.corpus import Corpus
from objectives.recipe import Recipe
from objectives.store import Store, key_of, read_json, write_json

CHECKPOINT_S = 60.0
"""Seconds of training after which all lanes are stored; assumed: a minute is cheap to lose."""
Parameters = dict[str, Tensor]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """One base model to pretrain."""

    recipe: Recipe
    seed: int
    steps: int
    """The horizon at the request's fidelity."""

    @functools.cached_property
    def lr(self) -> NDArray[np.float64]:
        """Learning rate of each step; [S]."""
        pre = self.recipe.pretrain
        return pre.lr * schedules.multipliers(pre.schedule, self.steps)

    @functools.cached_property
    def decay(self) -> NDArray[np.float64]:
        """Weight decay of each step, before the rate multiplies it; [S]."""
        return np.full(self.steps, self.recipe.pretrain.weight_decay)

    def program_key(self, corpus: Corpus) -> str:
        """Equal for jobs that can be lanes of one program."""
        pre = self.recipe.pretrain
        shape: list[Any] = [pre.batch_size, pre.seq_len, pre.accumulation, pre.precision]
        shape += [pre.decayed, pre.activation_checkpointing, pre.eval_tokens]
        model = self.recipe.to_dict()["model"]
        return key_of("program-1", model, corpus.key, corpus.weights, shape)

    def trunk_key(self, corpus: Corpus) -> str:
        """Equal for jobs whose weights are equal as long as their rates and decays are."""
        pre = self.recipe.pretrain
        constants = [pre.beta1, pre.beta2, pre.eps, pre.clip_norm]
        return key_of("trunk-1", self.program_key(corpus), constants, self.seed)

    def key(self, corpus: Corpus, step: int) -> str:
        """The stage "pretrained up to `step`"."""
        course = np.stack([self.lr[:step], self.decay[:step]]).tobytes()
        digest = hashlib.sha256(course).hexdigest()
        return f"{step:09d}-{key_of(self.trunk_key(corpus), digest)}"

    def eval_steps(self) -> list[int]:
        """Points of the validation curve on the way: the same grid at every fidelity."""
        every = max(1, self.recipe.pretrain.steps // self.recipe.pretrain.evals)
        return list(range(every, self.steps, every))


@dataclass(frozen=True)
class Base:
    """A pretrained model."""

    key: str
    params: Parameters
    """On the CPU."""
    losses: NDArray[np.float64]
    """Training loss of each step, nats a token; [S]."""
    validation: list[list[float]]
    """[step, nats a token] on the way; the horizon's own is a matter of the one who scores it."""
    lost_at: int
    """The step at which it diverged, train.NEVER if it did not."""
    trained_steps: float
    """Steps trained for this job now, shared ones split among the jobs that share them."""


@dataclass
class _Lane:
    """One lane of the sweep: the jobs it stands for and what it has seen."""

    jobs: list[int]
    losses: Tensor
    """[steps so far], on the CPU"""
    validation: list[list[float]]


def pretrain(
    jobs: Sequence[Job], corpus: Corpus, store: Store, device: str, report: Report, max_lanes: int
) -> list[Base]:
    """Pretrain jobs of one corpus; one base a job, in order.

    An exception that `report` raises stops the work at the end of a step, with all lanes stored.

    Raises:
        ValueError: a schedule that does not fit its horizon, an unknown model.
        StoreError: the store cannot be written.
    """
    bases: dict[int, Base] = {}
    for index, job in enumerate(jobs):
        stored = _load(store, job.key(corpus, job.steps))
        if stored is not None:
            bases[index] = stored
    programs: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        if index not in bases:
            programs.setdefault(job.program_key(corpus), []).append(index)
    for members in programs.values():
        members.sort(key=lambda index: (jobs[index].trunk_key(corpus), list(jobs[index].lr)))
        for some in (members[at : at + max_lanes] for at in range(0, len(members), max_lanes)):
            sweep = Sweep([jobs[index] for index in some], corpus, store, device, report)
            bases.update(zip(some, sweep.run(), strict=True))
    return [bases[index] for index in range(len(jobs))]


class Sweep:
    """The jobs of one program, trained together."""

    def __init__(
        self, jobs: Sequence[Job], corpus: Corpus, store: Store, device: str, report: Report
    ) -> None:
        self.jobs, self.corpus, self.store = list(jobs), corpus, store
        self.device, self.report = device, report
        self.pre = jobs[0].recipe.pretrain
        self.config = models.build_config(jobs[0].recipe.model, corpus.vocab_size)
        module = models.build_module(
            self.config, device, checkpointing=self.pre.activation_checkpointing
        )
        self.program = lanes.Program(module, bf16=self.pre.precision == "bf16")
        self.shapes = {name: p.shape for name, p in module.named_parameters()}
        self.decayed = models.decayed_mask(module, self.pre.decayed)
        self.lanes: list[_Lane] = []
        self.state: train.State | None = None
        self.trained = [0.0] * len(jobs)
        self.bases: dict[int, Base] = {}
        self.stored_at = time.monotonic()

    def run(self) -> list[Base]:
        """Train all jobs to their horizons."""
        starts = [_latest_start(self.store, self.corpus, job) for job in self.jobs]
        events = sorted({*starts, *_partings(self.jobs, self.corpus), *_stops(self.jobs)})
        for begin, end in pairwise(events):
            live = [
                index
                for index, job in enumerate(self.jobs)
                if starts[index] <= begin < job.steps and index not in self.bases
            ]
            if live:
                self._enter(live, begin, end)
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
                lane = _Lane(members, old.losses, list(old.validation))
                row = (
                    self.state.rows.values[place],
                    self.state.moments.first[place],
                    self.state.moments.second[place],
                )
            entering.append(lane)
            rows.append(row)
        values, first, second = (torch.stack(parts) for parts in zip(*rows, strict=True))
        self.state = train.State.fresh(self.shapes, values)
        self.state.moments, self.state.step = adamw.Moments(first, second), begin
        self.lanes = entering

    def _open(self, members: list[int], begin: int) -> tuple[_Lane, tuple[Tensor, ...]]:
        """A lane that starts here: from its stored checkpoint, or from its seed."""
        job = self.jobs[members[0]]
        if begin == 0:
            initial = models.initial_parameters(job.recipe.model, self.config, job.seed)
            values = lanes.join_rows([initial])[0].to(self.device)
            moments = adamw.Moments.zeros_like(values)
            return _Lane(members, torch.empty(0), []), (values, moments.first, moments.second)
        stored = _load(self.store, job.key(self.corpus, begin))
        moments_folder = self.store.get("moments", job.key(self.corpus, begin))
        if stored is None or moments_folder is None:
            raise RuntimeError("a stored stage vanished while it was in use; run again.")
        moments_by_name = load_file(moments_folder / "moments.safetensors")
        values = lanes.join_rows([{name: stored.params[name] for name in self.shapes}])[0]
        row = (values, moments_by_name["first"], moments_by_name["second"])
        lane = _Lane(members, torch.from_numpy(stored.losses), list(stored.validation))
        return lane, tuple(part.to(self.device) for part in row)

    def _train(self, begin: int, end: int) -> None:
        assert self.state is not None
        jobs = [self.jobs[lane.jobs[0]] for lane in self.lanes]
        plan = train.Plan(
            lr_SK=torch.tensor(np.stack([job.lr[:end] for job in jobs], 1)),
            decay_SK=torch.tensor(np.stack([job.decay[:end] for job in jobs], 1)),
            constants=_constants(jobs, self.decayed, self.device),
            accumulation=self.pre.accumulation,
        )
        losses: list[Tensor] = []

        def after_step(step: int, loss_K: Tensor) -> None:
            losses.append(loss_K)
            try:
                self._tell(step, loss_K)
                if time.monotonic() - self.stored_at > CHECKPOINT_S:
                    self._store_all(step, losses)
            except BaseException:
                self._store_all(step, losses)
                raise

        batch_at = _batches(jobs, self.corpus, self.device)
        train.train(self.program, self.state, plan, batch_at, until=end, after_step=after_step)
        self._keep(losses)
        for lane in self.lanes:
            for job in lane.jobs:
                self.trained[job] += (end - begin) / len(lane.jobs)

    def _keep(self, losses: list[Tensor]) -> None:
        """Add the losses of the steps just done to the lanes, and empty the list."""
        if losses:
            for lane, column in zip(self.lanes, torch.stack(losses, 1).cpu(), strict=True):
                lane.losses = torch.cat([lane.losses, column])
            losses.clear()

    def _leave(self, end: int) -> None:
        """Validate where the curve has a point, store what parts or ends here, drop the lost."""
        assert self.state is not None
        measured = [
            any(end in self.jobs[job].eval_steps() for job in lane.jobs) for lane in self.lanes
        ]
        if any(measured):
            sample = self.corpus.sample("validation", self.pre.eval_tokens, self.pre.seq_len)
            loss_K = evaluate.mean_loss(evaluate.Lanes(self.program, self.state.rows.views), sample)
            for lane, loss, wanted in zip(self.lanes, loss_K, measured, strict=True):
                if wanted:
                    lane.validation.append([float(end), float(loss)])
        for place, lane in enumerate(self.lanes):
            lost_at = int(self.state.lost_at[place])
            ending = [job for job in lane.jobs if self.jobs[job].steps == end]
            parting = len({self.jobs[job].key(self.corpus, min(end + 1, self.jobs[job].steps))
                           for job in lane.jobs}) > 1  # fmt: skip
            if lost_at == train.NEVER and (ending or parting):
                self._store(place, end, moments=parting or _may_go_on(self.jobs[lane.jobs[0]], end))
            for job in lane.jobs if lost_at != train.NEVER else ending:
                self.bases[job] = self._base(place, job, lost_at)

    def _base(self, place: int, job: int, lost_at: int) -> Base:
        assert self.state is not None
        lane = self.lanes[place]
        row = self.state.rows.values[place : place + 1]
        params = lanes.split_rows(self.shapes, row)
        return Base(
            key=self.jobs[job].key(self.corpus, self.jobs[job].steps),
            params={name: p[0].detach().cpu().clone() for name, p in params.items()},
            losses=lane.losses.numpy().copy(),
            validation=list(lane.validation),
            lost_at=lost_at,
            trained_steps=self.trained[job],
        )

    def _store_all(self, step: int, losses: list[Tensor]) -> None:
        """Store every living lane where it stands."""
        assert self.state is not None
        self._keep(losses)
        for place, lost_at in enumerate(self.state.lost_at.tolist()):
            if lost_at == train.NEVER:
                self._store(place, step, moments=True)
        self.stored_at = time.monotonic()

    def _store(self, place: int, step: int, *, moments: bool) -> None:
        assert self.state is not None
        lane, state = self.lanes[place], self.state
        key = self.jobs[lane.jobs[0]].key(self.corpus, step)

        def write_weights(folder: Path) -> None:
            params = lanes.split_rows(self.shapes, state.rows.values[place : place + 1])
            tensors = {name: p[0].detach().cpu().contiguous() for name, p in params.items()}
            save_file(tensors, folder / "params.safetensors")
            save_file({"losses": lane.losses}, folder / "losses.safetensors")
            write_json(folder / "info.json", {"step": step, "validation": lane.validation})

        def write_moments(folder: Path) -> None:
            first, second = state.moments.first[place].cpu(), state.moments.second[place].cpu()
            save_file({"first": first, "second": second}, folder / "moments.safetensors")

        self.store.put("pretrain", key, write_weights)
        if moments:
            self.store.put("moments", key, write_moments)

    def _tell(self, step: int, loss_K: Tensor) -> None:
        self.report(
            {
                "stage": "pretrain",
                "step": step,
                "steps": max(job.steps for job in self.jobs),
                "lanes": len(self.lanes),
                "tokens": len(self.lanes) * self.pre.batch_size * self.pre.seq_len,
                "loss": loss_K,
            }
        )


def _load(store: Store, key: str) -> Base | None:
    folder = store.get("pretrain", key)
    if folder is None:
        return None
    return Base(
        key=key,
        params=load_file(folder / "params.safetensors"),
        losses=load_file(folder / "losses.safetensors")["losses"].numpy(),
        validation=read_json(folder / "info.json")["validation"],
        lost_at=train.NEVER,
        trained_steps=0.0,
    )


def _latest_start(store: Store, corpus: Corpus, job: Job) -> int:
    """The last stored step from which the job can go on; 0 if there is none."""
    stored = set(store.keys("moments")) & set(store.keys("pretrain"))
    steps = sorted({int(key.split("-")[0]) for key in stored}, reverse=True)
    for step in steps:
        key = job.key(corpus, step) if step < job.steps else ""
        if key in stored and store.get("pretrain", key) and store.get("moments", key):
            return step
    return 0


def _partings(jobs: Sequence[Job], corpus: Corpus) -> set[int]:
    """Steps at which two jobs that were one lane until then part."""
    steps = set()
    for index, one in enumerate(jobs):
        for other in jobs[:index]:
            if one.trunk_key(corpus) == other.trunk_key(corpus):
                shared = min(one.steps, other.steps)
                same = (one.lr[:shared] == other.lr[:shared]) & (
                    one.decay[:shared] == other.decay[:shared]
                )
                steps.add(shared if same.all() else int(same.argmin()))
    return steps


def _stops(jobs: Sequence[Job]) -> set[int]:
    return {0, *(step for job in jobs for step in [*job.eval_steps(), job.steps])}


def _may_go_on(job: Job, step: int) -> bool:
    """Whether a longer horizon would continue from here: the rate has not begun to fall."""
    return bool(job.lr[step - 1] == job.lr[:step].max())


def _constants(jobs: Sequence[Job], decayed: Tensor | None, device: str) -> adamw.Constants:
    pres = [job.recipe.pretrain for job in jobs]
    return adamw.constants(
        len(jobs),
        device,
        beta1=[pre.beta1 for pre in pres],
        beta2=[pre.beta2 for pre in pres],
        eps=[pre.eps for pre in pres],
        clip=[np.inf if pre.clip_norm is None else pre.clip_norm for pre in pres],
        decayed=decayed,
    )


def _batches(jobs: Sequence[Job], corpus: Corpus, device: str) -> Callable[[int], lanes.Batch]:
    """Shared rows where all lanes have one seed, else each lane's own."""
    pre = jobs[0].recipe.pretrain
    seeds = [job.seed for job in jobs]

    def batch_at(step: int) -> lanes.Batch:
        by_seed = {
            seed: corpus.batch(seed, step, pre.batch_size, pre.seq_len) for seed in set(seeds)
        }
        ids = by_seed[seeds[0]] if len(by_seed) == 1 else np.stack([by_seed[s] for s in seeds])
        return lanes.Batch(torch.from_numpy(ids).to(device))

    return batch_at
