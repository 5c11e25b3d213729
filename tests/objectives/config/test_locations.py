"""Relative paths of a recipe start where they were given."""

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
    HubDataset,
    HubTask,
    Model,
    PlasticityObjective,
    Recipe,
)
from objectives.config.locations import located
from objectives.config.training import MidTraining, Pretrain
from objectives.config.vision import Cifar10, VisionRecipe
from objectives.data.file_paths import matching_files
from objectives.pretraining.job import job_of
from objectives.types import Request


def test_paths_start_from_the_folder_and_absolute_ones_stay(tmp_path: Path) -> None:
    files = Files(paths=("a.txt", "b/*.txt", "/abs/c.txt", "~/d.txt"))
    assert located(files, tmp_path).paths == (
        f"{tmp_path}/a.txt",
        f"{tmp_path}/b/*.txt",
        "/abs/c.txt",
        "~/d.txt",
    )
    task = located(FileTask(name="t", train="a", test="../b"), tmp_path)
    assert (task.train, task.test, task.validation) == (
        f"{tmp_path}/a", f"{tmp_path}/../b", None
    )  # fmt: skip
    images = located(VisionRecipe(images=Cifar10(folder="cifar")), tmp_path).images
    assert isinstance(images, Cifar10)
    assert images.folder == f"{tmp_path}/cifar"


@pytest.mark.parametrize(
    ("node", "field"),
    [
        (HubDataset(name="org/name"), "name"),
        (HubTask(name="t", dataset="org/name", prompt="", completion=""), "dataset"),
        (Model(preset=None, config="org/name"), "config"),
        (Model(weights="org/name"), "weights"),
        (Corpus(tokenizer="org/name"), "tokenizer"),
    ],
)
def test_a_name_is_a_folder_where_there_is_one(node: Any, field: str, tmp_path: Path) -> None:
    assert located(node, tmp_path) is node
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert getattr(located(node, tmp_path), field) == str(tmp_path / "org" / "name")


def test_a_folder_whose_name_is_a_pattern_is_meant_literally(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(name)
    assert len(matching_files(located(Files(paths=("*.txt",)), folder).paths)) == 2


def test_the_whole_recipe_is_walked_once_and_nothing_changes_again(tmp_path: Path) -> None:
    source = Files(paths=("a.txt",))
    recipe = Recipe(
        corpus=Corpus(sources=(source,)),
        pretrain=Pretrain(mid=MidTraining(sources=(source,), steps=1)),
        finetune=Finetune(tasks=(FileTask(name="t", train="a", test="b"),)),
    )
    found = located(recipe, tmp_path)
    assert str(found.to_dict()).count(str(tmp_path)) == 4
    assert located(found, tmp_path / "other") is found
    assert located(recipe, None) is recipe
    assert located(Recipe(), tmp_path) == Recipe()


def test_an_objective_reads_from_where_each_path_was_given(tmp_path: Path) -> None:
    recipe = dataclasses.replace(Recipe(), corpus=Corpus(sources=(Files(paths=("a.txt",)),)))
    one = PlasticityObjective(recipe, Execution(store=tmp_path)).configure({"folder": "/study"})
    task = {"kind": "file", "name": "t", "train": "x", "test": "/y"}
    given: dict[str, Any] = {"finetune.tasks": [task]}
    both = one.with_params(given).configure({"folder": "/typed"}).configure({"folder": "/study"})
    asked: dict[str, Any] = {"corpus.sources.0.paths": ["b.txt"]}
    request = Request(params=asked, fidelity=1.0, seed=0)
    read = job_of(both.located, request, both.execution).recipe
    assert both.located.corpus.sources[0].paths == ("/study/a.txt",)  # type: ignore[union-attr]
    assert read.corpus.sources[0].paths == ("/study/b.txt",)  # type: ignore[union-attr]
    assert read.finetune.tasks[0].train == "/typed/x"  # type: ignore[union-attr]
    assert both.describe() == PlasticityObjective(recipe.with_params(given)).describe()
