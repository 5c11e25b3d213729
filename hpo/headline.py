"""The findings at a glance: the standard recipe beside the best that was found, and the price."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo import wording
from hpo.record import Run, Trial
from hpo.scoring import Front, counted, losses, sem


@dataclass(frozen=True, kw_only=True)
class Line:
    """One trial and why it is named."""

    trial: Trial
    roles: tuple[str, ...]
    differences: dict[str, tuple[float, float]]
    """Score -> its difference from the standard recipe and that difference's standard error, NaN if
    unknown; empty for the standard recipe itself and where there is none."""


def headline(run: Run, front: Front) -> tuple[Line, ...]:
    """The standard recipe (the first baseline that counts), the best by each goal, the knee."""
    trials = counted(run)
    roles: dict[int, list[str]] = {}
    standard = min(
        (trial for trial in trials if trial.baseline is not None),
        key=lambda trial: trial.number,
        default=None,
    )
    if standard is not None:
        roles[standard.number] = ["standard recipe"]
    for goal in run.goals:
        if trials:
            best = int(losses(trials, [goal])[:, 0].argmin())
            roles.setdefault(trials[best].number, []).append(f"best {goal.metric}")
    if front.knee is not None:
        roles.setdefault(front.knee.number, []).append("knee")
    named = {trial.number: trial for trial in trials}
    return tuple(
        Line(
            trial=named[number],
            roles=tuple(found),
            differences=_differences(run, named[number], standard),
        )
        for number, found in roles.items()
    )


def price(run: Run, front: Front) -> str | None:
    """What one end of the front pays for its lead over the other; None without two ends or goals.

    The rate between them is a mean over the whole front, which is as a rule steeper at its ends.
    """
    if len(front.trials) < 2 or len(run.goals) != 2:
        return None
    first, second = run.goals
    start, end = front.trials[0], front.trials[-1]
    won, paid = (
        abs(end.metrics[goal.metric] - start.metrics[goal.metric]) for goal in (second, first)
    )
    if not (0 < won < math.inf and paid < math.inf):
        return None
    error = math.hypot(*(sem(each, second.metric) for each in (start, end)))
    unit = wording.UNITS.get(first.metric, "")
    return (
        f"From one end of the front, {wording.title(start)}, to the other, {wording.title(end)}: "
        f"{second.metric} is better by {wording.with_sem(won, error)} "
        f"({wording.verdict(won, error)}) for {wording.number(paid, 3)} of {first.metric}, which "
        f"is {wording.number(paid / won * _STEP, 2)}{f' {unit}' if unit else ''} for each "
        f"{_STEP:g} of {second.metric}."
    )


_STEP = 0.01


def _differences(run: Run, trial: Trial, standard: Trial | None) -> dict[str, tuple[float, float]]:
    if standard is None or trial is standard:
        return {}
    names = wording.score_names(run)
    both = [name for name in names if name in trial.metrics and name in standard.metrics]
    return {
        name: (
            trial.metrics[name] - standard.metrics[name],
            math.hypot(sem(trial, name), sem(standard, name)),
        )
        for name in both
    }
