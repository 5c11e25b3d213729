"""AdamW over lanes against torch's own, lane by lane."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from objectives.training import optimizers
from objectives.training.weight_decay_policies import Rule

LANES, SIZE, STEPS = 4, 30, 20


LRS = [1e-3, 1e-2, 0.1, 1.0]


DECAYS = [0.0, 0.1, 0.5, 0.03]


BETA1S = [0.9, 0.0, 0.95, 0.5]


BETA2S = [0.95, 0.999, 0.9, 0.99]


EPSS = [1e-8, 1e-6, 1e-3, 1e-10]


CLIPS = [1.0, 0.1, math.inf, 5.0]


def gradients(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-3, 3, STEPS, dtype=torch.float64)[:, None, None]
    return scale * torch.randn(STEPS, LANES, SIZE, generator=generator, dtype=torch.float64)


def reference(lane: int, start: Tensor, grads: Tensor, decayed: Tensor | None) -> Tensor:
    """torch.optim.AdamW on one lane; undecayed parameters are a group of their own."""
    picked = torch.ones(SIZE, dtype=torch.bool) if decayed is None else decayed.bool()
    parts = [nn.Parameter(start[picked].clone()), nn.Parameter(start[~picked].clone())]
    optimizer = torch.optim.AdamW(
        [
            {"params": [parts[0]], "weight_decay": DECAYS[lane]},
            {"params": [parts[1]], "weight_decay": 0.0},
        ],
        lr=LRS[lane],
        betas=(BETA1S[lane], BETA2S[lane]),
        eps=EPSS[lane],
    )
    for grad in grads:
        parts[0].grad, parts[1].grad = grad[picked].clone(), grad[~picked].clone()
        nn.utils.clip_grad_norm_(parts, CLIPS[lane])
        optimizer.step()
    out = start.clone()
    out[picked], out[~picked] = parts[0].detach(), parts[1].detach()
    return out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.usefixtures("float64")
def test_lanes_equal_torchs_adamw_each_with_its_own_constants(masked: bool) -> None:
    start = torch.randn(LANES, SIZE, generator=torch.Generator().manual_seed(1))
    decayed = (torch.arange(SIZE) % 3 == 0).double() if masked else None
    rule = Rule(multipliers=decayed)
    constants = optimizers.constants(
        LANES, "cpu", beta1=BETA1S, beta2=BETA2S, eps=EPSS, clip=CLIPS, decay=rule
    )
    values, moments = start.clone(), optimizers.Moments.zeros_like(start)
    for step, grads in enumerate(gradients()):
        optimizers.step_(
            values,
            grads.clone(),
            moments,
            constants,
            t=step + 1,
            lr_K1=torch.tensor(LRS)[:, None],
            decay_K1=torch.tensor(DECAYS)[:, None],
        )
    for lane in range(LANES):
        expected = reference(lane, start[lane], gradients()[:, lane], decayed)
        torch.testing.assert_close(values[lane], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("float64")
def test_clipping_equals_torchs_for_norms_below_at_and_above_the_limit() -> None:
    grads = torch.tensor([[0.3, 0.4], [0.6, 0.8], [3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    limits = torch.tensor([[1.0], [1.0], [1.0], [math.inf], [1.0]])
    clipped = grads.clone()
    norms = optimizers.clip_(clipped, limits)
    for row, limit in enumerate(limits):
        parameter = nn.Parameter(torch.zeros(2))
        parameter.grad = grads[row].clone()
        norm = nn.utils.clip_grad_norm_([parameter], float(limit))
        torch.testing.assert_close(clipped[row], parameter.grad, rtol=1e-15, atol=0)
        assert norms[row] == norm


def test_one_value_is_for_all_lanes_and_a_list_one_for_each() -> None:
    constants = optimizers.constants(3, "cpu", beta1=0.5, eps=[1e-8, 1e-6, 1e-4])
    assert constants.beta1.tolist() == [[0.5]] * 3
    assert constants.eps.flatten().tolist() == pytest.approx([1e-8, 1e-6, 1e-4])
    assert torch.isinf(constants.clip).all()


def test_without_gradient_only_the_decayed_parameters_shrink() -> None:
    values = torch.ones(1, 4)
    rule = Rule(multipliers=torch.tensor([1.0, 0.0, 1.0, 0.0]))
    constants = optimizers.constants(1, "cpu", decay=rule)
    optimizers.step_(
        values,
        torch.zeros(1, 4),
        optimizers.Moments.zeros_like(values),
        constants,
        t=1,
        lr_K1=torch.tensor([[0.5]]),
        decay_K1=torch.tensor([[0.5]]),
    )
    assert values.tolist() == [[0.75, 1.0, 0.75, 1.0]]
