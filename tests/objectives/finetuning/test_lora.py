"""Adapters: PEFT's own, on any model, and nothing silently left out."""

from __future__ import annotations

import math

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer

from objectives.config.training import Lora
from objectives.finetuning import lora
from objectives.models import causal_lm
from objectives.training import batch
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel
from tests.objectives import toy

B, T = 3, 10


pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.mark.parametrize("name", toy.CONFIGS)
def test_initial_adapters_are_pefts_own_drawn_layer_by_layer_from_the_seed(name: str) -> None:
    adapted = lora.Adapted(toy.CONFIGS[name], Lora(rank=3), "cpu")
    found = adapted.initial(7)
    base = toy.plain(toy.CONFIGS[name], toy.initial(toy.CONFIGS[name], 0))
    peft = get_peft_model(base, adapted.lora_config)  # type: ignore[arg-type]
    torch.manual_seed(7)
    for layer in peft.modules():
        if isinstance(layer, LoraLayer):
            layer.reset_lora_parameters("default", True)
    expected = {
        name.removeprefix("base_model.model."): p.detach()
        for name, p in peft.named_parameters()
        if p.requires_grad
    }
    assert toy.same(found, expected)
    assert list(found) == list(adapted.shapes)
    for name, parameter in found.items():
        assert parameter.abs().sum() == 0 if "lora_B" in name else parameter.std() > 0


def test_initial_adapters_follow_the_seed_alone() -> None:
    adapted = lora.Adapted(toy.CONFIGS["llama"], Lora(rank=3), "cpu")
    before = torch.get_rng_state()
    first = adapted.initial(1)
    assert toy.same(first, adapted.initial(1))
    assert not toy.same(first, adapted.initial(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.is_meta for p in adapted.module.parameters())


@pytest.fixture(params=[0.0, math.inf], ids=["beside", "merged"])
def merging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Adapters run as PEFT does, and merged into the weights."""
    monkeypatch.setattr(lora, "MERGED_BELOW", request.param)
    return bool(request.param)


@pytest.mark.usefixtures("merging")
@pytest.mark.parametrize("name", toy.CONFIGS)
def test_fresh_adapters_change_nothing(name: str) -> None:
    config = toy.CONFIGS[name]
    adapted = lora.Adapted(config, Lora(rank=3), "cpu")
    bases = batch.stack([toy.initial(config, seed) for seed in range(2)])
    rows = TokenBatch(toy.ids(B, T + 1))
    plain = LaneModel(causal_lm.build_module(config, "cpu")).losses(bases, None, rows)
    arms = batch.stack([adapted.initial(seed) for seed in range(4)])
    found = toy.adapted_program(config, adapted).losses(arms, adapted.frozen(bases), rows)
    torch.testing.assert_close(found, plain.repeat_interleave(2))


@pytest.mark.usefixtures("merging")
@pytest.mark.parametrize("name", toy.CONFIGS)
def test_trained_adapters_give_what_the_peft_model_gives(name: str) -> None:
    config = toy.CONFIGS[name]
    adapted = lora.Adapted(config, Lora(rank=2, alpha=8.0), "cpu")
    base = toy.initial(config, 0)
    arm = {name: torch.randn_like(p) * 0.2 for name, p in adapted.initial(0).items()}
    peft = get_peft_model(toy.plain(config, base), adapted.lora_config)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(arm[name.removeprefix("base_model.model.")])
    rows = toy.ids(B, T + 1)
    expected = peft.eval()(input_ids=rows, labels=rows).loss
    frozen = adapted.frozen(batch.stack([base]))
    found = toy.adapted_program(config, adapted).losses(
        batch.stack([arm]), frozen, TokenBatch(rows)
    )
    torch.testing.assert_close(found[0], expected.detach())


def test_the_recipes_numbers_reach_peft() -> None:
    given = Lora(rank=5, alpha=7.0, dropout=0.25, targets=("q_proj", "v_proj"))
    adapted = lora.Adapted(toy.CONFIGS["llama"], given, "cpu")
    assert len(adapted.shapes) == 2 * 2 * 2
    assert all("q_proj" in name or "v_proj" in name for name in adapted.shapes)
    assert all(5 in shape for shape in adapted.shapes.values())
    layer = next(part for part in adapted.module.modules() if isinstance(part, LoraLayer))
    assert layer.scaling["default"] == 7 / 5
    assert layer.lora_dropout["default"].p == 0.25


@pytest.mark.parametrize("name", toy.CONFIGS)
def test_all_linear_layers_but_the_head_get_adapters(name: str) -> None:
    adapted = lora.Adapted(toy.CONFIGS[name], Lora(), "cpu")
    assert not any("lm_head" in key or "embed" in key for key in adapted.shapes)
    frozen_plain = dict(causal_lm.build_module(toy.CONFIGS[name], "cpu").named_parameters())
    assert sorted(adapted.base_names.values()) == sorted(frozen_plain)
    layers = sum("lora_A" in key for key in adapted.shapes)
    assert layers == {"llama": 14, "qwen3": 14, "gpt2": 8, "neox": 8}[name]


@pytest.mark.parametrize("target", ["no_such_layer", "embed_tokens"])
def test_targets_that_are_no_linear_layers_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match=target):
        lora.Adapted(toy.CONFIGS["qwen3"], Lora(targets=(target,)), "cpu")


@pytest.mark.parametrize(
    ("given", "bf16", "merged"),
    [
        (Lora(rank=4), False, True),
        (Lora(rank=4), True, False),
        (Lora(rank=4, dropout=0.1), False, False),
        (Lora(rank=1), False, False),
    ],
    ids=["pays", "bf16 rounds it away", "dropout", "adapters are thin"],
)
def test_adapters_are_merged_where_it_pays_and_is_right(
    given: Lora, bf16: bool, merged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora, "MERGED_BELOW", 3.0)
    adapted = lora.Adapted(toy.CONFIGS["llama"], given, "cpu", bf16=bf16)
    assert (adapted.merged is not None) == merged
