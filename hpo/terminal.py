"""What is printed cannot drive the terminal.

Names, failures and a worker's last words come from study files, data and databases. A control
character in them would move the cursor, set the title or hide text, and one that turns the writing
direction shows another text than there is: they are shown as Python writes them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

from hpo.streams import encodable

KEPT = "\n\t"
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Unicode's bidirectional classes that embed or override a direction."""


def plain(text: str) -> str:
    """The text with control characters spelled out; line ends and tabs stay."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_spelled(each) if _controls(each) else each for each in text)


def guarded(console: Console) -> Console:
    """The console, which spells out control characters of all that it is given to print."""
    console.push_render_hook(_Guard())
    return console


def _controls(character: str) -> bool:
    if character in KEPT:
        return False
    return unicodedata.category(character) == "Cc" or unicodedata.bidirectional(character) in TURNS


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class _Guard(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Plain(each) for each in renderables]


class _Plain:
    """Something to print, plainly; what moves rich's own cursor is no text of it."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            text = segment.text
            if not segment.control:
                text = encodable(plain(text), console.encoding)
            yield Segment(text, segment.style, segment.control)
