"""Hostile names cannot drive the terminal they are printed to."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.cli import main
from hpo.cli.console import guarded, print_path
from hpo.cli.streams import plain_warnings
from hpo.core.format import escape_controls
from hpo.progress import Display

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202etxt.exe"


def test_control_characters_are_spelled_out_and_other_writing_stays() -> None:
    assert escape_controls(HOSTILE) == "\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\u202etxt.exe"
    for text in ("two\nlines\tand a tab", "Gr\u00fc\u00dfe \u4e16", "\u05e2\u05d1", "no\xa0break"):
        assert escape_controls(text) == text
    unseen = "\u2028\u2029\ufff9\u200b\ufeff\ue000\ud83d\U000e0001\U0010fffd"
    assert escape_controls(unseen) == (
        r"\u2028\u2029\ufff9\u200b\ufeff\ue000\ud83d\U000e0001\U0010fffd"
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_prints_hostile_texts_plainly_and_still_has_colours(terminal: bool) -> None:
    file = io.StringIO()
    console = guarded(
        Console(file=file, width=99, force_terminal=terminal, color_system="standard")
    )
    table = Table("name")
    table.add_row(Text(HOSTILE))
    console.print(table)
    console.print(Text(HOSTILE, style="red"))
    said = file.getvalue()
    assert not terminal or "\x1b[31m" in said
    for ours in ("\x1b[31m", "\x1b[0m", "\x1b[1m"):
        said = said.replace(ours, "")
    assert said.count("\\x1b]0;title") == 2
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)


def test_progress_is_plain_too() -> None:
    shown = Display(Console(file=io.StringIO()), trials=1, finished=0)
    line = shown.line({"stage": HOSTILE, "step": 1, "steps": 1, "worker": HOSTILE})
    assert "\x1b" not in line


def test_errors_and_the_log_of_an_error_are_plain(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "mine.py"
    study.write_text(
        "from tests.hpo.toy_objective import *\n"
        f"def fail(requests): raise ValueError({HOSTILE!r})\n"
        "STUDY = spec(objective=ToyObjective(before=fail))"
    )
    assert main.main(["run", str(study), "--out", str(tmp_path / "runs")]) == 1
    said = "".join(capfd.readouterr())
    assert "title" in said
    assert "\x1b" not in said + (tmp_path / "runs" / "toy" / "error.log").read_text()


def test_separators_of_lines_are_controls() -> None:
    assert escape_controls("a\u2028b\u2029c\x85d") == "a\\u2028b\\u2029c\\x85d"


def test_warnings_are_plain_too() -> None:
    before = warnings.formatwarning
    with plain_warnings():
        said = warnings.formatwarning(HOSTILE, UserWarning, HOSTILE, 1, line=HOSTILE)
    assert said.count(escape_controls(HOSTILE)) == 3
    assert said.replace("\n", "").isprintable()
    assert warnings.formatwarning is before


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_path_is_plain_on_a_terminal_and_as_it_is_for_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("/a/\x1b]0;x\x07b")
    print_path(path)
    assert capsys.readouterr().out == f"{path}\n"
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_path(path)
    assert terminal.getvalue() == "/a/\\x1b]0;x\\x07b\n"
