"""The report's sections on parameters and on mechanism: figures of all trials, and their words."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from hpo.analysis.importance import FEWEST, Importance
from hpo.analysis.probes import Association
from hpo.analysis.slices import FEWEST_FOR_A_TREND, Interaction, Slice
from hpo.core import format
from hpo.report.html.markup import figure, grid, heading, note
from hpo.report.results import Results


def parameter_parts(found: Results) -> list[str]:
    """Slices, importance, interaction, parallel coordinates; nothing where nothing was varied."""
    if not found.slices:
        return []
    parts = [
        note(
            "Each parameter against each goal over all trials at full length; other parameters are "
            "as they happened to be, so a trend is no effect. The line is a local linear "
            f"regression through the settings' means over their seeds with its 95 % band, from "
            f"{FEWEST_FOR_A_TREND} settings on; a choice shows means ± one standard error over "
            f"settings." + _left_out(found.slices)
        ),
        grid((f"slice-{at}", "") for at in range(len(found.slices))),
    ]
    parts += _importance_parts(found.importances)
    if found.interactions:
        parts += [
            heading("Decay and rate together"),
            note(
                "Colour is the goal, bright is better. Along a dotted line the AdamW timescale "
                "τ = 1 / (lr · decay) is the same (arXiv 2405.13698)."
                + _left_out(found.interactions)
            ),
            grid((f"interaction-{at}", "") for at in range(len(found.interactions))),
        ]
    if found.parallel.dimensions:
        parts += [heading("Parallel coordinates"), figure("parallel")]
    return parts


def mechanism_parts(found: Results) -> list[str]:
    """The table of associations and the figures of the main measures."""
    if not found.associations:
        return []
    parts = [
        note(
            "Kendall's tau of each measure with weight decay and with the goals over settings, "
            "each the mean over its seeds: 1 is the same order, -1 the reverse. Full colour where "
            "p < 0.05, each taken for itself: of twenty such, one is expected by chance."
        ),
        _associations(found.associations),
    ]
    if found.mechanism:
        cells = (f"mechanism-{at}" for at in range(len(found.mechanism)))
        parts.append(grid(((cell, "") for cell in cells), "small"))
    return parts


def _importance_parts(found: Sequence[Importance]) -> list[str]:
    if not found:
        return []
    parts = [heading("Importance")]
    few = [each for each in found if not each.shares]
    if len(few) < len(found):
        parts += [
            note(
                "PED-ANOVA (arXiv 2304.10255): how much a parameter decides whether a setting is "
                "among the best, as shares of 1."
            ),
            figure("importance"),
        ]
    parts += [
        note(
            f"Importance for {each.goal.metric} needs {FEWEST} measured settings inside "
            f"the space; there are {each.num_settings}."
        )
        for each in few
    ]
    return parts


def _left_out(found: Sequence[Slice] | Sequence[Interaction]) -> str:
    numbers = sorted({number for each in found for number in each.left_out})
    if not numbers:
        return ""
    most = 10
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    named = ", ".join(f"#{number}" for number in numbers[:most])
    return f" At zero, so not on a logarithmic axis: {named}{more}."


def _associations(rows: Sequence[Sequence[Association]]) -> str:
    heads = ["measure", *(each.against for each in rows[0]), "settings"]
    head = "".join(
        f'<th class="plain{" number" if place else ""}">{html.escape(text)}</th>'
        for place, text in enumerate(heads)
    )
    body = "".join(
        f"<tr><td>{html.escape(row[0].measure)}</td>{''.join(map(_association, row))}"
        f'<td class="number">{max(each.num_settings for each in row)}</td></tr>'
        for row in rows
    )
    return (
        '<div class="scroll" tabindex="0"><table class="associations"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _association(found: Association) -> str:
    if math.isnan(found.tau):
        return '<td class="number">n/a</td>'
    sure = " sure" if found.p < 0.05 else ""
    way = "rises" if found.tau > 0 else "falls"
    return (
        f'<td class="number {way}{sure}" title="p = {format.number(found.p, 2)}">'
        f"{found.tau:+.2f}</td>"
    )
