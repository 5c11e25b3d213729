"""Toy corpora, models and recipes: seconds on a laptop, real all the same."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from objectives.config.data import BuiltinTask, Corpus, Files
from objectives.config.recipe import Model, Recipe
from objectives.config.training import Finetune, Lora, Pretrain, Schedule
from objectives.data import token_dataset
from objectives.finetuning import lora
from objectives.models import causal_lm
from objectives.store.store import Store
from objectives.training.lanes import LaneModel

VOCAB = 300


WIDTH = 16


SEQ_LEN = 12


STEPS = 20


WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "to", "my", "hat", "so", "we")


CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.1,
        use_cache=False,
        tie_word_embeddings=True,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCAB,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        n_positions=64,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=0.1,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "qwen3": Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.1,
        use_cache=False,
    ),
    "neox": GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.1,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    ),
}


def text(paragraphs: int, seed: int = 0) -> list[str]:
    """Paragraphs of random sentences, all different."""
    rng = random.Random(seed)
    return [
        " ".join(rng.choice(WORDS) for _ in range(30)) + f" {seed} {number}."
        for number in range(paragraphs)
    ]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def corpus_recipe(folder: Path, paragraphs: int = 120) -> Corpus:
    """A corpus of one file in the folder."""
    path = folder / "text.jsonl"
    if not path.exists():
        write_jsonl(path, [{"text": paragraph} for paragraph in text(paragraphs)])
    return Corpus(sources=(Files(paths=(str(path),)),), vocab_size=VOCAB, validation_frac=0.2)


def prepared(folder: Path) -> token_dataset.TokenDataset:
    """That corpus as tokens."""
    return token_dataset.prepare(corpus_recipe(folder), SEQ_LEN, Store(folder / "corpus-store"))


def recipe(folder: Path, **pretrain: Any) -> Recipe:
    """Twenty steps of a model of width 16."""
    CONFIGS["llama"].save_pretrained(folder / "llama")
    given = {
        "steps": STEPS,
        "batch_size": 4,
        "seq_len": SEQ_LEN,
        "lr": 1e-2,
        "schedule": Schedule(warmup_steps=4),
        "eval_tokens": 96,
        "curve_tokens": 96,
        "evals": 4,
        **pretrain,
    }
    return Recipe(
        model=Model(preset=None, config=str(folder / "llama")),
        corpus=corpus_recipe(folder),
        pretrain=Pretrain(**given),
    )


def finetune(**given: Any) -> Finetune:
    """Two steps of adapters of rank 2 on a built-in task, at one rate."""
    return Finetune(
        **{
            "tasks": (BuiltinTask(name="list_ops"),),
            "lora": Lora(rank=2),
            "lrs": (1e-2,),
            "max_extensions": 0,
            "steps": 2,
            "batch_size": 2,
            "schedule": Schedule(warmup_steps=1, shape="linear", floor_ratio=0.0),
            "train_rows": 50,
            "validation_rows": 4,
            "test_rows": 6,
            "from_scratch": "off",
            **given,
        }
    )


def plain(config: PreTrainedConfig, params: dict[str, Tensor]) -> nn.Module:
    """An ordinary transformers model with these weights, in eval mode."""
    module: nn.Module = AutoModelForCausalLM.from_config(
        copy.deepcopy(config), attn_implementation="sdpa", dtype=torch.get_default_dtype()
    )
    found = dict(module.named_parameters())
    assert found.keys() == params.keys()
    with torch.no_grad():
        for name, parameter in found.items():
            parameter.copy_(params[name])
    return module.eval()


def initial(config: PreTrainedConfig, seed: int) -> dict[str, Tensor]:
    """Random weights for a config."""
    return causal_lm.initial_parameters(Model(), config, seed)


def ids(*shape: int, seed: int = 0) -> Tensor:
    """Random tokens."""
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of parameters are bit for bit equal."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def adapted_program(config: PreTrainedConfig, adapted: lora.Adapted) -> LaneModel:
    """What trains the adapters."""
    return adapted.program(causal_lm.build_module(config, "cpu"))
