"""Documents are in plain technical English, without private words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import docs

WORDS = {
    "mend": "fix",
    "mended": "fixed",
    "anew": "again",
    "dear": "expensive",
    "ours": "this project's",
    "told apart": "significantly different",
    "nothing tells": "unknown",
    "how-manieth": "index",
    "lest": "in case",
}
"""Word or phrase -> what to write instead."""


PATTERN = re.compile(rf"\b({'|'.join(WORDS)})\b", re.I)


GENERATED = re.compile(r"<!-- (\w+) (\S+) -->.*?<!-- end \1 \2 -->|`ours`", re.S)
"""What comes from code or results files, and a name in those."""


def test_the_pattern_finds_what_it_looks_for() -> None:
    found = PATTERN.findall("It is mended, and not told apart; yours is dear.")
    assert found == ["mended", "told apart", "dear"]


@pytest.mark.parametrize("path", docs.DOCUMENTS, ids=lambda path: path.name)
def test_a_document_has_no_private_words(path: Path) -> None:
    assert PATTERN.findall(GENERATED.sub("", path.read_text(encoding="utf-8"))) == []
