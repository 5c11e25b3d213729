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
from objectives.finetuning.runs import (
    Ended,
    RunGroup,
    RunKey,
    groups_at_one_step,
    num_steps,
    stage_key,
)
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
        self.halted: dict[str, PartialFinetune] = {}
        """Runs that were stopped to be compared, by their keys."""
        self.packed = False

    @property
    def kind(self) -> str:
        """What a fine-tune is: adapters, or a model of its own."""
        return "finetuned" if self.adapted is None else "adapters"

    def open(self, bases: Sequence[tuple[str, Parameters]], rows: Encoded) -> None:
        """Work on these bases (key, parameters) from here on; `rows` show whether packing works."""
        self.keys, self.bases = [key for key, _ in bases], [params for _, params in bases]
        self.total, self.now = [NOTHING] * len(bases), [NOTHING] * len(bases)
        self.halted = {}
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
            stored = self._stored(base, task, rate, seeds)
            if stored is None:
                missing.append((base, rate))
            else:
                self.total[base] += stored.work
                on_result(base, rate, stored)

        def keep(ended: Ended) -> None:
            for (base, rate), tuned in self._collect(ended):
                checkpoints.save_tuned(self.runtime.store, tuned)
                self.total[base] += tuned.work
                self.now[base] += tuned.work - ended.before(base, rate)
                on_result(base, rate, tuned)

        if missing:
            self._train_to(num_steps(self.fine, task), task, missing, seeds, keep)

    def first_losses(
        self, task: Task, wanted: Mapping[int, Sequence[float]], seeds: Sequence[int], steps: int
    ) -> dict[RunKey, NDArray[np.float64]]:
        """Training losses of each run's first steps, [S, steps]; `tune` goes on from there."""
        found: dict[RunKey, NDArray[np.float64]] = {}
        missing = []
        for base, rate in RunGroup(task, wanted, seeds).runs:
            stored = self._stored(base, task, rate, seeds)
            begun = self._begun((base, rate), task, seeds) if stored is None else None
            if stored is not None:
                found[base, rate] = np.stack(stored.losses)[:, :steps]
            elif begun is not None and begun.step >= steps:
                found[base, rate] = begun.rows["losses"][:, :steps].numpy()
            else:
                missing.append((base, rate))

        def halt(ended: Ended) -> None:
            for (base, rate), lanes in ended.lanes():
                partial = PartialFinetune.of(ended.state, ended.losses, lanes, ended.work)
                self.halted[self._key(base, task, rate, seeds)] = partial
                self.now[base] += partial.work - ended.before(base, rate)
                found[base, rate] = partial.rows["losses"].numpy()

        if missing:
            self._train_to(steps, task, missing, seeds, halt)
        return found

    def give_up(self, task: Task, base: int, rate: float, seeds: Sequence[int]) -> None:
        """Keep a run where it is, as it is not trained further; what it took counts."""
        key = self._key(base, task, rate, seeds)
        partial = self.halted.pop(key, None)
        if partial is not None:
            checkpoints.save_partial(self.runtime.store, key, partial)
        else:
            partial = self._begun((base, rate), task, seeds)
        if partial is not None:
            self.total[base] += partial.work

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

    def _stored(
        self, base: int, task: Task, rate: float, seeds: Sequence[int]
    ) -> FinetuneResult | None:
        """The finished run; None if it is not stored."""
        key, steps = self._key(base, task, rate, seeds), num_steps(self.fine, task)
        return checkpoints.load_tuned(self.runtime.store, key, len(seeds), self.shapes, steps)

    def _train_to(
        self,
        until: int,
        task: Task,
        runs: Sequence[RunKey],
        seeds: Sequence[int],
        on_end: Callable[[Ended], None],
    ) -> None:
        """Train these runs up to this step, fewer at once where memory runs out."""
        done: set[RunKey] = set()
        begun = {run: self._begun(run, task, seeds) for run in runs}

        def train(some: Sequence[RunKey]) -> None:
            left = {run: begun[run] for run in some if run not in done}
            for group in groups_at_one_step(task, seeds, left):
                on_end(self._train(group, [begun[run] for run in group.runs], until))
                done.update(group.runs)

        def try_step(count: int) -> None:
            self._try_step(task, runs[0], seeds[0], count)

        most = self.runtime.lanes_that_fit(try_step, self.device, len(runs) * len(seeds))
        out_of_memory.in_chunks(runs, max(1, most // len(seeds)), train)

    def _begun(self, run: RunKey, task: Task, seeds: Sequence[int]) -> PartialFinetune | None:
        """Where a run that was stopped is; None if it has not begun."""
        key, steps = self._key(run[0], task, run[1], seeds), num_steps(self.fine, task)
        return self.halted.get(key) or checkpoints.load_partial(
            self.runtime.store, key, len(seeds), self.shapes, steps
        )

    def _try_step(self, task: Task, run: RunKey, seed: int, count: int) -> None:
        """Take a first step with `count` lanes on one base, to see what it needs."""
        base, rate = run
        group = RunGroup(task, {base: [rate] * count}, [seed])
        state = loop.State.fresh(self.shapes, self._initial(group))
        frozen = self._frozen([base])
        loop.train(self.program, state, self._plan(group, 1), self._batches(group), until=1,
                   frozen=frozen)  # fmt: skip

    def _train(self, group: RunGroup, begun: Sequence[PartialFinetune | None], until: int) -> Ended:
        """Train the runs of one program up to this step, from where each of them is."""
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
            self._plan(group, until),
            self._batches(group),
            until=until,
            frozen=self._frozen(group.bases),
            after_step=after_step,
        )
        return Ended(group, begun, state, losses, work())

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

    def _collect(self, ended: Ended) -> list[tuple[RunKey, FinetuneResult]]:
        """Validate the lanes and give each run; a diverged lane's loss is inf."""
        group, state = ended.group, ended.state
        losses_KS = torch.stack(list(ended.losses), 1).cpu().numpy()
        values = state.rows.values.detach()
        loss_K = evaluation.completion_loss(
            self._scored(group.bases, values), group.task.validation
        )
        lost_K = (state.diverged_at != loop.NEVER).cpu().numpy() | ~np.isfinite(loss_K)
        loss_K = np.where(lost_K, math.inf, loss_K)
        params = batch.split_rows(self.shapes, values.cpu())
        found = []
        for (base, rate), lanes in ended.lanes():
            each = range(lanes.start, lanes.stop)
            tuned = FinetuneResult(
                [{name: p[lane].clone() for name, p in params.items()} for lane in each],
                [losses_KS[lane] for lane in each],
                float(loss_K[lanes].mean()),
                ended.work,
                (self._key(base, group.task, rate, group.seeds),),
            )
            found.append(((base, rate), tuned))
        return found

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
            of_seeds = [self._to_device(self.adapted.initial(seed)) for seed in group.seeds]
            saved = map(self.adapted.saved_weights, self._on_device(group.bases))
            rows = [
                adapters | weights for weights in saved for adapters in of_seeds * group.num_rates
            ]
        return batch.join_rows(rows, self.shapes).to(self.device)

    def _frozen(self, members: Sequence[int]) -> dict[str, Tensor] | None:
        if self.adapted is None:
            return None
        return self.adapted.frozen(batch.stack(self._on_device(members)))

    def _on_device(self, members: Sequence[int]) -> list[Parameters]:
        return [self._to_device(self.bases[base]) for base in members]

    def _to_device(self, params: Parameters) -> Parameters:
        return {name: p.to(self.device) for name, p in params.items()}

    def _lane_tokens(self, task: Task, steps: int) -> float:
        """On average over the rows."""
        return steps * self.fine.batch_size * task.mean_tokens

    def _key(self, base: int, task: Task, rate: float, seeds: Sequence[int]) -> str:
        return stage_key(self.keys[base], self.fine, self.bf16, task, rate, seeds)
