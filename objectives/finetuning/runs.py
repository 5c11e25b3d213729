"""Fine-tuning runs: one base on one task at one learning rate over consecutive seeds, as a stage of
the store, and groups of them that are the lanes of one program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from objectives.config.training import Finetune, of_task
from objectives.data.tasks import Task
from objectives.finetuning.checkpoints import NOTHING, PartialFinetune, Work
from objectives.models import library_fingerprints
from objectives.store.store import key_of
from objectives.training import loop, lr_schedule

RunKey = tuple[int, float]
"""A base and a rate."""


@dataclass(frozen=True)
class RunGroup:
    """Runs on one task: bases with equally many rates each, all at the same step."""

    task: Task
    rates_of: Mapping[int, Sequence[float]]
    """Rates of each base."""
    seeds: Sequence[int]

    @property
    def runs(self) -> list[RunKey]:
        """Its runs, base by base; each has one lane a seed."""
        return [(base, rate) for base, rates in self.rates_of.items() for rate in rates]

    @property
    def bases(self) -> list[int]:
        """Its bases."""
        return list(self.rates_of)

    @property
    def num_rates(self) -> int:
        """Rates a base."""
        return len(next(iter(self.rates_of.values())))

    @property
    def num_lanes(self) -> int:
        """Lanes of the program."""
        return len(self.runs) * len(self.seeds)

    @property
    def rates_K(self) -> NDArray[np.float64]:
        """The rate of each lane; [K]."""
        return np.repeat([rate for _, rate in self.runs], len(self.seeds))


@dataclass(frozen=True)
class Ended:
    """Runs of one program that were trained up to a step."""

    group: RunGroup
    begun: Sequence[PartialFinetune | None]
    """Where each run was before."""
    state: loop.State
    losses: Sequence[Tensor]
    """[K] of each step."""
    work: Work
    """Of each run."""

    def lanes(self) -> list[tuple[RunKey, slice]]:
        """Each run and its lanes."""
        seeds = len(self.group.seeds)
        return [
            (run, slice(index * seeds, (index + 1) * seeds))
            for index, run in enumerate(self.group.runs)
        ]

    def before(self, base: int, rate: float) -> Work:
        """What a run had taken before."""
        begun = self.begun[self.group.runs.index((base, rate))]
        return begun.work if begun else NOTHING


def groups_at_one_step(
    task: Task, seeds: Sequence[int], begun: Mapping[RunKey, PartialFinetune | None]
) -> list[RunGroup]:
    """The runs, in groups that are at the same step and have equally many rates a base."""
    at_step: dict[int, dict[int, list[float]]] = {}
    for (base, rate), before in begun.items():
        bases = at_step.setdefault(before.step if before else 0, {})
        bases.setdefault(base, []).append(rate)
    groups: dict[tuple[int, int], dict[int, list[float]]] = {}
    for step, bases in at_step.items():
        for base, rates in bases.items():
            groups.setdefault((step, len(rates)), {})[base] = rates
    return [RunGroup(task, groups[each], seeds) for each in sorted(groups)]


def num_steps(fine: Finetune, task: Task) -> int:
    """Optimizer steps of a fine-tune on the task."""
    fine = of_task(fine, task.override)
    if fine.steps is not None:
        return fine.steps
    assert fine.epochs is not None
    return max(1, round(fine.epochs * len(task.train.ids) / fine.batch_size))


def num_tunes(fine: Finetune) -> int:
    """Fine-tunes of a base on a task, without extensions of the grid; a rate a refinement."""
    rates = len(fine.lrs) + (fine.refine if len(fine.lrs) > 1 else 0)
    return rates * fine.selection_seeds + fine.seeds - fine.selection_seeds


def sizes(fine: Finetune, tasks: Sequence[Task]) -> list[tuple[Finetune, int, float]]:
    """Each task's settings, steps, and tokens of a row."""
    return [
        (of_task(fine, task.override), num_steps(fine, task), task.mean_tokens) for task in tasks
    ]


def tuning_tokens(tasks: Sequence[tuple[Finetune, int, float]]) -> float:
    """Tokens that the fine-tunes of one base train on.

    `tasks` has each task's settings, steps and tokens of a row.
    """
    return sum(steps * tokens * fine.batch_size * num_tunes(fine) for fine, steps, tokens in tasks)


def described_adapter(lora: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of adapters as keys have them: `modules_to_save` only where there are any."""
    saved = "modules_to_save"
    return {name: value for name, value in lora.items() if name != saved or value}


def stage_key(
    base_key: str, fine: Finetune, bf16: bool, task: Task, rate: float, seeds: Sequence[int]
) -> str:
    """The stage "this base fine-tuned on the task at the rate over the seeds"."""
    fine = of_task(fine, task.override)
    schedule = lr_schedule.as_trained(fine.schedule, num_steps(fine, task))
    adapter = described_adapter(dataclasses.asdict(fine.lora))
    method = [fine.method, adapter if fine.method == "lora" else None, bf16]
    course = [fine.steps, fine.epochs, fine.batch_size, schedule]
    constants = [fine.weight_decay, fine.beta1, fine.beta2, fine.clip_norm]
    start = [base_key, task.key, rate, list(seeds)]
    libraries = library_fingerprints.of_finetuning(fine.method)
    return key_of("tune-6", start, method, course, constants, libraries)
