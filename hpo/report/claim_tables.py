"""Tables of claims for the terminal: planned contrasts, larger models, a paper beside the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from hpo.analysis.claim_verdicts import sentence
from hpo.analysis.paper_claims import Side
from hpo.report import findings as report_findings
from hpo.report import planned_contrasts, verification
from hpo.report.results import Results


def every_part(results: Results) -> Iterator[Table | Text]:
    """All of them, as far as the run has them."""
    yield from contrast_parts(results)
    yield from verification_parts(results)
    yield from paper_parts(results)


def claim_parts(results: Results) -> Iterator[Table | Text]:
    """What the study planned to compare and what its paper claims, with what came of both."""
    yield from contrast_parts(results)
    yield from paper_parts(results)


def contrast_parts(results: Results) -> Iterator[Table | Text]:
    """What the study planned to compare, and what came of it."""
    planned = results.run.contrasts
    if planned is None:
        return
    rows = planned_contrasts.rows(results.planned_contrasts)
    yield plain_table(planned_contrasts.TITLE, planned_contrasts.HEADS, rows)
    for line in planned_contrasts.notes(results.run, planned):
        yield Text(line)


def verification_parts(results: Results) -> Iterator[Table | Text]:
    """What larger models say of the run's recipes."""
    for found in results.verifications:
        yield plain_table(verification.title(found), verification.HEADS, verification.rows(found))
        if found.differences:
            heads, rows = verification.RULE_HEADS, verification.rule_rows(found)
            yield plain_table("Rules of transfer, over recipes", heads, rows)
        for line in verification.notes(found):
            yield Text(line)


def plain_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts."""
    table = Table(title=Text(title), title_justify="left")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def paper_parts(results: Results) -> Iterator[Table | Text]:
    """What the paper found beside what this run did, and what follows from it."""
    if results.run.paper is None:
        return
    for line in report_findings.paper_notes(results.run.paper):
        yield Text(line)
    for side in results.paper_sides:
        yield paper_table(side)
        for finding in side.findings:
            yield Text(f"- {sentence(finding)}")


def paper_table(side: Side) -> Table:
    """A table of the paper: its numbers, and beside them this run's."""
    table = Table(title=Text(side.title), title_justify="left")
    table.add_column("point", no_wrap=True)
    for quantity in side.quantities:
        if quantity.paper:
            table.add_column(Text(f"paper: {quantity.paper_name}"), justify="right")
        table.add_column(Text(report_findings.column(quantity)), justify="right")
    failing = any(row.failed for row in side.rows)
    if failing:
        table.add_column("failed", justify="right")
    for row in side.rows:
        cells = [row.point]
        for quantity, cell in zip(side.quantities, row.cells, strict=True):
            paper, ours = report_findings.beside(cell)
            cells += [paper, ours] if quantity.paper else [ours]
        cells += [str(row.failed)] if failing else []
        table.add_row(*(Text(cell) for cell in cells))
    return table
