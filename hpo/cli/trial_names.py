"""Trials by the words a person names them with: a number, knee, front, best:GOAL."""

from __future__ import annotations

from hpo.core.trial import Run, Trial
from hpo.front.front import counted, front
from hpo.front.losses import losses

KNEE, FRONT, BEST = "knee", "front", "best:"


def pick(run: Run, word: str) -> Trial:
    """The trial that is meant, measured to its end.

    Raises:
        ValueError: there is none, or it was not measured to its end.
    """
    if word == KNEE:
        return _knee(run)
    if word.startswith(BEST):
        return _best(run, word.removeprefix(BEST))
    if not word.isdecimal():
        goals = " or ".join(f"{BEST}{goal.metric}" for goal in run.goals)
        raise ValueError(f"--trial is a trial's number, {KNEE}, {goals}; got {word!r}.")
    return _numbered(run, int(word))


def picks(run: Run, word: str) -> list[Trial]:
    """The same, or all of the front.

    Raises:
        ValueError: there is none, or it was not measured to its end.
    """
    if word != FRONT:
        return [pick(run, word)]
    found = front(run).trials
    if not found:
        raise ValueError(f"no trial of run {run.name!r} counts for the front yet.")
    return [_of_record(run, trial) for trial in found]


def _knee(run: Run) -> Trial:
    found = front(run)
    if found.knee is None:
        there = ", ".join(str(trial.number) for trial in found.trials) or "none yet"
        raise ValueError(
            f"the front of run {run.name!r} has no knee; name a trial by its number, on the front "
            f"are {there}."
        )
    return _of_record(run, found.knee)


def _best(run: Run, metric: str) -> Trial:
    goals = [goal.metric for goal in run.goals]
    if metric not in goals:
        raise ValueError(f"run {run.name!r} has no goal {metric!r}; its goals are {goals}.")
    trials = counted(run)
    if not trials:
        raise ValueError(f"no trial of run {run.name!r} counts for the front yet.")
    column = losses(trials, run.goals)[:, goals.index(metric)]
    return _of_record(run, trials[int(column.argmin())])


def _numbered(run: Run, number: int) -> Trial:
    found = {trial.number: trial for trial in run.trials}
    if number not in found:
        there = f"0 to {max(found)}" if found else "none yet"
        raise ValueError(f"run {run.name!r} has no trial {number}; its trials are {there}.")
    trial = found[number]
    if trial.state == "failed":
        raise ValueError(f"trial {number} failed ({trial.failure}); name one that did not.")
    if trial.state != "complete":
        raise ValueError(
            f"trial {number} is {trial.state}, not measured to its end; name one that is complete."
        )
    return trial


def _of_record(run: Run, trial: Trial) -> Trial:
    """The trial as it was recorded, where the front may show it by a mean over its seeds."""
    return next(each for each in run.trials if each.number == trial.number)
