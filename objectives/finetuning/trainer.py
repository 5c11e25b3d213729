"""Fine-tunes of bases on one task as lanes of one program: base x learning rate x seed.

A stage is one base tuned on one task at one rate over consecutive seeds. It is taken from the store
or trained; bases share a program where they want as many rates, each its own. Lanes are stored from
time to time and on interruption, and go on from there.

G bases, R rates a base, S seeds, K = G * R * S lanes, P trained parameters.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedConfig

from objectives.config.training import Finetune
from objectives.data.orders import Orders
from objectives.data.tasks import Encoded, Task
from objectives.finetuning import checkpoints, lora
from objectives.finetuning.checkpoints import NOTHING, FinetuneResult, PartialFinetune, Work
from objectives.finetuning.runs import RunGroup, RunKey, groups_at_one_step, num_steps, stage_key
from objectives.models import causal_lm, draws
from objectives.pretraining.checkpoints import Parameters
from objectives.training import (
    batch,
    evaluation,
    loop,
    lr_schedule,
    optimizers,
    out_of_memory,
    packing,
)
from objectives.training.lanes import LaneModel
from objectives.training.runtime import Runtime
from objectives.training.setup import Checkpointer, step_event

OnResult = Callable[[int, float, FinetuneResult], None]
"""Gets a base, a rate and what came of it."""


class FinetuneTrainer:
    """Bases of one shape, and the program that fine-tunes them."""

    def __init__(
        self,
        config: PreTrainedConfig,
        fine: Finetune,
        runtime: Runtime,
        *,
        bf16: bool,
        device: str,
    ) -> None:
        self.fine, self.runtime, self.bf16, self.device = fine, runtime, bf16, device
        self.adapted = None
        module = causal_lm.build_module(config, device)
        self.plain = LaneModel(module, bf16=bf16)
        self.drops = fine.lora.dropout > 0 or causal_lm.has_dropout(config)
        self.program, self.shapes = self.plain, {n: p.shape for n, p in module.named_parameters()}
        if fine.method == "lora":
            self.adapted = lora.Adapted(config, fine.lora, device, bf16=bf16)
            self.program = self.adapted.program(module)
            self.shapes = self.adapted.shapes
        self.keys: list[str] = []
        self.bases: list[Parameters] = []
        self.total: list[Work] = []
        """What each base's fine-tunes took, whenever that was."""
        self.now: list[Work] = []
        """What they took in this run."""
        self.packed = False

    @property
    def kind(self) -> str:
        """What a fine-tune is: adapters, or a model of its own."""
        return "finetuned" if self.adapted is None else "adapters"

    def open(self, bases: Sequence[tuple[str, Parameters]], rows: Encoded) -> None:
        """Work on these bases (key, parameters) from here on; `rows` show whether packing works."""
        self.keys, self.bases = [key for key, _ in bases], [params for _, params in bases]
        self.total, self.now = [NOTHING] * len(bases), [NOTHING] * len(bases)
        self.packed = packing.works(self.plain.module, batch.stack(self._on_device([0])), rows)

    def tune(
        self,
        task: Task,
        wanted: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        on_result: OnResult,
    ) -> None:
        """Give each base's wanted rates, from the store or trained, to `on_result`."""
        missing = []
        for base, rate in RunGroup(task, wanted, seeds).runs:
            stored = checkpoints.load_tuned(
                self.runtime.store,
                self._key(base, task, rate, seeds),
                len(seeds),
                self.shapes,
                num_steps(self.fine, task),
            )
            if stored is None:
                missing.append((base, rate))
            else:
                self.total[base] += stored.work
                on_result(base, rate, stored)
        if missing:
            self._train_all(task, missing, seeds, on_result)

    def plain_lanes(self, members: Sequence[int]) -> evaluation.Lanes:
        """The bases themselves, to be scored."""
        params = batch.stack(self._on_device(members))
        return evaluation.Lanes(self.plain, params, packed=self.packed)

    def tuned_lanes(self, members: Sequence[int], params: Sequence[Parameters]) -> evaluation.Lanes:
        """Fine-tunes of these bases, equally many each, base by base; to be scored."""
        return self._scored(members, batch.join_rows(params, self.shapes).to(self.device))

    def _scored(self, members: Sequence[int], values_KP: Tensor) -> evaluation.Lanes:
        params = batch.split_rows(self.shapes, values_KP)
        return evaluation.Lanes(self.program, params, self._frozen(members), self.packed)

    def _train_all(
        self, task: Task, runs: Sequence[RunKey], seeds: Sequence[int], on_result: OnResult
    ) -> None:
        """Train these rates of these bases, fewer at once where memory runs out."""
        done: set[RunKey] = set()
        begun = {run: self._begun(run, task, seeds) for run in runs}

        def keep(base: int, rate: float, tuned: FinetuneResult) -> None:
            checkpoints.save_tuned(self.runtime.store, tuned)
            before = begun[base, rate]
            self.total[base] += tuned.work
            self.now[base] += tuned.work - (before.work if before else NOTHING)
            done.add((base, rate))
            on_result(base, rate, tuned)

        def train(some: Sequence[RunKey]) -> None:
            left = {run: begun[run] for run in some if run not in done}
            for group in groups_at_one_step(task, seeds, left):
                self._train(group, [begun[run] for run in group.runs], keep)

        def try_step(count: int) -> None:
            self._try_step(task, runs[0], seeds[0], count)

        most = self.runtime.lanes_that_fit(try_step, self.device, len(runs) * len(seeds))
        out_of_memory.in_chunks(runs, max(1, most // len(seeds)), train)

    def _begun(self, run: RunKey, task: Task, seeds: Sequence[int]) -> PartialFinetune | None:
        """Where a run that was stopped is; None if it has not begun."""
        key, steps = self._key(run[0], task, run[1], seeds), num_steps(self.fine, task)
        return checkpoints.load_partial(self.runtime.store, key, len(seeds), self.shapes, steps)

    def _try_step(self, task: Task, run: RunKey, seed: int, count: int) -> None:
        """Take a first step with `count` lanes on one base, to see what it needs."""
        base, rate = run
        group = RunGroup(task, {base: [rate] * count}, [seed])
        state = loop.State.fresh(self.shapes, self._initial(group))
        frozen = self._frozen([base])
        loop.train(self.program, state, self._plan(group, 1), self._batches(group), until=1,
                   frozen=frozen)  # fmt: skip

    def _train(
        self, group: RunGroup, begun: Sequence[PartialFinetune | None], on_result: OnResult
    ) -> None:
        """Train the runs of one program to the end, from where each of them is."""
        task, seeds, steps = group.task, len(group.seeds), num_steps(self.fine, group.task)
        state, losses, before = self._start(group, begun)
        started = time.monotonic()
        checkpointer = Checkpointer(self.runtime.report)

        def work() -> Work:
            """Of a run, so far."""
            share = (time.monotonic() - started) / group.num_lanes * seeds
            return Work(seeds * self._lane_tokens(task, state.step), before + share)

        def after_step(step: int, loss_K: Tensor) -> None:
            losses.append(loss_K)
            tokens = len(loss_K) * self._lane_tokens(task, 1)
            event = step_event(f"fine-tune {task.name}", step, steps, loss_K, tokens)
            checkpointer.after_step(event, lambda: self._store(group, state, losses, work()))

        loop.train(
            self.program,
            state,
            self._plan(group, steps),
            self._batches(group),
            until=steps,
            frozen=self._frozen(group.bases),
            after_step=after_step,
        )
        self._collect(group, state, torch.stack(losses, 1).cpu().numpy(), work(), on_result)

    def _start(
        self, group: RunGroup, begun: Sequence[PartialFinetune | None]
    ) -> tuple[loop.State, list[Tensor], float]:
        """Lanes where they are, the losses of each step so far [K], a run's seconds so far."""
        stored = [each for each in begun if each is not None]
        if not stored:
            return loop.State.fresh(self.shapes, self._initial(group)), [], 0.0
        seconds = sum(each.work.seconds for each in stored) / len(stored)
        return *checkpoints.resume(stored, self.shapes, self.device), seconds

    def _store(
        self, group: RunGroup, state: loop.State, losses: Sequence[Tensor], work: Work
    ) -> None:
        """Store where each run of the program is."""
        seeds = len(group.seeds)
        for index, (base, rate) in enumerate(group.runs):
            lanes = slice(index * seeds, (index + 1) * seeds)
            key = self._key(base, group.task, rate, group.seeds)
            partial = PartialFinetune.of(state, losses, lanes, work)
            checkpoints.save_partial(self.runtime.store, key, partial)

    def _collect(
        self,
        group: RunGroup,
        state: loop.State,
        losses_KS: NDArray[np.float64],
        work: Work,
        on_result: OnResult,
    ) -> None:
        """Validate the lanes and hand each run over; a diverged lane's loss is inf."""
        values, seeds = state.rows.values.detach(), len(group.seeds)
        loss_K = evaluation.completion_loss(
            self._scored(group.bases, values), group.task.validation
        )
        lost_K = (state.diverged_at != loop.NEVER).cpu().numpy() | ~np.isfinite(loss_K)
        loss_KS = np.where(lost_K, math.inf, loss_K).reshape(-1, seeds)
        params = batch.split_rows(self.shapes, values.cpu())
        for index, (base, rate) in enumerate(group.runs):
            lanes = range(index * seeds, (index + 1) * seeds)
            tuned = FinetuneResult(
                [{name: p[lane].clone() for name, p in params.items()} for lane in lanes],
                [losses_KS[lane] for lane in lanes],
                float(loss_KS[index].mean()),
                work,
                (self._key(base, group.task, rate, group.seeds),),
            )
            on_result(base, rate, tuned)

    def _plan(self, group: RunGroup, steps: int) -> loop.Plan:
        """The lanes of these runs up to this step."""
        rates_K, fine = group.rates_K, self.fine
        curve = lr_schedule.multipliers(
            fine.schedule, num_steps(fine, group.task), "finetune.schedule"
        )
        return loop.Plan(
            lr_SK=torch.tensor(np.outer(curve[:steps], rates_K)),
            decay_SK=torch.full((steps, len(rates_K)), fine.weight_decay),
            constants=optimizers.constants(
                len(rates_K),
                self.device,
                beta1=fine.beta1,
                beta2=fine.beta2,
                clip=math.inf if fine.clip_norm is None else fine.clip_norm,
            ),
        )

    def _batches(self, group: RunGroup) -> Callable[[int], batch.TokenBatch]:
        """Each seed's own rows, in a new order each epoch, the same for all rates and bases.

        Rows are in one line without padding, or where the model does not allow it are cut to the
        longest of the step.
        """
        task, size, orders = group.task, self.fine.batch_size, Orders()
        rows, repeats = task.train, group.num_rates * (1 if self.adapted else len(group.bases))

        def row_ids(seed: int, step: int) -> NDArray[np.int64]:
            source, count = int(task.key[:8], 16), len(rows.ids)
            slots = [divmod(slot, count) for slot in range(step * size, (step + 1) * size)]
            return np.array([orders.of(seed, source, epoch, count)[at] for epoch, at in slots])

        def batch_at(step: int) -> batch.TokenBatch:
            chosen = np.stack([row_ids(seed, step) for seed in group.seeds] * repeats)
            some = packing.batch_of(rows, chosen, self.device, packed=self.packed)
            if self.drops:
                seed = group.seeds[0] * 1_000_003 + step
                some = dataclasses.replace(some, draw=draws.generator(seed, self.device))
            return some

        return batch_at

    def _initial(self, group: RunGroup) -> Tensor:
        """First rows of the lanes, base by base; [K, P]."""
        if self.adapted is None:
            copies = group.num_rates * len(group.seeds)
            rows = [params for params in self._on_device(group.bases) for _ in range(copies)]
        else:
            of_seeds = [self.adapted.initial(seed) for seed in group.seeds]
            rows = of_seeds * len(group.runs)
        return batch.join_rows(rows, self.shapes).to(self.device)

    def _frozen(self, members: Sequence[int]) -> dict[str, Tensor] | None:
        if self.adapted is None:
            return None
        return self.adapted.frozen(batch.stack(self._on_device(members)))

    def _on_device(self, members: Sequence[int]) -> list[Parameters]:
        return [
            {name: p.to(self.device) for name, p in self.bases[base].items()} for base in members
        ]

    def _lane_tokens(self, task: Task, steps: int) -> float:
        """On average over the rows."""
        return steps * self.fine.batch_size * task.mean_tokens

    def _key(self, base: int, task: Task, rate: float, seeds: Sequence[int]) -> str:
        return stage_key(self.keys[base], self.fine, self.bf16, task, rate, seeds)
