"""Trace and noise on quadratics, whose answers are known, and on a model by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from objectives.models import causal_lm
from objectives.probes import sharpness
from objectives.training import batch as lanes
from objectives.training import lanes as training_lanes
from tests.objectives import toy

SIZE, STEP = 12, 1e-4


def quadratic(matrices_KPP: Tensor) -> sharpness.Losses:
    """K lanes with the losses x' H x / 2."""
    return lambda x_KP: 0.5 * torch.einsum("kp,kpq,kq->k", x_KP, matrices_KPP, x_KP)


def symmetric(seed: int) -> Tensor:
    part = torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return part + part.mT


def test_signs_give_the_trace_of_a_diagonal_hessian_exactly(float64: None) -> None:
    hessian = torch.diag_embed(torch.randn(2, SIZE))
    values = torch.randn(2, SIZE)
    found = sharpness.curvatures(quadratic(hessian), values, sharpness.signs(3, values[0]))
    exact = hessian.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(found, exact[:, None].expand(2, 3))


def test_the_mean_over_signs_is_the_trace_within_its_standard_error(float64: None) -> None:
    hessian, values = symmetric(1), torch.randn(2, SIZE)
    found = sharpness.curvatures(quadratic(hessian), values, sharpness.signs(400, values[0]))
    error = found.std(1) / math.sqrt(400)
    exact = hessian.diagonal(dim1=1, dim2=2).sum(1)
    assert ((found.mean(1) - exact).abs() < 4 * error).all()
    # The variance is known too: twice the sum of squares off the diagonal.
    off = hessian - torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(found.var(1), 2 * off.square().sum((1, 2)), rtol=0.3, atol=0.0)


def test_equal_noise_on_a_quadratic_raises_the_loss_by_half_gamma_squared_trace(
    float64: None,
) -> None:
    hessian, gamma, draws = symmetric(2), 0.3, 2000
    at_minimum = torch.zeros(2, SIZE)
    found = torch.stack(
        [*sharpness.noise_rises(quadratic(hessian), at_minimum, torch.tensor([[gamma]]), draws)], 1
    )
    error = found.std(1) / math.sqrt(draws)
    exact = gamma**2 * hessian.diagonal(dim1=1, dim2=2).sum(1) / 2
    assert found.shape == (2, draws)
    assert ((found.mean(1) - exact).abs() < 4 * error).all()


def test_scaled_noise_has_each_tensors_root_mean_square() -> None:
    shapes = {"a": torch.Size([2, 2]), "b": torch.Size([3])}
    values = torch.tensor([[1.0, -1.0, 1.0, -1.0, 3.0, 0.0, 0.0], [0.0] * 4 + [2.0] * 3])
    scale = sharpness.tensor_scales(shapes, values)
    third = math.sqrt(3.0)
    torch.testing.assert_close(
        scale, torch.tensor([[1.0] * 4 + [third] * 3, [0.0] * 4 + [2.0] * 3])
    )


def slope(losses: sharpness.Losses, values_KP: Tensor) -> Tensor:
    leaf = values_KP.clone().requires_grad_()
    return torch.autograd.grad(losses(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_curvature_of_a_model_is_that_of_finite_differences(family: str, float64: None) -> None:
    config = toy.CONFIGS[family]
    module = causal_lm.build_module(config, "cpu")
    program = training_lanes.LaneModel(module)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    values = lanes.join_rows([toy.initial(config, seed) for seed in (0, 1)], shapes)
    batch = lanes.TokenBatch(toy.ids(2, 9))

    def losses(values_KP: Tensor) -> Tensor:
        return program.losses(lanes.split_rows(shapes, values_KP), None, batch)

    with sdpa_kernel(SDPBackend.MATH):
        found = sharpness.curvatures(losses, values, sharpness.signs(2, values[0]))
    for place, vector in enumerate(sharpness.signs(2, values[0])):
        ends = [slope(losses, values + sign * STEP * vector) for sign in (1, -1)]
        second = ((ends[0] - ends[1]) * vector).sum(1) / (2 * STEP)
        # Llama's norms round to float32 even here; curvatures are in the hundreds.
        torch.testing.assert_close(found[:, place], second, rtol=1e-3, atol=1e-2)
