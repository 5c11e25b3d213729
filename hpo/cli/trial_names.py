"""Trials by the words a person names them with: a number, knee, front, best:GOAL."""

from __future__ import annotations

from hpo.core.format import listed
from hpo.core.trial import Run, Trial
from hpo.report.results import Results

KNEE, FRONT, BEST = "knee", "front", "best:"


def pick(results: Results, word: str) -> Trial:
    """The trial that is meant, measured to its end.

    Raises:
        ValueError: there is none, or it was not measured to its end.
    """
    if word == KNEE:
        return _knee(results)
    if word.startswith(BEST):
        return _best(results, word.removeprefix(BEST))
    if not word.isdecimal():
        goals = " or ".join(f"{BEST}{goal.metric}" for goal in results.run.goals)
        raise ValueError(f"--trial is a trial's number, {KNEE}, {goals}; got {word!r}.")
    return _numbered(results.run, int(word))


def picks(results: Results, word: str) -> list[Trial]:
    """The same, or all of the front.

    Raises:
        ValueError: there is none, or it was not measured to its end.
    """
    if word != FRONT:
        return [pick(results, word)]
    found = results.front.trials
    if not found:
        raise ValueError(f"no trial of run {results.run.name!r} counts for the front yet.")
    return results.recorded(found)


def _knee(results: Results) -> Trial:
    found = results.front
    if found.knee is None:
        there = ", ".join(str(trial.number) for trial in found.trials) or "none yet"
        raise ValueError(
            f"the front of run {results.run.name!r} has no knee; name a trial by its number, "
            f"on the front are {there}."
        )
    return results.recorded([found.knee])[0]


def _best(results: Results, metric: str) -> Trial:
    run = results.run
    goals = [goal.metric for goal in run.goals]
    if metric not in goals:
        raise ValueError(f"run {run.name!r} has no goal {metric!r}; its goals are {listed(goals)}.")
    trial = results.best(run.goals[goals.index(metric)])
    if trial is None:
        raise ValueError(f"no trial of run {run.name!r} counts for the front yet.")
    return results.recorded([trial])[0]


def _numbered(run: Run, number: int) -> Trial:
    found = {trial.number: trial for trial in run.trials}
    if number not in found:
        there = f"{min(found)} to {max(found)}" if found else "none yet"
        others = f" ({run.num_others} more were measured under other conditions)"
        raise ValueError(
            f"run {run.name!r} has no trial {number}; its trials are {there}"
            f"{others if run.num_others else ''}."
        )
    trial = found[number]
    if trial.state == "failed":
        raise ValueError(f"trial {number} failed ({trial.failure}); name one that did not.")
    if trial.state != "complete":
        raise ValueError(
            f"trial {number} is {trial.state}, not measured to its end; name one that is complete."
        )
    return trial
