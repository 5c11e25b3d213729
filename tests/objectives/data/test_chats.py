"""Rows with messages: dialogues, instructions, summaries, and every way in which one is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from objectives.config.data import FileTask
from objectives.data import tasks
from objectives.data.chats import NoTextError, prompt_and_completion
from objectives.data.examples import Example
from tests.objectives import toy

USER, ANSWER = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}


@pytest.mark.parametrize(
    ("turns", "prompt", "completion"),
    [
        ([USER, ANSWER], "User: Hello\nAssistant:", " Hi."),
        ([USER, ANSWER, USER, ANSWER, USER],
         "User: Hello\nAssistant: Hi.\nUser: Hello\nAssistant:", " Hi."),
        ([{"role": "system", "content": "Summarise."}, USER, ANSWER],
         "System: Summarise.\nUser: Hello\nAssistant:", " Hi."),
        ([{"role": "User", "content": "Hello"}, {"role": "Assistant", "content": " Hi.\n"}],
         "User: Hello\nAssistant:", " Hi."),
        ([{"role": "user", "content": [{"type": "text", "text": "Hel"},
                                       {"type": "text", "text": "lo"}]}, ANSWER],
         "User: Hello\nAssistant:", " Hi."),
    ],
)  # fmt: skip
def test_the_last_answer_is_completed_after_the_turns_before_it(
    turns: list[Any], prompt: str, completion: str
) -> None:
    assert prompt_and_completion(turns, "row 1") == (prompt, completion)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (json.dumps([USER, ANSWER]), "list of turns with role and content under 'messages', got s"),
        ({"user": "Hello"}, "under 'messages', got dict; write the rows as JSON Lines"),
        ([USER, "Hi."], "turn 2 must be an object with role and content, got str."),
        ([{"from": "human", "value": "Hello"}],
         "turn 1 has no role and no content; its fields are from, value: name them role and"),
        ([{"role": "user"}, ANSWER], "turn 1 has no content; its fields are role"),
        ([{}, ANSWER], "turn 1 has no role and no content; its fields are (none)"),
        ([{"role": 1, "content": "Hello"}, ANSWER], "turn 1 needs text as its role, such as user"),
        ([USER, {"role": " ", "content": "Hi."}], "turn 2 needs text as its role, such as user"),
        ([{"role": "user", "content": 3}, ANSWER], "turn 1 needs text as its content, got int"),
        ([{"role": "user", "content": {"text": "Hello"}}, ANSWER], "content, got dict; give text"),
        ([{"role": "user", "content": [{"type": "image"}]}, ANSWER], "got a part of type 'image'"),
        ([{"role": "user", "content": [{"type": "text"}]}, ANSWER], "turn 1 has a part of type te"),
        ([{"role": "user", "content": ["Hello"]}, ANSWER], "turn 1 needs text as its content, got"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_turns_is_refused_in_one_sentence(messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^row 7(:| needs).*\.$") as caught:
        prompt_and_completion(messages, "row 7")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "no turn is in it"),
        ([], "no turn is in it"),
        ([USER], "no turn of role 'assistant' comes after another; its roles are user"),
        ([ANSWER, USER], "no turn of role 'assistant' comes after another"),
        ([USER, {"role": "assistant", "content": "  "}], "a turn has no content"),
        ([USER, {"role": "assistant", "content": None}], "a turn has no content"),
        ([{"role": "user", "content": None}, ANSWER], "a turn has no content"),
        ([{"role": "human", "content": "Hello"}, {"role": "gpt", "content": "Hi."}],
         "its roles are human, gpt"),
    ],
)  # fmt: skip
def test_a_chat_without_an_answer_is_left_out_and_counted(
    messages: Any, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(NoTextError):
        prompt_and_completion(messages, "row 1")
    good = [{"messages": [{**USER, "content": f"Hello {n}"}, ANSWER]} for n in range(20)]
    mine = task(tmp_path, [*good, {"messages": messages}])
    assert any("1 of 21" in note for note in tasks.check(mine))
    with pytest.raises(ValueError, match=r"task 'chat': .* line 1 .* 'messages' ") as caught:
        tasks.check(task(tmp_path, [{"messages": messages}] * 20))
    assert reason in str(caught.value)


def test_templates_of_the_recipe_come_before_messages(tmp_path: Path) -> None:
    row = {"messages": [USER, ANSWER], "document": "Long text.", "summary": "Text."}
    given = {"prompt": "{document}\nIn short:", "completion": " {summary}"}
    mine = task(tmp_path, [{**row, "document": f"Long text {n}."} for n in range(20)], **given)
    assert Example("Long text 3.\nIn short:", " Text.", None) in [
        each for rows in tasks.read_rows(mine).values() for each in rows
    ]


def task(folder: Path, rows: list[dict[str, Any]], **given: Any) -> FileTask:
    path = toy.write_jsonl(folder / "rows.jsonl", rows)
    return FileTask(name="chat", train=str(path), test=str(path), **given)
