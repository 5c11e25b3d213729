"""What parameters do to goals, as plain data; `hpo.report.plots.draw_parameters` draws each of
them.

Everything is taken over the trials that were measured to the end at full fidelity, other parameters
as they happened to be: a search does not hold them fixed, so a trend is not an effect. Seeds of one
setting are shown one by one, but a trend, a mean and every error are taken over settings, each the
mean over its seeds: seeds of a setting share its params, so they are not independent trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hpo.core import format, metrics
from hpo.core.goals import Goal
from hpo.core.objective import Value
from hpo.core.trial import Run, Trial
from hpo.front.replicates import points
from hpo.numerics import local_regression
from hpo.numerics.local_regression import Trend, trend

RATE, DECAY = "pretrain.lr", "pretrain.weight_decay"


FEWEST_FOR_A_TREND = local_regression.FEWEST
TIMESCALE = "tau_frac"


_FEWEST_OF_A_VALUE = 2


LEAST_SHARE = 1e-12
"""Of rate, decay and timescale: below it there would be more steps than a run can have."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """The trials with one value of a choice."""

    value: str
    mean: float
    sem: float | None
    """Over settings; None for a single one."""
    num_settings: int


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One quantity against another, a point a trial."""

    x: str
    y: str
    log: bool
    levels: tuple[Level, ...]
    """Of a choice, in the order of its options; empty for a number."""
    trials: tuple[int, ...]
    across: tuple[float | str, ...]
    values: tuple[float, ...]
    trend: Trend | None
    """Through the settings' means, over log10 of x where `log`."""
    left_out: tuple[int, ...]
    """Trials at zero, which a logarithmic axis cannot show."""


@dataclass(frozen=True, kw_only=True)
class TauLine:
    """Where the AdamW timescale tau = 1 / (lr wd) is the same (arXiv 2405.13698)."""

    tau_steps: float
    share: float | None
    """Of the run's steps; None where they are not known."""
    rates: tuple[float, float]
    decays: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """A goal over decay and rate."""

    goal: Goal
    trials: tuple[int, ...]
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    values: tuple[float, ...]
    lines: tuple[TauLine, ...]
    left_out: tuple[int, ...]
    """Trials without decay, which a logarithmic axis cannot show."""


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


def measured(run: Run) -> list[Trial]:
    """Trials complete at full fidelity."""
    return [trial for trial in run.complete() if trial.fidelity == 1.0]


def settings(run: Run) -> list[Trial]:
    """The measured trials with the seeds of each setting averaged, by number."""
    return [point.trial for point in points(run, measured(run))]


def varied(run: Run) -> list[str]:
    """Parameters with at least two values among the measured trials, the searched ones first."""
    trials = measured(run)
    paths = dict.fromkeys([*run.space, *(path for trial in trials for path in trial.params)])
    return [
        path
        for path in paths
        if len({str(trial.params[path]) for trial in trials if path in trial.params}) > 1
    ]


def slice_data(run: Run, param: str, goal: str) -> Slice:
    """One parameter against one metric."""
    trials = [trial for trial in measured(run) if param in trial.params]
    if _options(run, param) or not all(_number(trial.params[param]) for trial in trials):
        return _choice_slice(run, trials, param, goal)
    log = _log(run, param, trials)
    return _slice(run, trials, param, goal, lambda trial: _float(trial.params[param]), log=log)


def metric_slice(run: Run, x: str, y: str) -> Slice:
    """One metric against another."""
    trials = measured(run)
    return _slice(run, trials, x, y, lambda trial: trial.metrics.get(x, math.nan), log=False)


def interactions(run: Run) -> tuple[Interaction, ...]:
    """One a goal; none where decay and rate were not both varied."""
    names = varied(run)
    if RATE not in names or DECAY not in names:
        return ()
    found = (_interaction(run, goal) for goal in run.goals)
    return tuple(each for each in found if each.trials)


def parallel_data(run: Run) -> Parallel:
    """Varied parameters, then goals; empty with fewer than two trials."""
    trials = measured(run)
    if len(trials) < 2:
        return Parallel(trials=(), dimensions=())
    dimensions = [
        _dimension(
            short,
            [trial.params.get(path) for trial in trials],
            log=_log(run, path, trials),
            options=_options(run, path),
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


def _slice(
    run: Run, trials: Sequence[Trial], x: str, y: str, of: Callable[[Trial], float], *, log: bool
) -> Slice:
    pairs = _pairs(trials, y, of)
    left_out = tuple(number for number, place, _ in pairs if log and place <= 0)
    pairs = [each for each in pairs if each[0] not in left_out]
    means = _pairs([point.trial for point in points(run, trials)], y, of)
    means = [each for each in means if not log or each[1] > 0]
    places = [math.log10(place) if log else place for _, place, _ in means]
    return Slice(
        x=x,
        y=y,
        log=log,
        levels=(),
        trials=tuple(number for number, _, _ in pairs),
        across=tuple(place for _, place, _ in pairs),
        values=tuple(value for _, _, value in pairs),
        trend=trend(places, [value for _, _, value in means]),
        left_out=left_out,
    )


def _pairs(
    trials: Sequence[Trial], y: str, of: Callable[[Trial], float]
) -> list[tuple[int, float, float]]:
    """Number, x and y of the trials that have both."""
    pairs = [(trial.number, of(trial), trial.metrics.get(y, math.nan)) for trial in trials]
    return [each for each in pairs if math.isfinite(each[1]) and math.isfinite(each[2])]


def _choice_slice(run: Run, trials: Sequence[Trial], param: str, goal: str) -> Slice:
    kept = [trial for trial in trials if math.isfinite(trial.metrics.get(goal, math.nan))]
    options = [format.setting(each) for each in _options(run, param)]
    names = dict.fromkeys([*options, *(format.setting(trial.params[param]) for trial in kept)])
    means = [point.trial for point in points(run, kept)]
    at = {
        name: [t.metrics[goal] for t in means if format.setting(t.params[param]) == name]
        for name in names
    }
    return Slice(
        x=param,
        y=goal,
        log=False,
        levels=tuple(_level(name, values) for name, values in at.items() if values),
        trials=tuple(trial.number for trial in kept),
        across=tuple(format.setting(trial.params[param]) for trial in kept),
        values=tuple(trial.metrics[goal] for trial in kept),
        trend=None,
        left_out=(),
    )


def _level(name: str, values: Sequence[float]) -> Level:
    many = len(values) >= _FEWEST_OF_A_VALUE
    return Level(
        value=name,
        mean=float(np.mean(values)),
        sem=float(np.std(values, ddof=1) / math.sqrt(len(values))) if many else None,
        num_settings=len(values),
    )


def _interaction(run: Run, goal: Goal) -> Interaction:
    trials = [
        trial
        for trial in measured(run)
        if _number(trial.params.get(RATE))
        and _number(trial.params.get(DECAY))
        and math.isfinite(trial.metrics.get(goal.metric, math.nan))
    ]
    shown = [trial for trial in trials if _float(trial.params[DECAY]) > 0]
    drawn = {trial.number for trial in shown}
    rates = tuple(_float(trial.params[RATE]) for trial in shown)
    decays = tuple(_float(trial.params[DECAY]) for trial in shown)
    return Interaction(
        goal=goal,
        trials=tuple(trial.number for trial in shown),
        rates=rates,
        decays=decays,
        values=tuple(trial.metrics[goal.metric] for trial in shown),
        lines=tau_lines(rates, decays, _steps(shown)),
        left_out=tuple(trial.number for trial in trials if trial.number not in drawn),
    )


def tau_lines(
    rates: Sequence[float], decays: Sequence[float], steps: float | None
) -> tuple[TauLine, ...]:
    """Lines at powers of ten of the timescale (of its share of the run where steps are known).

    Each is cut to the rectangle that the points span.
    """
    if len(set(rates)) < 2 or len(set(decays)) < 2:
        return ()
    (left, right), (low, high) = (min(rates), max(rates)), (min(decays), max(decays))
    unit = steps or 1.0
    first = math.ceil(math.log10(1 / (right * high) / unit) + 1e-9)
    last = math.floor(math.log10(1 / (left * low) / unit) - 1e-9)
    lines = []
    for power in range(first, last + 1):
        tau = unit * 10.0**power
        start, end = max(left, 1 / (tau * high)), min(right, 1 / (tau * low))
        if start < end:
            lines.append(
                TauLine(
                    tau_steps=tau,
                    share=None if steps is None else 10.0**power,
                    rates=(start, end),
                    decays=(1 / (tau * start), 1 / (tau * end)),
                )
            )
    return tuple(lines)


def _steps(trials: Sequence[Trial]) -> float | None:
    """Steps of the run, from the timescale's share that trials state; None if they disagree."""
    found = {
        round(1 / share, 3)
        for t in trials
        if (share := _float(t.params[RATE]) * _float(t.params[DECAY]) * t.metrics.get(TIMESCALE, 0))
        > LEAST_SHARE
    }
    return found.pop() if len(found) == 1 else None


def _dimension(
    name: str, values: Sequence[Value], *, log: bool, options: Sequence[Value] = ()
) -> Dimension | None:
    if options or not all(value is None or _number(value) for value in values):
        return _choice_dimension(name, values, options)
    numbers = [math.nan if value is None else _float(value) for value in values]
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


def _options(run: Run, param: str) -> Sequence[Value]:
    """Of a choice; empty for another parameter."""
    domain = run.space.get(param)
    return domain.ends if domain is not None and domain.is_choice else ()


def _log(run: Run, param: str, trials: Sequence[Trial]) -> bool:
    """Whether the space says so; without a space, whether positive values span two decades."""
    domain = run.space.get(param)
    if domain is not None:
        return domain.log
    known = [_float(t.params[param]) for t in trials if _number(t.params.get(param))]
    positive = [value for value in known if value > 0]
    return bool(positive) and min(known) >= 0 and max(positive) >= 100 * min(positive)


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)
