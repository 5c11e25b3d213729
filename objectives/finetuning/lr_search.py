"""Fine-tuning of several bases on several tasks, and the choice of the learning rate.

1. For each base and task the learning rate is chosen on validation (least completion loss over the
   selection seeds) from a grid that grows by its own ratio while the best rate is at its edge.
   Bases differ in the rate that suits them; one shared rate would favour some (arXiv 2603.16127
   sweeps it for each base). A rate of the grid that is clearly worse after a third of its steps is
   given up (`promising_rates`). Then rates between those of the grid are tried
   (`objectives.finetuning.lr_refinement`).
2. The other seeds run at the chosen rate only.
3. Base and fine-tuned models are scored on test.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives import row_errors
from objectives.config.training import Finetune, of_task
from objectives.data.tasks import Task
from objectives.finetuning.checkpoints import FinetuneResult
from objectives.finetuning.lr_refinement import choice_error, chosen_rate, refined_rates
from objectives.finetuning.runs import num_steps
from objectives.finetuning.trainer import FinetuneTrainer, OnResult
from objectives.pretraining.checkpoints import Parameters
from objectives.training import evaluation, lr_schedule
from objectives.types import Curve, curve

CURVE_POINTS = 40


GIVE_UP_AFTER = 3
"""After one part in so many of its steps a rate may be given up."""


LEAST_STEPS = 8
"""Steps on which rates are compared; assumed: fewer say little."""


SLACK_NATS = 0.05
"""Difference of mean training losses that decides nothing; assumed."""


@dataclass
class Outcome:
    """One base's fine-tunes on one task, at the chosen learning rate."""

    lr: float
    """NaN where every rate diverged, or the chosen one with a further seed; then no scores after
    fine-tuning are filled."""
    tried: dict[float, float]
    """Learning rate -> validation completion loss, mean over seeds; inf where it diverged or was
    given up."""
    before: float
    """The task's metric of the base itself."""
    loss_before: float
    after: list[float] = field(default_factory=list)
    """The task's metric; one a seed."""
    loss_after: list[float] = field(default_factory=list)
    base_loss_after: list[float] = field(default_factory=list)
    """Nats a token on the pretraining sample, if one was given; one a seed."""
    rows_before: str = ""
    """The base's score on each test row in order, "1" where it is right, else "0"."""
    rows_after: list[str] = field(default_factory=list)
    """The same after fine-tuning; one a seed."""
    loss_rows_before: list[float] = field(default_factory=list)
    """`loss_before` by test row, or by groups of them (`objectives.row_errors`)."""
    loss_rows_after: list[list[float]] = field(default_factory=list)
    base_loss_rows_after: list[list[float]] = field(default_factory=list)
    """`base_loss_after` by sequence, or by groups of them; one a seed."""
    curve: Curve = field(default_factory=list)
    """[step, training loss], mean over seeds."""
    stages: list[str] = field(default_factory=list)
    """Keys of the stored fine-tunes; their seeds in order are the seeds of the lists above."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data."""
        return dataclasses.asdict(self) | {"tried": [list(item) for item in self.tried.items()]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Outcome:
        """The outcome in the data of `to_dict`."""
        return Outcome(**{**data, "tried": dict(data["tried"])})

    @property
    def choice_errors(self) -> tuple[float, float]:
        """What the choice of the rate adds to the errors of loss and score after fine-tuning.

        The noise of a validation loss is taken as the spread between seeds, none of one seed. The
        score's is the loss's times what fine-tuning changed the score over the loss (assumed). 0
        where it is unknown.
        """
        loss, score = float(np.mean(self.loss_after)), float(np.mean(self.after))
        noise = float(np.std(self.loss_after, ddof=1)) if len(self.loss_after) > 1 else 0.0
        nats = choice_error(self.tried, noise)
        if not math.isfinite(nats) or loss == self.loss_before:
            return (0.0 if math.isnan(nats) else nats), 0.0
        return nats, nats * abs((score - self.before) / (loss - self.loss_before))

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the least or greatest that was tried."""
        return self.lr in (min(self.tried), max(self.tried))


class Finetuner:
    """Tasks to fine-tune bases on."""

    def __init__(self, trainer: FinetuneTrainer, tasks: Sequence[Task], seed: int) -> None:
        """`seed` is the trial's; each fine-tuning seed is drawn from it."""
        self.trainer, self.fine, self.tasks = trainer, trainer.fine, list(tasks)
        self.seeds = finetuning_seeds(self.fine, seed)

    def run(
        self,
        bases: Sequence[tuple[str, Parameters]],
        sample: NDArray[np.int64] | None = None,
    ) -> list[list[Outcome]]:
        """Fine-tune each base (key, parameters) on each task; [bases][tasks].

        `sample` [N, T + 1] measures forgetting.
        """
        self.trainer.open(bases, self.tasks[0].validation)
        by_task = [self._on_task(task, len(bases), sample) for task in self.tasks]
        return [list(outcomes) for outcomes in zip(*by_task, strict=True)]

    def _on_task(self, task: Task, bases: int, sample: NDArray[np.int64] | None) -> list[Outcome]:
        tried: list[dict[float, float]] = [{} for _ in range(bases)]
        best: dict[int, FinetuneResult] = {}

        def choose(base: int, rate: float, tuned: FinetuneResult) -> None:
            tried[base][rate] = tuned.validation_loss
            if math.isfinite(tuned.validation_loss) and chosen_rate(tried[base]) == rate:
                best[base] = tuned

        def add(base: int, rate: float, tuned: FinetuneResult) -> None:
            if math.isfinite(tuned.validation_loss):
                best[base] = best[base].with_seeds(tuned)
            else:
                del best[base]

        selecting, others = (
            self.seeds[: self.fine.selection_seeds],
            self.seeds[self.fine.selection_seeds :],
        )
        grid = of_task(self.fine, task.override).lrs
        for extension in range(self.fine.max_extensions + 1):
            wanted = {base: next_rates(grid, rates, extension) for base, rates in enumerate(tried)}
            if extension == 0:
                wanted = self._promising(task, wanted, selecting, tried)
            if not any(wanted.values()):
                break
            self.trainer.tune(task, wanted, selecting, choose)
        self._refine(task, tried, selecting, choose)
        if others:
            chosen = {base: [chosen_rate(tried[base])] for base in sorted(best)}
            self.trainer.tune(task, chosen, others, add)
        return self._score(task, tried, best, sample)

    def _refine(
        self,
        task: Task,
        tried: Sequence[Mapping[float, float]],
        seeds: Sequence[int],
        choose: OnResult,
    ) -> None:
        """Try rates between those of the grid, until no round has one."""
        for _ in range(self.fine.refine):
            wanted = {base: refined_rates(rates) for base, rates in enumerate(tried)}
            if not any(wanted.values()):
                return
            self.trainer.tune(task, wanted, seeds, choose)

    def _promising(
        self,
        task: Task,
        wanted: Mapping[int, Sequence[float]],
        seeds: Sequence[int],
        tried: Sequence[dict[float, float]],
    ) -> dict[int, list[float]]:
        """The rates of each base that are trained to the end; of the others inf is noted."""
        margin, steps = self.fine.give_up_above, num_steps(self.fine, task) // GIVE_UP_AFTER
        several = any(len(rates) > 1 for rates in wanted.values())
        if margin is None or not several or not self._is_comparable(task, steps):
            return {base: list(rates) for base, rates in wanted.items()}
        losses = self.trainer.first_losses(task, wanted, seeds, steps)
        kept = {}
        for base, rates in wanted.items():
            kept[base] = promising_rates({rate: losses[base, rate] for rate in rates}, margin)
            for rate in rates:
                if rate not in kept[base]:
                    tried[base][rate] = math.inf
                    self.trainer.give_up(task, base, rate, seeds)
        return kept

    def _is_comparable(self, task: Task, steps: int) -> bool:
        """Whether the first steps tell of a rate: the latter half of them is beyond the warmup."""
        curve = lr_schedule.multipliers(
            self.fine.schedule, num_steps(self.fine, task), "finetune.schedule"
        )
        return steps >= LEAST_STEPS and bool(curve[: steps // 2].max() == curve.max())

    def _score(
        self,
        task: Task,
        tried: Sequence[dict[float, float]],
        best: Mapping[int, FinetuneResult],
        sample: NDArray[np.int64] | None,
    ) -> list[Outcome]:
        """Score all bases on the task's test rows, before and after."""
        outcomes: list[Outcome] = []
        width = max(1, (self.trainer.runtime.most_lanes) // len(self.seeds))
        for start in range(0, len(tried), width):
            members = range(start, min(start + width, len(tried)))
            scored = evaluation.task_scores(self.trainer.plain_lanes(members), task)
            for lane, base in enumerate(members):
                lr = chosen_rate(tried[base]) if base in best else math.nan
                before, loss = float(scored.score_K[lane]), float(scored.loss_K[lane])
                outcomes.append(
                    Outcome(
                        lr,
                        tried[base],
                        before,
                        loss,
                        rows_before=row_text(scored.right_KN[lane]),
                        loss_rows_before=row_errors.grouped(scored.loss_KN[lane]),
                    )
                )
            alive = [base for base in members if base in best]
            if alive:
                self._score_after(task, {base: best[base] for base in alive}, outcomes, sample)
            self.trainer.runtime.report({"stage": f"score {task.name}", "step": 1, "steps": 1})
        return outcomes

    def _score_after(
        self,
        task: Task,
        tuned: Mapping[int, FinetuneResult],
        outcomes: Sequence[Outcome],
        sample: NDArray[np.int64] | None,
    ) -> None:
        params = [each for one in tuned.values() for each in one.params]
        scored = self.trainer.tuned_lanes(list(tuned), params)
        shape = (len(tuned), len(self.seeds))
        found = evaluation.task_scores(scored, task)
        score, loss = found.score_K.reshape(shape), found.loss_K.reshape(shape)
        rows = np.array([row_text(right_N) for right_N in found.right_KN]).reshape(shape)
        losses_PSN = found.loss_KN.reshape(*shape, -1)
        for row, (base, one) in enumerate(tuned.items()):
            outcome = outcomes[base]
            outcome.after, outcome.loss_after = score[row].tolist(), loss[row].tolist()
            outcome.rows_after = rows[row].tolist()
            outcome.loss_rows_after = [row_errors.grouped(y_N) for y_N in losses_PSN[row]]
            outcome.curve = curve(np.mean(one.losses, axis=0), CURVE_POINTS)
            outcome.stages = list(one.stages)
        if sample is not None:
            kept_K, by_sequence_KN = evaluation.sequence_losses(scored, sample)
            kept, kept_PSN = kept_K.reshape(shape), by_sequence_KN.reshape(*shape, -1)
            for row, base in enumerate(tuned):
                outcomes[base].base_loss_after = kept[row].tolist()
                outcomes[base].base_loss_rows_after = list(map(row_errors.grouped, kept_PSN[row]))


def row_text(right_N: NDArray[np.bool_]) -> str:
    """Right and wrong rows as "1" and "0"."""
    return "".join(np.where(right_N, "1", "0"))


def finetuning_seeds(fine: Finetune, seed: int) -> list[int]:
    """The seeds of a trial's fine-tunes, from its own."""
    return [seed * 1000 + index for index in range(fine.seeds)]


def promising_rates(losses: Mapping[float, NDArray[np.float64]], margin: float) -> list[float]:
    """Rates that may be the best, by training losses of the first steps, [S, T] a rate.

    All rates train on the same rows, so their losses over the latter half of these steps differ by
    little else than the rate. One is given up where its mean is above the least mean m by more than
    `margin` m, and by more than `SLACK_NATS`. Where all diverged none is.

    Measured with margin 0.2 on grids of three rates and 120 steps, 0.2M parameters: of 54 choices
    (12 bases and the quickstart's tasks, 6 bases and intents, inflections and well-formed queries)
    53 were the same and one was 0.004 nats worse; the grids took 0.74 and 0.79 of their steps.
    """
    means = {rate: float(y_ST[:, y_ST.shape[1] // 2 :].mean()) for rate, y_ST in losses.items()}
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    if not finite:
        return list(losses)
    most = min(finite) + max(margin * min(finite), SLACK_NATS)
    return [rate for rate, mean in means.items() if mean <= most]


def next_rates(grid: Sequence[float], tried: Mapping[float, float], extension: int) -> list[float]:
    """The grid at first; then one rate beyond the edge at which the best one is, if a float is."""
    ordered = sorted(grid)
    if extension == 0:
        return ordered
    if len(ordered) < 2:
        return []
    best = chosen_rate(tried)
    if best == max(tried) and math.isfinite(tried[best]):
        beyond = best * ordered[-1] / ordered[-2]
    elif best == min(tried):
        beyond = best * ordered[0] / ordered[1]
    else:
        return []
    return [beyond] if 0 < beyond < math.inf and beyond not in tried else []
