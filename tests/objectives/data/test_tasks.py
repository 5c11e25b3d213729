"""Tasks: which rows, which metric, and their tokens counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from objectives.config.data import BuiltinTask, FileTask, HubTask
from objectives.config.training import Finetune
from objectives.data import tasks
from objectives.data.token_dataset import TokenDataset
from objectives.data.tokenize import encode
from tests.objectives import toy

Data = list[dict[str, Any]]


def labelled(count: int, start: int = 0) -> Data:
    """Whether a number is even."""
    return [
        {
            "prompt": f"{number} is",
            "completion": " even" if number % 2 == 0 else " odd",
            "label": "even" if number % 2 == 0 else "odd",
        }
        for number in range(start, start + count)
    ]


def without_labels(rows: Data) -> Data:
    return [{key: row[key] for key in ("prompt", "completion")} for row in rows]


def file_task(folder: Path, *, train: Data, test: Data, **given: Any) -> FileTask:
    for name in ("train", "test"):
        toy.write_jsonl(folder / f"{name}.jsonl", locals()[name])
    if "validation" in given:
        given["validation"] = str(
            toy.write_jsonl(folder / "validation.jsonl", given["validation"])
        )  # fmt: skip
    train_path, test_path = (str(folder / f"{name}.jsonl") for name in ("train", "test"))
    return FileTask(name="mine", train=train_path, test=test_path, **given)


def load(task: Any, tokenizer: PreTrainedTokenizerBase, **given: Any) -> tasks.Task:
    (found,) = tasks.load(Finetune(tasks=(task,), **given), tokenizer)
    return found


@pytest.fixture
def tokenizer(toy_corpus: TokenDataset) -> PreTrainedTokenizerBase:
    return toy_corpus.tokenizer


def text_of(encoded: tasks.Encoded, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What each row says, up to its first end mark."""
    end = tokenizer.eos_token_id
    return [tokenizer.decode(row[: list(row).index(end)]) for row in encoded.ids.tolist()]


def test_a_file_with_labels_is_scored_by_accuracy(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = load(file_task(tmp_path, train=labelled(60), test=labelled(10, 100)), tokenizer)
    assert found.metric == "accuracy"
    assert found.choices is not None
    assert len(found.choices.ids) == 20
    rows, choices = text_of(found.test, tokenizer), text_of(found.choices, tokenizer)
    for place, row in enumerate(rows):
        prompt = row.split(" is")[0]
        pair = choices[2 * place : 2 * place + 2]
        assert pair == [f"{prompt} is even", f"{prompt} is odd"]
        assert pair[found.answers[place]] == row
    assert found.chance == 0.5
    assert sorted(rows) == sorted(r["prompt"] + r["completion"] for r in labelled(10, 100))


def test_a_file_without_labels_is_scored_by_exact_match(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = file_task(tmp_path, train=without_labels(labelled(60)), test=labelled(10, 100))
    found = load(task, tokenizer)
    assert (found.metric, found.choices) == ("exact_match", None)
    assert len(found.answers) == 0


def test_labels_can_be_ignored_but_not_invented(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = file_task(tmp_path, train=labelled(60), test=labelled(4), metric="exact_match")
    assert load(task, tokenizer).metric == "exact_match"
    unlabelled = without_labels(labelled(60))
    task = file_task(tmp_path, train=unlabelled, test=labelled(4), metric="accuracy")
    with pytest.raises(ValueError, match="asks for accuracy, but 60 of its rows have no 'label'"):
        load(task, tokenizer)


def test_a_label_that_training_never_shows_is_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    odd_one = {"prompt": "x is", "completion": " strange", "label": "strange"}
    for where in ("test", "validation"):
        given: dict[str, Data] = {"test": labelled(4), "validation": labelled(4)}
        given[where] = [*given[where], odd_one]
        task = file_task(tmp_path, train=labelled(60), **given)
        with pytest.raises(ValueError, match=f"label 'strange' is in {where}"):
            load(task, tokenizer)


def test_rows_that_are_too_long_are_left_out_and_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    long = [
        {"prompt": f"{n} " + "x" * 300 + " is", "completion": " odd", "label": "odd"}
        for n in range(5)
    ]
    task = file_task(
        tmp_path, train=labelled(60) + long, validation=labelled(6) + long[:1], test=labelled(4)
    )
    found = load(task, tokenizer, max_length=100)
    assert found.left_out == 6
    assert len(found.train.ids) == 60
    assert len(found.validation.ids) == 6
    assert load(task, tokenizer, max_length=400).left_out == 0


def test_a_row_of_exactly_the_greatest_length_is_kept(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = without_labels(labelled(1, 12345))
    task = file_task(tmp_path, train=rows, validation=rows, test=rows)
    prompt, completion = encode(tokenizer, [rows[0]["prompt"], rows[0]["completion"]])
    length = len(prompt) + len(completion) + 1
    assert load(task, tokenizer, max_length=length).left_out == 0
    with pytest.raises(ValueError, match=rf"no train rows of at most {length - 1} tokens \(1 are"):
        load(task, tokenizer, max_length=length - 1)


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
def test_a_split_without_rows_is_named(
    empty: str, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    given: dict[str, Data] = {
        "train": labelled(60), "validation": labelled(4), "test": labelled(4)
    }  # fmt: skip
    task = file_task(tmp_path, **{**given, empty: []})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"task 'mine' has no {empty} rows"):
        load(task, tokenizer)


def test_limits_pick_the_same_rows_whatever_the_order_of_the_file(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    first = load(
        file_task(tmp_path, train=labelled(60), test=labelled(40, 100)), tokenizer,
        train_rows=20, test_rows=7, validation_rows=3,
    )  # fmt: skip
    again = load(
        file_task(tmp_path, train=labelled(60)[::-1], test=labelled(40, 100)[::-1]), tokenizer,
        train_rows=20, test_rows=7, validation_rows=3,
    )  # fmt: skip
    sizes = [len(part.ids) for part in (first.train, first.validation, first.test)]
    assert sizes == [20, 3, 7]
    assert first.key == again.key
    for one, other in ((first.train, again.train), (first.test, again.test)):
        assert (one.ids == other.ids).all()


def test_held_out_rows_are_about_a_tenth_and_never_in_training(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = file_task(tmp_path, train=labelled(400), test=labelled(4))
    rows = tasks.read_rows(task)
    train, validation = rows["train"], rows["validation"]
    assert not set(train) & set(validation)
    assert len(train) + len(validation) == 400
    assert 20 < len(validation) < 70


def test_the_key_follows_the_rows_and_the_metric(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    def key(**given: Any) -> str:
        data = {"train": labelled(60), "test": labelled(4), **given}
        return load(file_task(tmp_path, **data), tokenizer).key

    assert key() == key()
    others = {
        key(train=labelled(61)),
        key(test=labelled(5)),
        key(metric="exact_match"),
        key(validation=labelled(4)),
    }
    assert len(others - {key()}) == 4


def test_positions_and_weights_are_those_counted_by_hand(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    pairs = [("ab", "cde"), ("", "x"), ("the", " cat sat")]
    encoded = tasks._encode(pairs, tokenizer)
    end = tokenizer.eos_token_id
    counted = 0
    for row, (prompt, completion) in enumerate(pairs):
        before, after = encode(tokenizer, [prompt, completion])
        whole = [*before, *after, end]
        ids = encoded.ids[row].tolist()
        assert ids[: len(whole)] == whole
        assert set(ids[len(whole) :]) <= {end}
        told = encoded.positions[row][encoded.weights[row] == 1]
        targets = [ids[position + 1] for position in told]
        assert targets == ([*after, end] if before else [*after, end][1:])
        assert (encoded.weights[row][len(told) :] == 0).all()
        counted += len(told)
    assert encoded.weights.sum() == counted
    assert encoded.length == 16
    assert encoded.width(np.array([1])) == 8


def test_a_missing_file_and_a_row_without_text_are_one_clear_error(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = FileTask(name="mine", train=str(tmp_path / "none.jsonl"), test="t")
    with pytest.raises(ValueError, match=r"task file '.*none.jsonl' does not exist"):
        load(task, tokenizer)
    task = file_task(tmp_path, train=[*labelled(2), {"prompt": 1}], test=labelled(4))
    with pytest.raises(ValueError, match=r"train.jsonl line 3 needs text under 'prompt', got int"):
        load(task, tokenizer)
    for bad in ({"prompt": "x"}, {"prompt": "x", "completion": " "}, {"question": "x"}):
        task = file_task(tmp_path, train=[bad] * 20, test=labelled(4))
        with pytest.raises(ValueError, match=r"train.jsonl line 1 needs text under 'prompt' and"):
            load(task, tokenizer)


def test_built_in_tasks_have_the_metric_of_their_kind(tokenizer: PreTrainedTokenizerBase) -> None:
    found = load(BuiltinTask(name="list_ops"), tokenizer, test_rows=10, train_rows=100)
    assert found.metric == "accuracy"
    assert load(BuiltinTask(name="commands"), tokenizer, test_rows=10).metric == "exact_match"


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """Reviews as a dataset folder with two splits."""
    rows = [{"text": f"film {n}", "stars": n % 3, "note": None} for n in range(60)]
    train, test = datasets.Dataset.from_list(rows[:50]), datasets.Dataset.from_list(rows[50:])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "reviews")
    return str(tmp_path / "reviews")


def test_a_dataset_folder_and_templates_are_a_task(
    saved: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = HubTask(
        name="stars",
        dataset=saved,
        prompt="Review: {text}\nStars:",
        completion=" {stars}",
        label_field="stars",
    )
    found = load(task, tokenizer, max_length=100)
    assert found.metric == "accuracy"
    texts = text_of(found.test, tokenizer)
    assert sorted(texts) == [f"Review: film {n}\nStars: {n % 3}" for n in range(50, 60)]
    assert len(found.train.ids) + len(found.validation.ids) == 50
    plain = load(
        HubTask(name="s", dataset=saved, prompt="{text}", completion=" {stars}"), tokenizer
    )
    assert plain.metric == "exact_match"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": "{body}:"}, "has no field 'body'; its fields are text, stars, note"),
        ({"label_field": "mood"}, "has no field 'mood'; its fields are text, stars, note"),
        ({"test_split": "dev"}, r"split 'dev'.* cannot be loaded"),
        ({"dataset": "/nowhere/at/all"}, "is neither a folder nor a name on the hub"),
    ],
)
def test_what_a_dataset_lacks_is_one_clear_error(
    changed: dict[str, str],
    message: str,
    saved: str,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    given = {"name": "s", "dataset": saved, "prompt": "{text}", "completion": " {stars}"}
    with pytest.raises(ValueError, match=message):
        load(HubTask(**{**given, **changed}), tokenizer)  # type: ignore[arg-type]


def test_chance_is_never_below_guessing_among_the_labels(
    toy_folder: Path, toy_corpus: TokenDataset
) -> None:
    """The commonest training label may be rare in test."""

    def rows(labels: str, start: int) -> list[dict[str, Any]]:
        return [
            {"prompt": f"row {start + n}", "completion": f" {label}", "label": label}
            for n, label in enumerate(labels)
        ]

    names = {"train": rows("aaabbccd", 0), "validation": rows("ab", 20), "test": rows("bbcd", 40)}
    paths = {k: str(toy.write_jsonl(toy_folder / f"rare-{k}.jsonl", v)) for k, v in names.items()}
    fine = Finetune(tasks=(FileTask(name="rare", **paths),))
    (found,) = tasks.load(fine, toy_corpus.tokenizer)
    assert found.metric == "accuracy"
    assert found.chance == 0.25
