"""How certain the front and its differences are, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo.core.format import listed, percent, title, with_sem
from hpo.core.metrics import measured, rows_sem
from hpo.front.differences import Difference
from hpo.front.errors import Estimate
from hpo.front.front import Front
from hpo.report.results import Results

VERDICTS = {True: "significant", False: "inconclusive"}


def certainty(results: Results) -> list[str]:
    """How certain the front is: who may belong to it, where its knee may be, which differences are
    significant."""
    front = results.front
    if not front.points:
        return []
    if front.draws is None:
        names = [goal.metric for goal in front.goals]
        return [
            f"Seed noise in {' and '.join(names)} is unknown (no setting was run at a second "
            "seed), so membership probabilities are not available."
        ]
    lines = [_undecided_sentence(front), _expected_sentence(front)]
    lines += [_knee_region(front), _not_significant(results.differences)]
    lines += [_against_baseline(each, front) for each in results.from_baselines]
    lines += [_confirmed_sentence(front, number) for number in front.confirmed]
    return [line for line in lines if line]


def verdict(found: Estimate) -> str:
    """The 95 % interval of a difference, and whether it is significant."""
    if math.isnan(found.error):
        return "no standard error known"
    if found.error == 0:
        return "exact"
    digits = max(0, 1 - math.floor(math.log10(found.error)))  # two of the error
    ends = " to ".join(f"{value:+.{digits}f}" for value in found.interval)
    if found.significant is None:
        return f"95 %: {ends}, without pretraining seeds, so significance is unknown"
    return f"95 %: {ends}, {VERDICTS[found.significant]}"


def lead(found: Estimate) -> str:
    """A difference with its standard error, interval and verdict."""
    text = with_sem(found.value, found.error, signed=True)
    return text if math.isnan(found.error) else f"{text} ({verdict(found)})"


def _undecided_sentence(front: Front) -> str:
    text = "Probability of belonging to the front"
    named = [f"{title(t)} {percent(front.membership[t.number])}" for t in front.trials]
    ranked = sorted(front.undecided, key=lambda t: -front.membership[t.number])
    rest = [f"{title(t)} {percent(front.membership[t.number])}" for t in ranked]
    return f"{text}: {listed(named)}." + (
        f" Candidates, not shown on it and not ruled out: {listed(rest)}." if rest else ""
    )


def _expected_sentence(front: Front) -> str:
    """What to count on instead of what was observed; nothing where the two are the same."""
    if front.draws is None or len(front.draws) == 1:
        return ""
    every = []
    for trial in front.trials:
        found = front.estimates[trial.number]
        values = [
            f"{goal.metric} {with_sem(found[goal.metric], found[f'{goal.metric}_sem'])}"
            for goal in front.goals
        ]
        every.append(f"{title(trial)} {', '.join(values)}")
    return f"Estimates corrected for selection bias: {listed(every, '; ')}."


def _knee_region(front: Front) -> str:
    if len(front.knee_region) < 2:
        return ""
    by_number = {trial.number: trial for trial in front.points}
    places = [f"{title(by_number[number])} {percent(p)}" for number, p in front.knee_region]
    return f"The knee may be at {listed(places)}."


def _not_significant(pairs: Sequence[Difference]) -> str:
    if not pairs:
        return ""
    if any(each.significant is None for each in pairs):
        return (
            "No setting has a second pretraining seed, so whether differences between points of "
            "the front are significant is unknown."
        )
    parts = []
    for metric in dict.fromkeys(each.metric for each in pairs):
        some = [each for each in pairs if each.metric == metric and not each.significant]
        if some:
            names = [
                f"#{min(each.better, each.other)} and #{max(each.better, each.other)}"
                for each in some
            ]
            parts.append(f"{metric} of {listed(names)}")
    if not parts:
        return "All differences between points of the front are significant (95 %)."
    return f"Inconclusive (95 %): differences in {'; in '.join(parts)}."


def _against_baseline(each: Difference, front: Front) -> str:
    by_number = {trial.number: trial for trial in front.points}
    found = "unknown" if each.significant is None else VERDICTS[each.significant]
    return (
        f"Expected {each.metric} of {title(by_number[each.better])} against "
        f"{title(by_number[each.other])}, the best baseline, corrected for selection bias: "
        f"{with_sem(each.value, each.error, signed=True)}; significance: {found}."
    )


def _confirmed_sentence(front: Front, number: int) -> str:
    fresh = front.confirmed[number]
    by_number = {trial.number: trial for trial in front.points}
    values = ", ".join(f"{goal.metric} {measured(fresh, goal.metric)}" for goal in front.goals)
    return f"{title(by_number[number])} again, at fresh seeds after it was chosen: {values}."


def error_source(results: Results) -> str:
    """What ± and intervals include."""
    run, front = results.run, results.front
    repeated = any(len(point.seeds) > 1 for point in results.settings.values())
    seeds = "pretraining and fine-tuning seeds" if repeated else "fine-tuning seeds alone"
    rows = any(
        math.isfinite(rows_sem(trial, goal.metric)) for trial in front.points for goal in run.goals
    )
    text = f"± is one standard error over {seeds}"
    if rows:
        text += "; of a value also over test rows and validation text, which all trials share"
    return text
