"""What the controller knows of a study is what its record says, whatever kinds of trials it has."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hpo.controller import Controller
from hpo.core import history
from hpo.core.goals import Limit
from hpo.core.spec import Baseline, GridPoint, StudySpec
from hpo.core.trial import Run, Trial
from hpo.front.front import front
from hpo.search import strategy
from hpo.storage import history as ledger
from hpo.storage.record import load_study, read_run, url_of
from tests.hpo.toy_objective import ToyObjective, spec

RECORD_ONLY = {"curves", "failure", "notes", "labels"}
"""What no decision depends on, so that the controller does not keep it."""


GRID = tuple(
    GridPoint(name=f"decay {decay}", params={"pretrain.weight_decay": decay})
    for decay in (0.02, 0.2, 0.5)
)


STUDIES: dict[str, dict[str, Any]] = {
    "baselines": {},
    "grid at seeds": {"grid": GRID, "replicates": 3, "trials": 16},
    "confirmed": {"grid": GRID, "replicates": 2, "trials": 11, "confirm": 2},
    "repeated": {"replicate_share": 0.4, "trials": 14},
    "rungs": {"rungs": (1 / 9, 1 / 3, 1.0), "trials": 14, "replicate_share": 0.2, "confirm": 1},
    "rows": {"objective": ToyObjective(rows=True, fails_above_lr=0.02), "rungs": (0.25, 1.0)},
    "failing": {"objective": ToyObjective(fails_above_lr=0.02), "rungs": (0.25, 1.0)},
    "limits": {"limits": (Limit(metric="gain", low=0.3),), "confirm": 1, "trials": 10},
}


def fields(trial: Trial) -> dict[str, Any]:
    return {k: v for k, v in dataclasses.asdict(trial).items() if k not in RECORD_ONLY}


def assert_same_picture(study: StudySpec, found: history.History, recorded: Run) -> None:
    run = history.as_run(study, found.entries)
    assert [fields(each) for each in run.trials] == [fields(each) for each in recorded.trials]
    assert (run.goals, run.limits, run.space) == (recorded.goals, recorded.limits, recorded.space)
    assert (run.name, run.planned) == (recorded.name, recorded.planned)
    assert front(run).standings == front(recorded).standings


@pytest.mark.parametrize("sampler", ["gp", "random"])
@pytest.mark.parametrize("name", STUDIES)
def test_the_controllers_picture_is_the_record_at_every_wave_and_when_read_again(
    name: str, sampler: str
) -> None:
    study = spec(**({"sampler": sampler} | STUDIES[name]))
    controller = Controller(study, "sqlite://")
    waves = 0

    def look(event: dict[str, Any]) -> None:
        nonlocal waves
        if "wave" in event or "recorded" in event:
            waves += 1
            assert_same_picture(study, controller.record.history, read_run(controller.record.study))

    recorded = controller.run(look)
    assert waves > 4
    assert_same_picture(study, controller.record.history, recorded)
    again = ledger.read(controller.record.study.get_trials(), study)
    assert again.entries == controller.record.history.entries
    assert (name == "rows") == any(trial.row_scores for trial in recorded.trials)


def test_a_grid_at_several_seeds_is_confirmed_once_a_setting() -> None:
    study = spec(baselines=(), grid=GRID, replicates=3, trials=9, confirm=1)
    controller = Controller(study, "sqlite://")
    run = controller.run()
    on_front = [trial.number for trial in front(run).trials]
    confirmed = [trial.replicate_of for trial in run.trials if trial.confirms]
    assert sorted(confirmed) == sorted(on_front)  # type: ignore[type-var]
    assert set(on_front) <= {0, 1, 2}
    planned = [entry for entry in controller.record.history.entries if entry.kind != "confirms"]
    assert strategy.reported(study, planned) == on_front


@pytest.mark.parametrize("trials", [3, 6])
def test_confirmations_do_not_count_as_trials_when_a_study_goes_on(
    trials: int, tmp_path: Path
) -> None:
    """Also where planned trials were still missing: names, not numbers, tell which."""
    fields: dict[str, Any] = {
        "baselines": (Baseline(name="standard", params={}),), "grid": GRID, "confirm": 2,
        "sampler": "tpe",
    }  # fmt: skip
    first = Controller(spec(trials=trials, **fields), url_of(tmp_path)).run()
    confirmations = sum(trial.confirms for trial in first.trials)
    assert confirmations > 0
    assert len(first.trials) - confirmations == trials
    controller = Controller(spec(trials=9, **fields), url_of(tmp_path))
    run = controller.run()
    assert sum(not trial.confirms for trial in run.trials) == 9
    assert [trial.name for trial in run.trials if trial.name is not None] == [
        "standard", *(point.name for point in GRID)
    ]  # fmt: skip
    again = ledger.read(controller.record.study.get_trials(), controller.spec)
    assert again.entries == controller.record.history.entries
    assert read_run(load_study(url_of(tmp_path), "toy")) == run
