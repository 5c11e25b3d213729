"""Arms: fine-tunes of bases on one task as lanes of one program, base x learning rate x seed.

A stage is one base tuned on one task at one rate over consecutive seeds. It is taken from the store
or trained; bases share a program where they want as many rates, each its own.

G bases, R rates a base, S seeds, K = G * R * S lanes, P trained parameters.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedConfig

from objectives import adamw, evaluate, lanes, lora, memory, models, packing, schedules, train
from objectives.checkpoints import Parameters
from objectives.corpus import shuffled
from objectives.pretrain import MOST_LANES, Report
from objectives.recipe import Finetune
from objectives.store import Store, key_of, read_json, write_json
from objectives.tasks import Encoded, Task

STAGE = "tune"


@dataclass(frozen=True)
class Work:
    """What training took."""

    tokens: float = 0.0
    """Without padding; fine-tunes count the mean length of their task's rows."""
    seconds: float = 0.0
    """Of the device, a lane's share."""

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.seconds + other.seconds)


NOTHING = Work()


@dataclass(frozen=True)
class Tuned:
    """One base fine-tuned on one task at one rate, over some seeds."""

    params: list[Parameters]
    """Trained parameters on the CPU; one a seed."""
    losses: list[NDArray[np.float64]]
    """Training loss of each step; one a seed."""
    validation_loss: float
    """Mean over seeds; inf where one diverged."""
    work: Work
    stages: tuple[str, ...]
    """Keys in the store."""

    def with_seeds(self, more: Tuned) -> Tuned:
        """The same with further seeds; the loss by which it was chosen stays."""
        return dataclasses.replace(
            self,
            params=self.params + more.params,
            losses=self.losses + more.losses,
            work=self.work + more.work,
            stages=self.stages + more.stages,
        )


Take = Callable[[int, float, Tuned], None]
"""Gets a base, a rate and what came of it."""


class Arms:
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
        module = models.build_module(config, device)
        self.plain = lanes.Program(module, bf16=bf16)
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

    def open(self, bases: Sequence[tuple[str, Parameters]], rows: Encoded) -> None:
        """Work on these bases (key, parameters) from here on; `rows` show whether packing works."""
        self.keys, self.bases = [key for key, _ in bases], [params for _, params in bases]
        self.total, self.now = [NOTHING] * len(bases), [NOTHING] * len(bases)
        self.packed = packing.works(self.plain.module, lanes.stack(self._on_device([0])), rows)

    def tune(
        self, task: Task, wanted: Mapping[int, Sequence[float]], seeds: Sequence[int], take: Take
    ) -> None:
        """Have each base's wanted rates, from the store or trained, and hand them to `take`."""
        missing = []
        for base, rates in wanted.items():
            for rate in rates:
                stored = self._load(self._key(base, task, rate, seeds), len(seeds))
                if stored is None:
                    missing.append((base, rate))
                else:
                    self.total[base] += stored.work
                    take(base, rate, stored)
        if missing:
            self._train_all(task, missing, seeds, take)

    def plain_lanes(self, members: Sequence[int]) -> evaluate.Lanes:
        """The bases themselves, to be scored."""
        params = lanes.stack(self._on_device(members))
        return evaluate.Lanes(self.plain, params, packed=self.packed)

    def tuned_lanes(self, members: Sequence[int], params: Sequence[Parameters]) -> evaluate.Lanes:
        """Fine-tunes of these bases, equally many each, base by base; to be scored."""
        return self._scored(members, lanes.join_rows(params, self.shapes).to(self.device))

    def _scored(self, members: Sequence[int], values_KP: Tensor) -> evaluate.Lanes:
        params = lanes.split_rows(self.shapes, values_KP)
        return evaluate.Lanes(self.program, params, self._frozen(members), self.packed)

    def _train_all(
        self,
        task: Task,
        cells: Sequence[tuple[int, float]],
        seeds: Sequence[int],
        take: Take,
    ) -> None:
        """Train these rates of these bases, fewer at once where memory runs out."""
        done: set[tuple[int, float]] = set()

        def note(base: int, rate: float, tuned: Tuned) -> None:
            self._save(tuned)
            self.total[base] += tuned.work
            self.now[base] += tuned.work
            done.add((base, rate))
            take(base, rate, tuned)

        def run(some: Sequence[tuple[int, float]]) -> None:
            rates_of: dict[int, list[float]] = {}
            for base, rate in some:
                if (base, rate) not in done:
                    rates_of.setdefault(base, []).append(rate)
            for count in sorted({len(rates) for rates in rates_of.values()}):
                alike = {base: rates for base, rates in rates_of.items() if len(rates) == count}
                self._train(task, alike, seeds, note)

        most = self.max_lanes
        if most is None:
            wanted = min(len(cells) * len(seeds), MOST_LANES)
            most = memory.fitting(
                lambda count: self._try_step(task, cells[0], seeds[0], count), self.device, wanted
            )
        memory.in_chunks(cells, max(1, most // len(seeds)), run)

    def _try_step(self, task: Task, cell: tuple[int, float], seed: int, count: int) -> None:
        """Take a first step with `count` lanes on one base, to see what it needs."""
        base, rate = cell
        rates_GR = np.full((1, count), rate)
        state = train.State.fresh(self.shapes, self._initial([base], count, [seed]))
        plan, batch_at = self._plan(task, rates_GR, 1, 1), self._batches(task, 1, count, [seed])
        frozen = self._frozen([base])
        train.train(self.program, state, plan, batch_at, until=1, frozen=frozen)

    def _train(
        self,
        task: Task,
        rates_of: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        take: Take,
    ) -> None:
        """One program: bases with equally many rates each."""
        members, rates_GR = list(rates_of), np.array(list(rates_of.values()))
        steps, count = num_steps(self.fine, task), rates_GR.size * len(seeds)
        state = train.State.fresh(self.shapes, self._initial(members, rates_GR.shape[1], seeds))
        losses: list[Tensor] = []
        started = time.monotonic()

        def after_step(step: int, loss_K: Tensor) -> None:
            losses.append(loss_K)
            self.report(
                {
                    "stage": f"fine-tune {task.name}",
                    "step": step,
                    "steps": steps,
                    "lanes": count,
                    "tokens": count * self._lane_tokens(task, 1),
                    "loss": loss_K,
                }
            )

        train.train(
            self.program,
            state,
            self._plan(task, rates_GR, len(seeds), steps),
            self._batches(task, len(members), rates_GR.shape[1], seeds),
            until=steps,
            frozen=self._frozen(members),
            after_step=after_step,
        )
        seconds = (time.monotonic() - started) / count
        work = Work(len(seeds) * self._lane_tokens(task, steps), len(seeds) * seconds)
        losses_KS = torch.stack(losses, 1).cpu().numpy()
        self._hand_over(task, rates_of, seeds, state, losses_KS, work, take)

    def _hand_over(
        self,
        task: Task,
        rates_of: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        state: train.State,
        losses_KS: NDArray[np.float64],
        work: Work,
        take: Take,
    ) -> None:
        """Validate the lanes and hand each base's rates over; a lost lane is worth inf."""
        members = list(rates_of)
        loss_K = evaluate.completion_loss(
            self._scored(members, state.rows.values.detach()), task.validation
        )
        lost_K = (state.lost_at != train.NEVER).cpu().numpy() | ~np.isfinite(loss_K)
        loss_KS = np.where(lost_K, math.inf, loss_K).reshape(-1, len(seeds))
        params = lanes.split_rows(self.shapes, state.rows.values.detach().cpu())
        cells = [(base, rate) for base, rates in rates_of.items() for rate in rates]
        for place, (base, rate) in enumerate(cells):
            rows = range(place * len(seeds), (place + 1) * len(seeds))
            tuned = Tuned(
                [{name: p[row].clone() for name, p in params.items()} for row in rows],
                [losses_KS[row] for row in rows],
                float(loss_KS[place].mean()),
                work,
                (self._key(base, task, rate, seeds),),
            )
            take(base, rate, tuned)

    def _plan(self, task: Task, rates_GR: NDArray[Any], seeds: int, steps: int) -> train.Plan:
        """The lanes of these rates up to this step."""
        rates_K = np.repeat(rates_GR.ravel(), seeds)
        curve = schedules.multipliers(self.fine.schedule, num_steps(self.fine, task))
        return train.Plan(
            lr_SK=torch.tensor(np.outer(curve[:steps], rates_K)),
            decay_SK=torch.full((steps, len(rates_K)), self.fine.weight_decay),
            constants=adamw.constants(
                len(rates_K),
                self.device,
                beta1=self.fine.beta1,
                beta2=self.fine.beta2,
                clip=math.inf if self.fine.clip_norm is None else self.fine.clip_norm,
            ),
        )

    def _batches(
        self, task: Task, bases: int, rates: int, seeds: Sequence[int]
    ) -> Callable[[int], lanes.Batch]:
        """Each seed's own rows, in a new order each epoch, the same for all rates and bases.

        Rows lie in one line without padding, or where the model does not allow it are cut to the
        longest of the step.
        """
        rows, size = task.train, self.fine.batch_size
        repeats = rates if self.adapted else rates * bases

        def picked(seed: int, step: int) -> NDArray[np.int64]:
            source, count = int(task.key[:8], 16), len(rows.ids)
            slots = range(step * size, (step + 1) * size)
            epochs = {slot // count for slot in slots}
            orders = {epoch: shuffled(seed, source, epoch, count) for epoch in epochs}
            return np.array([orders[slot // count][slot % count] for slot in slots])

        def batch_at(step: int) -> lanes.Batch:
            if self.fine.lora.dropout:
                torch.manual_seed(seeds[0] * 1_000_003 + step)
            chosen = np.stack([picked(seed, step) for seed in seeds] * repeats)
            return packing.batch_of(rows, chosen, self.device, packed=self.packed)

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
        fine = self.fine
        schedule, adapter = (dataclasses.asdict(each) for each in (fine.schedule, fine.lora))
        method = [fine.method, adapter if fine.method == "lora" else None, self.bf16]
        course = [fine.steps, fine.epochs, fine.batch_size, schedule]
        constants = [fine.weight_decay, fine.beta1, fine.beta2, fine.clip_norm]
        start = [self.keys[base], task.key, rate, list(seeds)]
        return key_of("tune-3", start, method, course, constants)

    def _load(self, key: str, seeds: int) -> Tuned | None:
        folder = self.store.get(STAGE, key)
        if folder is None:
            return None
        info = read_json(folder / "info.json")
        params = [load_file(folder / f"adapter-{seed}.safetensors") for seed in range(seeds)]
        losses = load_file(folder / "losses.safetensors")["losses"].numpy()
        return Tuned(params, list(losses), info["validation_loss"], Work(**info["work"]), (key,))

    def _save(self, tuned: Tuned) -> None:
        def write(folder: Path) -> None:
            for seed, params in enumerate(tuned.params):
                save_file(params, folder / f"adapter-{seed}.safetensors")
            losses = torch.from_numpy(np.stack(tuned.losses))
            save_file({"losses": losses}, folder / "losses.safetensors")
            work = dataclasses.asdict(tuned.work)
            write_json(
                folder / "info.json", {"validation_loss": tuned.validation_loss, "work": work}
            )

        self.store.put(STAGE, tuned.stages[0], write, seconds=tuned.work.seconds)


def num_steps(fine: Finetune, task: Task) -> int:
    """Optimizer steps of a fine-tune on the task."""
    if fine.steps is not None:
        return fine.steps
    assert fine.epochs is not None
    return max(1, round(fine.epochs * len(task.train.ids) / fine.batch_size))
