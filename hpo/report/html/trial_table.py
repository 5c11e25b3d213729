"""The report's table of all trials."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from hpo.core import format, metrics
from hpo.core.objective import Value
from hpo.core.trial import Trial
from hpo.front.front import Front
from hpo.report.html import page_data
from hpo.report.plots import figure_data
from hpo.report.results import Results


def trial_table(results: Results) -> str:
    """Tools and a row a trial, the front first; its number opens the trial's page."""
    run, found = results.run, results.front
    params = metrics.param_names(run, run.trials)
    scores = metrics.score_names(run)
    numeric = {path: _numeric(trial.params.get(path) for trial in run.trials) for path in params}
    certain = any(page_data.share(trial, found) is not None for trial in run.trials)
    heads = [_head("trial", True), _head("standing"), _head("name")]
    heads += [_head("on the front", True)] if certain else []
    heads += [_head(metric, True) for metric in scores]
    heads += [_head(short, numeric[path], path) for path, short in params.items()]
    heads += [_head("seconds", True), _head("seed", True), _head("failure and notes")]
    order = {trial.number: place for place, trial in enumerate(found.trials)}
    last = len(order)
    every = figure_data.joined(results)
    trials = sorted(every, key=lambda trial: (order.get(trial.number, last), trial.number))
    rows = "".join(_row(trial, found, scores, numeric, certain) for trial in trials)
    return (
        f'{_TOOLS}<div class="scroll" tabindex="0"><table id="trial-table"><thead><tr>'
        f'<th class="plain choose"><span title="selected">✓</span></th>'
        f"{''.join(heads)}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="tools"><button id="more" hidden></button></p>'
    )


_TOOLS = (
    '<div class="tools"><label>Find <input id="find" type="search"'
    ' placeholder="name, value, note"></label>'
    '<label><input id="only" type="checkbox"> selected only</label></div>'
)


def _head(text: str, numeric: bool = False, full: str = "") -> str:
    kind = ' class="number"' if numeric else ""
    hint = f' title="{html.escape(full)}"' if full else ""
    return f"<th{kind} data-sort{hint}><button>{html.escape(text)}</button></th>"


def _row(
    trial: Trial, found: Front, scores: Sequence[str], numeric: dict[str, bool], certain: bool
) -> str:
    standing = page_data.standing(trial, found)
    ticked = " checked" if figure_data.shown(trial, found) else ""
    number = trial.number
    cells = [
        f'<td class="choose"><input type="checkbox" data-trial="{number}"'
        f' aria-label="select trial {number}"{ticked}></td>',
        f'<td class="number" data-value="{number}"><button class="link" data-open="{number}">'
        f"{number}{html.escape(format.tag(trial))}</button></td>",
        _cell(standing, standing, "standing"),
        _cell(trial.name, trial.name or ""),
    ]
    if certain:
        share = found.membership.get(trial.number)
        cells.append(_cell(share, page_data.share(trial, found) or "", "number"))
    cells += [_cell(trial.metrics.get(m), metrics.measured(trial, m), "number") for m in scores]
    for path, is_number in numeric.items():
        value = trial.params.get(path)
        text = format.setting(value) if path in trial.params else ""
        cells.append(_cell(value if is_number else text, text, "number" if is_number else ""))
    seconds = trial.cost.get("time_s")
    cells.append(_cell(seconds, "" if seconds is None else format.number(seconds, 3), "number"))
    cells.append(_cell(trial.seed, str(trial.seed), "number"))
    said = "; ".join([*([trial.failure] if trial.failure else []), *trial.notes])
    cells.append(_cell(said, said, "wide"))
    return f'<tr class="{standing.split()[0].strip(",")}">{"".join(cells)}</tr>'


def _cell(key: Value, text: str, kind: str = "") -> str:
    """A cell and what it is sorted by, where that is not its text."""
    value = "" if key is None or key != key else str(key)
    sorted_by = "" if value == text else f' data-value="{html.escape(value)}"'
    kinds = f' class="{kind}"' if kind else ""
    return f"<td{kinds}{sorted_by}>{html.escape(text)}</td>"


def _numeric(values: Iterable[Value]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in known
    )
