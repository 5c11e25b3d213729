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

from hpo.core import format
from hpo.core.domains import is_number
from hpo.core.metrics import TIMESCALE
from hpo.core.objective import Value
from hpo.core.trial import Run, Trial
from hpo.front.replicates import points
from hpo.numerics import local_regression
from hpo.numerics.local_regression import Trend, trend

RATE, DECAY = "pretrain.lr", "pretrain.weight_decay"


_DECAYS = (DECAY, f"{DECAY}.value")


FEWEST_FOR_A_TREND = local_regression.FEWEST


_FEWEST_OF_A_VALUE = 2


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
    if options_of(run, param) or not all(is_number(trial.params[param]) for trial in trials):
        return _choice_slice(run, trials, param, goal)
    log = is_log(run, param, trials)
    return _slice(run, trials, param, goal, lambda trial: as_float(trial.params[param]), log=log)


def metric_slice(run: Run, x: str, y: str, *, log: bool = False) -> Slice:
    """One metric against another."""
    trials = measured(run)
    return _slice(run, trials, x, y, lambda trial: trial.metrics.get(x, math.nan), log=log)


def timescale_slices(run: Run) -> list[Slice]:
    """Every goal over AdamW's timescale, where that is not weight decay in another unit."""
    trials = measured(run)
    scales = {trial.metrics[TIMESCALE] for trial in trials if TIMESCALE in trial.metrics}
    decays = {repr([trial.params.get(path) for path in _DECAYS]) for trial in trials}
    if len(scales) < 2 or len(scales) <= len(decays):
        return []
    return [metric_slice(run, TIMESCALE, goal.metric, log=True) for goal in run.goals]


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
    options = [format.setting(each) for each in options_of(run, param)]
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


def options_of(run: Run, param: str) -> Sequence[Value]:
    """Of a choice; empty for another parameter."""
    domain = run.space.get(param)
    return domain.ends if domain is not None and domain.is_choice else ()


def is_log(run: Run, param: str, trials: Sequence[Trial]) -> bool:
    """Whether the space says so; without a space, whether positive values span two decades."""
    domain = run.space.get(param)
    if domain is not None:
        return domain.log
    known = [as_float(t.params[param]) for t in trials if is_number(t.params.get(param))]
    positive = [value for value in known if value > 0]
    return bool(positive) and min(known) >= 0 and max(positive) >= 100 * min(positive)


def as_float(value: Value) -> float:
    """A number among params."""
    assert isinstance(value, int | float)
    return float(value)
