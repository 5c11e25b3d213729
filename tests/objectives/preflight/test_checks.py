"""What is wrong with a recipe is found before a token is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from objectives import (
    Corpus,
    Execution,
    Files,
    FileTask,
    Finetune,
    Lora,
    Model,
    PlasticityObjective,
    Recipe,
    Schedule,
)
from objectives.types import Request
from tests.objectives import toy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus, a config and a task's files."""
    toy.recipe(tmp_path)
    rows = [{"prompt": f"{n} is", "completion": f" {n % 2}", "label": n % 2} for n in range(40)]
    toy.write_jsonl(tmp_path / "train.jsonl", rows[:30])
    toy.write_jsonl(tmp_path / "test.jsonl", rows[30:])
    return tmp_path


def a_recipe(folder: Path, **fine: Any) -> Recipe:
    task = FileTask(name="t", train=str(folder / "train.jsonl"), test=str(folder / "test.jsonl"))
    given = {"tasks": (task,), "steps": 4, "max_length": 12, "schedule": Schedule(), **fine}
    return dataclasses.replace(toy.recipe(folder), finetune=Finetune(**given))


def preflight(recipe: Recipe, folder: Path, fidelity: float = 1.0, **params: Any) -> None:
    """Checks one request; the store stays as it was, which is not there."""
    objective = PlasticityObjective(recipe, Execution(store=folder / "store", device="cpu"))
    given = {path.replace("__", "."): value for path, value in params.items()}
    try:
        objective.preflight([Request(params=given, fidelity=fidelity, seed=0)])
    finally:
        assert not (folder / "store").exists()


def test_what_can_be_measured_passes(folder: Path) -> None:
    preflight(a_recipe(folder), folder)
    preflight(a_recipe(folder, method="full"), folder)


def test_a_corpus_that_leaves_validation_empty_is_refused(folder: Path) -> None:
    asked = a_recipe(folder)
    rare = dataclasses.replace(asked.corpus, validation_frac=1e-9)
    with pytest.raises(ValueError, match=r"^validation of corpus holds 0 tokens, .* fell into it"):
        preflight(dataclasses.replace(asked, corpus=rare), folder)


WRONG = [
    ("model", Model(preset=None, config="{}/none"), "model.config '.*none' cannot be read"),
    ("model", Model(preset=None, config="{}"), "model.config .* cannot be read"),
    ("model", Model(preset="llama-0.06m", weights="{}/none"), "none"),
    ("corpus", Corpus(sources=(Files(paths=("{}/no*.jsonl",)),)), "no file matches"),
    ("corpus", Corpus(sources=(Files(paths=("{}/text.jsonl",), text_field="body"),)), "body"),
    ("corpus", Corpus(sources=(Files(paths=("{}/text.jsonl",)),), tokenizer="{}/none"),
     "corpus.tokenizer '.*none' cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "value", "said"), WRONG)
def test_parts_that_are_not_there(part: str, value: Any, said: str, folder: Path) -> None:
    data = a_recipe(folder).to_dict() | {part: _filled(dataclasses.asdict(value), folder)}
    with pytest.raises(ValueError, match=said):
        preflight(Recipe.from_dict(data), folder)


def _filled(node: Any, folder: Path) -> Any:
    """Data with the folder's name where it says {}."""
    if isinstance(node, dict):
        return {key: _filled(value, folder) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_filled(value, folder) for value in node]
    return node.replace("{}", str(folder)) if isinstance(node, str) else node


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (FileTask(name="t", train="none.jsonl", test="none.jsonl"), "none.jsonl"),
        (FileTask(name="t", train="{}/text.jsonl", test="{}/test.jsonl"), "prompt"),
        (FileTask(name="t", train="{}/train.jsonl", test="{}/empty.jsonl"), "test"),
    ],
)
def test_tasks_that_cannot_be_read(task: Any, said: str, folder: Path) -> None:
    (folder / "empty.jsonl").write_text("")
    data = a_recipe(folder).to_dict()
    data["finetune"]["tasks"] = [_filled(dataclasses.asdict(task), folder)]
    with pytest.raises(ValueError, match=said):
        preflight(Recipe.from_dict(data), folder)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"lora": Lora(targets=("wq",))}, "wq"),
        ({"max_length": 10_000}, "max_length must be at most the model's"),
        ({"schedule": Schedule(warmup_steps=5)}, r"finetune\.schedule\.warmup_steps is 5"),
    ],
)
def test_fine_tuning_that_does_not_fit(recipe: dict[str, Any], said: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=said):
        preflight(a_recipe(folder, **recipe), folder)


def test_a_warmup_longer_than_a_rung_names_the_rung(folder: Path) -> None:
    said = r"^pretrain\.schedule\.warmup_steps is 4 but the run has 2 steps.* or set "
    said += r"pretrain\.schedule\.warmup_frac, .*\(with a rung at 0.1 of"
    with pytest.raises(ValueError, match=said):
        preflight(a_recipe(folder), folder, fidelity=0.1)


def test_a_warmup_that_is_a_share_fits_every_rung(folder: Path) -> None:
    preflight(
        a_recipe(folder), folder, fidelity=0.1, pretrain__schedule__warmup_frac=0.2,
    )  # fmt: skip


def test_an_error_names_the_params_only_where_they_cause_it(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"\(with pretrain\.steps=3\)\.$"):
        preflight(a_recipe(folder), folder, pretrain__steps=3)
    with pytest.raises(ValueError, match=r"run\.$"):
        preflight(a_recipe(folder, schedule=Schedule(warmup_steps=9)), folder, pretrain__lr=0.5)


def test_a_store_that_cannot_be_written_is_reported(folder: Path) -> None:
    (folder / "file").write_text("")
    execution = Execution(store=folder / "file" / "store", device="cpu")
    with pytest.raises(ValueError, match="cannot write to the store"):
        PlasticityObjective(a_recipe(folder), execution).preflight([])
