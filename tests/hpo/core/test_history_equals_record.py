"""What the controller knows of a study is what its record says, whatever kinds of trials it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hpo.controller import Controller
from hpo.core.goals import Limit
from hpo.core.history import History
from hpo.core.spec import Baseline, GridPoint, StudySpec
from hpo.core.trial import Run
from hpo.front.front import front
from hpo.search import strategy
from hpo.storage.record import load_study, read_run, url_of
from hpo.storage.trials import read_history
from tests.hpo.toy_objective import Once, ToyObjective, explode, spec

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


def assert_same_picture(study: StudySpec, found: History, recorded: Run) -> None:
    run = Run.of(study, found.trials)
    assert run.trials == recorded.trials
    assert [trial.trial_id for trial in run.trials] == [t.trial_id for t in recorded.trials]
    assert (run.goals, run.limits, run.space) == (recorded.goals, recorded.limits, recorded.space)
    assert (run.name, run.planned) == (recorded.name, recorded.planned)


def assert_same_front(study: StudySpec, found: History, recorded: Run) -> None:
    assert front(Run.of(study, found.trials)).standings == front(recorded).standings


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
    assert_same_front(study, controller.record.history, recorded)
    again = read_history(controller.record.study.get_trials(), study)
    assert again == controller.record.history
    assert (name == "rows") == any(trial.row_scores for trial in recorded.trials)


@dataclass(frozen=True, kw_only=True)
class Reading(ToyObjective):
    """Says which corpus it reads."""

    corpus: str

    def conditions(self) -> dict[str, str]:
        return {"corpus": self.corpus}


@pytest.mark.parametrize("wave", [1, 2])
def test_what_other_conditions_cut_off_is_read_as_it_was_left(wave: int, tmp_path: Path) -> None:
    """Trials that were never answered, also those that go on from a lower rung."""
    stops = Once(wave, tmp_path, explode)
    study = spec(
        objective=Reading(corpus="wiki", before=stops), rungs=(0.25, 1.0), trials=8,
        sampler="random",
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="caught fire"):
        Controller(study, url_of(tmp_path)).run()
    study = replace(study, objective=Reading(corpus="books"), trials=12)
    controller = Controller(study, url_of(tmp_path), accept_changes=True)
    controller.run()
    stored = load_study(url_of(tmp_path), "toy")
    found = controller.record.history
    assert read_history(stored.trials, study) == found
    group = [trial for trial in found.trials if trial.group == 0]
    assert read_run(stored, 0).trials == group
    cut_off = {(len(each.asks), len(each.answers)) for each in group if each.state == "failed"}
    assert cut_off == ({(1, 0), (2, 1)} if wave == 2 else {(1, 0)})


def test_a_grid_at_several_seeds_is_confirmed_once_a_setting() -> None:
    study = spec(baselines=(), grid=GRID, replicates=3, trials=9, confirm=1)
    controller = Controller(study, "sqlite://")
    run = controller.run()
    on_front = [trial.number for trial in front(run).trials]
    confirmed = [trial.replicate_of for trial in run.trials if trial.confirms]
    assert sorted(confirmed) == sorted(on_front)  # type: ignore[type-var]
    assert set(on_front) <= {0, 1, 2}
    planned = [trial for trial in controller.record.history.trials if not trial.confirms]
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
    again = read_history(controller.record.study.get_trials(), controller.spec)
    assert again.trials == controller.record.history.trials
    assert read_run(load_study(url_of(tmp_path), "toy")) == run
