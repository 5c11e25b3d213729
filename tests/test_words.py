"""Documents, messages, docstrings and comments are in plain technical English."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import docs

WORDS = {
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "anew": "again",
    "dear": "expensive",
    "ours": "this project's",
    "told apart": "distinguished, or significantly different",
    "is told of": "receives",
    "nothing tells": "unknown",
    "how-manieth": "index",
    "lest": "in case",
    "lies": "is",
    "stands": "is",
    "stands for": "represents",
    "learnt": "fitted",
    "how sure": "how certain",
}
"""Word or phrase -> what to write instead."""


EMPTY = re.compile(r'^\s*(?:r?""")(?:The same|As they are|All of (?:it|them)|See \S+)\."""')
"""Docstrings that say nothing of their own."""


PATTERN = re.compile(rf"\b({'|'.join(sorted(WORDS, key=len, reverse=True))})\b", re.I)


GENERATED = re.compile(r"<!-- (\w+) (\S+) -->.*?<!-- end \1 \2 -->|[`\".]ours\b", re.S)
"""What comes from code or results files, and a name in those."""


SOURCES = sorted(
    path
    for top in ("hpo", "objectives", "studies", "examples")
    for path in (docs.ROOT / top).rglob("*")
    if path.suffix in (".py", ".js", ".html") and "__pycache__" not in path.parts
)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of comments and strings of several words; of scripts and pages all lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) and " " in token.string:
            yield token.start[0], GENERATED.sub("", token.string)


def test_the_pattern_finds_what_it_looks_for() -> None:
    found = PATTERN.findall("It is mended, and not told apart; yours is dear, flies stands for it.")
    assert found == ["mended", "told apart", "dear", "stands for"]
    assert EMPTY.match('    """See `Link.send`."""')
    assert not EMPTY.match('"""See the paper for the proof."""')


@pytest.mark.parametrize("path", docs.DOCUMENTS, ids=lambda path: path.name)
def test_a_document_has_no_private_words(path: Path) -> None:
    assert PATTERN.findall(GENERATED.sub("", path.read_text(encoding="utf-8"))) == []


def test_the_code_has_no_private_words_and_no_docstring_without_content() -> None:
    wrong = [
        f"{path.relative_to(docs.ROOT)}:{line}: {text.strip()[:90]}"
        for path in SOURCES
        for line, text in prose(path)
        if PATTERN.search(text) or EMPTY.match(text)
    ]
    assert wrong == []
