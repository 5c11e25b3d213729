"""Arms: fine-tunes of bases on one task as lanes of one program, base x learning rate x seed.

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
from typing import Any

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
from objectives.models import causal_lm, draws, library_fingerprints
from objectives.pretraining import sweep
from objectives.pretraining.checkpoints import Parameters
from objectives.pretraining.sweep import MOST_LANES, Report
from objectives.store.store import Store, key_of
from objectives.training import batch as lanes
from objectives.training import device_memory, evaluation, loop, lr_schedule, optimizers, packing
from objectives.training import lanes as training_lanes

RunKey = tuple[int, float]
"""A base and a rate."""


OnResult = Callable[[int, float, FinetuneResult], None]
"""Gets a base, a rate and what came of it."""


class FinetuneTrainer:
    """Bases of one shape, and the program that fine-tunes them."""

    def __init__(
        self,
        config: PreTrainedConfig,
        fine: Finetune,
        *,
        bf16: bool,
        device: str,
        store: Store,
        report: Report,
        max_lanes: int | None,
    ) -> None:
        self.fine, self.bf16, self.device = fine, bf16, device
        self.store, self.report, self.max_lanes = store, report, max_lanes
        self.adapted = None
        module = causal_lm.build_module(config, device)
        self.plain = training_lanes.LaneModel(module, bf16=bf16)
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
        self.packed = packing.works(self.plain.module, lanes.stack(self._on_device([0])), rows)

    def tune(
        self,
        task: Task,
        wanted: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        take: OnResult,
    ) -> None:
        """Have each base's wanted rates, from the store or trained, and hand them to `take`."""
        missing = []
        for base, rates in wanted.items():
            for rate in rates:
                key = self._key(base, task, rate, seeds)
                steps = num_steps(self.fine, task)
                stored = checkpoints.load(self.store, key, len(seeds), self.shapes, steps)
                if stored is None:
                    missing.append((base, rate))
                else:
                    self.total[base] += stored.work
                    take(base, rate, stored)
        if missing:
            self._train_all(task, missing, seeds, take)

    def plain_lanes(self, members: Sequence[int]) -> evaluation.Lanes:
        """The bases themselves, to be scored."""
        params = lanes.stack(self._on_device(members))
        return evaluation.Lanes(self.plain, params, packed=self.packed)

    def tuned_lanes(self, members: Sequence[int], params: Sequence[Parameters]) -> evaluation.Lanes:
        """Fine-tunes of these bases, equally many each, base by base; to be scored."""
        return self._scored(members, lanes.join_rows(params, self.shapes).to(self.device))

    def _scored(self, members: Sequence[int], values_KP: Tensor) -> evaluation.Lanes:
        params = lanes.split_rows(self.shapes, values_KP)
        return evaluation.Lanes(self.program, params, self._frozen(members), self.packed)

    def _train_all(
        self,
        task: Task,
        cells: Sequence[RunKey],
        seeds: Sequence[int],
        take: OnResult,
    ) -> None:
        """Train these rates of these bases, fewer at once where memory runs out."""
        done: set[RunKey] = set()
        begun = {
            (base, rate): checkpoints.load_halfway(
                self.store,
                self._key(base, task, rate, seeds),
                len(seeds),
                self.shapes,
                num_steps(self.fine, task),
            )
            for base, rate in cells
        }

        def note(base: int, rate: float, tuned: FinetuneResult) -> None:
            checkpoints.save(self.store, tuned)
            before = begun[base, rate]
            self.total[base] += tuned.work
            self.now[base] += tuned.work - (before.work if before else NOTHING)
            done.add((base, rate))
            take(base, rate, tuned)

        def run(some: Sequence[RunKey]) -> None:
            left = [cell for cell in some if cell not in done]
            for group in _alike(left, {cell: begun[cell] for cell in left}):
                self._train(task, group, seeds, [begun[cell] for cell in _cells(group)], note)

        most = self.max_lanes
        if most is None:
            wanted = min(len(cells) * len(seeds), MOST_LANES)
            most = device_memory.max_lanes_that_fit(
                lambda count: self._try_step(task, cells[0], seeds[0], count), self.device, wanted
            )
        device_memory.in_chunks(cells, max(1, most // len(seeds)), run)

    def _try_step(self, task: Task, cell: RunKey, seed: int, count: int) -> None:
        """Take a first step with `count` lanes on one base, to see what it needs."""
        base, rate = cell
        rates_GR = np.full((1, count), rate)
        state = loop.State.fresh(self.shapes, self._initial([base], count, [seed]))
        plan, batch_at = self._plan(task, rates_GR, 1, 1), self._batches(task, 1, count, [seed])
        frozen = self._frozen([base])
        loop.train(self.program, state, plan, batch_at, until=1, frozen=frozen)

    def _train(
        self,
        task: Task,
        rates_of: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        begun: Sequence[PartialFinetune | None],
        take: OnResult,
    ) -> None:
        """One program: bases with equally many rates each, and where each of them is."""
        members, rates_GR = list(rates_of), np.array(list(rates_of.values()))
        steps, count = num_steps(self.fine, task), rates_GR.size * len(seeds)
        state, losses, before = self._start(members, rates_GR.shape[1], seeds, begun)
        started = stored_at = time.monotonic()

        def work() -> Work:
            """Of a stage, so far."""
            share = (time.monotonic() - started) / count * len(seeds)
            return Work(len(seeds) * self._lane_tokens(task, state.step), before + share)

        def after_step(step: int, loss_K: Tensor) -> None:
            nonlocal stored_at
            losses.append(loss_K)
            stop: BaseException | None = None
            try:
                self._tell(task, step, steps, loss_K)
            except BaseException as error:
                stop = error
            if stop is not None or time.monotonic() - stored_at > sweep.CHECKPOINT_S:
                self._store_halfway(task, rates_of, seeds, state, losses, work())
                stored_at = time.monotonic()
            if stop is not None:
                raise stop

        loop.train(
            self.program,
            state,
            self._plan(task, rates_GR, len(seeds), steps),
            self._batches(task, len(members), rates_GR.shape[1], seeds),
            until=steps,
            frozen=self._frozen(members),
            after_step=after_step,
        )
        losses_KS = torch.stack(losses, 1).cpu().numpy()
        self._hand_over(task, rates_of, seeds, state, losses_KS, work(), take)

    def _start(
        self, members: Sequence[int], rates: int, seeds: Sequence[int],
        begun: Sequence[PartialFinetune | None],
    ) -> tuple[loop.State, list[Tensor], float]:  # fmt: skip
        """Lanes where they are, the losses of each step so far [K], a stage's seconds so far."""
        stored = [each for each in begun if each is not None]
        if not stored:
            return loop.State.fresh(self.shapes, self._initial(members, rates, seeds)), [], 0.0
        seconds = sum(each.work.seconds for each in stored) / len(stored)
        return *checkpoints.resume(stored, self.shapes, self.device), seconds

    def _store_halfway(
        self,
        task: Task,
        rates_of: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        state: loop.State,
        losses: Sequence[Tensor],
        work: Work,
    ) -> None:
        for place, (base, rate) in enumerate(_cells(rates_of)):
            some = slice(place * len(seeds), (place + 1) * len(seeds))
            key = self._key(base, task, rate, seeds)
            checkpoints.save_halfway(self.store, key, PartialFinetune.of(state, losses, some, work))

    def _tell(self, task: Task, step: int, steps: int, loss_K: Tensor) -> None:
        self.report(
            {
                "stage": f"fine-tune {task.name}",
                "step": step,
                "steps": steps,
                "lanes": len(loss_K),
                "tokens": len(loss_K) * self._lane_tokens(task, 1),
                "loss": loss_K,
            }
        )

    def _hand_over(
        self,
        task: Task,
        rates_of: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        state: loop.State,
        losses_KS: NDArray[np.float64],
        work: Work,
        take: OnResult,
    ) -> None:
        """Validate the lanes and hand each base's rates over; a lost lane is worth inf."""
        members = list(rates_of)
        loss_K = evaluation.completion_loss(
            self._scored(members, state.rows.values.detach()), task.validation
        )
        lost_K = (state.lost_at != loop.NEVER).cpu().numpy() | ~np.isfinite(loss_K)
        loss_KS = np.where(lost_K, math.inf, loss_K).reshape(-1, len(seeds))
        params = lanes.split_rows(self.shapes, state.rows.values.detach().cpu())
        for place, (base, rate) in enumerate(_cells(rates_of)):
            rows = range(place * len(seeds), (place + 1) * len(seeds))
            tuned = FinetuneResult(
                [{name: p[row].clone() for name, p in params.items()} for row in rows],
                [losses_KS[row] for row in rows],
                float(loss_KS[place].mean()),
                work,
                (self._key(base, task, rate, seeds),),
            )
            take(base, rate, tuned)

    def _plan(self, task: Task, rates_GR: NDArray[Any], seeds: int, steps: int) -> loop.Plan:
        """The lanes of these rates up to this step."""
        rates_K = np.repeat(rates_GR.ravel(), seeds)
        curve = lr_schedule.multipliers(
            self.fine.schedule, num_steps(self.fine, task), "finetune.schedule"
        )
        return loop.Plan(
            lr_SK=torch.tensor(np.outer(curve[:steps], rates_K)),
            decay_SK=torch.full((steps, len(rates_K)), self.fine.weight_decay),
            constants=optimizers.constants(
                len(rates_K),
                self.device,
                beta1=self.fine.beta1,
                beta2=self.fine.beta2,
                clip=math.inf if self.fine.clip_norm is None else self.fine.clip_norm,
            ),
        )

    def _batches(
        self, task: Task, bases: int, rates: int, seeds: Sequence[int]
    ) -> Callable[[int], lanes.TokenBatch]:
        """Each seed's own rows, in a new order each epoch, the same for all rates and bases.

        Rows are in one line without padding, or where the model does not allow it are cut to the
        longest of the step.
        """
        rows, size, orders = task.train, self.fine.batch_size, Orders()
        repeats = rates if self.adapted else rates * bases

        def picked(seed: int, step: int) -> NDArray[np.int64]:
            source, count = int(task.key[:8], 16), len(rows.ids)
            places = [divmod(slot, count) for slot in range(step * size, (step + 1) * size)]
            return np.array([orders.of(seed, source, epoch, count)[at] for epoch, at in places])

        def batch_at(step: int) -> lanes.TokenBatch:
            chosen = np.stack([picked(seed, step) for seed in seeds] * repeats)
            batch = packing.batch_of(rows, chosen, self.device, packed=self.packed)
            if self.drops:
                seed = seeds[0] * 1_000_003 + step
                batch = dataclasses.replace(batch, draw=draws.generator(seed, self.device))
            return batch

        return batch_at

    def _initial(self, members: Sequence[int], rates: int, seeds: Sequence[int]) -> Tensor:
        """First rows of the lanes, base by base; [K, P]."""
        if self.adapted is None:
            copies = rates * len(seeds)
            rows = [params for params in self._on_device(members) for _ in range(copies)]
        else:
            of_seeds = [self.adapted.initial(seed) for seed in seeds]
            rows = of_seeds * (len(members) * rates)
        return lanes.join_rows(rows, self.shapes).to(self.device)

    def _frozen(self, members: Sequence[int]) -> dict[str, Tensor] | None:
        if self.adapted is None:
            return None
        return self.adapted.frozen(lanes.stack(self._on_device(members)))

    def _on_device(self, members: Sequence[int]) -> list[Parameters]:
        return [
            {name: p.to(self.device) for name, p in self.bases[base].items()} for base in members
        ]

    def _lane_tokens(self, task: Task, steps: int) -> float:
        """On average over the rows."""
        return steps * self.fine.batch_size * task.mean_tokens

    def _key(self, base: int, task: Task, rate: float, seeds: Sequence[int]) -> str:
        return stage_key(self.keys[base], self.fine, self.bf16, task, rate, seeds)


def stage_key(
    base_key: str, fine: Finetune, bf16: bool, task: Task, rate: float, seeds: Sequence[int]
) -> str:
    """The stage "this base fine-tuned on the task at the rate over the seeds"."""
    schedule = lr_schedule.as_trained(fine.schedule, num_steps(fine, task))
    adapter = dataclasses.asdict(fine.lora)
    method = [fine.method, adapter if fine.method == "lora" else None, bf16]
    course = [fine.steps, fine.epochs, fine.batch_size, schedule]
    constants = [fine.weight_decay, fine.beta1, fine.beta2, fine.clip_norm]
    start = [base_key, task.key, rate, list(seeds)]
    libraries = library_fingerprints.of_finetuning(fine.method)
    return key_of("tune-4", start, method, course, constants, libraries)


def _cells(rates_of: Mapping[int, Sequence[float]]) -> list[RunKey]:
    return [(base, rate) for base, rates in rates_of.items() for rate in rates]


def _alike(
    cells: Sequence[RunKey], begun: Mapping[RunKey, PartialFinetune | None]
) -> list[dict[int, list[float]]]:
    """Rates by base, in groups that are at the same step and have equally many rates a base."""
    at_step: dict[int, dict[int, list[float]]] = {}
    for base, rate in cells:
        before = begun[base, rate]
        bases = at_step.setdefault(before.step if before else 0, {})
        bases.setdefault(base, []).append(rate)
    groups: dict[tuple[int, int], dict[int, list[float]]] = {}
    for step, bases in at_step.items():
        for base, rates in bases.items():
            groups.setdefault((step, len(rates)), {})[base] = rates
    return [groups[each] for each in sorted(groups)]


def num_steps(fine: Finetune, task: Task) -> int:
    """Optimizer steps of a fine-tune on the task."""
    if fine.steps is not None:
        return fine.steps
    assert fine.epochs is not None
    return max(1, round(fine.epochs * len(task.train.ids) / fine.batch_size))
