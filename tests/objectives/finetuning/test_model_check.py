"""What is found out about a model before it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedConfig
from transformers.utils import logging

from objectives.config.recipe import Model, Recipe
from objectives.config.training import Finetune, Lora, Pretrain, Schedule
from objectives.data.tasks import Encoded
from objectives.finetuning import model_check
from objectives.models import attention, causal_lm
from objectives.training import batch, packing
from tests.objectives import tiny_configs, toy

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap in torch


def config(name: str, **changed: Any) -> PreTrainedConfig:
    found = tiny_configs.tiny_config(name)
    for key, value in changed.items():
        setattr(found, key, value)
    found.use_cache = False
    return found


@pytest.mark.parametrize(
    ("name", "changed", "tokens", "fault"),
    [
        ("llama", {}, 24, None),
        ("llama4_text", {"attention_chunk_size": 16}, 24, "differ from transformers' own"),
        ("llama4_text", {"attention_chunk_size": 24}, 24, None),
        ("mistral", {"sliding_window": 23}, 24, "sliding window of 23"),
        ("mistral", {"sliding_window": 24}, 24, None),
        ("gemma2", {}, 24, "only plain causal"),
        ("gpt_oss", {}, 24, "sinks"),
        ("codegen", {}, 24, "differ from transformers' own"),
        ("xlnet", {}, 24, "not causal"),
        ("gptj", {}, 24, "attention of its own"),
    ],
)
def test_attention_that_the_rows_reach_is_what_transformers_computes_or_refused(
    name: str, changed: dict[str, Any], tokens: int, fault: str | None
) -> None:
    found = model_check.find_fault(config(name, **changed), tokens)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_a_leak_alone_is_found_where_both_models_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "TOLERANCE", 1e-3)
    monkeypatch.setattr(model_check._Trial, "_compare_with_plain", lambda *given: None)
    fault = model_check.find_fault(config("codegen"), 24)
    assert fault is not None
    assert "a later token changes" in fault


def test_a_window_between_the_tried_and_the_longest_row_is_refused_from_the_config_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_check, "BUDGET_FLOPS", 0.0)
    windowed = config("mistral", sliding_window=30)
    assert model_check.find_fault(windowed, 30) is None
    assert "sliding_window of 30" in (model_check.find_fault(windowed, 40) or "")


def test_unknown_arguments_of_attention_are_refused_and_those_without_effect_are_not() -> None:
    x = torch.zeros(1, 1, 2, 4)
    given: tuple[Any, ...] = (torch.nn.Identity(), x, x, x, None)
    attention.attention_forward(*given, position_ids=torch.arange(2), use_cache=False, sinks=None)
    with pytest.raises(ValueError, match="attention with sinks cannot run as lanes"):
        attention.attention_forward(*given, sinks=torch.zeros(1))
    with pytest.raises(ValueError, match="only plain causal"):
        attention.attention_forward(*given, is_causal=False)


def recipe(folder: Path, **fine: Any) -> Recipe:
    return Recipe(
        model=Model(preset=None, config=str(folder)),
        pretrain=Pretrain(seq_len=12, steps=4, schedule=Schedule()),
        finetune=Finetune(max_length=12, **fine),
    )


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("llama", None),
        ("mixtral", "experts' gate_up_proj, down_proj"),
        ("mamba", "no adapters on dt_proj, out_proj|no adapters on .*out_proj"),
        ("qwen2_moe", "no adapters on"),
    ],
)
def test_layers_without_adapters_are_noted(name: str, note: str | None, tmp_path: Path) -> None:
    tiny_configs.tiny_config(name).save_pretrained(tmp_path)
    notes = model_check.check_model(recipe(tmp_path), tiny_configs.VOCAB)
    assert (not notes) == (note is None)
    if note is not None:
        assert any(part in each for each in notes for part in note.replace(".*", "").split("|"))


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (("q_proj", "wq"), "'wq', but no layer"),
        (("embed_tokens",), "no linear layer"),
        (("lm_head", "q_proj"), "whose weights are also those of model.embed_tokens"),
    ],
)
def test_targets_that_do_not_fit_are_refused_before_training(
    targets: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    toy.CONFIGS["llama"].save_pretrained(tmp_path)
    given = recipe(tmp_path, lora=Lora(targets=targets))
    with pytest.raises(ValueError, match=r"^finetune\.lora\.targets") as caught:
        model_check.check_model(given, toy.VOCAB)
    assert problem in str(caught.value)
    full = recipe(tmp_path, lora=Lora(targets=targets), method="full")
    assert model_check.check_model(full, toy.VOCAB) == []


def test_weights_that_are_used_without_calling_their_layer_are_no_targets(tmp_path: Path) -> None:
    tiny_configs.tiny_config("mamba").save_pretrained(tmp_path)
    given = recipe(tmp_path, lora=Lora(targets=("dt_proj",)))
    with pytest.raises(ValueError, match=r"dt_proj, whose weights are used without calling it"):
        model_check.check_model(given, tiny_configs.VOCAB)


def test_a_config_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_configs.tiny_config("qwen3").save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**data, "rms_norm_eps": 1.5e-6}))
    tried: list[str] = []

    def fault(*given: Any) -> None:
        tried.append("once")

    monkeypatch.setattr(model_check, "find_fault", fault)
    for _ in range(3):
        model_check.check_model(recipe(tmp_path), tiny_configs.VOCAB)
    assert tried == ["once"]


def encoded() -> Encoded:
    """Rows of different length, the last of whose tokens count."""
    draw = np.random.default_rng(0)
    lengths = np.array([5, 9, 7, 6])
    ids = np.zeros((4, 11), np.int64)
    for row, length in enumerate(lengths):
        ids[row, : length + 1] = draw.integers(1, tiny_configs.VOCAB, length + 1)
    positions = np.stack([lengths - 2, lengths - 1], 1)
    return Encoded(ids=ids, positions=positions, weights=np.ones((4, 2), np.float32))


@pytest.mark.parametrize(
    ("name", "packs"),
    [("llama", True), ("mamba", False), ("falcon_h1", False), ("lfm2", False), ("bamba", False),
     ("qwen3_next", False), ("jamba", False)],
)  # fmt: skip
def test_rows_are_packed_only_where_no_state_crosses_from_one_to_the_next(
    name: str, packs: bool
) -> None:
    logging.set_verbosity_error()
    found = config(name)
    module = causal_lm.build_module(found, "cpu")
    params = batch.stack([causal_lm.initial_parameters(Model(), found, 0)])
    assert packing.works(module, params, encoded()) == packs
