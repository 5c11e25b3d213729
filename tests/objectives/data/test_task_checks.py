"""Rows of tasks as people have them: what is refused, left out, noted and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from objectives.config.data import BuiltinTask, FileTask
from objectives.data import tasks
from objectives.data.builtin_tasks import TASKS
from objectives.data.examples import Example
from objectives.data.task_checks import findings, scored
from objectives.data.task_rows import Rows
from tests.objectives import toy

Data = list[dict[str, Any]]


def data(count: int, start: int = 0, **changed: Any) -> Data:
    """Whether a number is even; `changed` in every row."""
    return [
        {"prompt": f"{n} is", "completion": f" {word}", "label": word} | changed
        for n in range(start, start + count)
        for word in ["even" if n % 2 == 0 else "odd"]
    ]


def task(folder: Path, train: Data, test: Data | None = None, **given: Any) -> FileTask:
    test = data(10, 100) if test is None else test
    paths = {
        name: str(toy.write_jsonl(folder / f"{name}.jsonl", rows))
        for name, rows in {"train": train, "test": test}.items()
    }
    return FileTask(name="t", **{**paths, **given})


@pytest.mark.parametrize("missing", [None, "", " ", float("nan")])
def test_a_few_rows_without_a_label_are_left_out_and_counted(missing: Any, tmp_path: Path) -> None:
    rows = data(60)
    rows[7]["label"] = missing
    mine = task(tmp_path, rows)
    found = scored(mine, tasks.read_rows(mine))
    assert found.metric == "accuracy"
    assert sum(map(len, found.rows.values())) == 69
    assert "task t: rows left out as they have no label: 1 of 70" in tasks.check(mine)
    del rows[7]["label"]
    assert "task t: rows left out as they have no label: 1 of 70" in tasks.check(
        task(tmp_path, rows)
    )


def test_the_metric_is_always_noted(tmp_path: Path) -> None:
    assert tasks.check(task(tmp_path, data(60))) == ["task t is scored by accuracy over 2 labels"]
    bare = [{k: row[k] for k in ("prompt", "completion")} for row in data(60)]
    assert tasks.check(task(tmp_path, bare, bare[:2]))[0] == (
        "task t is scored by exact match of the whole answer"
    )
    notes = tasks.check(task(tmp_path, bare))
    assert "task t: rows with a label, too few to score by: 10 of 70" in notes
    assert "task t is scored by exact match of the whole answer" in notes


def test_a_split_in_which_no_row_has_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task 't' has labels, but none in test"):
        tasks.check(task(tmp_path, data(60), data(10, 100, label=None)))


@pytest.mark.parametrize("metric", ["auto", "accuracy"])
def test_completions_that_differ_in_white_space_alone_are_refused_and_named(
    metric: str, tmp_path: Path
) -> None:
    bare = [row | {"completion": row["label"]} for row in data(10, 100)]
    with pytest.raises(ValueError, match=r"completion ' (odd|even)' of \d+ rows is '\w+' in 5 \(t"):
        tasks.check(task(tmp_path, data(60), bare, metric=metric))


def test_labels_that_differ_in_white_space_alone_are_refused(tmp_path: Path) -> None:
    rows = data(60)
    rows[0]["label"] = "even "
    with pytest.raises(ValueError, match=r"the label 'even' of 34 rows is 'even ' in 1 \(\w+\)"):
        tasks.check(task(tmp_path, rows))


def test_answers_whose_white_space_can_never_match_are_refused(tmp_path: Path) -> None:
    train = data(60, label=None)
    bare = [row | {"completion": row["completion"].strip()} for row in data(10, 100, label=None)]
    with pytest.raises(ValueError, match="begin and end with ' ' and '' in train, but with '' and"):
        tasks.check(task(tmp_path, train, bare))


def test_a_label_with_two_texts_is_scored_by_exact_match_with_a_note(tmp_path: Path) -> None:
    rows = data(60)
    rows[0]["completion"] = " quite even"
    notes = tasks.check(task(tmp_path, rows))
    assert (
        "task t: labels with several texts: 1 of 2, such as 'even' with ' even', ' quite even'"
        in notes
    )
    assert "task t is scored by exact match of the whole answer" in notes


def test_labels_of_numbers_are_alike_whatever_their_type(tmp_path: Path) -> None:
    rows = [row | {"label": n % 2 if n % 3 else float(n % 2)} for n, row in enumerate(data(60))]
    found = scored(task(tmp_path, rows), tasks.read_rows(task(tmp_path, rows, rows[:4])))
    assert found.metric == "accuracy"
    with pytest.raises(ValueError, match=r"train.jsonl line 1 has a list for a label"):
        tasks.check(task(tmp_path, data(60, label=["x"])))


def rows(train: str, test: str, validation: str = "") -> Rows:
    """Rows whose prompt is a letter and whose answer is whether it is a vowel."""
    return {
        split: [Example(letter, " v" if letter in "aeiou" else " c") for letter in letters]  # type: ignore[misc]
        for split, letters in {"train": train, "validation": validation, "test": test}.items()
    }


@pytest.mark.parametrize(
    ("given", "notes"),
    [
        (rows("abcde", "fgi"), []),
        (rows("abcde", "ab"), ["test rows that are also training rows, so that the score tells "
                              "what was memorized: 2 of 2"]),
        (rows("abcde", "fgi", "fg"), ["test rows that are also validation rows, so that the "
                                     "learning rate is chosen on them: 2 of 3"]),
        (rows("abcde", "fgi", "ah"), ["validation rows that are also training rows, so that the "
                                     "learning rate is chosen on them: 1 of 2"]),
        (rows("aabcb", "fiii"), ["repeated rows: 2 of 5 in train, 2 of 4 in test"]),
        (rows("bcd", "fg"), ["all 5 rows have the one label 'c', so that any model scores 1"]),
    ],
)  # fmt: skip
def test_what_is_odd_in_the_rows_is_counted(given: Rows, notes: list[str]) -> None:
    assert findings("t", "accuracy", given) == [f"task t: {note}" for note in notes]


def test_equal_prompts_are_noted() -> None:
    given: Rows = {
        "train": [Example("a", " x"), Example("b", " y")],
        "validation": [],
        "test": [Example("a", " y"), Example(" a ", " y"), Example("c", " x")],
    }
    assert findings("t", "exact_match", given) == [
        "task t: test rows with the prompt of a training row and another answer: 2 of 3"
    ]
    same: Rows = {"train": [Example("q", " x"), Example("q", " y")], "validation": [], "test": []}
    assert findings("t", "exact_match", same) == ["task t: all 2 train rows have the same prompt"]


@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_have_nothing_to_note(name: str) -> None:
    built_in = BuiltinTask(name=name)
    given = scored(built_in, tasks.read_rows(built_in))
    assert given.notes == []
    assert findings(name, given.metric, given.rows) == []


def test_too_few_rows_say_so_and_ten_are_enough(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has too few rows, 3 in train, to hold out one in 10"):
        tasks.check(task(tmp_path, data(3)))
    for start in range(0, 200, 10):
        found = tasks.read_rows(task(tmp_path, data(10, start)))
        assert len(found["validation"]) >= 1
        assert len(found["train"]) + len(found["validation"]) == 10
    with pytest.raises(ValueError, match="has 10 times the same row in train"):
        tasks.check(task(tmp_path, data(1) * 10))
    with pytest.raises(ValueError, match=r"has no test rows: .*test.jsonl holds none"):
        tasks.check(task(tmp_path, data(20), []))


def test_rows_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    bad: Data = [{"prompt": None, "completion": " x"}, {"completion": " x"}, {"prompt": "a"},
                 {"prompt": "a", "completion": " "}]  # fmt: skip
    mine = task(tmp_path, data(60) + bad)
    assert sum(len(tasks.read_rows(mine)[split]) for split in ("train", "validation")) == 60
    assert (
        "task t: train rows left out as they lack a prompt or a completion: 4 of 64"
        in tasks.check(mine)
    )


def test_other_names_are_read_by_templates(tmp_path: Path) -> None:
    other = [
        {"question": row["prompt"], "answers": {"text": [row["label"]]}, "kind": row["label"]}
        for row in data(60)
    ]
    other.append({"question": "none", "answers": {"text": []}, "kind": "odd"})
    mine = task(tmp_path, other, other[:4], prompt="Q: {question}\nA:",
                completion=" {answers[text][0]}", label_field="kind")  # fmt: skip
    read = tasks.read_rows(mine)
    assert Example("Q: 0 is\nA:", " even", "even") in read["test"]
    assert scored(mine, read).metric == "accuracy"
    for template in ("no field", "{0}", "{", "{}"):
        with pytest.raises(ValueError, match=r"task 't': .* is no template"):
            tasks.check(task(tmp_path, other, prompt=template))


def test_a_chat_is_its_last_answer_after_the_turns_before_it(tmp_path: Path) -> None:
    chats = [
        {"messages": [{"role": "system", "content": "Be brief."},
                      {"role": "user", "content": f"{n}?"},
                      {"role": "assistant", "content": "Yes."},
                      {"role": "user", "content": "Sure?"},
                      {"role": "assistant", "content": "No.\n"},
                      {"role": "user", "content": "Bye"}]}
        for n in range(20)
    ]  # fmt: skip
    silent: Data = [{"messages": [{"role": "user", "content": "hello"}]}, {"messages": None}]
    mine = task(tmp_path, chats + silent, chats[:1])
    assert tasks.read_rows(mine)["test"] == [
        Example("System: Be brief.\nUser: 0?\nAssistant: Yes.\nUser: Sure?\nAssistant:", " No.")
    ]
    assert any("2 of 22" in note for note in tasks.check(mine))


def test_half_an_emoji_is_replaced_and_counted(tmp_path: Path) -> None:
    rows = data(60)
    rows[3]["prompt"] = "\ud83d 3 is"
    mine = task(tmp_path, rows)
    assert any(
        row.prompt == "\ufffd 3 is" for some in tasks.read_rows(mine).values() for row in some
    )
    assert "task t: train rows with half a surrogate pair, read as U+FFFD: 1" in tasks.check(mine)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json"])
def test_tables_and_arrays_are_tasks_too(ending: str, tmp_path: Path) -> None:
    def table(rows: Data, mark: str) -> str:
        lines = [mark.join(row.values()) for row in rows]
        return "\n".join([mark.join(rows[0]), *lines]) + "\n"

    for name, given in {"train": data(60), "test": data(10, 100)}.items():
        (tmp_path / f"{name}.jsonl").unlink(missing_ok=True)
        toy.write_jsonl(tmp_path / f"{name}.jsonl", given)
        text = str(given).replace("'", '"') if ending == ".json" else table(
            given, "," if ending == ".csv" else "\t"
        )  # fmt: skip
        (tmp_path / f"{name}{ending}").write_text(text)
    plain, other = (
        FileTask(name="t", train=str(tmp_path / f"train{e}"), test=str(tmp_path / f"test{e}"))
        for e in (".jsonl", ending)
    )
    assert tasks.read_rows(other) == tasks.read_rows(plain)
