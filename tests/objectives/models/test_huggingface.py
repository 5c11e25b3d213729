"""Hugging Face folders are data: no code, no foreign implementation, one sentence for damage."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from objectives.config.recipe import Model
from objectives.data.tokenize import load_tokenizer
from objectives.models import causal_lm, huggingface
from tests.objectives import toy

ROOT = Path(causal_lm.__file__).parents[2]


DOOR = re.compile(
    r"\b(?:Auto\w+|PeftModel|datasets)\.(?:from_pretrained|from_config|load_dataset)\("
)


DOORS = {
    "objectives/models/huggingface.py",
    "objectives/models/library_fingerprints.py",  # configs of its own
    "objectives/data/sources.py",  # datasets runs no scripts since 4.0
}


def test_no_other_module_opens_a_hugging_face_folder() -> None:
    packages = ("objectives", "hpo", "studies", "examples")
    found = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if DOOR.search(path.read_text(encoding="utf-8"))
    }
    shown_in_a_card = {"hpo/report/model_card.py"}
    assert found - shown_in_a_card <= DOORS
    text = (ROOT / "objectives/models/huggingface.py").read_text(encoding="utf-8")
    assert len(DOOR.findall(text)) == text.count("**NO_CODE")


def config_folder(folder: Path, **changed: Any) -> Path:
    data = {**toy.CONFIGS["llama"].to_dict(), **changed}
    (folder / "config.json").write_text(json.dumps(data))
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A standard input that would say yes."""
    answers = io.StringIO("y\n" * 9)
    monkeypatch.setattr("sys.stdin", answers)
    return answers


def test_code_of_a_folder_never_runs_and_nobody_is_asked(
    tmp_path: Path, asked: io.StringIO
) -> None:
    ran = tmp_path / "RAN"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    auto_map = {"AutoConfig": "own.Config", "AutoTokenizer": [None, "own.Tok"]}
    config_folder(tmp_path, model_type="own", auto_map=auto_map)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Tok", "auto_map": auto_map})
    )
    with pytest.raises(ValueError, match=r"^model\.config .* code of its own, which is never run"):
        causal_lm.build_config(Model(preset=None, config=str(tmp_path)), 300)
    with pytest.raises(ValueError, match=r"^corpus\.tokenizer .* cannot be read"):
        load_tokenizer(str(tmp_path))
    assert not ran.exists()
    assert asked.tell() == 0


def test_a_config_does_not_choose_how_attention_is_computed(tmp_path: Path) -> None:
    config_folder(tmp_path, _attn_implementation="kernels-community/flash-attn")
    config = causal_lm.build_config(Model(preset=None, config=str(tmp_path)), toy.VOCAB)
    assert config._attn_implementation is None
    found = causal_lm.initial_parameters(Model(), config, 0)
    assert toy.same(found, toy.initial(toy.CONFIGS["llama"], 0))


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_size": "wide"},
        {"num_hidden_layers": None},
        {"rope_parameters": {"rope_type": "spiral", "rope_theta": 1.0}},
        {"model_type": "t5"},
        {"model_type": 5},
        {"model_type": "unheard"},
        {"num_hidden_layers": 2**31},
        {"head_dim": 2**31},
        {"intermediate_size": 10**10},
        {"hidden_size": 10**12},
        {"hidden_size": 2**63},
    ],
    ids=str,
)
def test_a_config_that_cannot_be_used_is_one_short_sentence(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    from objectives.config.recipe import Recipe
    from objectives.finetuning.model_check import check_model

    config_folder(tmp_path, **changed)
    with pytest.raises(ValueError, match=r"^model[. ]") as caught:
        check_model(Recipe(model=Model(preset=None, config=str(tmp_path))), toy.VOCAB)
    assert str(tmp_path) in str(caught.value)
    assert "lora" not in str(caught.value).lower()
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert "\n" not in str(caught.value)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def pickled(file: Path) -> None:
    file.write_bytes(b"\x80\x04}\x94\x8c\x01w\x94K\x01s.")  # {"w": 1}


def outside(file: Path) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../other.safetensors"}}
    (file.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    file.unlink()


def waits(file: Path) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "part.safetensors"}}
    (file.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    file.unlink()
    os.mkfifo(file.parent / "part.safetensors")


def missing(file: Path) -> None:
    waits(file)
    (file.parent / "part.safetensors").unlink()


def no_numbers(file: Path) -> None:
    found = load_file(file)
    found["model.norm.weight"].fill_(float("nan"))
    save_file(found, file, metadata={"format": "pt"})


@pytest.mark.parametrize("damage", [cut, pickled, outside, waits, missing, no_numbers])
def test_weights_that_are_damaged_are_one_sentence_that_names_them(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_config(toy.CONFIGS["llama"]).save_pretrained(tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"^model\.weights .*(be read|no numbers)") as caught:
        causal_lm.initial_parameters(Model(weights=str(tmp_path)), toy.CONFIGS["llama"], 0)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("model.layers.9.mlp.up_proj.weight", False),
        ("layers.9.mlp.up_proj.weight", False),
        ("model.layers.0.self_attn.k_proj.bias", False),
        ("lm_head.bias", False),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", True),
        ("model.layers.0.self_attn.masked_bias", True),
        ("vision_tower.layers.0.mlp.fc1.weight", True),
        ("score.weight", True),
    ],
)
def test_weights_of_more_layers_or_with_a_bias_that_the_model_lacks_are_refused(
    key: str, fits: bool, tmp_path: Path
) -> None:
    """Without them another model would be trained; other parts are left out."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(toy.CONFIGS["llama"]).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), key: torch.zeros(2)}, file, metadata={"format": "pt"})
    refused = pytest.raises(ValueError, match=rf"they hold {key}, which the config has no place")
    with contextlib.nullcontext() if fits else refused:
        causal_lm.initial_parameters(Model(weights=str(tmp_path)), toy.CONFIGS["llama"], 0)


@pytest.mark.parametrize("text", ["{}", "", "[", "null"])
def test_a_tokenizer_that_is_damaged_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"^corpus\.tokenizer .* cannot be read") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_multimodal_config_gives_its_text_model(tmp_path: Path) -> None:
    text = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    config = huggingface.load_config(str(tmp_path))
    assert (config.model_type, config.hidden_size) == ("gemma3_text", 16)


def test_padding_is_left_out_where_it_may_be_and_else_is_trained(tmp_path: Path) -> None:
    LlamaConfig(pad_token_id=3).save_pretrained(tmp_path)
    assert causal_lm.build_config(Model(preset=None, config=str(tmp_path)), 99).pad_token_id is None
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "modernbert-decoder", "hidden_size": 16, "num_hidden_layers": 1,
                    "num_attention_heads": 2, "intermediate_size": 16})
    )  # fmt: skip
    config = causal_lm.build_config(Model(preset=None, config=str(tmp_path)), 99)
    assert config.pad_token_id == 0
    module: Any = causal_lm.build_module(config, "cpu")
    assert module.get_input_embeddings().padding_idx is None


def test_a_config_of_many_parts_or_bytes_is_refused_before_transformers_reads_it(
    tmp_path: Path,
) -> None:
    config_folder(tmp_path, model_type="qwen3", text_config={"num_hidden_layers": 10**12})
    with pytest.raises(ValueError, match="num_hidden_layers is 1000000000000, more than 10000"):
        huggingface.load_config(str(tmp_path))
    with (tmp_path / "config.json").open("r+b") as file:
        file.truncate(10**11)
    with pytest.raises(ValueError, match=r"config.json has more than \d+ bytes"):
        huggingface.load_config(str(tmp_path))
