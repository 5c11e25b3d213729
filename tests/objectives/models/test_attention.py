"""Folded attention against torch's, with and without lanes, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from objectives.models.attention import attention_forward

B, H, T, D = 2, 4, 6, 8


MODULE = nn.Identity()


def tensors(*lead: int, heads: int = H, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(*lead, B, H, T, D), *[(*lead, B, heads, T, D)] * (count - 1)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


def lane(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attention_forward(MODULE, query, key, value, None, scaling=0.3)[0]


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    groups = query.shape[-3] // key.shape[-3]
    key, value = (x.repeat_interleave(groups, dim=-3) for x in (key, value))
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3)
    return out.transpose(-3, -2)


def assert_equal_with_gradients(found: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view(found.shape)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 2, H])
def test_one_model_equals_torch_with_and_without_grouped_keys(heads: int) -> None:
    inputs = tensors(heads=heads)
    assert_equal_with_gradients(lane(*inputs), plain(*inputs), inputs)


@pytest.mark.parametrize("heads", [1, H])
def test_lanes_equal_one_model_after_another(heads: int) -> None:
    inputs = tensors(3, heads=heads)
    expected = torch.stack([plain(*(x[k] for x in inputs)) for k in range(3)])
    assert_equal_with_gradients(vmap(lane)(*inputs), expected, inputs)


def test_nested_lanes_equal_one_model_after_another() -> None:
    inputs = tensors(2, 3)
    expected = torch.stack(
        [torch.stack([plain(*(x[g, a] for x in inputs)) for a in range(3)]) for g in range(2)]
    )
    assert_equal_with_gradients(vmap(vmap(lane))(*inputs), expected, inputs)


def test_what_only_some_lanes_have_is_shared_by_the_others() -> None:
    query, key, value = tensors(3)
    shared = key[0]
    found = vmap(lane, in_dims=(0, None, 0))(query, shared, value)
    expected = torch.stack([plain(query[k], shared, value[k]) for k in range(3)])
    assert_equal_with_gradients(found, expected, [query, key, value])
    nested = vmap(vmap(lane, in_dims=(0, None, None)), in_dims=(None, 0, 0))
    expected = torch.stack(
        [
            torch.stack([plain(query[a], key[g], value[g]) for a in range(3)])
            for g in range(3)
        ]
    )  # fmt: skip
    assert_equal_with_gradients(nested(query, key, value), expected, [query, key, value])


def test_no_token_sees_a_later_one() -> None:
    query, key, value = (x.detach() for x in tensors(2))
    before = vmap(lane)(query, key, value)
    key[..., 3:, :] += 1
    value[..., 3:, :] -= 1
    after = vmap(lane)(query, key, value)
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.equal(before[:, :, 3:], after[:, :, 3:])


def test_anything_but_plain_causal_attention_is_refused() -> None:
    query, key, value = tensors()
    backwards = nn.Identity()
    backwards.is_causal = False  # type: ignore[assignment]
    with pytest.raises(ValueError, match="only plain causal"):
        attention_forward(MODULE, query, key, value, torch.ones(B, 1, T, T))
    with pytest.raises(ValueError, match="only plain causal"):
        attention_forward(MODULE, query, key, value, None, softcap=30.0)
    with pytest.raises(ValueError, match="only plain causal"):
        attention_forward(backwards, query, key, value, None)


def test_a_sliding_window_must_hold_the_whole_sequence() -> None:
    query, key, value = tensors()
    with pytest.raises(ValueError, match=f"{T} tokens exceed the model's sliding window of 5"):
        attention_forward(MODULE, query, key, value, None, sliding_window=T - 1)
    out, _ = attention_forward(MODULE, query, key, value, None, sliding_window=T, scaling=0.3)
    torch.testing.assert_close(out, plain(query, key, value))
