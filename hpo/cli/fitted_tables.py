"""Tables that fit the terminal.

A table that is wider than the terminal is drawn without a frame and with long names broken at
their underscores and dots. Where words would still be cut, it is a list: a paragraph a row, each
value after its column's name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

HEAD = 10
"""Characters of a line of a head, if its name can be broken; assumed."""


class Fitted:
    """A table, printed in the first form that fits."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most = options.max_width
        wide = options.update(max_width=10_000)
        if self.table.__rich_measure__(console, wide).maximum <= most:
            yield self.table
            return
        found = _narrowed(self.table, most, frame=3 * len(self.table.columns) + 1)
        found = found or _narrowed(_compact(self.table), most, frame=len(self.table.columns) - 1)
        if found is None:
            yield from _paragraphs(self.table)
        else:
            yield found


def _copied(table: Table) -> Table:
    found = copy.copy(table)
    found.columns = [copy.copy(column) for column in table.columns]
    return found


def _compact(table: Table) -> Table:
    """The same without a frame, names in heads broken."""
    found = _copied(table)
    found.box, found.show_edge, found.padding = box.SIMPLE_HEAD, False, (0, 0)
    for column in found.columns:
        column.header = Text("\n".join(_broken(str(column.header))))
        column._cells = [_together(cell) for cell in column._cells]
    return found


def _narrowed(table: Table, most: int, frame: int) -> Table | None:
    """The same with cells broken between words; None where words would be cut.

    `frame`: what is drawn beside the cells.
    """
    found = _copied(table)
    widths = _widths(found.columns, most - frame)
    if widths is None:
        return None
    for column, width in zip(found.columns, widths, strict=True):
        column.width = width
    return found


def _widths(columns: Sequence[Column], most: int) -> list[int] | None:
    """The width of each column: no word is cut, and the tallest cells are as low as they can be."""
    texts = [[str(column.header), *map(str, column.cells)] for column in columns]
    lines = [[line for text in each for line in text.split("\n")] for each in texts]
    longest = [max(map(cell_len, each), default=0) for each in lines]
    words = [max(map(cell_len, " ".join(each).split()), default=0) for each in lines]
    widths = [
        whole if column.no_wrap else word
        for column, whole, word in zip(columns, longest, words, strict=True)
    ]
    for _ in range(most - sum(widths)):
        heights = [long / max(width, 1) for long, width in zip(longest, widths, strict=True)]
        tallest = max(range(len(widths)), key=heights.__getitem__)
        if heights[tallest] <= 1:
            break
        widths[tallest] += 1
    return widths if sum(widths) <= most else None


def _together(cell: RenderableType) -> RenderableType:
    """A cell whose error is one word, so that a line ends before its ± and not after."""
    text = str(cell)
    return Text(text.replace("± ", "±")) if "± " in text else cell


def _broken(name: str) -> list[str]:
    """A name in lines, as few as its underscores, dots and spaces allow."""
    lines = [""]
    for part in re.findall(r"[^_. ]*[_. ]?", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > HEAD:
            lines.append("")
        lines[-1] += part
    return [line.strip() for line in lines]


def _paragraphs(table: Table) -> Iterator[RenderableType]:
    """A row after the other: its first value, then the others with their names."""
    if table.title:
        yield Text.assemble((str(table.title), "bold"))
    heads = [str(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = (str(cell) for cell in row)
        yield Text(f"- {heads[0]}: {first}" if heads[0] else f"- {first}")
        named = [f"{head}: {text}" for head, text in zip(heads[1:], others, strict=True) if text]
        yield Padding(Text("; ".join(named)), (0, 0, 0, 2), expand=False)
    if table.caption:
        yield Text(str(table.caption))
