"""Roles partition the parameters of many layouts; fused projections are cut as the model does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    MistralConfig,
    MptConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
)

from objectives.models import causal_lm, parameter_roles
from tests.objectives import toy

SMALL: dict[str, Any] = {
    "vocab_size": toy.VOCAB,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


CONFIGS: dict[str, PreTrainedConfig] = {
    **toy.CONFIGS,
    "untied": toy.CONFIGS["llama"].__class__(**SMALL, num_key_value_heads=2),
    "mistral": MistralConfig(**SMALL, num_key_value_heads=2),
    "phi3": Phi3Config(**SMALL, num_key_value_heads=2),
    "opt": OPTConfig(**SMALL, ffn_dim=40, word_embed_proj_dim=16),
    "bloom": BloomConfig(vocab_size=toy.VOCAB, hidden_size=16, n_layer=2, n_head=4),
    "mpt": MptConfig(vocab_size=toy.VOCAB, d_model=16, n_layers=2, n_heads=4),
}


TIED = {"llama", "gpt2", "opt", "bloom", "mpt"}


def plain(config: PreTrainedConfig) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return module.eval()


def by_name(module: nn.Module, row_P: Tensor) -> dict[str, Tensor]:
    parameters = dict(module.named_parameters())
    parts = row_P.split([parameter.numel() for parameter in parameters.values()])
    return {
        name: part.view(parameter.shape)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True)
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_has_one_role_and_every_role_its_parameters(name: str) -> None:
    module = plain(CONFIGS[name])
    row_P = parameter_roles.of_parameters(module)
    assert row_P.shape == (causal_lm.num_parameters(module),)
    counts = torch.bincount(row_P.long(), minlength=len(parameter_roles.ROLES)).tolist()
    assert sum(counts) == len(row_P)
    found = {role for role, count in zip(parameter_roles.ROLES, counts, strict=True) if count}
    assert found == set(parameter_roles.ROLES) - ({"head"} if name in TIED else set())


def test_the_roles_of_a_llama_and_a_gpt2_are_these() -> None:
    module = plain(CONFIGS["untied"])
    expected = {
        "embed_tokens": "embed", "lm_head": "head", "q_proj": "attn_qk", "k_proj": "attn_qk",
        "v_proj": "attn_vo", "o_proj": "attn_vo", "gate_proj": "mlp", "up_proj": "mlp",
        "down_proj": "mlp", "input_layernorm": "norm", "post_attention_layernorm": "norm",
        "norm": "norm",
    }  # fmt: skip
    for name, part in by_name(module, parameter_roles.of_parameters(module)).items():
        assert {parameter_roles.ROLES[role] for role in part.unique()} == {
            expected[name.split(".")[-2]]
        }
    found = by_name(plain(CONFIGS["gpt2"]), parameter_roles.of_parameters(plain(CONFIGS["gpt2"])))
    fused = found["transformer.h.1.attn.c_attn.weight"]
    assert (fused[:, :32] == parameter_roles.QK).all()
    assert (fused[:, 32:] == parameter_roles.VO).all()
    assert (
        found["transformer.h.1.attn.c_attn.bias"].tolist()
        == [parameter_roles.QK] * 32 + [parameter_roles.VO] * 16
    )
    assert (found["transformer.wpe.weight"] == parameter_roles.EMBED).all()
    assert (found["transformer.h.0.mlp.c_proj.bias"] == parameter_roles.MLP).all()
    assert (found["transformer.h.0.ln_1.bias"] == parameter_roles.NORM).all()


def attention_outputs(module: nn.Module, ids: Tensor) -> list[Tensor]:
    """What the values bring: the outputs of all attention blocks, biases taken away."""
    found: list[Tensor] = []
    handles = [
        part.register_forward_pre_hook(lambda part, args: found.append(args[0]))
        for path, part in module.named_modules()
        if path.split(".")[-1] in ("o_proj", "out_proj", "dense") or path.endswith(("attn.c_proj",))
    ]
    with torch.no_grad():
        module(ids)
    for handle in handles:
        handle.remove()
    assert len(found) == 2
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_without_the_values_part_attention_sees_nothing(name: str) -> None:
    """Zeroing what counts as values (and outputs) leaves nothing before the output projection."""
    module, ids = plain(CONFIGS[name]), toy.ids(2, 8)
    assert all(out.abs().sum() > 0 for out in attention_outputs(module, ids))
    zero(module, parameter_roles.VO)
    assert all((out == 0).all() for out in attention_outputs(module, ids))


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"bloom", "mpt"}))
def test_without_queries_and_keys_every_value_weighs_the_same(name: str) -> None:
    """The last position then sees the plain mean, whatever the order of what came before.

    Not so for BLOOM and MPT, which weigh by distance without parameters.
    """
    module = plain(CONFIGS[name])
    zero(module, parameter_roles.QK)
    first = toy.ids(1, 8)
    swapped = first[:, [1, 0, *range(2, 8)]]
    if name in ("gpt2", "opt"):
        module.get_parameter(POSITIONS[name]).data.zero_()
    one, other = (attention_outputs(module, ids)[0][:, -1] for ids in (first, swapped))
    torch.testing.assert_close(one, other)
    assert one.abs().sum() > 0


POSITIONS = {"gpt2": "transformer.wpe.weight", "opt": "model.decoder.embed_positions.weight"}


def zero(module: nn.Module, role: int) -> None:
    """Set all parameters of a role to zero."""
    parts = by_name(module, parameter_roles.of_parameters(module))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.mul_(parts[name] != role)


def test_a_layout_that_is_not_known_is_named() -> None:
    module = plain(FalconConfig(vocab_size=toy.VOCAB, hidden_size=16, num_hidden_layers=1,
                                num_attention_heads=4))  # fmt: skip
    with pytest.raises(
        ValueError, match=r"h\.0\.self_attention\.query_key_value\.weight"
    ) as caught:
        parameter_roles.of_parameters(module)
    assert "leave pretrain.weight_decay.multipliers at 1" in str(caught.value)
    opt = OPTConfig(**SMALL, ffn_dim=40, word_embed_proj_dim=8)
    with pytest.raises(ValueError, match=r"role of parameter model\.decoder\.project_out\.weight"):
        parameter_roles.of_parameters(plain(opt))


@pytest.mark.parametrize("name", ["llama", "untied", "gpt2"])
def test_all_but_norms_and_the_output_layer_is_followed_by_a_norm(name: str) -> None:
    module = plain(CONFIGS[name])
    normalised = by_name(module, parameter_roles.is_normalised(module))
    for parameter, part in normalised.items():
        outputs = name != "untied" and ("embed_tokens" in parameter or "wte" in parameter)
        none = outputs or "norm" in parameter or "ln_" in parameter or "lm_head" in parameter
        assert part.all() if not none else not part.any(), parameter


@pytest.mark.parametrize("name", ["llama", "untied", "gpt2", "neox", "phi3"])
def test_linear_matrices_lie_where_the_rows_have_them(name: str) -> None:
    module = plain(CONFIGS[name])
    row_P = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    found = parameter_roles.linear_matrices(module)
    a_layer = {"gpt2": 4, "neox": 4, "phi3": 4}.get(name, 7)
    assert len(found) == 2 * a_layer + 1
    assert [each.layer for each in found] == ["0"] * a_layer + ["1"] * a_layer + [""]
    for each in found:
        weight = row_P[each.span].view(each.shape)
        assert torch.equal(weight, module.get_submodule(each.name).weight)
