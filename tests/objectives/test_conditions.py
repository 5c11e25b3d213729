"""What results depend on beyond the recipe is known by its content."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from objectives import (
    BuiltinTask,
    Cifar10,
    Corpus,
    Digits,
    Files,
    FileTask,
    Finetune,
    HubImages,
    MidTraining,
    Model,
    PlasticityObjective,
    Pretrain,
    Recipe,
    VisionObjective,
    VisionRecipe,
)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def texts(word: str = "sea") -> list[dict[str, Any]]:
    return [{"text": f"the {word} is {n} miles wide"} for n in range(20)]


def rows(label: str = "a") -> list[dict[str, Any]]:
    labels = enumerate("b" * 11 + label)
    return [{"prompt": f"{n}:", "completion": f" {each}", "label": each} for n, each in labels]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    corpus, more = (write(tmp_path / name, texts()) for name in ("text.jsonl", "more.jsonl"))
    train, test = (write(tmp_path / name, rows()) for name in ("train.jsonl", "test.jsonl"))
    return Recipe(
        corpus=Corpus(sources=(Files(paths=(corpus,)),)),
        pretrain=Pretrain(mid=MidTraining(sources=(Files(paths=(more,)),), steps=2)),
        finetune=Finetune(
            tasks=(FileTask(name="t", train=train, test=test), BuiltinTask(name="list_ops"))
        ),
    )


def changed(recipe: Recipe, before: dict[str, str]) -> set[str]:
    now = PlasticityObjective(recipe).conditions()
    return {name for name in {*before, *now} if before.get(name) != now.get(name)}


@pytest.mark.parametrize(
    ("file", "content", "names"),
    [
        ("text.jsonl", texts("lake"), {"corpus"}),
        ("more.jsonl", texts("lake"), {"second corpus"}),
        ("train.jsonl", rows("c"), {"task t"}),
        ("test.jsonl", rows("c"), {"task t"}),
        ("train.jsonl", rows()[::-1], set()),
    ],
)
def test_a_file_that_changes_is_named_and_another_order_of_rows_is_no_change(
    recipe: Recipe, tmp_path: Path, file: str, content: list[dict[str, Any]], names: set[str]
) -> None:
    before = PlasticityObjective(recipe).conditions()
    write(tmp_path / file, content)
    assert changed(recipe, before) == names


def test_the_same_content_under_another_name_is_the_same(recipe: Recipe, tmp_path: Path) -> None:
    before = PlasticityObjective(recipe).conditions()
    moved = (tmp_path / "text.jsonl").rename(tmp_path / "renamed.jsonl")
    assert changed(recipe.with_params({"corpus.sources.0.paths.0": str(moved)}), before) == set()


def test_another_version_of_a_library_is_named(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = PlasticityObjective(recipe).conditions()
    versions = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "99" if name == "numpy" else versions(name)
    )
    assert changed(recipe, before) == {"numpy"}


def test_a_model_of_files_is_known_by_its_shape(recipe: Recipe, tmp_path: Path) -> None:
    assert "model" not in PlasticityObjective(recipe).conditions()
    config = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = Recipe(model=Model(preset=None, config=str(tmp_path)), corpus=recipe.corpus)
    before = PlasticityObjective(read).conditions()
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    assert changed(read, before) == {"model"}


def test_images_in_files_are_known_by_their_bytes(tmp_path: Path) -> None:
    assert "images" not in VisionObjective(VisionRecipe(images=Digits())).conditions()
    objective = VisionObjective(VisionRecipe(images=Cifar10(folder=str(tmp_path))))
    (tmp_path / "test_batch.bin").write_bytes(b"a")
    before = objective.conditions()["images"]
    (tmp_path / "test_batch.bin").write_bytes(b"b")
    assert objective.conditions()["images"] != before


def test_a_folder_of_images_is_known_by_its_bytes(tmp_path: Path) -> None:
    objective = VisionObjective(VisionRecipe(images=HubImages(name=str(tmp_path))))
    (tmp_path / "train.parquet").write_bytes(b"a")
    before = objective.conditions()["images"]
    (tmp_path / "train.parquet").write_bytes(b"b")
    assert objective.conditions()["images"] != before


def test_a_recipe_is_described_as_before_unless_it_has_a_validation_text() -> None:
    plain = PlasticityObjective(Recipe()).describe()["recipe"]
    assert "validation" not in plain["corpus"]
    assert Recipe.from_dict(plain) == Recipe()
    held = Recipe(corpus=Corpus(validation=Files(paths=("held.txt",))))
    assert Recipe.from_dict(PlasticityObjective(held).describe()["recipe"]) == held
