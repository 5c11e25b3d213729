"""Tables at every width: nothing is cut, and what is too wide for a table is a list."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from hpo.cli.console import guarded

HEADS = ("contrast", "metric", "difference", "corrected p", "outcome")
ROW = ("more decay: a - b", "finetuned_loss_nats", "+0.0134 ± 0.0049", "0.022", "not significant")


def printed(width: int) -> str:
    table = Table(title="Planned contrasts")
    for head in HEADS:
        table.add_column(head)
    table.add_row(*ROW)
    console = Console(file=io.StringIO(), width=width)
    guarded(console).print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [30, 60, 70, 80, 100, 140])
def test_every_word_is_whole_and_no_line_is_too_long(width: int) -> None:
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in " ".join(ROW).replace("±", "").split():
        assert word in re.sub(r"\s+", " ", text)


def test_a_wide_terminal_has_a_frame_a_narrow_one_none_and_the_narrowest_a_list() -> None:
    assert "┃ contrast" in printed(100)
    assert "┃" not in printed(64)
    assert "─" in printed(64)
    assert "- contrast: more decay: a - b\n  metric: finetuned_loss_nats;" in printed(50)


def test_long_heads_are_broken_where_names_have_joints() -> None:
    console = Console(file=io.StringIO(), width=20)
    table = Table("finetuned_loss_nats", "probe.ranks")
    table.add_row("1", "2")
    guarded(console).print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert lines[:2] == [["finetuned_", "probe."], ["loss_nats", "ranks"]]
