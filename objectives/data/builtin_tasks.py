"""Tasks made from the running Python: known answers, no download.

| task          | asks for                                  | kind           | pretraining gives   |
|---------------|-------------------------------------------|----------------|---------------------|
| `code_module` | the module some lines of code come from   | classification | style, vocabulary   |
| `token_kind`  | the kind of a token in a line of code     | classification | syntax              |
| `doc_name`    | the name of the function a sentence tells | generation     | vocabulary, copying |
| `docstring`   | the sentence that describes a definition  | generation     | prose, vocabulary   |
| `commands`    | the actions that a command spells out     | generation     | copying, counting   |
| `list_ops`    | a digit picked from a list                | classification | looking back        |
| `arithmetic`  | a sum or a difference                     | generation     | little              |

From candidates to rows, the same for every task (`rows`):

1. A builder gives candidates in an order drawn with the task's own seed.
2. A prompt with two answers is dropped, a repeated row kept once: no prompt is in two splits.
3. Labels are cut to equal counts in each split, so that chance is 1 / number of labels.
4. The rank of the prompt's hash among its label's picks the split.

Rows are a function of the task's name and the Python that runs: releases differ in their library.
The lines and sentences also are in the `stdlib` corpus, without their cue and answer: a base has
read them, as it has read most public benchmarks, and learns what is asked from the training rows.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import keyword
import random
import re
import textwrap
import tokenize
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Literal, TypeAlias

from objectives.data import python_stdlib
from objectives.data.examples import Example

Split: TypeAlias = Literal["train", "validation", "test"]


Builder: TypeAlias = Callable[[random.Random], list[Example]]


SPLIT_SIZES: dict[Split, int] = {"test": 500, "validation": 400, "train": 4000}
"""At most this many rows; smaller tasks keep the proportions."""


MAX_ROWS = sum(SPLIT_SIZES.values())


@cache
def rows(name: str) -> Mapping[Split, tuple[Example, ...]]:
    """The rows of a task by split; the prompts of all splits are different.

    Raises:
        ValueError: no such task.
    """
    if name not in TASKS:
        raise ValueError(f"unknown built-in task {name!r}; tasks are {', '.join(TASKS)}.")
    candidates = TASKS[name](random.Random(f"built-in task {name}"))
    splits = _split(_unambiguous(candidates))
    assert all(splits.values()), name
    return splits


def _unambiguous(candidates: list[Example]) -> list[Example]:
    answers = defaultdict(set)
    for row in candidates:
        answers[row.prompt].add(row)
    return [row for row in dict.fromkeys(candidates) if len(answers[row.prompt]) == 1]


def _split(candidates: list[Example]) -> dict[Split, tuple[Example, ...]]:
    """Each label's rows in hash order, dealt in rounds of one row a label, cut into splits.

    Hash order is a shuffle that needs no random state. Rounds make every beginning of a split as
    balanced as the split, since studies use the first rows of it.
    """
    by_label = defaultdict(list)
    for row in candidates:
        by_label[row.label].append(row)
    each = min(MAX_ROWS // len(by_label), *map(len, by_label.values()))
    groups = [sorted(group[:each], key=_digest) for group in by_label.values()]
    rounds = zip(*groups, strict=True)
    splits: dict[Split, tuple[Example, ...]] = {}
    for split, size in SPLIT_SIZES.items():
        dealt = itertools.islice(rounds, each * size // MAX_ROWS)
        splits[split] = tuple(itertools.chain.from_iterable(dealt))
    return splits


def _digest(row: Example) -> bytes:
    return hashlib.sha256(row.prompt.encode()).digest()


MODULES = {
    "argparse": "argparse",
    "asyncio": "asyncio",
    "decimal": "_pydecimal",
    "email": "email",
    "logging": "logging",
    "tarfile": "tarfile",
    "typing": "typing",
    "unittest": "unittest",
}
"""Label -> top-level module or package: well known, large, in every release since 3.11."""


SNIPPET_CHARS = range(90, 181)


def _code_module(rng: random.Random) -> list[Example]:
    """Snippets that name none of the modules, in any case of letters.

    Other traces stay, such as a class that only one module uses: they are what is to be learned.
    """
    found = [
        Example(f"{snippet}\nModule:", f" {label}", label)
        for label, package in MODULES.items()
        for source in python_stdlib.package_sources(package)
        for snippet in _snippets(source)
        if not any(name in snippet.lower() for name in MODULES)
    ]
    rng.shuffle(found)
    return found


def _snippets(source: str) -> Iterator[str]:
    """Consecutive lines until there is enough text; no line is in two snippets."""
    lines: list[str] = []
    for line in filter(str.strip, source.splitlines()):
        lines.append(line.rstrip())
        text = textwrap.dedent("\n".join(lines))
        if len(text) >= SNIPPET_CHARS.start:
            lines = []
            if len(text) in SNIPPET_CHARS:
                yield text


TOKEN_MODULES = (
    *("_pydecimal", "_pyio", "_strptime", "argparse", "base64", "calendar", "datetime", "difflib"),
    *("inspect", "ipaddress", "mailbox", "pickle", "pickletools", "plistlib", "random", "socket"),
    *("ssl", "statistics", "subprocess", "tarfile", "turtle", "uuid", "zipfile"),
)
"""Modules with many numbers, the rarest kind; a release that moved one away has fewer rows."""


KIND_WEIGHTS = {"number": 12, "comment": 4, "string": 3, "keyword": 2, "operator": 1, "name": 1}
"""How readily a line asks for a token of this kind (assumed; about one over its frequency)."""


LINE_CHARS = range(8, 81)


TOKEN_CHARS = 40


def _token_kind(rng: random.Random) -> list[Example]:
    """One token of a line, so that no line is in two splits."""
    found: dict[str, Example] = {}
    for module in TOKEN_MODULES:
        for source in python_stdlib.package_sources(module):
            for line, kinds in _kinds_by_line(source).items():
                kind = rng.choices(list(kinds), [KIND_WEIGHTS[kind] for kind in kinds])[0]
                prompt = f"{line}\nToken: {rng.choice(kinds[kind])}\nKind:"
                found[line] = Example(prompt, f" {kind}", kind)
    rows = list(found.values())
    rng.shuffle(rows)
    return rows


def _kinds_by_line(source: str) -> dict[str, dict[str, list[str]]]:
    """Stripped line -> kind -> its tokens; tokens of several lines are left out."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old modules hold invalid escapes
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            line, kind = token.line.strip(), _kind(token)
            fits = len(line) in LINE_CHARS and len(token.string) <= TOKEN_CHARS
            if kind and fits and token.string in line and "\n" not in line:
                found[line][kind].append(token.string)
    return found


def _kind(token: tokenize.TokenInfo) -> str | None:
    if token.type == tokenize.NAME:
        return "keyword" if keyword.iskeyword(token.string) else "name"
    kinds = {
        tokenize.NUMBER: "number",
        tokenize.STRING: "string",
        tokenize.OP: "operator",
        tokenize.COMMENT: "comment",
    }
    return kinds.get(token.type)


SENTENCE_CHARS = range(15, 121)


def _doc_name(rng: random.Random) -> list[Example]:
    """First sentences that hold every word of the function's name, or a longer form of it.

    The others cannot be answered from the prompt. Underscores around a name are left out, and
    so are special methods, whose names say nothing.
    """
    found = []
    for _, source in python_stdlib.sources():
        for heading, docstring in python_stdlib.docstrings(source):
            name = re.split(r"[ .]", heading)[-1]
            if not heading.startswith("def ") or name.startswith("__"):
                continue
            name, sentence = name.strip("_"), _first_sentence(docstring)
            if len(sentence) in SENTENCE_CHARS and _spelled_by(name, sentence):
                found.append(Example(f"{sentence}\nName:", f" {name}"))
    rng.shuffle(found)
    return found


def _docstring(rng: random.Random) -> list[Example]:
    """A function, method or class, and the first sentence of its docstring.

    Hardly ever answered word for word: it is read by its completion loss, in nats a token. Special
    methods are left out, whose sentences are the same everywhere.
    """
    found = []
    for _, source in python_stdlib.sources():
        for heading, docstring in python_stdlib.docstrings(source):
            name, sentence = re.split(r"[ .]", heading)[-1], _first_sentence(docstring)
            if name and not name.startswith("__") and len(sentence) in SENTENCE_CHARS:
                found.append(Example(f"{heading}\nDocstring:", f" {sentence}"))
    rng.shuffle(found)
    return found


def _first_sentence(docstring: str) -> str:
    sentence = re.split(r"(?<=[.!?])\s|\n\s*\n", docstring, maxsplit=1)[0]
    return " ".join(sentence.split())


def _spelled_by(name: str, sentence: str) -> bool:
    words = re.findall(r"[a-z0-9]+", sentence.lower())
    parts = name.split("_")
    return all(part and any(word.startswith(part) for word in words) for part in parts)


VERBS = {"hop": "H", "spin": "S", "wave": "W", "clap": "C", "bow": "B", "nod": "N"}


SIDES = {"": "", " left": "L ", " right": "R "}


TIMES = {"": 1, " twice": 2, " thrice": 3}


def _commands(rng: random.Random) -> list[Example]:
    """A grammar in the spirit of SCAN (arXiv 1711.00350), with words of our own.

    command = phrase | phrase "and" phrase; phrase = verb [side] [times]. A side is an action before
    each repetition of the verb. SCAN's "after" is left out: with it, a model of 0.2M parameters
    learned half as much in 150 steps (measured, one run: 0.08 exact against 0.20).
    """
    phrases = {
        f"{verb}{side}{times}": [f"{turn}{action}"] * count
        for (verb, action), (side, turn), (times, count) in itertools.product(
            VERBS.items(), SIDES.items(), TIMES.items()
        )
    }
    commands = dict(phrases)
    for (first, do), (second, then) in itertools.product(phrases.items(), repeat=2):
        commands[f"{first} and {second}"] = do + then
    found = [Example(f"{text}\nActions:", " " + " ".join(do)) for text, do in commands.items()]
    rng.shuffle(found)
    return found


LIST_OPS: dict[str, Callable[[list[int]], int]] = {
    "first": lambda digits: digits[0],
    "last": lambda digits: digits[-1],
    "max": max,
    "min": min,
    "count": len,
}


LIST_LENGTHS = range(3, 7)


LIST_CANDIDATES = 12_000


def _list_ops(rng: random.Random) -> list[Example]:
    """Digits drawn evenly; more candidates than rows, since the answers are not even."""
    found = []
    for _ in range(LIST_CANDIDATES):
        op = rng.choice(list(LIST_OPS))
        digits = [rng.randrange(10) for _ in range(rng.choice(LIST_LENGTHS))]
        answer = str(LIST_OPS[op](digits))
        found.append(Example(f"{op} of {' '.join(map(str, digits))} =", f" {answer}", answer))
    return found


def _arithmetic(rng: random.Random) -> list[Example]:
    """Every sum and every non-negative difference of two numbers below 60."""
    found = []
    for a, b in itertools.product(range(60), repeat=2):
        found.append(Example(f"{a} + {b} =", f" {a + b}"))
        if a >= b:
            found.append(Example(f"{a} - {b} =", f" {a - b}"))
    rng.shuffle(found)
    return found


TASKS: dict[str, Builder] = {
    "code_module": _code_module,
    "token_kind": _token_kind,
    "doc_name": _doc_name,
    "docstring": _docstring,
    "commands": _commands,
    "list_ops": _list_ops,
    "arithmetic": _arithmetic,
}
