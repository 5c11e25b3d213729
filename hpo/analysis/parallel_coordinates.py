"""Every trial as a line over parameters and goals, as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.analysis.slices import as_float, is_log, measured, options_of, varied
from hpo.core import format, metrics
from hpo.core.domains import is_number
from hpo.core.objective import Value
from hpo.core.trial import Run


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One axis of the parallel coordinates, 0 to 1."""

    name: str
    places: tuple[float | None, ...]
    """One a trial."""
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Every trial as a line over parameters and goals."""

    trials: tuple[int, ...]
    dimensions: tuple[Dimension, ...]


def parallel_data(run: Run) -> Parallel:
    """Varied parameters, then goals; empty with fewer than two trials."""
    trials = measured(run)
    if len(trials) < 2:
        return Parallel(trials=(), dimensions=())
    dimensions = [
        _dimension(
            short,
            [trial.params.get(path) for trial in trials],
            log=is_log(run, path, trials),
            options=options_of(run, path),
        )
        for path, short in metrics.param_names(run, trials).items()
        if path in varied(run)
    ]
    dimensions += [
        _dimension(metric, [trial.metrics.get(metric) for trial in trials], log=False)
        for metric in metrics.score_names(run)
    ]
    kept = tuple(each for each in dimensions if each is not None)
    return Parallel(trials=tuple(trial.number for trial in trials), dimensions=kept)


def _dimension(
    name: str, values: Sequence[Value], *, log: bool, options: Sequence[Value] = ()
) -> Dimension | None:
    if options or not all(value is None or is_number(value) for value in values):
        return _choice_dimension(name, values, options)
    numbers = [math.nan if value is None else as_float(value) for value in values]
    fits = [math.isfinite(number) and (number > 0 or not log) for number in numbers]
    places = [
        (math.log10(number) if log else number) if fit else None
        for number, fit in zip(numbers, fits, strict=True)
    ]
    known = [place for place in places if place is not None]
    if not known:
        return None
    low, span = min(known), max(known) - min(known)
    ends = [low + share * span for share in (0.0, 0.5, 1.0)] if span else [low]
    return Dimension(
        name=name,
        places=tuple(
            None if place is None else ((place - low) / span if span else 0.5) for place in places
        ),
        ticks=tuple(
            (
                (end - low) / span if span else 0.5,
                format.number(10**end if log else end, 3),
            )
            for end in ends
        ),
    )


def _choice_dimension(
    name: str, values: Sequence[Value], options: Sequence[Value]
) -> Dimension | None:
    known = [format.setting(value) for value in (*options, *values) if value is not None]
    names = list(dict.fromkeys(known))
    if not names:
        return None
    at = {each: place / max(1, len(names) - 1) for place, each in enumerate(names)}
    return Dimension(
        name=name,
        places=tuple(None if value is None else at[format.setting(value)] for value in values),
        ticks=tuple((place, each) for each, place in at.items()),
    )
