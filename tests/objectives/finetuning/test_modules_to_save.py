"""Modules that are trained in full beside adapters: which tensors these are in each model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from objectives.config.recipe import Model, Recipe
from objectives.config.training import Finetune, Lora, Pretrain, Schedule
from objectives.finetuning import lora, model_check, runs
from objectives.finetuning.lora_targets import skeleton
from objectives.finetuning.modules_to_save import saved_modules
from tests.objectives import tiny_configs, toy

ALL = ("embeddings", "norms", "head")


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("llama", "embeddings", {"model.embed_tokens.weight"}),
        ("llama", "head", {"model.embed_tokens.weight"}),
        ("gpt2", "head", {"transformer.wte.weight"}),
        ("gpt2", "embeddings", {"transformer.wte.weight", "transformer.wpe.weight"}),
        ("neox", "embeddings", {"gpt_neox.embed_in.weight"}),
        ("neox", "head", {"lm_head.weight"}),
        ("qwen3", "head", {"lm_head.weight"}),
    ],
)
def test_a_kind_means_these_parameters_and_a_tied_one_is_trained_once(
    name: str, kind: str, found: set[str]
) -> None:
    saved = saved_modules(skeleton(toy.CONFIGS[name]), [kind])
    assert set(saved.names) == found
    tied = name in ("llama", "gpt2")
    assert saved.shared == tied
    assert ("lm_head" in saved.modules) == (tied or kind == "head")


@pytest.mark.parametrize(
    ("name", "count"), [("llama", 5), ("qwen3", 9), ("gpt2", 10), ("neox", 10)]
)
def test_norms_are_trained_with_their_biases(name: str, count: int) -> None:
    saved = saved_modules(skeleton(toy.CONFIGS[name]), ["norms"])
    assert len(saved.names) == count
    assert not saved.shared


@pytest.mark.parametrize("name", toy.CONFIGS)
def test_trained_parameters_are_the_adapters_and_what_is_saved(name: str) -> None:
    config = toy.CONFIGS[name]
    plain, base = lora.Adapted(config, Lora(rank=3), "cpu"), toy.initial(config, 0)
    adapted = lora.Adapted(config, Lora(rank=3, modules_to_save=ALL), "cpu")  # type: ignore[arg-type]
    start = adapted.initial(7) | adapted.saved_weights(base)
    assert toy.same(plain.initial(7), adapted.initial(7))
    assert {name: p.shape for name, p in start.items()} == adapted.shapes
    assert set(plain.shapes) == set(adapted.shapes) - set(base)
    trained, frozen = set(adapted.saved.names), set(adapted.base_names.values())
    assert trained | frozen == set(base)
    assert not trained & frozen
    assert all("proj" in name or "c_" in name or "dense" in name or "query" in name
               for name in frozen)  # fmt: skip
    assert all(torch.equal(start[name], base[name]) for name in trained)


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("olmo", {"modules_to_save": ("norms",)}, "has 'norms', but the model has no norms with"),
        (
            "qwen3",
            {"modules_to_save": ("embeddings", "head"), "targets": ("q_proj", "lm_head")},
            "has 'head', and finetune.lora.targets names lm_head, which is one of them",
        ),
    ],
)
def test_modules_that_cannot_be_saved_are_refused_before_training(
    name: str, given: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    config = tiny_configs.tiny_config(name)
    config.tie_word_embeddings = False
    config.save_pretrained(tmp_path)
    fine = Finetune(max_length=12, lora=Lora(**given))
    recipe = Recipe(
        model=Model(preset=None, config=str(tmp_path)),
        pretrain=Pretrain(seq_len=12, steps=4, schedule=Schedule()),
        finetune=fine,
    )
    with pytest.raises(ValueError, match=r"^finetune\.lora\.modules_to_save") as caught:
        model_check.check_model(recipe, tiny_configs.VOCAB)
    assert problem in str(caught.value)


def test_keys_of_adapters_alone_do_not_know_of_saved_modules() -> None:
    before = dataclasses.asdict(Lora(rank=3))
    assert before.pop("modules_to_save") == ()
    assert runs.described_adapter(dataclasses.asdict(Lora(rank=3))) == before
    saved = dataclasses.asdict(Lora(rank=3, modules_to_save=("norms",)))
    assert runs.described_adapter(saved) == before | {"modules_to_save": ("norms",)}
