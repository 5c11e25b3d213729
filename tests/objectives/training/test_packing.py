"""Rows in one line: the same losses and gradients as padded rows, without the padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from objectives.data.tasks import Encoded
from objectives.models import attention, causal_lm
from objectives.training import batch as lanes
from objectives.training import packing
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel
from tests.objectives import toy

NAMES = ["llama", "gpt2", "qwen3", "neox"]


PROMPTS, COMPLETIONS = (2, 5, 1, 7, 3), (2, 1, 3, 2, 1)


def encoded(prompts: tuple[int, ...] = PROMPTS, prefix_group_size: int = 1) -> Encoded:
    """Random rows of these lengths; `prefix_group_size` at a time have the same prompt."""
    generator = np.random.default_rng(0)
    counts = [COMPLETIONS[row % len(COMPLETIONS)] for row in range(len(prompts))]
    width = max(p + c for p, c in zip(prompts, counts, strict=True)) + 3
    ids = generator.integers(0, toy.VOCAB, (len(prompts), width + 1))
    for row, prompt in enumerate(prompts):
        ids[row, :prompt] = ids[row // prefix_group_size * prefix_group_size, :prompt]
    positions = np.zeros((len(prompts), max(counts)), np.int64)
    weights = np.zeros(positions.shape, np.float32)
    for row, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        positions[row, :count] = np.arange(prompt - 1, prompt - 1 + count)
        weights[row, :count] = 1
    return Encoded(ids, positions, weights)


def losses_and_gradients(
    program: LaneModel, params: dict[str, Tensor], batch: TokenBatch
) -> tuple[Tensor, list[Tensor]]:
    views = {name: p.clone().requires_grad_() for name, p in params.items()}
    loss_K = program.losses(views, None, batch)
    return loss_K.detach(), list(torch.autograd.grad(loss_K.sum(), list(views.values())))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("picked", [np.arange(5), np.array([[0, 1, 2], [3, 3, 4], [1, 1, 1]])],
                         ids=["shared rows", "each lane's own"])  # fmt: skip
@pytest.mark.usefixtures("float64")
def test_losses_and_gradients_equal_those_of_padded_rows(
    name: str, picked: NDArray[np.int64]
) -> None:
    config, rows = toy.CONFIGS[name], encoded()
    program = LaneModel(causal_lm.build_module(config, "cpu"))
    params = lanes.stack([toy.initial(config, seed) for seed in range(3)])
    padded, packed = (
        losses_and_gradients(program, params, packing.batch_of(rows, picked, "cpu", packed=packed))
        for packed in (False, True)
    )
    torch.testing.assert_close(packed[0], padded[0], rtol=0, atol=1e-12)
    for found, expected in zip(packed[1], padded[1], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("float64")
def test_rows_that_begin_alike_share_their_beginning(name: str) -> None:
    config = toy.CONFIGS[name]
    rows = encoded((4, 4, 4, 6, 6, 6), prefix_group_size=3)
    program = LaneModel(causal_lm.build_module(config, "cpu"))
    params = lanes.stack([toy.initial(config, seed) for seed in range(2)])
    picked = np.array([3, 4, 5, 0, 1, 2])
    batch = packing.pack(rows, picked, "cpu", prefix_group_size=3)
    apart = packing.pack(rows, picked, "cpu")
    assert batch.ids.shape[1] == apart.ids.shape[1] - 2 * 4 - 2 * 6
    padded = packing.batch_of(rows, picked, "cpu", packed=False)
    for found, expected in zip(
        program.scores(params, None, batch), program.scores(params, None, padded), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_rows_without_a_prompt_share_nothing_where_their_first_tokens_differ() -> None:
    rows = encoded((1, 1, 1), prefix_group_size=3)
    rows.ids[:, 0] = [5, 6, 7]
    batch = packing.pack(rows, np.arange(3), "cpu", prefix_group_size=3)
    assert batch.ids.shape == packing.pack(rows, np.arange(3), "cpu").ids.shape


def test_a_line_holds_no_padding_but_one_token() -> None:
    rows = encoded()
    batch = packing.pack(rows, np.arange(5), "cpu")
    needed = [prompt + count - 1 for prompt, count in zip(PROMPTS, COMPLETIONS, strict=True)]
    assert batch.ids.shape == (1, sum(needed) + 1)
    assert batch.layout is not None
    assert batch.layout.row_to_line.shape == (5, max(needed) + 1)
    assert batch.layout.position_ids[0].tolist() == [t for n in needed for t in range(n)] + [0]


@pytest.mark.parametrize("name", NAMES)
def test_packing_works_in_models_that_mix_tokens_in_attention_alone(name: str) -> None:
    config = toy.CONFIGS[name]
    module = causal_lm.build_module(config, "cpu")
    assert packing.works(module, lanes.stack([toy.initial(config, 0)]), encoded())


class Leaky(nn.Module):
    """Takes positions and mixes every token with the one before."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def get_output_embeddings(self) -> Any:
        return self.inner.get_output_embeddings()  # type: ignore[operator]

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Any:
        before = torch.cat([input_ids[:, :1], input_ids[:, :-1]], 1)
        return self.inner((input_ids + before) // 2, position_ids=position_ids)


class Positionless(Leaky):
    """Takes no positions at all."""

    def forward(self, input_ids: Tensor) -> Any:  # type: ignore[override]
        return self.inner(input_ids)


@pytest.mark.parametrize("kind", [Leaky, Positionless])
def test_packing_is_not_used_where_rows_would_see_each_other(kind: type[Leaky]) -> None:
    config = toy.CONFIGS["llama"]
    params = {f"inner.{name}": p[None] for name, p in toy.initial(config, 0).items()}
    assert not packing.works(kind(causal_lm.build_module(config, "cpu")), params, encoded())


def test_the_gradient_of_a_place_is_taken_where_it_went() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    index, back = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])
    weights = torch.randn(4, 3)
    (attention._Take.apply(x, index, back) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weights[back])
