"""A paper's table in the report's HTML: its numbers, and beside them the study's."""

from __future__ import annotations

import html

from hpo.analysis.paper_claims import Row, Side
from hpo.report import findings
from hpo.report.plots.figure_data import Dots


def heading(dots: Dots) -> str:
    """What is above a figure of one side."""
    return f"{dots.title}: {'the paper' if dots.paper else 'this study'}"


def table(side: Side) -> str:
    """The table with its title."""
    heads = ["point"]
    for quantity in side.quantities:
        heads += [f"paper: {quantity.paper_name}"] if quantity.paper else []
        heads.append(f"here: {findings.column(quantity)}")
    heads.append("failed")
    head = "".join(f'<th class="plain">{html.escape(text)}</th>' for text in heads)
    rows = "".join(_row(side, row) for row in side.rows)
    return (
        f"<h3>{html.escape(side.title)}</h3>"
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(side: Side, row: Row) -> str:
    cells = [f"<td>{html.escape(row.point)}</td>"]
    for quantity, cell in zip(side.quantities, row.cells, strict=True):
        paper, ours = findings.beside(cell)
        cells += [_number(paper)] if quantity.paper else []
        cells.append(_number(ours))
    cells.append(_number(str(row.failed) if row.failed else ""))
    return f"<tr>{''.join(cells)}</tr>"


def _number(text: str) -> str:
    return f'<td class="number">{html.escape(text)}</td>'
