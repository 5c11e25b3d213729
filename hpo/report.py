"""The report: one HTML file that works from disk, without a network, on any screen and in print.

Three escapes keep what a user named out of the markup: `html.escape` in the page, `drawing.escaped`
in plotly's texts, and \\u escapes of `<`, `>`, `&` in the data, so that no `</script>` ends it.
A content security policy forbids every request.
"""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from hpo import drawing, figures, paper_page, wording
from hpo.comparison import sentence, sides
from hpo.papers import Paper
from hpo.record import Run, Trial
from hpo.scoring import Disagreement, Front, disagreements, front
from hpo.spec import Value
from hpo.tables import finite

_KEY = '<div class="key"></div>'


def write_report(run: Run, path: Path) -> Path:
    """Write the run's report, whole or not at all, and return its path."""
    page = render(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


def render(run: Run) -> str:
    """The report's HTML."""
    found = front(run)
    drawn = _figures(run, found)
    return Template(_asset("report.html")).substitute(
        title=html.escape(f"{run.name}: report"),
        style=_asset("report.css"),
        body="\n".join(_body(run, found, drawn)),
        data=in_script(_data(run, found, drawn)),
        plotly=get_plotlyjs(),
        script=_asset("report.js"),
    )


def in_script(data: Any) -> str:
    """JSON that stays data inside a script element."""
    text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figures(run: Run, found: Front) -> dict[str, Any]:
    """Element id -> plotly's JSON."""
    drawn = {"front": drawing.draw_front(figures.front_data(run, found, *figures.plane(run)))}
    for place, name in enumerate(figures.curve_names(run)):
        drawn[f"curve-{place}"] = drawing.draw_curves(figures.curve_data(run, found, name), name)
    gain = figures.gain_data(run, found)
    if gain.trials:
        drawn["gain"] = drawing.draw_gain(gain)
    for place, dots in enumerate(figures.paper_dots(run)):
        drawn[f"paper-{place}"] = drawing.draw_dots(dots)
    return {name: figure.to_plotly_json() for name, figure in drawn.items()}


def _data(run: Run, found: Front, drawn: dict[str, Any]) -> dict[str, Any]:
    names = wording.metric_names(run)
    stored = [name for metric in names for name in (metric, f"{metric}_sem")]
    columns = {name: [trial.metrics.get(name) for trial in run.trials] for name in stored}
    return {
        "figures": drawn,
        "axes": figures.plane(run),
        "titles": {name: drawing.escaped(wording.named(name)) for name in names},
        "metrics": {name: column for name, column in columns.items() if any(_known(column))},
        "trials": [trial.number for trial in run.trials],
        "labels": [wording.title(trial) for trial in run.trials],
        "selected": [trial.number for trial in run.trials if figures.shown(trial, found)],
    }


def _body(run: Run, found: Front, drawn: dict[str, Any]) -> Iterable[str]:
    yield f"<h1>{html.escape(run.name)}</h1>"
    if run.description:
        yield f'<p class="soft">{html.escape(run.description)}</p>'
    items = "".join(f"<li>{html.escape(line)}</li>" for line in wording.summary(run, found))
    yield f'<div class="summary"><ul>{items}</ul></div>'
    yield _section("Front", _axes(run), _figure("front", "tall"), _front_note(run, found))
    if run.paper is not None:
        yield _section("Paper and this study", *_paper(run, run.paper))
    yield _section("Trials", _choose(), _trials(run, found))
    curves = {
        name: f"<div><h3>{html.escape(name)}</h3>{_figure(f'curve-{place}')}</div>"
        for place, name in enumerate(figures.curve_names(run))
    }
    probes = [drawn for name, drawn in curves.items() if name.startswith("probe.")]
    learning = [drawn for name, drawn in curves.items() if not name.startswith("probe.")]
    note = "Of the trials ticked in the table. All points, six significant digits."
    for heading, some in (("Learning curves", learning), ("Probes", probes)):
        if some:
            yield _section(heading, _soft(note), _KEY, f'<div class="grid">{"".join(some)}</div>')
    if "gain" in drawn:
        note = (
            "Of the trials ticked in the table: the score before fine-tuning (open) and after "
            "(full, ± one standard error); dashed is chance."
        )
        yield _section("Gain by task", _soft(note), _KEY, _figure("gain", "tall"))
    yield _section("Gain and fine-tuned score", *_disagreement(disagreements(run)))
    failed = [trial for trial in run.trials if trial.state == "failed"]
    if failed:
        yield _section("Failures", _failures(failed))
    yield _section("What reproduces this run", _reproduce(run))


def _paper(run: Run, paper: Paper) -> Iterable[str]:
    """Tables, what follows from them, and a figure of every quantity."""
    yield from map(_soft, wording.paper_notes(paper))
    for side in sides(run, paper):
        yield paper_page.table(side)
        said = "".join(f"<li>{html.escape(sentence(each))}</li>" for each in side.findings)
        yield f"<ul>{said}</ul>"
    drawn = "".join(
        f"<div><h3>{html.escape(paper_page.heading(dots))}</h3>{_figure(f'paper-{place}')}</div>"
        for place, dots in enumerate(figures.paper_dots(run))
    )
    yield f'<div class="grid">{drawn}</div>'


def _section(heading: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(heading)}</h2>{''.join(parts)}</section>"


def _soft(text: str) -> str:
    return f'<p class="soft">{html.escape(text)}</p>'


def _figure(name: str, kind: str = "") -> str:
    return f'<div id="{name}" class="figure {kind}"></div>'


def _axes(run: Run) -> str:
    """Two menus of metrics, the front's axes chosen."""
    menus = []
    for axis, chosen in zip("xy", figures.plane(run), strict=True):
        names = wording.metric_names(run)
        options = "".join(
            f'<option value="{html.escape(name)}"{" selected" if name == chosen else ""}>'
            f"{html.escape(wording.named(name))}</option>"
            for name in dict.fromkeys([*names, chosen])
        )
        label = "Across" if axis == "x" else "Up"
        menus.append(f'<label>{label} <select id="axis-{axis}">{options}</select></label>')
    return f'<div class="tools">{"".join(menus)}</div>'


def _front_note(run: Run, found: Front) -> str:
    ways = {"down": "lower", "up": "higher"}
    goals = "; ".join(f"{goal.metric}: {ways[goal.direction]} is better" for goal in run.goals)
    limits = "".join(f" Limit: {wording.bounds(limit)}." for limit in run.limits)
    missing = figures.front_data(run, found, *figures.plane(run)).missing
    left = f" Without both numbers: {', '.join(f'#{n}' for n in missing)}." if missing else ""
    return _soft(f"{goals}.{limits} Bars are one standard error over fine-tuning seeds.{left}")


def _choose() -> str:
    buttons = (("default", "front and baselines"), ("all", "all"), ("none", "none"))
    made = "".join(f'<button id="select-{key}">{text}</button>' for key, text in buttons)
    return f'<div class="tools"><label>Show in the figures below:</label>{made}</div>'


def _trials(run: Run, found: Front) -> str:
    params = wording.param_names(run, run.trials)
    scores = wording.score_names(run)
    numeric = {path: _numeric(trial.params.get(path) for trial in run.trials) for path in params}
    heads = [_head("trial", True), _head("standing"), _head("name")]
    heads += [_head(metric, True) for metric in scores]
    heads += [_head(short, numeric[path], path) for path, short in params.items()]
    heads += [_head("seconds", True), _head("seed", True), _head("failure and notes")]
    order = {trial.number: place for place, trial in enumerate(found.trials)}
    last = len(order)
    trials = sorted(run.trials, key=lambda trial: (order.get(trial.number, last), trial.number))
    rows = "".join(_row(trial, found, scores, numeric) for trial in trials)
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f'<th class="plain choose"><span title="show in the figures below">✓</span></th>'
        f"{''.join(heads)}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _head(text: str, numeric: bool = False, full: str = "") -> str:
    kind = ' class="number"' if numeric else ""
    hint = f' title="{html.escape(full)}"' if full else ""
    return f"<th{kind} data-sort{hint}><button>{html.escape(text)}</button></th>"


def _row(trial: Trial, found: Front, scores: Sequence[str], numeric: dict[str, bool]) -> str:
    standing = found.standings[trial.number]
    knee = ", knee" if trial is found.knee else ""
    ticked = " checked" if figures.shown(trial, found) else ""
    label = f"show trial {trial.number} in the figures"
    cells = [
        f'<td class="choose"><input type="checkbox" data-trial="{trial.number}"'
        f' aria-label="{label}"{ticked}></td>',
        _cell(trial.number, f"{trial.number}{wording.tag(trial)}", "number"),
        _cell(standing + knee, standing + knee, "standing"),
        _cell(trial.name or "", trial.name or ""),
    ]
    cells += [_cell(trial.metrics.get(m), wording.measured(trial, m), "number") for m in scores]
    for path, is_number in numeric.items():
        value = trial.params.get(path)
        text = wording.setting(value) if path in trial.params else ""
        cells.append(_cell(value if is_number else text, text, "number" if is_number else ""))
    seconds = trial.cost.get("time_s")
    cells.append(_cell(seconds, "" if seconds is None else wording.number(seconds, 3), "number"))
    cells.append(_cell(trial.seed, str(trial.seed), "number"))
    said = "; ".join([*([trial.failure] if trial.failure else []), *trial.notes])
    cells.append(_cell(said, said, "wide"))
    return f'<tr class="{standing.split()[0]}">{"".join(cells)}</tr>'


def _cell(key: Value, text: str, kind: str = "") -> str:
    value = "" if key is None or key != key else str(key)
    kinds = f' class="{kind}"' if kind else ""
    return f'<td{kinds} data-value="{html.escape(value)}">{html.escape(text)}</td>'


def _disagreement(found: Disagreement) -> Iterable[str]:
    if found.num_trials < 2:
        yield _soft("Fewer than two trials have both, so their orders cannot be compared.")
        return
    yield _soft(
        "A base that starts worse can win more and still end worse, so the orders are compared. "
        f"Kendall's tau over {found.num_trials} trials: {wording.number(found.tau, 3)} (1 is the "
        f"same order); {len(found.pairs)} of {found.num_trials * (found.num_trials - 1) // 2} "
        "pairs are ranked differently."
    )
    tops = (("gain", found.top_by_gain), ("finetuned", found.top_by_finetuned))
    for metric, trials in tops:
        listed = ", ".join(f"{wording.title(t)} ({wording.measured(t, metric)})" for t in trials)
        yield f"<p>Most by {metric}: {html.escape(listed)}.</p>"
    if found.pairs:
        pairs = ", ".join(f"#{a} over #{b}" for a, b in found.pairs[:5])
        yield _soft(f"Widest conflicts (more gain, worse after fine-tuning): {pairs}.")


def _failures(trials: Sequence[Trial]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(wording.title(trial))}</td>"
        f'<td class="wide">{html.escape(trial.failure or "no reason given")}</td>'
        f'<td class="wide">{html.escape(_settings(trial))}</td></tr>'
        for trial in trials
    )
    heads = "".join(f'<th class="plain">{text}</th>' for text in ("trial", "reason", "params"))
    head = f"<thead><tr>{heads}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>'


def _settings(trial: Trial) -> str:
    return ", ".join(f"{path} = {wording.setting(value)}" for path, value in trial.params.items())


def _reproduce(run: Run) -> str:
    blocks = (("Recipe, settings, seed, versions, device", run.reproduce), ("Space", run.space))
    return "".join(
        f"<details><summary>{html.escape(title)}</summary>"
        f"<pre>{html.escape(json.dumps(finite(data), indent=2, default=str))}</pre></details>"
        for title, data in blocks
    )


def _numeric(values: Iterable[Value]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in known
    )


def _known(column: Iterable[float | None]) -> Iterable[bool]:
    return (value is not None for value in column)


def _asset(name: str) -> str:
    return resources.files("hpo").joinpath(name).read_text(encoding="utf-8")
