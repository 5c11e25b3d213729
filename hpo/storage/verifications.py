"""Verifications of a run: studies in a folder of its own below the run's, each with its plan."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from hpo.core import files
from hpo.core.failures import StorageError
from hpo.core.trial import Run
from hpo.core.verification_plan import VerificationPlan
from hpo.storage import run_folder
from hpo.storage.run_folder import RunFolder

FOLDER = "verify"
"""Below the run's folder; runs of `hpo run` are in folders of the same kind."""


PLAN = "plan.json"


def folder_of(place: RunFolder) -> Path:
    """Where the verifications of a run are."""
    return place.folder / FOLDER


def write_plan(place: RunFolder, plan: VerificationPlan) -> None:
    """Write a verification's plan beside its record."""
    files.write(place.folder / PLAN, json.dumps(plan.to_dict()))


def read_all(place: RunFolder) -> tuple[tuple[VerificationPlan, Run], ...]:
    """The latest verification at each size, dose of tokens and rate, the smallest size first.

    One that has not ended yet takes no ended one's place, and comes after it. Those without results
    are left out, and those that cannot be read, so that a run can be shown without them; `hpo
    verify` says why it cannot, and writes a plan again.
    """
    known = [found for each in run_folder.all_runs(folder_of(place)) if (found := _read(each))]
    latest: dict[tuple[str, float, float], list[tuple[VerificationPlan, Run]]] = {}
    for plan, run in sorted(known, key=lambda each: _ended(each[1])):
        key = (plan.size, plan.tokens_per_param, plan.lr_factor)
        whole = [each for each in latest.get(key, []) if _is_whole(*each)]
        latest[key] = [(plan, run)] if _is_whole(plan, run) else [*whole, (plan, run)]
    every = [each for some in latest.values() for each in some]
    return tuple(sorted(every, key=lambda each: each[0].num_params))


def _is_whole(plan: VerificationPlan, run: Run) -> bool:
    return sum(trial.ended for trial in run.trials) >= len(plan.points) * plan.seeds


def _read(place: RunFolder) -> tuple[VerificationPlan, Run] | None:
    try:
        text = (place.folder / PLAN).read_text(encoding="utf-8")
        plan, run = VerificationPlan.from_dict(json.loads(text)), run_folder.read(place)
    except (OSError, ValueError, KeyError, TypeError, StorageError):
        return None
    return (plan, run) if run.complete() else None


def _ended(run: Run) -> datetime:
    return run.ended or datetime.min
