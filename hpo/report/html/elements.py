"""What the templates are given: figures by the ids of their elements, tables as cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from hpo.report.plots import registry
from hpo.report.results import Results

SINGLE = {
    "front": "front",
    "gain": "gain-by-task",
    "importance": "importance",
    "parallel": "parallel",
    "tree": "tree",
}
"""Ids of figures of which there is one."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Where a figure is drawn."""

    id: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Of a table."""

    text: str
    number: bool = False
    """Whether it is set to the right."""
    kind: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A plain table."""

    heads: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Those of a run, drawn."""

    ids: dict[str, str]
    """Name in the registry -> id of its element."""
    drawn: dict[str, go.Figure]
    """Id -> figure of all trials."""
    empty: dict[str, go.Figure]
    """Id -> figure without trials, of which the page draws the selected ones."""

    def of(self, kind: str) -> list[Figure]:
        """Where those of a kind are drawn; curves have their names as titles."""
        return [
            Figure(id=each, title=name.partition(".")[2] if kind == "curve" else "")
            for name, each in self.ids.items()
            if registry.kind(name) == kind
        ]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page that its contents link to."""

    key: str
    title: str
    template: str
    context: Mapping[str, object]


def draw(results: Results) -> Figures:
    """Draw the figures of the registry."""
    found = registry.exhibits(results)
    ids = element_ids(found)
    return Figures(
        ids=ids,
        drawn={ids[name]: each.draw() for name, each in found.items() if each.empty is None},
        empty={ids[name]: each.empty() for name, each in found.items() if each.empty is not None},
    )


def element_ids(names: Iterable[str]) -> dict[str, str]:
    """Name of a figure -> id of its element: its kind, numbered where there may be several."""
    ids, counts = {}, Counter[str]()
    for name in names:
        kind = registry.kind(name)
        ids[name] = SINGLE.get(name, f"{kind}-{counts[kind]}")
        counts[kind] += 1
    return ids


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[int] = (),
    title: str = "",
    wrapped: Sequence[int] = (),
) -> Table:
    """A table of texts; columns in `numbers` are set to the right, long ones in `wrapped` wrap."""

    def cells(texts: Sequence[str], kind: str = "") -> list[Cell]:
        return [
            Cell(text=text, number=index in numbers, kind=kind if index in wrapped else "")
            for index, text in enumerate(texts)
        ]

    return Table(heads=cells(heads), rows=[cells(row, "wide") for row in rows], title=title)
