"""Models: the presets' shapes, ties, which parameters decay, what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LlamaConfig

from objectives.config.recipe import Model
from objectives.models import causal_lm, presets
from objectives.training.batch import TokenBatch, stack
from objectives.training.lanes import LaneModel
from tests.objectives import toy


def counted(preset: str, vocab: int) -> int:
    """Parameters of a preset, nothing allocated."""
    config = causal_lm.build_config(Model(preset=preset), vocab)
    with torch.device("meta"):
        return causal_lm.num_parameters(AutoModelForCausalLM.from_config(config))


def by_hand(preset: presets.Preset, vocab: int) -> int:
    """The Llama count from the shape alone."""
    width = preset.width
    kv_width = width * (preset.kv_heads or preset.heads) // preset.heads
    layer = 2 * width**2 + 2 * width * kv_width + 3 * width * preset.ffn + 2 * width
    embeddings = vocab * width * (1 if preset.tied else 2)
    return embeddings + preset.layers * layer + width


@pytest.mark.parametrize(
    ("preset", "width", "ffn", "heads", "layers", "millions"),
    [
        ("llama-60m", 512, 1376, 8, 8, 58),
        ("llama-135m", 768, 2048, 12, 12, 134),
        ("llama-350m", 1024, 2736, 16, 24, 368),
        ("llama-1b", 2048, 5461, 32, 24, 1339),
    ],
)
def test_papers_shapes_are_theirs(
    preset: str, width: int, ffn: int, heads: int, layers: int, millions: int
) -> None:
    """Table of arXiv 2506.14562, section 4; T5's vocabulary of 32,000."""
    config = causal_lm.build_config(Model(preset=preset), 32_000)
    shape = (config.hidden_size, config.intermediate_size, config.num_attention_heads)
    assert (*shape, config.num_hidden_layers) == (width, ffn, heads, layers)
    assert round(counted(preset, 32_000) / 1e6) == millions


@pytest.mark.parametrize(
    ("preset", "vocab", "low", "high"),
    [
        ("llama-0.2m", 1024, 0.15e6, 0.25e6),
        ("llama-1m", 1024, 0.8e6, 1.3e6),
        ("llama-4m", 1024, 3.5e6, 4.8e6),
        ("llama-10m", 1024, 9e6, 11e6),
        ("llama-30m", 1024, 27e6, 33e6),
        ("gpt2-0.2m", 1024, 0.15e6, 0.3e6),
        ("gpt2-124m", 50_257, 124e6, 125e6),
    ],
)
def test_names_tell_the_size(preset: str, vocab: int, low: float, high: float) -> None:
    assert low < counted(preset, vocab) < high


@pytest.mark.parametrize(
    "preset", [name for name, shape in presets.PRESETS.items() if shape.family == "llama"]
)
def test_llamas_have_the_parameters_their_shape_says(preset: str) -> None:
    assert counted(preset, 1000) == by_hand(presets.PRESETS[preset], 1000)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_preset_has_heads_of_even_size(preset: str) -> None:
    shape = presets.PRESETS[preset]
    assert shape.width % (2 * shape.heads) == 0


def test_modules_hold_no_parameters_and_ties_stay_ties() -> None:
    module = causal_lm.build_module(toy.CONFIGS["llama"], "cpu")
    assert all(parameter.is_meta for parameter in module.parameters())
    assert not any(buffer.is_meta for buffer in module.buffers())
    head, embeddings = module.get_output_embeddings(), module.get_input_embeddings()  # type: ignore[operator]
    assert head.weight is embeddings.weight
    assert "lm_head.weight" not in dict(module.named_parameters())
    untied = causal_lm.build_module(toy.CONFIGS["qwen3"], "cpu")
    assert "lm_head.weight" in dict(untied.named_parameters())


@pytest.mark.parametrize("name", toy.CONFIGS)
def test_initial_parameters_match_the_module_and_follow_the_seed(name: str) -> None:
    config = toy.CONFIGS[name]
    module = causal_lm.build_module(config, "cpu")
    first = toy.initial(config, 3)
    assert {n: p.shape for n, p in first.items()} == {
        n: p.shape for n, p in module.named_parameters()
    }
    assert list(first) == [n for n, _ in module.named_parameters()]
    before = torch.get_rng_state()
    assert toy.same(first, toy.initial(config, 3))
    assert not toy.same(first, toy.initial(config, 4))
    assert torch.equal(before, torch.get_rng_state())


def test_initial_parameters_are_transformers_own() -> None:
    config = toy.CONFIGS["gpt2"]
    torch.manual_seed(5)
    expected = dict(AutoModelForCausalLM.from_config(config).named_parameters())
    assert toy.same(toy.initial(config, 5), {n: p.detach() for n, p in expected.items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pretrained_weights_are_continued_in_full_precision(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    config = toy.CONFIGS["llama"]
    weights = toy.initial(config, 7)
    module = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(weights[name])
    module.to(dtype).save_pretrained(tmp_path)
    found = causal_lm.initial_parameters(Model(weights=str(tmp_path)), config, 0)
    assert {p.dtype for p in found.values()} == {torch.float32}
    assert toy.same(found, {name: p.to(dtype).float() for name, p in weights.items()})


def test_weights_that_are_not_there_or_of_another_vocabulary_are_one_clear_error(
    tmp_path: Path,
) -> None:
    config = toy.CONFIGS["llama"]
    with pytest.raises(ValueError, match=r"model\.weights .* cannot be read"):
        causal_lm.initial_parameters(Model(weights=str(tmp_path / "none")), config, 0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    other = LlamaConfig(**{**config.to_dict(), "vocab_size": 400})
    with pytest.raises(ValueError, match=r"model\.weights .* do not fit"):
        causal_lm.initial_parameters(Model(weights=str(tmp_path)), other, 0)


@pytest.mark.parametrize("name", toy.CONFIGS)
def test_decay_masks_name_matrices_embeddings_and_vectors(name: str) -> None:
    module = causal_lm.build_module(toy.CONFIGS[name], "cpu")
    embeddings = {
        id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)
    }  # fmt: skip
    with_embeddings = causal_lm.decayed_mask(module, "matrices_and_embeddings")
    without = causal_lm.decayed_mask(module, "matrices")
    assert causal_lm.decayed_mask(module, "all") is None
    assert with_embeddings is not None
    assert without is not None
    start = 0
    for parameter in module.parameters():
        here = slice(start, start + parameter.numel())
        matrix = parameter.dim() >= 2
        assert set(with_embeddings[here].tolist()) == {float(matrix)}
        assert set(without[here].tolist()) == {float(matrix and id(parameter) not in embeddings)}
        start += parameter.numel()
    assert start == with_embeddings.numel() == without.numel()


def test_a_head_tied_to_embeddings_does_not_decay_as_a_matrix() -> None:
    for name, tied in (("llama", True), ("qwen3", False)):
        module = causal_lm.build_module(toy.CONFIGS[name], "cpu")
        mask = causal_lm.decayed_mask(module, "matrices")
        assert mask is not None
        vectors_and_embeddings = sum(
            p.numel()
            for n, p in module.named_parameters()
            if p.dim() < 2 or "embed" in n
        )  # fmt: skip
        assert mask.numel() - mask.sum() == vectors_and_embeddings
        assert ("lm_head.weight" in dict(module.named_parameters())) != tied


def test_a_config_folder_gives_its_shape_and_takes_the_corpus_vocabulary(tmp_path: Path) -> None:
    toy.CONFIGS["neox"].save_pretrained(tmp_path)
    config = causal_lm.build_config(Model(preset=None, config=str(tmp_path)), 333)
    assert (config.model_type, config.vocab_size, config.hidden_size) == ("gpt_neox", 333, 16)
    assert config.use_cache is False


def test_a_config_with_special_tokens_beyond_the_vocabulary_still_builds(tmp_path: Path) -> None:
    LlamaConfig(
        **{**toy.CONFIGS["llama"].to_dict(), "pad_token_id": 5000, "vocab_size": 6000}
    ).save_pretrained(tmp_path)
    config = causal_lm.build_config(Model(preset=None, config=str(tmp_path)), toy.VOCAB)
    module = causal_lm.build_module(config, "cpu")
    params = stack([toy.initial(config, 0)])
    loss = LaneModel(module).losses(params, None, TokenBatch(toy.ids(2, 9)))
    assert torch.isfinite(loss).all()


def test_a_config_whose_file_has_changed_is_read_again(tmp_path: Path) -> None:
    model = Model(preset=None, config=str(tmp_path))
    for name in ("neox", "llama"):
        toy.CONFIGS[name].save_pretrained(tmp_path)
        config = causal_lm.build_config(model, 333)
        assert type(config) is type(toy.CONFIGS[name])
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        causal_lm.build_config(model, 333)


@pytest.mark.parametrize("preset", [True, False])
def test_whoever_changes_a_config_changes_no_other(preset: bool, tmp_path: Path) -> None:
    toy.CONFIGS["llama"].save_pretrained(tmp_path)
    model = Model() if preset else Model(preset=None, config=str(tmp_path))
    before = causal_lm.build_config(model, 333)
    width = before.hidden_size
    before.hidden_size = 999
    assert causal_lm.build_config(model, 333).hidden_size == width


def test_a_missing_config_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model\.config .* cannot be read[^\n]*config\.json"):
        causal_lm.build_config(Model(preset=None, config=str(tmp_path)), 100)


def test_training_operations_are_six_a_weight_and_attention() -> None:
    config = GPT2Config(n_layer=3, n_embd=8, n_head=2)
    assert causal_lm.flops_per_token(config, 1000, 64) == 6 * 1000 + 12 * 3 * 8 * 64


def test_an_exported_lane_is_an_ordinary_checkpoint_with_the_same_loss(tmp_path: Path) -> None:
    config = toy.CONFIGS["llama"]
    params = toy.initial(config, 1)
    toy.plain(config, params).save_pretrained(tmp_path)  # type: ignore[operator]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    rows = toy.ids(3, 13)
    expected = loaded(input_ids=rows, labels=rows).loss
    program = LaneModel(causal_lm.build_module(AutoConfig.from_pretrained(tmp_path), "cpu"))
    torch.testing.assert_close(program.losses(stack([params]), None, TokenBatch(rows))[0], expected)
