"""The training loop: lost lanes freeze alone, and stopping on the way changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from objectives.models import causal_lm
from objectives.training import batch, loop, optimizers
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel
from tests.objectives import toy

STEPS, B, T = 12, 3, 8


CONFIG = toy.CONFIGS["llama"]


def fresh(seeds: Sequence[int]) -> tuple[LaneModel, loop.State]:
    module = causal_lm.build_module(CONFIG, "cpu")
    shapes = {name: p.shape for name, p in module.named_parameters()}
    values = batch.join_rows([toy.initial(CONFIG, seed) for seed in seeds])
    return LaneModel(module), loop.State.fresh(shapes, values)


def plan(
    lrs: Sequence[float], clip: float = 1.0, followed: Sequence[float] | None = None
) -> loop.Plan:
    return loop.Plan(
        followed_SK=None if followed is None else torch.tensor([list(followed)] * STEPS),
        lr_SK=torch.tensor([list(lrs)] * STEPS, dtype=torch.float64),
        decay_SK=torch.full((STEPS, len(lrs)), 0.1),
        constants=optimizers.constants(len(lrs), "cpu", clip=clip),
    )


def batch_at(step: int) -> TokenBatch:
    return TokenBatch(toy.ids(B, T + 1, seed=step))


def trained(
    seeds: Sequence[int], lrs: Sequence[float], stops: Sequence[int] = (STEPS,), clip: float = 1.0
) -> tuple[loop.State, Tensor]:
    """Lanes after training in these stretches, and their losses [K, S]."""
    program, state = fresh(seeds)
    losses: list[Tensor] = []
    for until in stops:
        loop.train(
            program,
            state,
            plan(lrs, clip),
            batch_at,
            until=until,
            after_step=lambda step, loss_K: losses.append(loss_K),
        )
    return state, torch.stack(losses, 1)


@pytest.mark.parametrize("stops", [(5, STEPS), (1, 2, 3, 11, STEPS), (0, 4, 4, STEPS)])
def test_training_in_stretches_equals_training_in_one_go(stops: Sequence[int]) -> None:
    whole, losses = trained([0, 1], [1e-2, 1e-3])
    parts, part_losses = trained([0, 1], [1e-2, 1e-3], stops)
    assert torch.equal(parts.rows.values, whole.rows.values)
    assert torch.equal(parts.moments.first, whole.moments.first)
    assert torch.equal(parts.moments.second, whole.moments.second)
    assert torch.equal(losses, part_losses)
    assert (parts.step, whole.step) == (STEPS, STEPS)


def test_training_lowers_the_loss_of_a_repeated_batch() -> None:
    program, state = fresh([0, 1])
    losses: list[Tensor] = []
    loop.train(
        program,
        state,
        plan([1e-2, 3e-2]),
        lambda step: batch_at(0),
        until=STEPS,
        after_step=lambda step, loss_K: losses.append(loss_K),
    )
    assert (losses[-1] < losses[0] - 0.2).all()
    assert losses[0].tolist() == pytest.approx([math.log(toy.VOCAB)] * 2, abs=0.5)


@pytest.mark.parametrize("lr", [1e30, 1e300])
def test_a_lane_that_diverges_is_frozen_and_marked_and_the_others_feel_nothing(lr: float) -> None:
    state, losses = trained([0, 1, 2], [1e-2, lr, 3e-3])
    undisturbed, expected = trained([0, 2], [1e-2, 3e-3])
    diverged_at = int(state.diverged_at[1])
    assert state.diverged_at.tolist() == [loop.NEVER, diverged_at, loop.NEVER]
    assert diverged_at == 1  # the first step's loss and gradient were still finite
    assert torch.equal(state.rows.values[[0, 2]], undisturbed.rows.values)
    assert torch.equal(losses[[0, 2]], expected)
    _, before = trained([1], [lr], [diverged_at])
    assert torch.isfinite(before).all()


def test_a_lost_lane_keeps_the_weights_it_had_when_it_was_lost() -> None:
    state, _ = trained([0, 1], [1e-2, 1e30])
    earlier, _ = trained([0, 1], [1e-2, 1e30], [int(state.diverged_at[1])])
    assert torch.equal(state.rows.values[1], earlier.rows.values[1])
    assert torch.isfinite(state.rows.values[1]).all()
    assert not torch.equal(state.rows.values[0], earlier.rows.values[0])


def test_a_lane_that_follows_and_is_lost_is_frozen_too_and_the_others_feel_nothing() -> None:
    program, state = fresh([0, 1, 2])
    given = plan([1e-2, 1e30, 1e-2], followed=[20.0, 1.0, math.nan])
    loop.train(program, state, given, batch_at, until=STEPS)
    assert state.diverged_at.tolist() == [loop.NEVER, 1, loop.NEVER]
    assert torch.isfinite(state.rows.values).all()
    assert torch.linalg.vector_norm(state.rows.values[1]) == math.inf  # inf times a rate of 0
    own, _ = trained([2], [1e-2])
    assert torch.equal(state.rows.values[2], own.rows.values[0])
    program, alone = fresh([0])
    loop.train(program, alone, plan([1e-2], followed=[20.0]), batch_at, until=STEPS)
    assert torch.equal(state.rows.values[0], alone.rows.values[0])
    assert not torch.equal(state.rows.values[0], trained([0], [1e-2])[0].rows.values[0])


def test_a_lane_whose_first_loss_is_not_finite_is_lost_at_step_zero() -> None:
    program, state = fresh([0, 1])
    state.rows.values[0, 7] = math.nan
    loop.train(program, state, plan([1e-2, 1e-2]), batch_at, until=3)
    assert state.diverged_at.tolist() == [0, loop.NEVER]
    expected, _ = trained([1], [1e-2], [3])
    assert torch.equal(state.rows.values[1], expected.rows.values[0])


def test_the_step_of_the_loss_stays_the_first_over_stretches() -> None:
    one_go, _ = trained([0, 1], [1e30, 1e-2])
    parts, _ = trained([0, 1], [1e30, 1e-2], [4, 8, STEPS])
    assert parts.diverged_at.tolist() == one_go.diverged_at.tolist() == [1, loop.NEVER]


def test_a_learning_rate_of_zero_changes_nothing() -> None:
    _, before = fresh([3])
    state, _ = trained([3], [0.0])
    assert torch.equal(state.rows.values, before.rows.values)
    assert state.diverged_at.tolist() == [loop.NEVER]


def test_after_step_gets_the_number_of_steps_that_are_done() -> None:
    program, state = fresh([0])
    told: list[int] = []
    loop.train(
        program,
        state,
        plan([1e-3]),
        batch_at,
        until=4,
        after_step=lambda step, loss_K: told.append(step),
    )
    assert told == [1, 2, 3, 4]
