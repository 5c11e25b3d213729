"""The record: what goes in comes out, and a password never does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from hpo.cli import doctor, main
from hpo.controller import Controller
from hpo.core.domains import Choice, Int
from hpo.core.failures import StorageError
from hpo.core.goals import Goal, Limit
from hpo.storage import database, record, run_folder
from hpo.storage.record import ForeignStudy, load_study, open_study, read_run, url_of
from hpo.storage.settings import spec_data
from tests.hpo import toy_objective
from tests.hpo.toy_objective import FULL_SPACE, spec

UNREACHABLE = "postgresql://user:secret@127.0.0.1:1/x"


@pytest.mark.parametrize(
    "reach",
    [
        lambda url, out: Controller(spec(), url),
        lambda url, out: load_study(url, "toy"),
        lambda url, out: open_study(url, "toy", spec().goals),
        lambda url, out: run_folder.read(run_folder.make_run_folder(out, "toy", url)),
    ],
)
def test_an_unreachable_database_is_reported_without_its_password(
    reach: Callable[[str, Path], object], tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"user:\*\*\*@127.0.0.1:1/x") as caught:
        reach(UNREACHABLE, tmp_path)
    assert "secret" not in str(caught.value) + repr(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_that_is_shown_or_written_of_a_place_holds_the_password(tmp_path: Path) -> None:
    place = run_folder.make_run_folder(tmp_path, "toy", UNREACHABLE)
    assert place.url == UNREACHABLE
    assert "secret" not in repr(place) + (place.folder / run_folder.NOTE).read_text()
    assert "secret" not in str(doctor.checks(tmp_path, UNREACHABLE))


def test_a_run_comes_back_from_sqlite_as_it_was_recorded(tmp_path: Path) -> None:
    study = spec(
        space=FULL_SPACE,
        limits=(Limit(metric="base_loss", high=4.0), Limit(metric="gain", low=0.0, high=1.0)),
        goals=(
            Goal(metric="base_loss", direction="down"),
            Goal(metric="finetuned", direction="up"),
        ),
        description="a toy",
    )
    recorded = Controller(study, url_of(tmp_path)).run()
    run = read_run(load_study(url_of(tmp_path), "toy"))
    assert run == recorded
    assert (run.name, run.description, run.planned) == ("toy", "a toy", 8)
    assert (run.goals, run.limits) == (study.goals, study.limits)
    assert [trial.baseline for trial in run.trials[:3]] == ["standard", "no decay", None]
    assert run.trials[1].params == {"pretrain.weight_decay": 0.0, "pretrain.lr": 0.01,
                                    "model.layers": 2, "pretrain.shape": "cosine"}  # fmt: skip
    assert run.space["model.layers"] == Int(low=1, high=5)
    assert run.space["pretrain.shape"] == Choice(options=("cosine", "linear"))
    assert run.reproduce["study"] == spec_data(study)
    assert run.reproduce["versions"]["optuna"] == optuna.__version__
    for trial in run.trials:
        request = {"params": trial.params, "fidelity": trial.fidelity, "seed": trial.seed}
        (result,) = study.objective.evaluate([request])  # type: ignore[list-item]
        assert (trial.metrics, trial.curves) == (result.metrics, result.curves)
        assert (trial.cost, trial.notes) == (result.cost, result.notes)
        assert trial.labels == result.labels


def test_numbers_that_json_has_no_word_for_survive_the_round_trip(tmp_path: Path) -> None:
    extra = {"task.a.lr": math.nan, "sharpness": math.inf, "low": -math.inf}
    study = spec(objective=toy_objective.ToyObjective(extra=extra), trials=1)
    Controller(study, url_of(tmp_path)).run()
    metrics = read_run(load_study(url_of(tmp_path), "toy")).trials[0].metrics
    assert math.isnan(metrics["task.a.lr"])
    assert (metrics["sharpness"], metrics["low"]) == (math.inf, -math.inf)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_goal_is_no_number(value: float) -> None:
    study = spec(objective=toy_objective.ToyObjective(extra={"base_loss": value}), trials=2)
    run = Controller(study, "sqlite://").run()
    said = f"gave no number for base_loss ({value}); it gave finetuned, gain, gain_sem"
    assert [trial.failure for trial in run.trials] == [f"the objective {said}"] * 2
    assert run.trials[0].metrics["base_loss"] == value


def test_optuna_reads_goal_values_params_and_constraints(tmp_path: Path) -> None:
    study = spec(space=FULL_SPACE, limits=(Limit(metric="base_loss", high=3.5),))
    run = Controller(study, url_of(tmp_path)).run()
    loaded = optuna.load_study(study_name="toy", storage=url_of(tmp_path))
    assert [way.name for way in loaded.directions] == ["MINIMIZE", "MAXIMIZE"]
    for trial, frozen in zip(run.trials, loaded.trials, strict=True):
        assert frozen.values == [trial.metrics["base_loss"], trial.metrics["gain"]]
        assert frozen.constraints == {"base_loss high": trial.metrics["base_loss"] - 3.5}
        assert frozen.params == ({} if trial.baseline == "no decay" else trial.params)


def test_repetitions_and_confirmations_are_read(tmp_path: Path) -> None:
    controller = Controller(spec(trials=2), url_of(tmp_path))
    controller.run()
    for extra in ({}, {"confirms": True}):
        trial = optuna.trial.create_trial(
            values=[3.0, 0.1], user_attrs={"replicate_of": 1, "seed": 7} | extra
        )
        controller.record.study.add_trial(trial)
    found = [
        (trial.replicate_of, trial.confirms) for trial in read_run(controller.record.study).trials
    ]
    assert found == [(None, False), (None, False), (1, False), (1, True)]
    assert read_run(controller.record.study).trials[2].metrics == {"base_loss": 3.0, "gain": 0.1}


def test_a_missing_study_is_named(tmp_path: Path) -> None:
    Controller(spec(), url_of(tmp_path))
    with pytest.raises(StorageError, match="holds no study 'other'; check --storage"):
        load_study(url_of(tmp_path), "other")


def test_a_study_of_another_program_is_distinguished(tmp_path: Path) -> None:
    optuna.create_study(storage=url_of(tmp_path), study_name="theirs")
    with pytest.raises(StorageError, match="no settings of study 'theirs'"):
        read_run(load_study(url_of(tmp_path), "theirs"))


def foreign(url: str, **fields: Any) -> optuna.Study:
    return optuna.create_study(storage=url, study_name="toy", **fields)


@pytest.mark.parametrize("kind", ["trials", "empty", "attributes", "one direction"])
def test_a_study_that_another_program_made_is_refused_and_nothing_is_written(
    kind: str, tmp_path: Path
) -> None:
    url = url_of(tmp_path)
    directions = ["minimize", "maximize"]
    if kind == "one direction":
        study = foreign(url)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    else:
        study = foreign(url, directions=directions)
        if kind == "trials":
            study.optimize(lambda t: (t.suggest_float("x", 0, 1), 1.0), n_trials=2)
        if kind == "attributes":
            study.set_user_attr("owner", "me")
    before = (study.user_attrs, study.get_trials())
    with pytest.raises(ForeignStudy, match="has a study 'toy' that hpo did not start"):
        Controller(spec(), url)
    found = optuna.load_study(storage=url, study_name="toy")
    assert (found.user_attrs, found.get_trials()) == before


def test_the_command_line_refuses_a_foreign_study_in_a_sentence_and_makes_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'own.db'}"
    foreign(url).optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    (tmp_path / "mine.py").write_text(
        "from tests.hpo.toy_objective import spec\nSTUDY = spec(trials=3)\n"
    )
    assert main.main(["run", "mine.py", "--storage", url]) == 2
    assert "that hpo did not start" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "toy").exists()
    assert optuna.load_study(storage=url, study_name="toy").user_attrs == {}
    assert main.main(["run", "mine.py", "--storage", url, "--name", "other"]) == 0


def test_a_study_that_was_cut_short_before_its_settings_goes_on(tmp_path: Path) -> None:
    open_study(url_of(tmp_path), "toy", spec().goals)
    assert len(Controller(spec(trials=3), url_of(tmp_path)).run().trials) == 3


def test_a_study_and_its_mark_are_written_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            database.Database, "set_study_user_attr", lambda *given: toy_objective.explode()
        )
        with pytest.raises(RuntimeError, match="caught fire"):
            open_study(url_of(tmp_path), "toy", spec().goals)
    assert optuna.get_all_study_names(url_of(tmp_path)) == []
    assert open_study(url_of(tmp_path), "toy", spec().goals).user_attrs == {record.MARK: True}


def test_a_study_from_before_the_mark_goes_on(tmp_path: Path) -> None:
    controller = Controller(spec(trials=3), url_of(tmp_path))
    controller.run()
    attrs = controller.record.study.user_attrs
    old = {name: value for name, value in attrs.items() if name != record.MARK}
    other = optuna.create_study(
        storage=url_of(tmp_path), study_name="old", directions=["minimize", "maximize"]
    )
    for name, value in old.items():
        other.set_user_attr(name, value)
    other.add_trials(controller.record.study.get_trials())
    run = Controller(dataclasses.replace(spec(trials=4), name="old"), url_of(tmp_path)).run()
    assert len(run.trials) == 4


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / record.DATABASE).write_text("not a database, but long enough to be read as one\n")
    with pytest.raises(StorageError, match="file is not a database"):
        Controller(spec(), url_of(tmp_path))


def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    Controller(spec(), url_of(tmp_path)).run()
    path = tmp_path / record.DATABASE
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(StorageError, match="malformed"):
        run_folder.read(run_folder.RunFolder(tmp_path, "toy", url_of(tmp_path)))


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x", "sqlite:////nosuchfolder/x.db"])
def test_a_url_that_leads_nowhere_is_reported(url: str) -> None:
    with pytest.raises(StorageError, match="cannot be used"):
        Controller(spec(), url)


def test_a_copy_has_every_trial_as_it_is_and_one_cut_short_leaves_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complete, failed and running trials, limits, and what JSON has no word for."""
    broken = toy_objective.ToyObjective(
        extra={"odd": math.nan},
        fails_above_lr=0.03,
        before=toy_objective.Once(2, tmp_path, toy_objective.explode),
    )
    study = spec(objective=broken, limits=(Limit(metric="gain", low=0.1),))
    first = f"sqlite:///{tmp_path / 'first.db'}"
    with pytest.raises(RuntimeError):
        Controller(study, first).run()
    with monkeypatch.context() as patch:
        patch.setattr(database.Database, "rename", lambda *given: toy_objective.explode())
        with pytest.raises(RuntimeError):
            record.copy_study(first, "toy", url)
    with pytest.raises(StorageError, match="no study 'toy'"):
        load_study(url, "toy")
    assert record.copy_study(first, "toy", url) == 8
    copied, original = (load_study(each, "toy") for each in (url, first))
    assert repr(vars(read_run(copied))) == repr(vars(read_run(original)))
    assert copied.metric_names == original.metric_names == ["base_loss", "gain"]
    old, new = (load_study(each, "toy").trials for each in (first, url))
    for mine, theirs in zip(old, new, strict=True):
        assert (mine.values, mine.params, mine.constraints) == (
            theirs.values, theirs.params, theirs.constraints,
        )  # fmt: skip
    assert Controller(study, url).run().trials[6:] == Controller(study, first).run().trials[6:]
