"""The report's data of single trials: columns, and curves thinned to what a page can hold.

Curves of most trials share their steps, so each list of steps is stored once. All curves together
keep at most MOST_POINTS values: beyond that each is thinned evenly, its first and last point kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hpo.core import format, metrics
from hpo.core.trial import Run, Trial
from hpo.front.front import Front
from hpo.report.plots import figure_data
from hpo.report.results import Results

MOST_POINTS = 250_000  # About 2 MB; assumed.


FEWEST_POINTS = 8  # Kept of every curve, however many there are; assumed.


Curve = list[list[float]]


def most_points(run: Run) -> int | None:
    """How many points each curve keeps, as many as fit; None if all do.

    A curve with fewer leaves its room to the others.
    """
    lengths = sorted(len(curve) for trial in run.trials for curve in trial.curves.values())
    room = MOST_POINTS
    if sum(lengths) <= room:
        return None
    for place, length in enumerate(lengths):
        share = room // (len(lengths) - place)
        if length > share:
            return max(FEWEST_POINTS, share)
        room -= length
    raise AssertionError("more points than fit, and every curve fits")


def thinned(curve: Curve, most: int | None) -> Curve:
    """At most so many points, evenly taken, the first and last among them."""
    if most is None or len(curve) <= most:
        return curve
    last = len(curve) - 1
    return [curve[round(place * last / (most - 1))] for place in range(most)]


def curves(run: Run, name: str, most: int | None) -> dict[str, Any]:
    """{"steps": lists of steps, "of": which of them a trial has, "values": its values}.

    `of` and `values` have one entry a trial, None for a trial without the curve.
    """
    steps: dict[tuple[float, ...], int] = {}
    of: list[int | None] = []
    values: list[list[float] | None] = []
    for trial in run.trials:
        points = thinned(trial.curves.get(name, []), most)
        if not points:
            of.append(None)
            values.append(None)
            continue
        key = tuple(short_number(point[0]) for point in points)
        of.append(steps.setdefault(key, len(steps)))
        values.append([figure_data.rounded(point[1]) for point in points])
    return {"steps": [list(each) for each in steps], "of": of, "values": values}


def columns(results: Results) -> dict[str, list[float | None]]:
    """Metric -> a value a trial; standard errors as NAME_sem; parameters that are numbers.

    Of a point that was repeated these are the means and errors over its seeds. Errors are over test
    rows too, where they are known.
    """
    run, trials = results.run, figure_data.joined(results)
    names = metrics.metric_names(run)
    found = {name: [_rounded(trial.metrics.get(name)) for trial in trials] for name in names}
    found |= {
        f"{name}_sem": [_rounded(metrics.level_sem(trial, name)) for trial in trials]
        for name in names
    }
    found |= {path: [_rounded(t.params.get(path)) for t in run.trials] for path in numeric(run)}
    return {
        name: column for name, column in found.items() if any(each is not None for each in column)
    }


def numeric(run: Run) -> list[str]:
    """Varied parameters whose values are numbers and which no metric is named like."""
    paths = metrics.param_names(run, run.trials)
    known = {path: [t.params[path] for t in run.trials if path in t.params] for path in paths}
    return [
        path
        for path, values in known.items()
        if len(set(map(str, values))) > 1
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        and not any(path in trial.metrics for trial in run.trials)
    ]


def details(run: Run, front: Front) -> dict[str, Any]:
    """What else is known of each trial, a list a fact; rarer facts by the trial's place."""
    paths = list(dict.fromkeys(path for trial in run.trials for path in trial.params))
    costs = list(dict.fromkeys(name for trial in run.trials for name in trial.cost))
    return {
        "standing": [standing(trial, front) for trial in run.trials],
        "done": [trial.state == "complete" for trial in run.trials],
        "membership": [share(trial, front) for trial in run.trials],
        "seed": [trial.seed for trial in run.trials],
        "fidelity": [trial.fidelity for trial in run.trials],
        "params": {
            path: [
                format.setting(trial.params[path]) if path in trial.params else None
                for trial in run.trials
            ]
            for path in paths
        },
        "cost": {name: [_rounded(trial.cost.get(name)) for trial in run.trials] for name in costs},
        "said": {
            place: _said(trial)
            for place, trial in enumerate(run.trials)
            if _said(trial) or trial.rungs
        },
        "rungs": {
            place: [[each.fidelity, each.metrics] for each in trial.rungs]
            for place, trial in enumerate(run.trials)
            if trial.rungs
        },
    }


def short(value: Any) -> Any:
    """The value with six significant digits of every number in it."""
    if isinstance(value, float):
        return short_number(figure_data.rounded(value)) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [short(each) for each in value]
    return value


def short_number(value: float) -> float:
    """A whole number without its decimal point: half the bytes of a step."""
    return int(value) if math.isfinite(value) and float(value).is_integer() else value


def standing(trial: Trial, front: Front) -> str:
    is_knee = front.knee is not None and trial.number == front.knee.number
    return front.standings[trial.number] + (", knee" if is_knee else "")


def share(trial: Trial, front: Front) -> str | None:
    """Probability of belonging to the front, in words; None where the noise is unknown."""
    found = front.membership.get(trial.number, math.nan)
    return None if math.isnan(found) else format.percent(found)


def _said(trial: Trial) -> Sequence[str]:
    failure = [f"failed: {trial.failure}"] if trial.failure else []
    repeats = (
        [] if trial.replicate_of is None else [f"measures #{trial.replicate_of} at another seed"]
    )
    return [*failure, *repeats, *trial.notes]


def _rounded(value: object) -> float | None:
    """Six significant digits of a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return short_number(figure_data.rounded(value))
