"""What is wrong with a recipe is one sentence, by constructor and path; what is clear is taken."""

from __future__ import annotations

import dataclasses
import json
import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from objectives import (
    BuiltinTask,
    Cifar10,
    Corpus,
    Files,
    FileTask,
    Finetune,
    HubDataset,
    HubTask,
    Lora,
    MidTraining,
    Model,
    Pretrain,
    Probes,
    Recipe,
    ResNet,
    Schedule,
    Stdlib,
    Training,
    VisionRecipe,
    WeightDecay,
)
from objectives.config.data import BuiltinTaskName
from objectives.config.recipe import PresetName
from objectives.data.builtin_tasks import TASKS
from objectives.models.presets import PRESETS

FILE = {"name": "t", "train": "a.jsonl", "test": "b.jsonl"}


def one_sentence(make: Callable[[], object]) -> str:
    """The message of the ValueError, which shows nothing of how it was found."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        make()
    assert type(caught.value) is ValueError
    shown = "".join(traceback.format_exception(caught.value))
    for word in ("pydantic_core", "ValidationError", "input_type", "errors.pydantic.dev"):
        assert word not in shown
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: Pretrain(n_steps=12), "Pretrain has no field 'n_steps'; did you mean steps"),
        (lambda: Pretrain(learning_rate=0.1), "no field 'learning_rate'; did you mean lr"),
        (lambda: Pretrain(wd=0.1), "did you mean weight_decay"),
        (lambda: Pretrain(warmup_steps=3), "did you mean schedule.warmup_steps"),
        (lambda: Pretrain(batch=3), "did you mean batch_size"),
        (lambda: Pretrain(12), "Pretrain takes its fields by name, got 12; write Pretrain(steps="),
        (lambda: Pretrain(batch_size=0), "batch_size of Pretrain must be at least 1, got 0."),
        (lambda: Pretrain(batch_size="8"), "a whole number, got '8'; write it without quotes: 8"),
        (lambda: Pretrain(batch_size=8.5), "batch_size of Pretrain must be a whole number"),
        (lambda: Pretrain(lr="3e-3"), "a number, got '3e-3'; write it without quotes: 3e-3"),
        (lambda: Pretrain(lr="high"), "lr of Pretrain must be a number, got 'high'."),
        (lambda: Pretrain(lr=0), "lr of Pretrain must be above 0, got 0."),
        (lambda: Pretrain(lr=math.nan), "lr of Pretrain must be"),
        (lambda: Pretrain(lr=None), "lr of Pretrain must be a number, got None."),
        (lambda: Pretrain(lr=True), "lr of Pretrain must be a number, got True."),
        (lambda: Pretrain(beta1=1), "beta1 of Pretrain must be below 1, got 1"),
        (lambda: Pretrain(steps=10**30), "steps of Pretrain must be"),
        (lambda: Pretrain(steps=10**5000), "cannot be printed"),
        (lambda: Pretrain(keep_trunk="yes"), "keep_trunk of Pretrain must be true or false"),
        (lambda: Pretrain(precision="fp16"), "must be fp32 or bf16, got 'fp16'"),
        (
            lambda: Pretrain(optimizer="adam"),
            "must be adamw or sgd, got 'adam'; did you mean adamw",
        ),
        (lambda: Pretrain(weight_decay="x"), "must be a number or WeightDecay(...), got 'x'"),
        (lambda: Pretrain(weight_decay=-1), "value of WeightDecay must be at least 0, got -1"),
        (lambda: Pretrain(schedule="cosine"), "must be Schedule(...), got 'cosine'"),
        (lambda: Pretrain(mid={"steps": 3}), "mid of Pretrain must be MidTraining(...), got {"),
        (lambda: Schedule(shape="wsd"), "got 'wsd'; decay_frac below 1 holds the rate"),
        (lambda: Schedule(shape="cosin"), "got 'cosin'; did you mean cosine"),
        (lambda: Schedule(decay_frac=1.5), "decay_frac of Schedule must be at most 1, got 1.5"),
        (lambda: Model(preset="llama-9b"), "did you mean llama-"),
        (lambda: Model(name="llama-1m"), "Model has no field 'name'; choose one of preset"),
        (lambda: Model(preset=3), "preset of Model must be llama-0.06m, "),
        (lambda: BuiltinTask(name="nope"), "name of BuiltinTask must be code_module, "),
        (lambda: BuiltinTask(name="list_op"), "did you mean list_ops"),
        (
            lambda: BuiltinTask("list_ops"),
            "takes its fields by name, got 'list_ops'; write Builtin",
        ),
        (lambda: BuiltinTask(), "BuiltinTask needs name; write BuiltinTask(name=...)"),
        (lambda: FileTask(name="x"), "FileTask needs train and test; write FileTask(train=..., te"),
        (lambda: FileTask(path="x"), "FileTask has no field 'path'; choose one of name, train"),
        (lambda: FileTask(**FILE, metric="f1"), "must be auto, accuracy or exact_match, got 'f1'"),
        (lambda: HubTask(name="x"), "HubTask needs dataset and prompt and completion"),
        (lambda: Files(), "Files needs paths"),
        (lambda: Files(path="a"), "Files has no field 'path'; did you mean paths"),
        (lambda: Files(paths=[1]), "paths.0 of Files must be a text, got 1; write it in quotes"),
        (lambda: Files(paths=None), "paths of Files must be a list, got None"),
        (lambda: Files(paths="a", weight=-1), "weight of Files must be above 0, got -1"),
        (lambda: HubDataset(split="train"), "HubDataset needs name"),
        (lambda: Corpus(sources=["a.jsonl"]), "sources.0 of Corpus must be Stdlib(...) or Files"),
        (lambda: Corpus(sources=[]), "sources of Corpus must be a list with at least one item"),
        (lambda: Corpus(vocab_size=100), "vocab_size of Corpus must be at least 257, got 100"),
        (lambda: Corpus(validation_frac=0), "validation_frac of Corpus must be above 0"),
        (lambda: Finetune(lora=8), "lora of Finetune must be Lora(...), got 8"),
        (lambda: Finetune(lrs=[]), "lrs of Finetune must be a list with at least one item"),
        (lambda: Finetune(lrs=["1e-2"]), "lrs.0 of Finetune must be a number, got '1e-2'; write"),
        (lambda: Finetune(tasks=["list_ops"]), "tasks.0 of Finetune must be BuiltinTask(...) or F"),
        (lambda: Finetune(tasks=[]), "tasks of Finetune must be a list with at least one item"),
        (lambda: Finetune(method="qlora"), "must be lora or full, got 'qlora'; did you mean lora"),
        (lambda: Finetune(rank=8), "did you mean lora.rank"),
        (lambda: Lora(r=8), "Lora has no field 'r'; did you mean rank"),
        (lambda: Lora(lora_alpha=8), "did you mean alpha"),
        (lambda: Lora(dropout=1), "dropout of Lora must be below 1"),
        (lambda: Probes(run=["norm"]), "run.0 of Probes must be norms, .*did you mean norms"),
        (lambda: WeightDecay(0.1), "WeightDecay takes its fields by name, got 0.1"),
        (lambda: WeightDecay(policy="alpha"), "did you mean alpha_decay"),
        (lambda: MidTraining(steps=3), "MidTraining needs sources"),
        (
            lambda: Recipe(pretraining=Pretrain()),
            "Recipe has no field 'pretraining'; did you mean p",
        ),
        (lambda: Recipe(pretrain=400), "pretrain of Recipe must be Pretrain(...), got 400"),
        (
            lambda: Recipe(pretrain=Schedule()),
            "pretrain of Recipe must be Pretrain(...), got Sched",
        ),
        (lambda: Recipe(lr=0.1), "did you mean pretrain.lr"),
        (lambda: Cifar10(), "Cifar10 needs folder"),
        (lambda: ResNet(widths=[0]), "widths.0 of ResNet must be at least 1"),
        (lambda: Training(batch_size=1), "batch_size of Training must be at least 2, got 1"),
        (lambda: VisionRecipe(images="digits"), "images of VisionRecipe must be Digits(...) or Ci"),
    ],
)
def test_a_constructor_says_what_is_wrong(make: Callable[[], object], wanted: str) -> None:
    text = one_sentence(make)
    for part in wanted.split(".*"):
        assert part in text


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("pretrain.n_steps", 12, "unknown hyperparameter 'pretrain.n_steps'; did you mean pretr"),
        ("pretrain.weight_decay", "x", "pretrain.weight_decay must be a number or an object with"),
        ("pretrain.weight_decay", {"values": 1}, "did you mean pretrain.weight_decay.value"),
        ("pretrain.steps", "12", "must be a whole number, got '12'; write it without quotes: 12"),
        ("pretrain.schedule.shape", "wsd", "got 'wsd'; decay_frac below 1"),
        ("finetune.lora", 8, "finetune.lora must be an object with the fields of Lora, got 8"),
        ("finetune.tasks", "list_ops", "finetune.tasks.0 must be an object with the fields of Bui"),
        ("finetune.tasks", [{"kind": "buildin"}], "kind of finetune.tasks.0 must be builtin, file"),
        ("finetune.tasks", [{"kind": "builtin"}], "finetune.tasks.0.name must be given"),
        ("finetune.tasks.0.name", "nope", "finetune.tasks.0.name must be code_module"),
        ("corpus.sources.0.max_bytes", True, "corpus.sources.0.max_bytes must be a whole number"),
        ("corpus.tokenizer", 3, 'must be a text, got 3; write it in quotes: "3"'),
        ("model.preset", "llama-9b", "did you mean llama-"),
        ("corpus.tokenizer", "half an emoji \ud83d", "corpus.tokenizer must be JSON-able"),
        ("pretrain.steps", [10**5000], "pretrain.steps must be JSON-able data, got a list"),
        ("pretrain.lr", {1, 2}, "pretrain.lr must be JSON-able data"),
    ],
)
def test_a_path_says_what_is_wrong(path: str, value: Any, wanted: str) -> None:
    assert wanted in one_sentence(lambda: Recipe().with_params({path: value}))


@pytest.mark.parametrize("params", [None, "pretrain.lr=1", [("pretrain.lr", 1)], {1: 2}])
def test_params_are_a_dict_of_paths(params: Any) -> None:
    assert "params must be a dict" in one_sentence(lambda: Recipe().with_params(params))


def test_data_nested_thousands_deep_is_refused() -> None:
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    assert "must be JSON-able" in one_sentence(lambda: Recipe().with_params({"model": deep}))
    assert "must be JSON-able" in one_sentence(lambda: Recipe.from_dict({"model": deep}))


@pytest.mark.parametrize("data", [[], 3, None, {"model": 3}, {"models": {}}, {"model": {"x": 1}}])
def test_data_that_is_no_recipe_is_refused(data: Any) -> None:
    one_sentence(lambda: Recipe.from_dict(data))


@pytest.mark.parametrize(
    ("made", "same"),
    [
        (lambda: Finetune(lrs=[1e-2]), lambda: Finetune(lrs=(1e-2,))),
        (lambda: Finetune(lrs=1e-2), lambda: Finetune(lrs=(1e-2,))),
        (lambda: Finetune(lrs=np.array([0.5, 1.0])), lambda: Finetune(lrs=(0.5, 1.0))),
        (lambda: Finetune(lrs=iter([1])), lambda: Finetune(lrs=(1.0,))),
        (lambda: Finetune(tasks=[FileTask(**FILE)]), lambda: Finetune(tasks=(FileTask(**FILE),))),
        (lambda: Finetune(tasks=FileTask(**FILE)), lambda: Finetune(tasks=(FileTask(**FILE),))),
        (lambda: Files(paths=["a.jsonl"]), lambda: Files(paths=("a.jsonl",))),
        (lambda: Files(paths="a.jsonl"), lambda: Files(paths=("a.jsonl",))),
        (lambda: Files(paths=Path("a") / "b"), lambda: Files(paths=("a/b",))),
        (lambda: Files(paths=[Path("a")]), lambda: Files(paths=("a",))),
        (lambda: FileTask(**{**FILE, "train": Path("a.jsonl")}), lambda: FileTask(**FILE)),
        (lambda: Corpus(sources=[Stdlib()]), lambda: Corpus(sources=(Stdlib(),))),
        (lambda: Corpus(sources=Stdlib()), lambda: Corpus(sources=(Stdlib(),))),
        (lambda: Lora(targets="all-linear"), lambda: Lora(targets=("all-linear",))),
        (lambda: Lora(targets=["q_proj", "v_proj"]), lambda: Lora(targets=("q_proj", "v_proj"))),
        (lambda: Lora(rank=np.int64(4), alpha=8), lambda: Lora(rank=4, alpha=8.0)),
        (lambda: Pretrain(steps=np.int32(5), lr=1), lambda: Pretrain(steps=5, lr=1.0)),
        (lambda: Pretrain(steps=1e2), lambda: Pretrain(steps=100)),
        (lambda: Pretrain(lr=np.float32(0.5)), lambda: Pretrain(lr=0.5)),
        (lambda: Pretrain(keep_trunk=np.bool_(True)), lambda: Pretrain(keep_trunk=True)),
        (lambda: Pretrain(weight_decay=1), lambda: Pretrain(weight_decay=WeightDecay(value=1.0))),
        (lambda: Probes(run=[]), lambda: Probes(run=())),
        (lambda: Probes(run="norms"), lambda: Probes(run=("norms",))),
        (lambda: ResNet(widths=[8, 16, 32]), lambda: ResNet(widths=(8, 16, 32))),
        (
            lambda: Recipe().with_params({"pretrain.steps": np.int64(4), "finetune.lrs": 0.5}),
            lambda: Recipe().with_params({"pretrain.steps": 4, "finetune.lrs": [0.5]}),
        ),
        (
            lambda: Recipe().with_params({"pretrain.steps": 1e1, "corpus.sources": [FILES]}),
            lambda: Recipe().with_params({"pretrain.steps": 10, "corpus.sources": FILES}),
        ),
    ],
)
def test_what_is_clear_is_taken(made: Callable[[], object], same: Callable[[], object]) -> None:
    assert repr(made()) == repr(same())


FILES = {"kind": "files", "paths": "a.jsonl"}


def test_replace_checks_as_the_constructor_does() -> None:
    assert dataclasses.replace(Finetune(), lrs=[1]).lrs == (1.0,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps of Pretrain must be at least 1, got 0"):
        dataclasses.replace(Pretrain(), steps=0)


def test_a_recipe_of_lists_is_json_there_and_back() -> None:
    recipe = Recipe(corpus=Corpus(sources=[Files(paths=["a"])]), finetune=Finetune(lrs=[0.5]))  # type: ignore[arg-type]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert hash(recipe) == hash(dataclasses.replace(recipe))


def test_the_names_of_presets_and_built_in_tasks_are_those_that_there_are() -> None:
    assert set(get_args(PresetName)) == set(PRESETS)
    assert set(get_args(BuiltinTaskName)) == set(TASKS)
