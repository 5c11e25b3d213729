"""Fine-tuning of several bases at once: base x task x learning rate x seed as lanes.

1. For each base and task the learning rate is chosen on validation (least completion loss over the
   selection seeds) from a grid that grows by its own ratio while the best rate lies at its edge.
   Bases differ in the rate that suits them; one shared rate would favour some (arXiv 2603.16127
   sweeps it for each base).
2. The other seeds run at the chosen rate only.
3. Base and fine-tuned models are scored on test.

G bases, A arms (task, rate, seed) on each base, K = G * A lanes, S seeds.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedConfig

from objectives import adamw, evaluate, lanes, lora, memory, models, schedules, train
from objectives.corpus import shuffled
from objectives.pretrain import MOST_LANES
from objectives.recipe import Finetune
from objectives.store import Store, key_of, read_json, write_json
from objectives.tasks import Task

CURVE_POINTS = 40
STAGE = "tune"
Parameters = dict[str, Tensor]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Arm:
    """One fine-tune of a base."""

    task: int
    lr: float
    seed: int


@dataclass(frozen=True)
class Work:
    """What training took."""

    tokens: float = 0.0
    """Padding included."""
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


@dataclass
class Outcome:
    """One base's fine-tunes on one task, at the chosen learning rate."""

    lr: float
    """NaN where every rate diverged; then nothing below it is filled."""
    tried: dict[float, float]
    """Learning rate -> validation completion loss, mean over seeds; inf where it diverged."""
    before: float
    """The task's metric of the base itself."""
    loss_before: float
    after: list[float] = field(default_factory=list)
    """The task's metric; one a seed."""
    loss_after: list[float] = field(default_factory=list)
    base_loss_after: list[float] = field(default_factory=list)
    """Nats a token on the pretraining sample, if one was given; one a seed."""
    curve: list[list[float]] = field(default_factory=list)
    """[step, training loss], mean over seeds."""
    stages: list[str] = field(default_factory=list)
    """Keys of the stored fine-tunes; their seeds in order are the seeds of the lists above."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data."""
        return dataclasses.asdict(self) | {"tried": [list(item) for item in self.tried.items()]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_dict`."""
        return Outcome(**{**data, "tried": dict(data["tried"])})

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the least or greatest that was tried."""
        return self.lr in (min(self.tried), max(self.tried))


class Finetuner:
    """Bases of one shape, and what to fine-tune them on."""

    def __init__(
        self,
        config: PreTrainedConfig,
        fine: Finetune,
        tasks: Sequence[Task],
        *,
        seed: int,
        bf16: bool,
        device: str,
        store: Store,
        report: Report,
        max_lanes: int | None,
    ) -> None:
        self.fine, self.tasks, self.device, self.report = fine, list(tasks), device, report
        self.seeds = [seed * 1000 + index for index in range(fine.seeds)]
        self.max_lanes, self.store, self.bf16 = max_lanes, store, bf16
        self.adapted = None
        module = models.build_module(config, device)
        self.plain = lanes.Program(module, bf16=bf16)
        self.program, self.shapes = self.plain, {n: p.shape for n, p in module.named_parameters()}
        if fine.method == "lora":
            self.adapted = lora.Adapted(config, fine.lora, device)
            self.program = lanes.Program(self.adapted.module, bf16=bf16)
            self.shapes = self.adapted.shapes
        self.keys: list[str] = []
        self.bases: list[Parameters] = []
        self.tried: dict[tuple[int, int], dict[float, float]] = {}
        self.best: dict[tuple[int, int], Tuned] = {}
        self.stages: dict[tuple[int, int], list[str]] = {}
        self.total: list[Work] = []
        """What each base's fine-tunes took, whenever that was."""
        self.now: list[Work] = []
        """What they took in this run."""

    def run(
        self,
        bases: Sequence[tuple[str, Parameters]],
        sample: NDArray[np.int64] | None = None,
    ) -> list[list[Outcome]]:
        """Fine-tune each base (key, parameters) on each task; [G][tasks].

        `sample` [N, T + 1] measures forgetting.
        """
        self.keys, self.bases = [key for key, _ in bases], [params for _, params in bases]
        self.total, self.now = [NOTHING] * len(bases), [NOTHING] * len(bases)
        pairs = [(base, task) for base in range(len(bases)) for task in range(len(self.tasks))]
        self.tried = {pair: {} for pair in pairs}
        self.best, self.stages = {}, {}
        for extension in range(self.fine.max_extensions + 1):
            wanted = {pair: self._next_rates(pair, extension) for pair in pairs}
            self._tune(wanted, self.seeds[: self.fine.selection_seeds], self._choose)
        chosen = {pair: [self._chosen_rate(pair)] for pair in self.best}
        if len(self.seeds) > self.fine.selection_seeds:
            self._tune(chosen, self.seeds[self.fine.selection_seeds :], self._add_seeds)
        by_task = [self._score(task, sample) for task in range(len(self.tasks))]
        return [list(outcomes) for outcomes in zip(*by_task, strict=True)]

    def _next_rates(self, pair: tuple[int, int], extension: int) -> list[float]:
        """The grid at first; then one rate beyond the edge at which the best one lies."""
        grid, tried = sorted(self.fine.lrs), self.tried[pair]
        if extension == 0:
            return grid
        if len(grid) < 2:
            return []
        rates = sorted(tried)
        best = self._chosen_rate(pair)
        if best == rates[-1] and math.isfinite(tried[best]):
            return [best * grid[-1] / grid[-2]]
        return [best * grid[0] / grid[1]] if best == rates[0] else []

    def _chosen_rate(self, pair: tuple[int, int]) -> float:
        tried = self.tried[pair]
        return min(tried, key=lambda rate: (tried[rate], rate))

    def _tune(
        self,
        wanted: Mapping[tuple[int, int], Sequence[float]],
        seeds: Sequence[int],
        take: Callable[[int, Arm, Tuned], None],
    ) -> None:
        """Have what is wanted, from the store or trained, and hand it to `take`.

        Each task is a program of its own, so that no task is padded to the length of another.

        `take` gets a base, the first seed's arm and what came of it.
        """
        missing: dict[tuple[int, int], list[float]] = {}
        for (base, task), rates in wanted.items():
            for rate in rates:
                stored = self._load(base, Arm(task, rate, seeds[0]), len(seeds))
                if stored is None:
                    missing.setdefault((base, task), []).append(rate)
                else:
                    self.total[base] += stored.work
                    take(base, Arm(task, rate, seeds[0]), stored)
        for members, arms in _together(missing, seeds):
            for task in dict.fromkeys(arm.task for arm in arms):
                self._train_all(members, [a for a in arms if a.task == task], len(seeds), take)

    def _train_all(
        self,
        members: Sequence[int],
        arms: Sequence[Arm],
        seeds: int,
        take: Callable[[int, Arm, Tuned], None],
    ) -> None:
        """Train one task's arms, at most max_lanes at once and fewer where memory runs out."""
        rates = [arms[at : at + seeds] for at in range(0, len(arms), seeds)]
        cells = [(base, rate) for rate in rates for base in members]
        done: set[tuple[int, Arm]] = set()

        def note(base: int, arm: Arm, tuned: Tuned) -> None:
            self._save(base, arm, seeds, tuned)
            self.total[base] += tuned.work
            self.now[base] += tuned.work
            done.add((base, arm))
            take(base, arm, tuned)

        def run(some: Sequence[tuple[int, Sequence[Arm]]]) -> None:
            left = [(base, rate) for base, rate in some if (base, rate[0]) not in done]
            by_rate: dict[Arm, list[int]] = {}
            for base, rate in left:
                by_rate.setdefault(rate[0], []).append(base)
            by_bases: dict[tuple[int, ...], list[Arm]] = {}
            of = {rate[0]: rate for _, rate in left}
            for first, bases in by_rate.items():
                by_bases.setdefault(tuple(bases), []).extend(of[first])
            for group, together in by_bases.items():
                self._train(group, together, seeds, note)

        most = self.max_lanes
        if most is None:
            wanted = min(len(cells) * seeds, MOST_LANES)
            most = memory.fitting(
                lambda count: self._try_step(members[0], arms[0], count), self.device, wanted
            )
        memory.in_chunks(cells, max(1, most // seeds), run)

    def _try_step(self, base: int, arm: Arm, count: int) -> None:
        """Take a first step with `count` lanes on one base, to see what it needs."""
        arms = [arm] * count
        state = train.State.fresh(self.shapes, self._initial([base], arms))
        batch_at = self._batches(arms, repeats=1)
        frozen = self._frozen([base])
        train.train(self.program, state, self._plan(arms, 1, 1), batch_at, until=1, frozen=frozen)

    def _plan(self, arms: Sequence[Arm], bases: int, steps: int) -> train.Plan:
        """Every arm on every base, up to this step."""
        count = bases * len(arms)
        horizon = num_steps(self.fine, self.tasks[arms[0].task])
        multipliers = schedules.multipliers(self.fine.schedule, horizon)[:steps]
        lr_SA = np.outer(multipliers, [arm.lr for arm in arms])
        return train.Plan(
            lr_SK=torch.tensor(np.tile(lr_SA, bases)),
            decay_SK=torch.full((steps, count), self.fine.weight_decay),
            constants=adamw.constants(
                count,
                self.device,
                beta1=self.fine.beta1,
                beta2=self.fine.beta2,
                clip=math.inf if self.fine.clip_norm is None else self.fine.clip_norm,
            ),
        )

    def _train(
        self,
        members: Sequence[int],
        arms: Sequence[Arm],
        seeds: int,
        take: Callable[[int, Arm, Tuned], None],
    ) -> None:
        """One program: every arm on every base."""
        count, steps = len(members) * len(arms), num_steps(self.fine, self.tasks[arms[0].task])
        state = train.State.fresh(self.shapes, self._initial(members, arms))
        frozen = self._frozen(members)
        plan = self._plan(arms, len(members), steps)
        batch_at = self._batches(arms, repeats=1 if frozen else len(members))
        losses: list[Tensor] = []
        started = time.monotonic()

        def after_step(step: int, loss_K: Tensor) -> None:
            losses.append(loss_K)
            self._tell(arms, step, steps, count, loss_K)

        train.train(
            self.program, state, plan, batch_at, until=steps, frozen=frozen, after_step=after_step
        )
        losses_KS = torch.stack(losses, 1).cpu().numpy()
        a_lane = Work(self._lane_tokens(arms[0], steps), (time.monotonic() - started) / count)
        self._hand_over(members, arms, seeds, state, losses_KS, a_lane, take)

    def _lane_tokens(self, arm: Arm, steps: int) -> float:
        return float(steps * self.fine.batch_size * self.tasks[arm.task].length)

    def _tell(self, arms: Sequence[Arm], step: int, steps: int, count: int, loss_K: Tensor) -> None:
        self.report(
            {
                "stage": f"fine-tune {self.tasks[arms[0].task].name}",
                "step": step,
                "steps": steps,
                "lanes": count,
                "tokens": count * self._lane_tokens(arms[0], 1),
                "loss": loss_K,
            }
        )

    def _hand_over(
        self,
        members: Sequence[int],
        arms: Sequence[Arm],
        seeds: int,
        state: train.State,
        losses_KS: NDArray[np.float64],
        a_lane: Work,
        take: Callable[[int, Arm, Tuned], None],
    ) -> None:
        """Validate the arms and hand each base's seeds of a rate over; a lost lane is worth inf."""
        shape = (len(members), len(arms) // seeds, seeds)
        values = state.rows.values.detach().unflatten(0, shape)
        losses = losses_KS.reshape(*shape, -1)
        lost = (state.lost_at != train.NEVER).cpu().numpy().reshape(shape)
        work = Work(a_lane.tokens * seeds, a_lane.seconds * seeds)
        for place, arm in enumerate(arms[::seeds]):
            scored = self._lanes(members, values[:, place])
            loss = evaluate.completion_loss(scored, self.tasks[arm.task].validation)
            loss_GS = loss.reshape(-1, seeds)
            loss_G = np.where(lost[:, place] | ~np.isfinite(loss_GS), np.inf, loss_GS).mean(1)
            for row, base in enumerate(members):
                params = lanes.split_rows(self.shapes, values[row, place].cpu())
                split = [
                    {name: p[seed].clone() for name, p in params.items()} for seed in range(seeds)
                ]
                tuned = Tuned(split, list(losses[row, place]), float(loss_G[row]), work)
                take(base, arm, tuned)

    def _choose(self, base: int, arm: Arm, tuned: Tuned) -> None:
        """Note a rate's loss, and keep its fine-tunes if it is the best so far."""
        pair = (base, arm.task)
        self.tried[pair][arm.lr] = tuned.validation_loss
        if math.isfinite(tuned.validation_loss) and self._chosen_rate(pair) == arm.lr:
            self.best[pair] = tuned
            self.stages[pair] = [self._key(base, arm, self.fine.selection_seeds)]

    def _add_seeds(self, base: int, arm: Arm, tuned: Tuned) -> None:
        pair = (base, arm.task)
        best = self.best[pair]
        self.best[pair] = dataclasses.replace(
            best, params=best.params + tuned.params, losses=best.losses + tuned.losses
        )
        self.stages[pair].append(self._key(base, arm, len(tuned.params)))

    def _key(self, base: int, arm: Arm, seeds: int) -> str:
        """The stage: this base fine-tuned on a task at a rate, over seeds from the arm's on."""
        fine = self.fine
        schedule, lora_ = (dataclasses.asdict(each) for each in (fine.schedule, fine.lora))
        method = [fine.method, lora_ if fine.method == "lora" else None, self.bf16]
        course = [fine.steps, fine.epochs, fine.batch_size, schedule]
        constants = [fine.weight_decay, fine.beta1, fine.beta2, fine.clip_norm]
        task = self.tasks[arm.task].key
        return key_of("tune-1", self.keys[base], task, arm.lr, arm.seed, seeds, method, course,
                      constants)  # fmt: skip

    def _load(self, base: int, arm: Arm, seeds: int) -> Tuned | None:
        folder = self.store.get(STAGE, self._key(base, arm, seeds))
        if folder is None:
            return None
        info = read_json(folder / "info.json")
        params = [load_file(folder / f"adapter-{seed}.safetensors") for seed in range(seeds)]
        losses = load_file(folder / "losses.safetensors")["losses"].numpy()
        return Tuned(params, list(losses), info["validation_loss"], Work(**info["work"]))

    def _save(self, base: int, arm: Arm, seeds: int, tuned: Tuned) -> None:
        def write(folder: Path) -> None:
            for seed, params in enumerate(tuned.params):
                save_file(params, folder / f"adapter-{seed}.safetensors")
            losses = torch.from_numpy(np.stack(tuned.losses))
            save_file({"losses": losses}, folder / "losses.safetensors")
            work = dataclasses.asdict(tuned.work)
            info = {"validation_loss": tuned.validation_loss, "work": work}
            write_json(folder / "info.json", info)

        self.store.put(STAGE, self._key(base, arm, seeds), write)

    def _score(self, task: int, sample: NDArray[np.int64] | None) -> list[Outcome]:
        """Score all bases on a task's test rows, before and after."""
        outcomes: list[Outcome] = []
        width = max(1, (self.max_lanes or MOST_LANES) // len(self.seeds))
        for members in _chunks(range(len(self.bases)), width):
            plain = evaluate.Lanes(self.plain, lanes.stack(self._on_device(members)))
            for base, before, loss in zip(
                members, *evaluate.task_scores(plain, self.tasks[task]), strict=True
            ):
                pair = (base, task)
                lr = self._chosen_rate(pair) if pair in self.best else math.nan
                outcomes.append(Outcome(lr, dict(self.tried[pair]), float(before), float(loss)))
            alive = [base for base in members if (base, task) in self.best]
            if alive:
                self._score_after(task, alive, outcomes, sample)
            self.report({"stage": f"score {self.tasks[task].name}", "step": 1, "steps": 1})
        return outcomes

    def _score_after(
        self,
        task: int,
        members: Sequence[int],
        outcomes: list[Outcome],
        sample: NDArray[np.int64] | None,
    ) -> None:
        tuned = [self.best[base, task] for base in members]
        values = lanes.join_rows([p for one in tuned for p in one.params], self.shapes)
        scored = self._lanes(
            members, values.to(self.device).unflatten(0, (len(members), len(self.seeds)))
        )
        score_K, loss_K = evaluate.task_scores(scored, self.tasks[task])
        base_loss_K = np.empty((len(members), 0))
        if sample is not None:
            base_loss_K = evaluate.mean_loss(scored, sample)
        for row, (base, one) in enumerate(zip(members, tuned, strict=True)):
            outcome = outcomes[base]
            outcome.after = score_K.reshape(len(members), -1)[row].tolist()
            outcome.loss_after = loss_K.reshape(len(members), -1)[row].tolist()
            outcome.base_loss_after = base_loss_K.reshape(len(members), -1)[row].tolist()
            outcome.curve = curve(np.mean(one.losses, axis=0), CURVE_POINTS)
            outcome.stages = self.stages[base, task]

    def _lanes(self, members: Sequence[int], values_GSP: Tensor) -> evaluate.Lanes:
        """Trained rows on each of these bases, to be scored."""
        params = lanes.split_rows(self.shapes, values_GSP.flatten(0, 1))
        return evaluate.Lanes(self.program, params, self._frozen(members))

    def _frozen(self, members: Sequence[int]) -> dict[str, Tensor] | None:
        if self.adapted is None:
            return None
        return self.adapted.frozen(lanes.stack(self._on_device(members)))

    def _initial(self, members: Sequence[int], arms: Sequence[Arm]) -> Tensor:
        """First rows of the lanes, base by base; [K, P]."""
        if self.adapted is None:
            rows = [self._on_device([base])[0] for base in members for _ in arms]
        else:
            by_seed = {seed: self.adapted.initial(seed) for seed in self.seeds}
            rows = [by_seed[arm.seed] for _ in members for arm in arms]
        return lanes.join_rows(rows, self.shapes).to(self.device)

    def _on_device(self, members: Sequence[int]) -> list[Parameters]:
        return [
            {name: p.to(self.device) for name, p in self.bases[base].items()} for base in members
        ]

    def _batches(self, arms: Sequence[Arm], repeats: int) -> Callable[[int], lanes.Batch]:
        """Each arm's own rows; a new random order each epoch, the same for all rates and bases.

        Rows are cut to the longest of the step, so a step costs what its rows need.
        """
        task = self.tasks[arms[0].task]
        train, count, size = task.train, len(task.train.ids), self.fine.batch_size

        def rows(seed: int, step: int) -> NDArray[np.int64]:
            slots = range(step * size, (step + 1) * size)
            source = int(task.key[:8], 16)
            orders = {epoch: shuffled(seed, source, epoch, count) for epoch in
                      {slot // count for slot in slots}}  # fmt: skip
            return np.array([orders[slot // count][slot % count] for slot in slots])

        def batch_at(step: int) -> lanes.Batch:
            if self.fine.lora.dropout:
                torch.manual_seed(self.seeds[0] * 1_000_003 + step)
            by_seed = {seed: rows(seed, step) for seed in dict.fromkeys(a.seed for a in arms)}
            picked = np.stack([by_seed[arm.seed] for arm in arms] * repeats)
            width = train.width(picked.ravel())
            parts = (train.ids[picked][..., : width + 1], train.positions[picked],
                     train.weights[picked])  # fmt: skip
            return lanes.Batch(*(torch.from_numpy(part).to(self.device) for part in parts))

        return batch_at


def num_steps(fine: Finetune, task: Task) -> int:
    """Optimizer steps of a fine-tune on the task."""
    if fine.steps is not None:
        return fine.steps
    assert fine.epochs is not None
    return max(1, round(fine.epochs * len(task.train.ids) / fine.batch_size))


def curve(losses: NDArray[np.float64], points: int) -> list[list[float]]:
    """[step, mean loss of the steps since the last point] at about this many points."""
    ends = np.unique(np.linspace(0, len(losses), min(points, len(losses)) + 1).round().astype(int))
    return [[float(end), float(losses[start:end].mean())] for start, end in pairwise(ends)]


def _together(
    wanted: Mapping[tuple[int, int], Sequence[float]], seeds: Sequence[int]
) -> list[tuple[list[int], list[Arm]]]:
    """Arms with the bases that want them, those that the same bases want together."""
    bases_of: dict[tuple[int, float], list[int]] = {}
    for (base, task), rates in wanted.items():
        for rate in rates:
            bases_of.setdefault((task, rate), []).append(base)
    grouped: dict[tuple[int, ...], list[Arm]] = {}
    for (task, rate), members in bases_of.items():
        arms = [Arm(task, rate, seed) for seed in seeds]
        grouped.setdefault(tuple(members), []).extend(arms)
    return [(list(members), arms) for members, arms in grouped.items()]


def _chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[at : at + size] for at in range(0, len(items), size)]
