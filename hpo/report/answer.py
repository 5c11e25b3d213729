"""What a reader wants to know first: which recipe to use, what it gives, how certain that is."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from hpo.analysis.headline import Line
from hpo.core import format
from hpo.core.format import amount, percent, plural, title, with_sem
from hpo.core.metrics import measured
from hpo.core.trial import Trial
from hpo.report import pretraining_worth
from hpo.report.certainty import VERDICTS
from hpo.report.results import Results


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a reader wants to know first, a sentence each."""

    warning: str
    """Tasks on which pretraining is worth nothing; empty where there is none."""
    use: str
    """Which recipe to use."""
    gives: str
    """What it gives, against the standard recipe."""
    sure: str
    """How certain that is."""
    cost: str
    """What it costs; empty where the record does not tell."""


def answer(results: Results) -> Answer | None:
    """The recipe to use in one sentence; None while the front is empty."""
    line = results.choice
    if line is None:
        return None
    trial = line.trial
    values = ", ".join(f"{name} {value}" for name, value in settings(results, trial))
    kept = "Keep" if trial.baseline is not None else "Use"
    why = f" ({', '.join(line.roles)})" if line.roles != ("front",) else ""
    return Answer(
        warning=pretraining_worth.warning(results.pretraining_worth),
        use=f"{kept} {title(trial)}{f': {values}' if values else ''}{why}.",
        gives=_gives(results, line),
        sure=_sure(results, trial),
        cost=_cost(trial),
    )


def settings(results: Results, trial: Trial) -> list[tuple[str, str]]:
    """Short name and value of each parameter of a trial."""
    return [
        (results.params.get(path, path), format.setting(value))
        for path, value in trial.params.items()
    ]


def _gives(results: Results, line: Line) -> str:
    """Its goals, each with its difference from the standard recipe."""
    standard, parts = results.standard, []
    for goal in results.run.goals:
        part = f"{goal.metric} {measured(line.trial, goal.metric)}"
        if goal.metric in line.differences:
            found = line.differences[goal.metric]
            way = (
                "worse" if found.value * goal.sign > 0 else "better" if found.value else "the same"
            )
            if found.significant is not None:
                way += f", {VERDICTS[found.significant]}"
            part += f" ({with_sem(found.value, found.error, signed=True)}, {way})"
        parts.append(part)
    text = " and ".join(parts)
    if standard is None:
        return f"It has {text}; no baseline has finished to compare with."
    if standard.trial.number == line.trial.number:
        return f"No searched trial is the better choice; it has {text}."
    return f"Against {title(standard.trial)} it has {text}."


def _sure(results: Results, trial: Trial) -> str:
    """The probability that it belongs to the front, or why that is not known."""
    share = results.front.membership.get(trial.number, math.nan)
    if math.isnan(share):
        name = shlex.quote(results.run.study or results.run.name)
        return (
            "How certain: one pretraining seed a setting, so the noise between seeds is not known; "
            f"hpo run {name} --confirm 3 measures the front at 3 more."
        )
    seeds = len(results.setting(trial).every)
    return (
        f"How certain: on the front with a probability of {percent(share)}, from "
        f"{plural(seeds, 'pretraining seed')} of it."
    )


def _cost(trial: Trial) -> str:
    """Of measuring it once."""
    seconds = trial.cost.get("time_s")
    if seconds is None:
        return ""
    tokens = trial.cost.get("tokens", 0.0) + trial.cost.get("tokens_reused", 0.0)
    trained = f" for {amount(tokens)} tokens" if tokens else ""
    return f"Cost: one trial of it took {format.duration(seconds)}{trained}."
