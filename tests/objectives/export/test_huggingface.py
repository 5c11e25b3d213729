"""Lanes written as Hugging Face folders: plain transformers and PEFT give the same losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from objectives.config.recipe import Model
from objectives.config.training import Lora
from objectives.data.token_dataset import TokenDataset
from objectives.export import huggingface
from objectives.finetuning import lora
from objectives.models import causal_lm
from objectives.training import batch, loop, optimizers
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel
from tests.objectives import toy

LANES, B, T = 3, 2, 8


pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def trained(name: str, program: LaneModel, shapes: dict[str, torch.Size], frozen: object = None,
            first: list[dict[str, torch.Tensor]] | None = None) -> loop.State:  # fmt: skip
    """Three lanes after four steps, each at its own rate."""
    rows = first or [toy.initial(toy.CONFIGS[name], seed) for seed in range(LANES)]
    state = loop.State.fresh(shapes, batch.join_rows(rows, shapes))
    plan = loop.Plan(
        lr_SK=torch.tensor([[1e-2, 2e-2, 3e-2]] * 4),
        decay_SK=torch.full((4, LANES), 0.1),
        constants=optimizers.constants(LANES, "cpu"),
    )
    loop.train(program, state, plan, lambda step: TokenBatch(toy.ids(B, T + 1, seed=step)), until=4,
                frozen=frozen)  # type: ignore[arg-type]  # fmt: skip
    return state


@pytest.mark.parametrize("name", toy.CONFIGS)
def test_a_lane_loads_in_plain_transformers_with_the_same_loss(
    name: str, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    config = toy.CONFIGS[name]
    module = causal_lm.build_module(config, "cpu")
    shapes = {key: p.shape for key, p in module.named_parameters()}
    program = LaneModel(module)
    state = trained(name, program, shapes)
    lane = {key: p[1] for key, p in batch.split_rows(shapes, state.rows.values).items()}
    huggingface.write_model(tmp_path, config, lane, toy_corpus.tokenizer)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    rows = toy.ids(B, T + 1)
    expected = program.losses(state.rows.views, None, TokenBatch(rows))[1]
    torch.testing.assert_close(loaded(input_ids=rows, labels=rows).loss, expected)
    text = "the cat sat"
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert reloaded(text)["input_ids"] == toy_corpus.tokenizer(text)["input_ids"]


def test_weights_are_written_in_full_whatever_the_precision_of_the_config(
    toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    toy.CONFIGS["llama"].save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**data, "dtype": "bfloat16"}))
    config = causal_lm.build_config(Model(preset=None, config=str(tmp_path)), toy.VOCAB)
    params = toy.initial(config, 0)
    huggingface.write_model(tmp_path / "base", config, params, toy_corpus.tokenizer)
    loaded = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "base").named_parameters())
    assert toy.same(params, {name: p.detach() for name, p in loaded.items()})


@pytest.mark.parametrize(
    ("name", "saved"),
    [("llama", ()), ("gpt2", ()), ("llama", ("norms",)), ("llama", ("embeddings", "norms")),
     ("gpt2", ("head",)), ("qwen3", ("norms", "head")), ("neox", ("embeddings", "norms", "head"))],
)  # fmt: skip
def test_an_adapter_loads_in_plain_peft_with_the_same_loss(
    name: str, saved: tuple[Any, ...], toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    config, given = toy.CONFIGS[name], Lora(rank=3, alpha=5.0, modules_to_save=saved)
    base = toy.initial(config, 0)
    adapted = lora.Adapted(config, given, "cpu")
    program = toy.adapted_program(config, adapted)
    frozen = adapted.frozen(batch.stack([base]))
    first = [adapted.initial(seed) | adapted.saved_weights(base) for seed in range(LANES)]
    state = trained(name, program, adapted.shapes, frozen, first)
    arm = {key: p[2] for key, p in batch.split_rows(adapted.shapes, state.rows.values).items()}
    huggingface.write_model(tmp_path / "base", config, base, toy_corpus.tokenizer)
    huggingface.write_adapter(tmp_path / "adapter", adapted, arm)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    rows = toy.ids(B, T + 1)
    without = plain(input_ids=rows, labels=rows).loss
    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    found = loaded(input_ids=rows, labels=rows).loss
    expected = program.losses(state.rows.views, frozen, TokenBatch(rows))[2]
    torch.testing.assert_close(found, expected)
    assert abs(found - without) > 1e-3
    merged = loaded.merge_and_unload()(input_ids=rows, labels=rows).loss
    torch.testing.assert_close(merged, expected)


def test_an_adapter_names_its_base_so_that_peft_loads_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_corpus: TokenDataset
) -> None:
    config = toy.CONFIGS["llama"]
    base = toy.initial(config, 0)
    huggingface.write_model(tmp_path / "base", config, base, toy_corpus.tokenizer)
    adapted = lora.Adapted(config, Lora(rank=2), "cpu")
    params = adapted.initial(3)
    monkeypatch.chdir(tmp_path)
    huggingface.write_adapter(Path("adapters/x"), adapted, params, Path("base"))
    monkeypatch.chdir(tmp_path.parent)
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapters" / "x")
    found = {name.replace("base_model.model.", ""): p for name, p in loaded.named_parameters()}
    assert all(torch.equal(found[name], p) for name, p in params.items())
    embedding = found["model.embed_tokens.weight"]
    assert torch.equal(embedding, base["model.embed_tokens.weight"])
