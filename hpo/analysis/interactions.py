"""A goal over rate and decay, with lines of equal AdamW timescale, as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.analysis.slices import DECAY, RATE, as_float, measured, varied
from hpo.core.domains import is_number
from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial

TIMESCALE = "tau_frac"


LEAST_SHARE = 1e-12
"""Of rate, decay and timescale: below it there would be more steps than a run can have."""


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


def interactions(run: Run) -> tuple[Interaction, ...]:
    """One a goal; none where decay and rate were not both varied."""
    names = varied(run)
    if RATE not in names or DECAY not in names:
        return ()
    found = (_interaction(run, goal) for goal in run.goals)
    return tuple(each for each in found if each.trials)


def _interaction(run: Run, goal: Goal) -> Interaction:
    trials = [
        trial
        for trial in measured(run)
        if is_number(trial.params.get(RATE))
        and is_number(trial.params.get(DECAY))
        and math.isfinite(trial.metrics.get(goal.metric, math.nan))
    ]
    shown = [trial for trial in trials if as_float(trial.params[DECAY]) > 0]
    drawn = {trial.number for trial in shown}
    rates = tuple(as_float(trial.params[RATE]) for trial in shown)
    decays = tuple(as_float(trial.params[DECAY]) for trial in shown)
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
        if (
            share := as_float(t.params[RATE])
            * as_float(t.params[DECAY])
            * t.metrics.get(TIMESCALE, 0)
        )
        > LEAST_SHARE
    }
    return found.pop() if len(found) == 1 else None
