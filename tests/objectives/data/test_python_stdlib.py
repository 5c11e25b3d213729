"""The text that ships with Python: whole documents, no text twice, nothing imported."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from objectives.data import python_stdlib

SOURCE = r'''
"""Module text."""

class A:
    """Class text."""

    def f(self):
        """Method text, with an invalid escape: \d."""
        def inner():
            """Inner text."""

    class B:
        async def g(self):
            """Async text."""

def bare():
    pass
'''


@cache
def documents() -> tuple[str, ...]:
    return tuple(python_stdlib.documents())


def test_there_is_enough_text_for_a_small_model() -> None:
    assert len(documents()) > 300
    assert sum(len(text.encode()) for text in documents()) > 5_000_000


def test_documents_are_the_same_in_every_call() -> None:
    assert tuple(python_stdlib.documents()) == documents()


def test_no_document_occurs_twice_or_is_nearly_empty() -> None:
    assert len(set(documents())) == len(documents())
    assert min(map(len, documents())) >= python_stdlib.MIN_CHARS


def test_a_module_gives_its_docstrings_or_its_source_but_never_both() -> None:
    texts = set(documents())
    kinds = {"source": 0, "docstrings": 0}
    for module, source in python_stdlib.sources():
        as_docstrings = [text for text in texts if text.startswith(f"{module}\n\n")]
        assert len(as_docstrings) + (source in texts) <= 1 + source.startswith(f"{module}\n\n")
        kinds["source"] += source in texts
        kinds["docstrings"] += bool(as_docstrings)
    assert min(kinds.values()) > 50


def test_no_long_paragraph_stands_in_two_topics() -> None:
    seen: set[str] = set()
    for text in python_stdlib.topics():
        parts = {part for part in text.split("\n\n") if len(part) > python_stdlib.QUOTED_CHARS}
        assert not parts & seen
        seen |= parts


def test_topics_are_empty_where_python_comes_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert list(python_stdlib.topics()) == []


def test_docstrings_come_in_the_order_of_the_text_with_their_names() -> None:
    assert python_stdlib.docstrings(SOURCE) == [
        ("", "Module text."),
        ("class A", "Class text."),
        ("def A.f", r"Method text, with an invalid escape: \d."),
        ("def A.B.g", "Async text."),
    ]


def test_text_that_is_no_python_has_no_docstrings() -> None:
    assert python_stdlib.docstrings("def (") == python_stdlib.docstrings("a\0b") == []


def test_tests_tables_and_installed_packages_are_left_out() -> None:
    files = python_stdlib.source_files()
    assert {"json", "json.decoder", "argparse"} <= set(files)
    for module, path in files.items():
        assert not {"test", "tests", "encodings", "pydoc_data"} & set(module.split("."))
        assert "site-packages" not in path.parts
        assert path.is_file()


def test_a_file_that_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_bytes(b"x = '\xff'\n")
    (tmp_path / "odd.py").write_bytes(b"# coding: no-such-codec\n")
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xe9'\n")
    assert python_stdlib.read_source(tmp_path / "bad.py") is None
    assert python_stdlib.read_source(tmp_path / "odd.py") is None
    assert python_stdlib.read_source(tmp_path / "none.py") is None
    assert python_stdlib.read_source(tmp_path / "latin.py") == "# coding: latin-1\nx = 'é'\n"


def test_reading_modules_does_not_import_them() -> None:
    code = (
        "import sys; from objectives.data import python_stdlib as s; list(s.documents());"
        "print([m for m in ('turtle', 'antigravity', 'idlelib', 'mailbox') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
