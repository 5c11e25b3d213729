"""The findings at a glance: the standard recipe beside the best that was found, and the price."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.core import metrics
from hpo.core.trial import Run, Trial
from hpo.front.errors import Estimate
from hpo.front.front import Front, counted_points
from hpo.front.losses import losses
from hpo.front.significance import Leads


@dataclass(frozen=True, kw_only=True)
class Line:
    """One trial and why it is named."""

    trial: Trial
    roles: tuple[str, ...]
    differences: dict[str, Estimate]
    """Score -> its difference from the standard recipe; empty for the standard recipe itself and
    where there is none."""


def headline(run: Run, front: Front) -> tuple[Line, ...]:
    """The standard recipe (the first baseline that counts), the best by each goal, the knee."""
    points = counted_points(run)
    leads = Leads(points, len(run.goals))
    trials = [point.trial for point in points]
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
            differences=_differences(run, leads, named[number], standard),
        )
        for number, found in roles.items()
    )


STEP = 0.01
"""Of a goal, for which the price is given; assumed."""


def _differences(
    run: Run, leads: Leads, trial: Trial, standard: Trial | None
) -> dict[str, Estimate]:
    if standard is None or trial is standard:
        return {}
    names = metrics.score_names(run)
    both = [name for name in names if name in trial.metrics and name in standard.metrics]
    return {name: leads.between(trial, standard, name) for name in both}
