"""Set-up of a run of lanes: state before the first step, plan of the steps, what follows each step.

Pretraining, fine-tuning, probes and image classifiers share it.

S steps, K lanes, P parameters of a lane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from objectives.config.training import Optimization
from objectives.progress import Event, Report
from objectives.training import loop, optimizers, weight_decay_policies
from objectives.training.process_group import ALONE, ProcessGroup
from objectives.training.sharding import REPLICATED, Sharding

CHECKPOINT_S = 60.0
"""Seconds of training after which all lanes are stored; assumed: a minute is cheap to lose."""


def moments_of(values_KP: Tensor, module: nn.Module, pre: Optimization) -> optimizers.Moments:
    """What the optimizer and the decay policy remember before the first step."""
    policy_size = weight_decay_policies.policy_state_size(module, pre)
    return optimizers.Moments.zeros_like(values_KP, policy_size, sgd=pre.optimizer == "sgd")


def fresh_state(
    values_KP: Tensor,
    module: nn.Module,
    pre: Optimization,
    shapes: Mapping[str, torch.Size],
    sharding: Sharding = REPLICATED,
) -> loop.State:
    """Lanes before their first step, trained by the recipe's optimizer and decay policy."""
    moments = moments_of(values_KP, module, pre)
    return loop.State.fresh(shapes, values_KP, moments, sharding)


def plan_of(
    pres: Sequence[Optimization],
    module: nn.Module,
    device: str,
    *,
    lr: Sequence[NDArray[np.float64]],
    decay: Sequence[NDArray[np.float64]],
    followed_SK: Tensor | None = None,
    accumulation: int = 1,
    sharding: Sharding = REPLICATED,
) -> loop.Plan:
    """The plan of one lane a recipe; `lr` and `decay` are [S] of each.

    Raises:
        ValueError: the decay's policy does not fit the module.
    """
    return loop.Plan(
        lr_SK=torch.from_numpy(np.stack(lr, 1)),
        decay_SK=torch.from_numpy(np.stack(decay, 1)),
        followed_SK=followed_SK,
        constants=optimizers.of_recipes(pres, module, device, sharding),
        accumulation=accumulation,
    )


def step_event(stage: str, step: int, steps: int, loss_K: Tensor, tokens: float) -> Event:
    """What is reported of a training step; `tokens` of all lanes."""
    lanes = len(loss_K)
    return {"stage": stage, "step": step, "steps": steps, "lanes": lanes, "tokens": tokens,
            "loss": loss_K}  # fmt: skip


class Checkpointer:
    """Reports steps, and has lanes stored from time to time and where the report stops the work."""

    def __init__(self, report: Report, ranks: ProcessGroup = ALONE) -> None:
        self.report, self.ranks = report, ranks
        self.stored_at = time.monotonic()

    def after_step(self, event: Event, store: Callable[[], None]) -> None:
        """Report a step that is done, and call `store` where it is time; the ranks agree on it."""
        stop: BaseException | None = None
        try:
            self.report(event)
        except BaseException as error:
            stop = error
        late = self.ranks.broadcast_int(int(time.monotonic() - self.stored_at > CHECKPOINT_S))
        if stop is not None or late:
            store()
            self.stored_at = time.monotonic()
        if stop is not None:
            raise stop
