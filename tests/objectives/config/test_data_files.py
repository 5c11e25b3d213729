"""Recipes in YAML and JSON: equal to those in Python, and one sentence with its line if not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from objectives import Pretrain, Recipe, Schedule
from objectives.config import data_files


def written(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_and_json_give_the_recipe_that_python_gives(tmp_path: Path) -> None:
    text = (
        "pretrain:  # a comment\n  steps: 400\n  lr: 3e-3\n  weight_decay: 0.2\n"
        "  schedule: {decay_frac: 0.25, warmup_steps: 10}\n"
    )
    schedule = Schedule(decay_frac=0.25, warmup_steps=10)
    wanted = Recipe(pretrain=Pretrain(steps=400, lr=3e-3, weight_decay=0.2, schedule=schedule))
    assert Recipe.from_file(written(tmp_path, text)) == wanted
    whole = written(tmp_path, json.dumps(wanted.to_dict(), indent="\t"), "recipe.json")
    assert Recipe.from_file(whole) == wanted


MISTAKES = {
    "an unknown name": ("pretrain:\n  steps: 3\n  stepz: 4\n", "line 3: unknown hyperparameter"),
    "a wrong type": ("pretrain:\n  lr: fast\n", "line 2: pretrain.lr must be a number, got 'fast'"),
    "a name twice": ("pretrain:\n  lr: 1\n  lr: 2\n", "line 3 gives 'lr' twice"),
    "a tab": ("pretrain:\n\tlr: 1\n", "line 2, column 1 is not YAML"),
    "a bracket left open": ("pretrain: {lr: 1\n", "line 2, column 1 is not YAML"),
    "an object": ("pretrain: !!python/object:os.system {}\n", "line 1 has a value that is of the"),
    "a date": ("model:\n  preset: 2024-01-01\n", "line 2 has a value that is a date"),
    "a merge key": ("a: &a {x: 1}\nb:\n  <<: *a\n", "line 3 has a key that is no plain name"),
    "a list": ("- 1\n", "a recipe is a mapping"),
    "an anchor within itself": ("a: &a [*a]\n", "line 1 expands to more than"),
    "anchors that multiply": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{y}: &{y} [{','.join([f'*{x}'] * 9)}]\n" for x, y in ["ab", "bc", "cd", "de"])
        + "f: [*e,*e]\n",
        "expands to more than 100,000 parts",
    ),
    "two documents": ("a: 1\n---\nb: 2\n", "is not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_its_line(mistake: str, tmp_path: Path) -> None:
    text, message = MISTAKES[mistake]
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match="^" + str(path)) as caught:
        Recipe.from_file(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1,\n}', "line 2, column 1 is not JSON"), ("{'a': 1}", "line 1, column 2 is not JSON")],
)
def test_json_is_not_read_as_yaml(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        data_files.read(written(tmp_path, text, "recipe.json"))


def test_numbers_are_those_of_json(tmp_path: Path) -> None:
    file = data_files.read(written(tmp_path, "[1e-3, -2E5, 1.5, 7, '1e-3', yes it is, 12:30]"))
    assert file.data[:4] == [0.001, -2e5, 1.5, 7]
    assert file.data[4:6] == ["1e-3", "yes it is"]


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="check the path"):
        data_files.read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        data_files.read(tmp_path / "latin.yaml")
    written(tmp_path, "#" * 1_000_001, "long.yaml")
    with pytest.raises(ValueError, match="more than 1,000,000 bytes"):
        data_files.read(tmp_path / "long.yaml")
