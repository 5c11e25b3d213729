"""Ranks against diagonal matrices and against the dense product's singular values."""

from __future__ import annotations

import math

import pytest
import torch

from objectives.probes import attention_ranks
from objectives.probes.architecture import attention_of
from objectives.probes.types import NotApplicableError
from tests.objectives import toy


@pytest.mark.parametrize(
    ("diagonal", "effective", "stable", "over", "of_sum", "of_squares"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4.0, 4.0, 4, 4, 4),
        ([5.0, 0.0, 0.0, 0.0], 1.0, 1.0, 1, 1, 1),
        ([0.0, 0.0, 0.0, 0.0], 0.0, 0.0, 0, 0, 0),
        # p = 3/4, 1/4; 3 of 4 is no 95 %, 9 of 10 neither.
        ([3.0, 1.0], math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), 10 / 9, 2, 2, 2),
        # 0.04 of the largest is below 5 %; 1 of 1.04 makes 95 % of the sum.
        ([1.0, 0.04], math.exp(math.log(1.04) - 0.04 / 1.04 * math.log(0.04)), 1.0016, 1, 1, 1),
    ],
)  # fmt: skip
def test_ranks_of_diagonal_matrices(
    diagonal: list[float], effective: float, stable: float, over: int, of_sum: int, of_squares: int
) -> None:
    eye = torch.eye(len(diagonal), dtype=torch.float64)
    values = attention_ranks.product_singular_values(
        torch.diag(torch.tensor(diagonal)).double(), eye
    )
    found = {name: float(rank(values)) for name, rank in attention_ranks.RANKS.items()}
    assert found == pytest.approx(
        {
            "effective": effective,
            "stable": stable,
            "over_5_percent": over,
            "95_of_sum": of_sum,
            "95_of_squares": of_squares,
        },
        abs=1e-6,
    )


def test_singular_values_are_those_of_the_dense_product(float64: None) -> None:
    left, right = torch.randn(2, 3, 16, 4), torch.randn(2, 3, 16, 4)
    dense = torch.linalg.svdvals(left @ right.mT)
    torch.testing.assert_close(attention_ranks.product_singular_values(left, right), dense[..., :4])
    assert dense[..., 4:].max() < 1e-12


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_factors_give_each_heads_scores_and_outputs(family: str, float64: None) -> None:
    """Against the projections of the module itself, grouped and fused ones among them."""
    config = toy.CONFIGS[family]
    params = toy.initial(config, 0)
    module = toy.plain(config, params)
    factors = attention_of(config, params)
    heads, groups = 2, 1 if family == "gpt2" else 2
    x_ND = torch.randn(5, config.hidden_size)
    for layer in range(2):
        if family == "gpt2":
            part = module.transformer.h[layer].attn  # type: ignore[union-attr, index]
            bias = part.c_attn(torch.zeros_like(x_ND))
            query, key, value = (part.c_attn(x_ND) - bias).chunk(3, -1)
            out = part.c_proj
        else:
            part = module.model.layers[layer].self_attn  # type: ignore[union-attr, index]
            query, key, value = part.q_proj(x_ND), part.k_proj(x_ND), part.v_proj(x_ND)
            out = part.o_proj
        size = query.shape[1] // heads
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            shared = slice(head // groups * size, (head // groups + 1) * size)
            scores = query[:, own] @ key[:, shared].T
            qk = factors.query[layer, head] @ factors.key[layer, head].T
            torch.testing.assert_close(x_ND @ qk @ x_ND.T, scores)
            alone = torch.zeros_like(query)
            alone[:, own] = value[:, shared]
            added = out(alone) - out(torch.zeros_like(alone))
            vo = factors.output[layer, head] @ factors.value[layer, head].T
            torch.testing.assert_close(x_ND @ vo.T, added)


def test_a_model_without_known_projections_is_not_applicable() -> None:
    config = toy.CONFIGS["neox"]
    with pytest.raises(NotApplicableError, match="no query, key, value and output projections"):
        attention_of(config, toy.initial(config, 0))
