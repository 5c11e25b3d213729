"""What is printed cannot drive the terminal.

Names, failures and a worker's last log lines come from study files, data and databases. A control
character in them would move the cursor, set the title or hide text, and one that turns the writing
direction shows another text than there is: they are shown as Python writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment
from rich.table import Table

from hpo.cli.fitted_tables import Fitted
from hpo.cli.streams import encodable
from hpo.core.format import escape_controls

WIDTH = 140
"""Columns where no terminal says how many there are."""


def new_console(*, stderr: bool = False) -> Console:
    """What a command prints tables and text to."""
    made = Console(highlight=False, stderr=stderr)
    if not made.is_terminal:
        made = Console(highlight=False, stderr=stderr, width=WIDTH)
    return guarded(made)


def guarded(console: Console) -> Console:
    """The console, which spells out control characters of all that it is given to print."""
    console.push_render_hook(_Guard())
    return console


class _Guard(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Plain(Fitted(each) if isinstance(each, Table) else each) for each in renderables]


class _Plain:
    """Something to print, plainly; what moves rich's own cursor is no text of it."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            text = segment.text
            if not segment.control:
                text = encodable(escape_controls(text), console.encoding)
            yield Segment(text, segment.style, segment.control)


def print_path(path: Path) -> None:
    """Print a file's whole path: as it is, but to a terminal so that it cannot drive it."""
    text = str(path.absolute())
    print(escape_controls(text) if sys.stdout.isatty() else text)
