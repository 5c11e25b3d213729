"""Small pieces of markup, every text in them escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def section(key: str, heading: str, *parts: str) -> str:
    """A section that the page's contents link to."""
    return f'<section id="{key}"><h2>{html.escape(heading)}</h2>{"".join(parts)}</section>'


def note(text: str) -> str:
    """A paragraph of explanation."""
    return f'<p class="soft">{html.escape(text)}</p>'


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{html.escape(text)}</h3>"


def figure(name: str, kind: str = "", height_px: int | None = None) -> str:
    """Where a figure is drawn."""
    style = "" if height_px is None else f' style="height: {height_px}px"'
    return f'<div id="{name}" class="figure {kind}"{style}></div>'


def grid(figures: Iterable[tuple[str, str]], kind: str = "") -> str:
    """Figures side by side, each with its title: (id, title)."""
    cells = (
        f"<div>{heading(title) if title else ''}{figure(name, kind)}</div>"
        for name, title in figures
    )
    return f'<div class="grid {kind}">{"".join(cells)}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A plain table; the columns in `numbers` are set to the right."""
    head = "".join(_cell("th", "plain", text, place in numbers) for place, text in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(_cell('td', '', text, p in numbers) for p, text in enumerate(row))}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(tag: str, kind: str, text: str, number: bool) -> str:
    kinds = " ".join([*([kind] if kind else []), *(["number"] if number else [])])
    named = f' class="{kinds}"' if kinds else ""
    return f"<{tag}{named}>{html.escape(text)}</{tag}>"
