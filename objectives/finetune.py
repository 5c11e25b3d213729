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

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedConfig

from objectives import adamw, evaluate, lanes, lora, models, schedules, train
from objectives.corpus import shuffled
from objectives.recipe import Finetune
from objectives.tasks import Task

CURVE_POINTS = 40
Parameters = dict[str, Tensor]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Arm:
    """One fine-tune of a base."""

    task: int
    lr: float
    seed: int


@dataclass(frozen=True)
class Tuned:
    """One base fine-tuned on one task at one rate, over some seeds."""

    params: list[Parameters]
    """Trained parameters on the CPU; one a seed."""
    losses: list[NDArray[np.float64]]
    """Training loss of each step; one a seed."""


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
    adapters: list[Parameters] = field(default_factory=list)
    """Trained parameters on the CPU; one a seed."""

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Outcome:
        """An outcome without its adapters, from JSON-able data."""
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
        report: Report,
        max_lanes: int,
    ) -> None:
        self.fine, self.tasks, self.device, self.report = fine, list(tasks), device, report
        self.seeds = [seed * 1000 + index for index in range(fine.seeds)]
        self.max_lanes = max_lanes
        self.adapted = None
        module = models.build_module(config, device)
        self.plain = lanes.Program(module, bf16=bf16)
        self.program, self.shapes = self.plain, {n: p.shape for n, p in module.named_parameters()}
        if fine.method == "lora":
            self.adapted = lora.Adapted(config, fine.lora, device)
            self.program = lanes.Program(self.adapted.module, bf16=bf16)
            self.shapes = self.adapted.shapes
        self.bases: list[Parameters] = []
        self.tried: dict[tuple[int, int], dict[float, float]] = {}
        self.best: dict[tuple[int, int], Tuned] = {}
        self.tokens = 0.0
        """Tokens trained so far, padding included."""

    def run(
        self, bases: Sequence[Parameters], sample: NDArray[np.int64] | None = None
    ) -> list[list[Outcome]]:
        """Fine-tune each base on each task; [G][tasks]. `sample` [N, T + 1] measures forgetting."""
        self.bases = list(bases)
        pairs = [(base, task) for base in range(len(bases)) for task in range(len(self.tasks))]
        self.tried = {pair: {} for pair in pairs}
        self.best = {}
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
        take: Callable[[int, Arm, Tuned, float], None],
    ) -> None:
        """Train what is wanted, in programs of one length and at most max_lanes; hand it to `take`.

        `take` gets a base, the first seed's arm, what was trained and its validation loss.
        """
        for members, arms in _together(wanted, seeds):
            programs: dict[tuple[int, int], list[Arm]] = {}
            for arm in arms:
                task = self.tasks[arm.task]
                programs.setdefault((task.length, self._steps(task)), []).append(arm)
            width = max(1, self.max_lanes // len(seeds))
            for (_, steps), some in programs.items():
                for bases in _chunks(members, width):
                    for chunk in _chunks(some, max(1, width // len(bases)) * len(seeds)):
                        self._train(bases, chunk, steps, len(seeds), take)

    def _train(
        self,
        members: Sequence[int],
        arms: Sequence[Arm],
        steps: int,
        seeds: int,
        take: Callable[[int, Arm, Tuned, float], None],
    ) -> None:
        count = len(members) * len(arms)
        state = train.State.fresh(self.shapes, self._initial(members, arms))
        frozen = self._frozen(members)
        multiplier = schedules.multipliers(self.fine.schedule, steps)
        lr_SA = np.outer(multiplier, [arm.lr for arm in arms])
        plan = train.Plan(
            lr_SK=torch.tensor(np.tile(lr_SA, len(members))),
            decay_SK=torch.full((steps, count), self.fine.weight_decay),
            constants=adamw.constants(
                count,
                self.device,
                beta1=self.fine.beta1,
                beta2=self.fine.beta2,
                clip=math.inf if self.fine.clip_norm is None else self.fine.clip_norm,
            ),
        )
        batch_at = self._batches(arms, repeats=1 if frozen else len(members))
        losses: list[Tensor] = []

        def after_step(step: int, loss_K: Tensor) -> None:
            losses.append(loss_K)
            self._tell(arms, step, steps, count, loss_K)

        train.train(
            self.program, state, plan, batch_at, until=steps, frozen=frozen, after_step=after_step
        )
        self._hand_over(members, arms, seeds, state, torch.stack(losses, 1).cpu().numpy(), take)

    def _tell(self, arms: Sequence[Arm], step: int, steps: int, count: int, loss_K: Tensor) -> None:
        tokens = count * self.fine.batch_size * self.tasks[arms[0].task].length
        self.tokens += tokens
        names = sorted({self.tasks[arm.task].name for arm in arms})
        self.report(
            {
                "stage": f"fine-tune {', '.join(names)}",
                "step": step,
                "steps": steps,
                "lanes": count,
                "tokens": tokens,
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
        take: Callable[[int, Arm, Tuned, float], None],
    ) -> None:
        """Validate the arms and hand each base's seeds of a rate over; a lost lane is worth inf."""
        shape = (len(members), len(arms) // seeds, seeds)
        values = state.rows.values.detach().unflatten(0, shape)
        losses = losses_KS.reshape(*shape, -1)
        lost = (state.lost_at != train.NEVER).cpu().numpy().reshape(shape)
        for place, arm in enumerate(arms[::seeds]):
            scored = self._lanes(members, values[:, place])
            loss = evaluate.completion_loss(scored, self.tasks[arm.task].validation)
            loss = np.where(lost[:, place] | ~np.isfinite(loss.reshape(-1, seeds)), np.inf,
                            loss.reshape(-1, seeds)).mean(1)  # fmt: skip
            for row, base in enumerate(members):
                params = lanes.split_rows(self.shapes, values[row, place].cpu())
                tuned = Tuned(
                    [
                        {name: p[seed].clone() for name, p in params.items()}
                        for seed in range(seeds)
                    ],
                    list(losses[row, place]),
                )
                take(base, arm, tuned, float(loss[row]))

    def _choose(self, base: int, arm: Arm, tuned: Tuned, loss: float) -> None:
        """Note a rate's loss, and keep its fine-tunes if it is the best so far."""
        tried = self.tried[base, arm.task]
        tried[arm.lr] = loss
        if math.isfinite(loss) and self._chosen_rate((base, arm.task)) == arm.lr:
            self.best[base, arm.task] = tuned

    def _add_seeds(self, base: int, arm: Arm, tuned: Tuned, loss: float) -> None:
        self.best[base, arm.task].params.extend(tuned.params)
        self.best[base, arm.task].losses.extend(tuned.losses)

    def _score(self, task: int, sample: NDArray[np.int64] | None) -> list[Outcome]:
        """Score all bases on a task's test rows, before and after."""
        outcomes: list[Outcome] = []
        for members in _chunks(range(len(self.bases)), max(1, self.max_lanes // len(self.seeds))):
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
        values = lanes.join_rows([params for one in tuned for params in one.params])
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
            outcome.adapters = one.params

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
        return lanes.join_rows(rows).to(self.device)

    def _on_device(self, members: Sequence[int]) -> list[Parameters]:
        return [
            {name: p.to(self.device) for name, p in self.bases[base].items()} for base in members
        ]

    def _steps(self, task: Task) -> int:
        if self.fine.steps is not None:
            return self.fine.steps
        assert self.fine.epochs is not None
        return max(1, round(self.fine.epochs * len(task.train.ids) / self.fine.batch_size))

    def _batches(self, arms: Sequence[Arm], repeats: int) -> Callable[[int], lanes.Batch]:
        """Each arm's own rows; a new random order each epoch, the same for all rates and bases."""
        tasks = {arm.task: self.tasks[arm.task] for arm in arms}
        width = max(task.length for task in tasks.values())
        counted = max(task.train.positions.shape[1] for task in tasks.values())

        def rows(task: Task, seed: int, step: int) -> tuple[Any, ...]:
            count, size = len(task.train.ids), self.fine.batch_size
            picked = [
                int(shuffled(seed, int(task.key[:8], 16), slot // count, count)[slot % count])
                for slot in range(step * size, (step + 1) * size)
            ]
            train = task.train
            return (
                _widen(train.ids[picked], width + 1),
                _widen(train.positions[picked], counted),
                _widen(train.weights[picked], counted),
            )

        def batch_at(step: int) -> lanes.Batch:
            if self.fine.lora.dropout:
                torch.manual_seed(self.seeds[0] * 1_000_003 + step)
            pairs = {(arm.task, arm.seed): None for arm in arms}
            found = {pair: rows(tasks[pair[0]], pair[1], step) for pair in pairs}
            parts = zip(*(found[arm.task, arm.seed] for arm in arms), strict=True)
            return lanes.Batch(
                *(torch.from_numpy(np.stack(part * repeats)).to(self.device) for part in parts)
            )

        return batch_at


def _widen(rows: NDArray[Any], width: int) -> NDArray[Any]:
    """Pad [B, n] on the right with zeros; padded targets never count."""
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])))


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
