"""The training loop: pretraining and fine-tuning, of text and of images, for K lanes at once.

A step is: gradient of the summed lane losses, then AdamW with each lane's own rate and decay. A
lane whose loss or gradient is no longer finite is frozen at its last weights and the step is noted;
nothing about the other lanes changes. Where training stops, so is a lane whose weights are not
finite after the last step: the step that would show it in the loss is the next one.

S steps, K lanes, P parameters of a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from objectives.training import device_memory, optimizers
from objectives.training.batch import StackedParams
from objectives.training.sharding import REPLICATED, Sharding

NEVER = -1


AnyBatch = TypeVar("AnyBatch", bound="Parts")


BatchOf = TypeVar("BatchOf", contravariant=True)


class Parts(Protocol):
    """A batch of whatever is trained on."""

    def split(self: AnyBatch, parts: int) -> Sequence[AnyBatch]:
        """As many batches, equal in size, that together are this one."""


class Losses(Protocol[BatchOf]):
    """A program, such as `lanes.Program` for text: what the loss of a lane is."""

    def losses(
        self, params: Mapping[str, Tensor], frozen: Mapping[str, Tensor] | None, batch: BatchOf
    ) -> Tensor:
        """Mean loss of each lane in nats; [K]."""


@dataclass
class State:
    """The state of K lanes: everything that a later step depends on."""

    rows: StackedParams
    moments: optimizers.Moments
    step: int = 0
    diverged_at: Tensor = field(default_factory=lambda: torch.empty(0))
    """[K] the step (from 0) whose loss or gradient was not finite, or would be; NEVER for the
    living."""
    consistent: bool = True
    """Whether weights and moments are of `step`: not while a step changes them."""

    def diverged_step(self, lane: int) -> int | None:
        """The step at which a lane diverged, None if it is alive."""
        step = int(self.diverged_at[lane])
        return None if step == NEVER else step

    @staticmethod
    def fresh(
        shapes: Mapping[str, torch.Size],
        values_KP: Tensor,
        moments: optimizers.Moments | None = None,
        sharding: Sharding = REPLICATED,
    ) -> State:
        """Lanes before their first step; takes the rows over, and moments that are not AdamW's.

        `shapes` are those of whole parameters, also where they are sharded.
        """
        diverged_at = torch.full((values_KP.shape[0],), NEVER, device=values_KP.device)
        moments = moments or optimizers.Moments.zeros_like(values_KP)
        return State(StackedParams(shapes, values_KP, sharding), moments, 0, diverged_at)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of the loop does."""

    lr_SK: Tensor
    decay_SK: Tensor
    followed_SK: Tensor | None = None
    """Weight norms of another run before each step; a lane's rate is multiplied by its own over
    these. NaN leaves it as it is, None that of all lanes."""
    constants: optimizers.Constants
    accumulation: int = 1


def train(
    program: Losses[AnyBatch],
    state: State,
    plan: Plan,
    batch_at: Callable[[int], AnyBatch],
    *,
    until: int,
    frozen: Mapping[str, Tensor] | None = None,
    after_step: Callable[[int, Tensor], None] = lambda step, loss_K: None,
) -> None:
    """Train from `state.step` to step `until`.

    `batch_at(s)` gives the batch of step s (from 0). `after_step(s, loss_K)` is called when s steps
    are done, with the training losses of the last one in nats.
    """
    device = state.rows.values.device
    if device.type == "cpu":
        device_memory.disable_malloc_trim()
    lr_SK = plan.lr_SK.to(device=device, dtype=state.rows.values.dtype)
    decay_SK = plan.decay_SK.to(device=device, dtype=state.rows.values.dtype)
    followed_SK = plan.followed_SK
    if followed_SK is not None:
        followed_SK = followed_SK.to(device=device, dtype=state.rows.values.dtype)
    for step in range(state.step, until):
        loss_K = _gradient(program, state.rows, frozen, batch_at(step), plan.accumulation)
        alive_K1 = _freeze_diverged(state, loss_K, step)
        lr_K1 = lr_SK[step, :, None] * alive_K1
        if followed_SK is not None:
            followed_K1 = lr_K1 * _ratio(state.rows, followed_SK[step])
            lr_K1 = torch.where(alive_K1 == 1, followed_K1, lr_K1)  # a lost one's may be inf * 0
        state.consistent = False
        optimizers.step_(
            state.rows.values,
            state.rows.grads,
            state.moments,
            plan.constants,
            t=step + 1,
            lr_K1=lr_K1,
            decay_K1=decay_SK[step, :, None],
        )
        state.rows.sync_module()
        state.step = step + 1
        after_step(state.step, loss_K)
        state.consistent = True
    _mark_blown_up(state)


def weight_norms(rows: StackedParams) -> Tensor:
    """Norm of all weights of each lane; [K]."""
    return rows.sharding.norm(rows.values)


def _ratio(rows: StackedParams, followed_K: Tensor) -> Tensor:
    """Each lane's norm over the one it follows, 1 where it follows none; [K, 1]."""
    ratio_K = weight_norms(rows) / followed_K
    return torch.where(followed_K.isnan(), torch.ones_like(ratio_K), ratio_K)[:, None]


def _gradient(
    program: Losses[AnyBatch],
    rows: StackedParams,
    frozen: Mapping[str, Tensor] | None,
    batch: AnyBatch,
    accumulation: int,
) -> Tensor:
    """Fill `rows.grads`; returns each lane's mean loss, [K]. Both over the rows of all ranks."""
    parts = batch.split(accumulation)
    losses: list[Tensor] = []
    for part in parts:
        loss_K = program.losses(rows.views, frozen, part) / len(parts)
        rows.add_gradient(loss_K.sum(), first=not losses)
        losses.append(loss_K.detach())
    return rows.sharding.reduced(torch.stack(losses).sum(0), rows.grads)


def _mark_blown_up(state: State) -> None:
    """Note lanes whose weights are not finite; lost at the step that would show it in the loss."""
    finite = torch.isfinite(state.rows.sharding.total(state.rows.values.detach().sum(1)))
    _note_diverged(state, finite, state.step)


def _note_diverged(state: State, finite_K: Tensor, step: int) -> None:
    at = state.diverged_at
    state.diverged_at = torch.where((at == NEVER) & ~finite_K, torch.full_like(at, step), at)


def _freeze_diverged(state: State, loss_K: Tensor, step: int) -> Tensor:
    """Note lanes that just diverged and clear their gradients; 1 for the living, [K, 1]."""
    grads = state.rows.grads
    finite = torch.isfinite(loss_K) & torch.isfinite(state.rows.sharding.total(grads.sum(1)))
    _note_diverged(state, finite, step)
    alive = state.diverged_at == NEVER
    if grads.is_cuda or not bool(alive.all()):
        grads.masked_fill_(~alive[:, None], 0.0)
    return alive[:, None].to(grads.dtype)
