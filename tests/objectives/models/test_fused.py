"""Fused steps of a model against transformers' and torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, vmap
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from objectives.models import fused

LANES, ROWS, TOKENS, WIDTH = 3, 2, 5, 8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norms(x: Tensor, weight: Tensor) -> Tensor:
    """By transformers' module, whose norms are installed."""
    module = LlamaRMSNorm(WIDTH, eps=1e-5)
    fused.install(module)
    found: Tensor = functional_call(module, {"weight": weight}, (x,))
    return found


@pytest.mark.parametrize("lanes", ["none", "both", "weights", "nested"])
def test_a_norm_and_its_derivatives_are_those_of_transformers(lanes: str) -> None:
    x = drawn(LANES, ROWS, TOKENS, WIDTH) if lanes in ("both", "nested") else drawn(ROWS, WIDTH)
    shape = {"none": (WIDTH,), "nested": (2, LANES, WIDTH)}.get(lanes, (LANES, WIDTH))
    weight = drawn(*shape, seed=1)
    run = {
        "none": norms,
        "both": vmap(norms),
        "weights": vmap(norms, in_dims=(None, 0)),
        "nested": vmap(vmap(norms), in_dims=(None, 0)),
    }[lanes]
    found = []
    for on in (False, True):
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        with fused.first_order(on):
            y = run(*leaves)
            found.append((y, *torch.autograd.grad((y * drawn(*y.shape, seed=2)).sum(), leaves)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_nats_and_their_derivative_are_those_of_torch_also_where_a_probability_underflows(
    shared: bool,
) -> None:
    logits = 3 * drawn(LANES, TOKENS, WIDTH)
    logits[0, 0, 1], logits[1, 2, 3] = 200.0, -150.0
    targets = torch.tensor([[0, 1, 3, 4, 7], [2, 2, 3, 0, 1], [5, 6, 3, 1, 0]])
    if shared:
        targets = targets[0]
    run = vmap(fused.nats, in_dims=(0, None if shared else 0))
    leaf = logits.clone().requires_grad_()
    with fused.first_order():
        found = run(leaf, targets)
        weights = drawn(*found.shape, seed=3)
        (slope,) = torch.autograd.grad((found * weights).sum(), leaf)
    other = logits.double().requires_grad_()
    flat = targets.expand(LANES, TOKENS).flatten()
    expected = F.cross_entropy(other.flatten(0, 1), flat, reduction="none").view_as(found)
    (true_slope,) = torch.autograd.grad((expected * weights).sum(), other)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope.double(), true_slope, rtol=1e-5, atol=1e-6)
    assert float(found.detach().max()) > 150


def test_a_second_derivative_is_an_error_and_none_where_it_is_not_ruled_out() -> None:
    x = drawn(ROWS, WIDTH).requires_grad_()
    weight = drawn(WIDTH, seed=1)
    for on in (False, True):
        with fused.first_order(on):
            (slope,) = torch.autograd.grad(norms(x, weight).sum(), x, create_graph=True)
            if on:
                with pytest.raises(RuntimeError, match="does not require grad"):
                    torch.autograd.grad(slope.sum(), x)
            else:
                torch.autograd.grad(slope.sum(), x)


def test_it_applies_to_float32_on_a_cpu_where_it_is_allowed() -> None:
    assert not fused.applies(drawn(1))
    with fused.first_order():
        assert fused.applies(drawn(1))
        assert not fused.applies(drawn(1).double())
        assert not fused.applies(drawn(1).bfloat16())
        assert not fused.applies(drawn(1).to("meta"))
