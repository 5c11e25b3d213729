"""What a notebook shows of a run: the findings, the front as a figure and as a table.

One piece of HTML that needs no network, so it carries plotly's script, about 5 MB a display.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from hpo import drawing, figures, wording
from hpo.record import Run, Trial
from hpo.scoring import front


def shown(run: Run) -> str:
    """The run as HTML."""
    found = front(run)
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in wording.summary(run, found))
    parts = [f"<h3>{html.escape(run.name)}</h3>", f"<ul>{lines}</ul>"]
    if found.trials:
        figure = drawing.draw_front(figures.front_data(run, found, *figures.plane(run)))
        figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", height=420)
        parts += [figure.to_html(full_html=False, include_plotlyjs=True), _table(run, found.trials)]
    return "".join(parts)


def _table(run: Run, trials: Iterable[Trial]) -> str:
    trials = list(trials)
    scores, params = wording.score_names(run), wording.param_names(run, trials)
    rows = [["trial", *map(wording.named, scores), *params.values()]]
    for trial in trials:
        cells = [wording.title(trial), *(wording.measured(trial, name) for name in scores)]
        cells += [wording.setting(trial.params[p]) if p in trial.params else "" for p in params]
        rows.append(cells)
    lines = "".join(
        f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in row)}</tr>"
        for kind, row in zip(["th", *["td"] * len(trials)], rows, strict=True)
    )
    return f"<table>{lines}</table>"
