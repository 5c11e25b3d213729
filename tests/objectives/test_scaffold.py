"""The first study file: it says what the files hold, and reads as a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from objectives import BuiltinTask, Files, FileTask, PlasticityObjective, Stdlib, scaffold
from objectives.data import task_rows


def rows(path: Path, *given: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def executed(folder: Path, *corpus: str, tasks: tuple[str, ...] = ()) -> Any:
    wanted = scaffold.Wanted(name="mine", file=str(folder / "mine.py"), corpus=corpus, tasks=tasks)
    names: dict[str, Any] = {}
    exec(compile(scaffold.study_file(wanted), "mine.py", "exec"), names)
    return names["STUDY"]


def many(field: dict[str, Any], count: int = 12) -> list[dict[str, Any]]:
    return [{**field, "n": number, **{k: f"{v} {number}" for k, v in field.items() if k != "label"}}
            for number in range(count)]  # fmt: skip


def test_without_files_it_is_about_what_ships(tmp_path: Path) -> None:
    study = executed(tmp_path)
    recipe = study.objective.recipe
    assert isinstance(study.objective, PlasticityObjective)
    assert recipe.corpus.sources == (Stdlib(),)
    assert recipe.finetune.tasks == (
        BuiltinTask(name="token_kind"),
        BuiltinTask(name="code_module"),
    )
    assert (study.name, len(study.space), study.trials) == ("mine", 3, 12)


def test_its_first_lines_explain_three_commands_one_below_the_other(tmp_path: Path) -> None:
    written = scaffold.study_file(scaffold.Wanted(name="mine", file="mine.py", corpus=(), tasks=()))
    lines = [each for each in written.splitlines() if each.startswith("    hpo ")]
    assert len({each.index("#") for each in lines[:3]}) == 1


def test_paths_start_from_the_file_and_fields_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows(tmp_path / "data" / "a.jsonl", {"id": "x", "body": "some text"})
    (tmp_path / "notes.txt").write_text("words")
    for split in ("train", "dev", "test"):
        rows(tmp_path / "intents" / f"{split}.jsonl", *many({"text": f"{split} ask", "label": "a"}))
    rows(tmp_path / "qa_train.jsonl", *many({"question": "why", "answer": "since"}))
    rows(tmp_path / "qa_test.jsonl", *many({"question": "how", "answer": "so"}))
    (tmp_path / "studies").mkdir()
    study = executed(tmp_path / "studies", "data", "notes.txt", tasks=("intents", "qa_train.jsonl"))
    assert study.objective.recipe.corpus.sources == (
        Files(paths=("../data",), text_field="body"),
        Files(paths=("../notes.txt",)),
    )
    intents, qa = study.objective.recipe.finetune.tasks
    assert intents == FileTask(
        name="intents", train="../intents/train.jsonl", validation="../intents/dev.jsonl",
        test="../intents/test.jsonl", prompt="{text}\n", completion=" {label}",
    )  # fmt: skip
    assert (qa.name, qa.train, qa.test) == ("qa_train", "../qa_train.jsonl", "../qa_test.jsonl")
    assert (qa.prompt, qa.completion, qa.label_field) == ("{question}\n", " {answer}", None)
    monkeypatch.chdir(tmp_path / "studies")
    assert task_rows.read(intents).rows["train"][0].completion == " a"


@pytest.mark.parametrize("fields", [{"prompt": "a", "completion": "b"}, {"messages": []}])
def test_rows_with_the_usual_fields_need_no_template(tmp_path: Path, fields: Any) -> None:
    assert scaffold._templates(rows(tmp_path / "train.jsonl", fields)) == {}


MISTAKES = {
    "no corpus": ("nothing.txt", "", "no file matches"),
    "no task": ("a.txt", "none", "is no folder with a file of training rows"),
    "no test rows": ("a.txt", "lone/train.jsonl", "put them there as test.jsonl"),
    "no known field": ("a.txt", "odd", "has the fields x, y, of which none is known as a prompt"),
    "no answer": ("a.txt", "half", "rename one to completion or label"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_would_not_be_understood_is_one_sentence(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("words")
    for name, row in (
        ("odd", {"x": "1", "y": "2"}),
        ("half", {"text": "1"}),
    ):
        for split in ("train", "test"):
            rows(tmp_path / name / f"{split}.jsonl", row)
    rows(tmp_path / "lone" / "train.jsonl", {"text": "1", "label": "2"})
    corpus, task, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        executed(tmp_path, corpus, tasks=(task,) if task else ())
