"""Built-in tasks: every answer recomputed by other means, every promise about the rows held."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import chain

import pytest

from objectives.data import builtin_tasks, python_stdlib
from objectives.data.examples import Example

NAMES = list(builtin_tasks.TASKS)


LABELLED = {"code_module": 8, "token_kind": 6, "list_ops": 10}


def all_rows(name: str) -> list[Example]:
    return list(chain.from_iterable(builtin_tasks.rows(name).values()))


def question(row: Example, cue: str) -> str:
    assert row.prompt.endswith(cue)
    return row.prompt.removesuffix(cue)


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_large_enough_and_share_no_prompt(name: str) -> None:
    splits = builtin_tasks.rows(name)
    assert 1000 <= len(splits["train"]) <= 4000
    assert 100 <= len(splits["validation"]) <= 400
    assert 100 <= len(splits["test"]) <= 500
    prompts = [row.prompt for row in all_rows(name)]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_end_in_a_cue_and_completions_start_with_one_space(name: str) -> None:
    for row in all_rows(name):
        assert re.fullmatch(r".*[:=]", row.prompt, re.DOTALL)
        assert len(row.prompt) < 200
        assert re.fullmatch(r" \S(.*\S)?", row.completion)


@pytest.mark.parametrize("name", NAMES)
def test_every_split_has_every_label_equally_often(name: str) -> None:
    for part in builtin_tasks.rows(name).values():
        counts = Counter(row.label for row in part)
        assert len(counts) == LABELLED.get(name, 1)
        assert len(set(counts.values())) == 1
        assert all(row.label is None or row.completion == f" {row.label}" for row in part)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_rows_of_a_split_are_balanced_too(name: str) -> None:
    for part in builtin_tasks.rows(name).values():
        counts = Counter(row.label for row in part[:64])
        assert len(counts) == LABELLED.get(name, 1)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_rows_do_not_depend_on_the_hash_seed_or_the_call() -> None:
    code = (
        "import hashlib, json; from objectives.data import builtin_tasks as b;"
        "print(json.dumps({n: hashlib.sha256(repr(sorted(b.rows(n).items())).encode()).hexdigest()"
        " for n in b.TASKS}))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    here = {
        name: hashlib.sha256(repr(sorted(builtin_tasks.rows(name).items())).encode()).hexdigest()
        for name in NAMES
    }
    assert json.loads(done.stdout) == here


def test_an_unknown_task_is_named_together_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'comands'.*commands"):
        builtin_tasks.rows("comands")


def test_a_prompt_with_two_answers_is_dropped_and_a_repeated_row_kept_once() -> None:
    a, b, c = Example("p:", " a"), Example("p:", " b"), Example("q:", " a")
    assert builtin_tasks._unambiguous([a, c, b, c]) == [c]


def test_code_snippets_stand_in_their_module_and_name_none() -> None:
    texts = {}
    for label, package in builtin_tasks.MODULES.items():
        texts[label] = squeezed("\n".join(python_stdlib.package_sources(package)))
    for row in all_rows("code_module"):
        snippet = question(row, "\nModule:")
        assert not any(label in snippet.lower() for label in texts)
        assert squeezed(snippet) in texts[str(row.label)]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def test_token_kinds_agree_with_the_spelling_of_the_token() -> None:
    for row in all_rows("token_kind"):
        line, token = question(row, "\nKind:").split("\nToken: ")
        assert token in line
        if token.startswith("#"):
            kind = "comment"
        elif re.fullmatch(r"[a-zA-Z]{0,2}(['\"]).*\1", token):
            kind = "string"
        elif re.match(r"\.?\d", token):
            kind = "number"
        elif token.isidentifier():
            kind = "keyword" if is_reserved(token) else "name"
        else:
            kind = "operator"
        assert row.label == kind, row


def is_reserved(word: str) -> bool:
    """No keyword can be assigned to; `__debug__` cannot either, but is a name."""
    if word == "__debug__":
        return False
    try:
        compile(f"{word} = 0", "", "exec")
    except SyntaxError:
        return True
    return False


def test_the_inside_of_a_multi_line_string_asks_no_question() -> None:
    source = 'text = """if 1:\n    x = 22222\n"""\nnumber = 12345  # five\n'
    found = builtin_tasks._kinds_by_line(source)
    assert found["number = 12345  # five"] == {
        "name": ["number"],
        "operator": ["="],
        "number": ["12345"],
        "comment": ["# five"],
    }
    assert set(found) == {"number = 12345  # five", 'text = """if 1:'}
    assert found['text = """if 1:'] == {"name": ["text"], "operator": ["="]}


def test_doc_names_are_defined_in_the_library_and_spelled_by_their_sentence() -> None:
    text = "\n".join(source for _, source in python_stdlib.sources())
    defined = {name.strip("_") for name in re.findall(r"\bdef[ \t]+(\w+)", text)}
    for row in all_rows("doc_name"):
        words = re.split(r"[\W_]+", question(row, "\nName:").lower())
        name = row.completion[1:]
        assert name in defined
        assert all(any(word.startswith(part) for word in words) for part in name.split("_"))


def test_docstrings_begin_with_their_sentence_after_their_definition() -> None:
    text = "\n".join(source for _, source in python_stdlib.sources())
    defined = set(re.findall(r"\b(?:def|class)[ \t]+(\w+)", text))
    library = squeezed(text)
    found = 0
    for row in all_rows("docstring"):
        heading = question(row, "\nDocstring:")
        kind, name = heading.split(" ")
        assert kind in ("def", "class")
        assert set(name.split(".")) <= defined
        assert not name.split(".")[-1].startswith("__")
        found += row.completion[1:] in library
    # Sentences with escapes are spelled otherwise in the source.
    assert found > 0.97 * len(all_rows("docstring"))


def test_first_sentences_end_at_a_full_stop_or_an_empty_line() -> None:
    assert builtin_tasks._first_sentence("Close the\n  file. Then rest.") == "Close the file."
    assert builtin_tasks._first_sentence("close() -> None\n\nMore.") == "close() -> None"


def test_commands_spell_out_their_actions() -> None:
    for row in all_rows("commands"):
        done: list[str] = []
        for phrase in question(row, "\nActions:").split(" and "):
            done += act(phrase.split())
        assert row.completion.split() == done, row


def act(words: list[str]) -> list[str]:
    """Reads a phrase from its end: the last word modifies everything before it."""
    match words:
        case [verb]:
            return [verb[0].upper()]
        case [*rest, "twice"]:
            return act(rest) * 2
        case [*rest, "thrice"]:
            return act(rest) * 3
        case [*rest, side]:
            return [side[0].upper(), *act(rest)]
    raise AssertionError(words)


def test_list_operations_give_the_right_digit() -> None:
    for row in all_rows("list_ops"):
        op, digits = re.fullmatch(r"(\w+) of ((?:\d )+)=", row.prompt).groups()  # type: ignore[union-attr]
        ordered, given = sorted(digits.split()), digits.split()
        answers = {
            "first": given[0],
            "last": given[len(given) - 1],
            "max": ordered[-1],
            "min": ordered[0],
            "count": str(digits.count(" ")),
        }
        assert row.completion == f" {answers[op]}", row


def test_sums_and_differences_are_right() -> None:
    for row in all_rows("arithmetic"):
        a, sign, b = re.fullmatch(r"(\d+) ([+-]) (\d+) =", row.prompt).groups()  # type: ignore[union-attr]
        answer = int(row.completion)
        assert answer >= 0
        assert int(a) == (answer - int(b) if sign == "+" else answer + int(b)), row
