"""Which run a command goes on with, replaces or starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.cli import main, run_choice
from hpo.controller import Controller
from hpo.storage import lease, record, run_folder
from hpo.storage.provenance import StudyChanged
from tests.hpo.cli.test_main import complaint, folder, read, words, write
from tests.hpo.toy_objective import spec

__all__ = ["folder"]


FAILS = "objective=ToyObjective(fails_above_lr=0.0)"


def names() -> list[str]:
    return [place.name for place in run_folder.all_runs(Path("runs"))]


def run(*options: str) -> int:
    return main.main(["run", "mine.py", *options])


def test_a_run_that_measured_nothing_is_replaced_by_the_fixed_study(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"STUDY = spec(trials=3, wave=2, {FAILS})")
    assert run() == 1
    assert {trial.state for trial in read().trials} == {"failed"}
    write("STUDY = spec(trials=4)")
    capsys.readouterr()
    assert run() == 0
    assert "Replacing run toy: none of its trials has measured anything" in words(capsys)
    assert [trial.state for trial in read().trials] == ["complete"] * 4
    assert names() == ["toy"]


def test_one_complete_trial_is_enough_to_be_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(trials=6, objective=ToyObjective(fails_above_lr=0.01))")
    run()
    before = read().trials
    assert {"complete", "failed"} <= {trial.state for trial in before}
    write("STUDY = spec(trials=6, wave=2)")
    assert run() == 2
    assert "the study was started with other settings" in complaint(capsys)
    assert read().trials == before


def test_a_run_that_somebody_is_at_is_not_replaced(folder: Path) -> None:
    write(f"STUDY = spec(trials=2, {FAILS})")
    run()
    place = run_folder.find_run("toy", Path("runs"), None)
    study = record.find_study(place.url, "toy")
    assert study is not None
    with lease.held(study, place.url), pytest.raises(StudyChanged):
        run_choice.choose(spec(wave=2), Path("runs"), None)
    opened = run_choice.choose(spec(wave=2), Path("runs"), None)
    assert opened.replaces is not None


def test_the_file_of_a_fork_goes_on_without_the_option(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    write("STUDY = spec(trials=3, wave=2)")
    assert run() == 2
    assert run("--fork") == 0
    capsys.readouterr()
    assert run("--trials", "5") == 0
    printed = words(capsys)
    assert "This is run toy-2, a fork." in printed
    assert "Continuing runs/toy-2: 3 trials are finished." in printed
    assert len(read("toy-2").trials) == 5
    write("STUDY = spec(trials=5)")
    assert run() == 0
    assert "Continuing runs/toy: 5 trials are finished." in words(capsys)
    assert names() == ["toy", "toy-2"]


def test_a_fork_beyond_a_deleted_one_is_found_and_a_free_number_is_taken(folder: Path) -> None:
    run()
    for wave in (1, 2):
        write(f"STUDY = spec(trials=3, wave={wave})")
        run("--fork")
    assert main.main(["delete", "toy-2", "--yes"]) == 0
    assert run("--trials", "4") == 0
    assert len(read("toy-3").trials) == 4
    write("STUDY = spec(trials=3, wave=4)")
    assert run("--fork") == 0
    assert names() == ["toy", "toy-2", "toy-3"]


def test_a_fork_of_another_file_is_not_replaced(folder: Path) -> None:
    write(f"STUDY = spec(name='toy-2', trials=2, {FAILS})")
    Path("mine.py").rename("other.py")
    main.main(["run", "other.py"])
    before = read("toy-2").trials
    for wave in (1, 2):
        write(f"STUDY = spec(trials=3, wave={wave})")
        run("--fork")
    assert read("toy-2").trials == before
    assert names() == ["toy", "toy-2", "toy-3"]


def test_a_run_can_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--name", "first", "--trials", "3") == 0
    assert run("--name", "first") == 0
    assert "Continuing runs/first: 3 trials are finished." in words(capsys)
    assert names() == ["first"]
    assert run("--name", "a/b") == 2
    assert "a study's name holds letters" in complaint(capsys)
    assert run("--name", "store") == 2


def test_runs_in_a_storage_elsewhere_are_replaced_and_forked_too(folder: Path) -> None:
    url = f"sqlite:///{folder / 'all.db'}"
    storage = ["--storage", url]
    write(f"STUDY = spec(trials=2, {FAILS})")
    run(*storage)
    write("STUDY = spec(trials=3)")
    assert run(*storage) == 0
    write("STUDY = spec(trials=3, wave=1)")
    assert run(*storage, "--fork") == 0
    assert run(*storage, "--trials", "4") == 0
    assert [len(run_folder.load(name, storage=url).trials) for name in ("toy", "toy-2")] == [3, 4]


def test_looking_for_a_run_makes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    run_choice.choose(spec(), tmp_path / "runs", url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("emptied", [True, False])
def test_a_run_whose_database_has_vanished_is_refused_until_it_is_restarted(
    tmp_path: Path, emptied: bool
) -> None:
    place = run_folder.make_run_folder(tmp_path, "toy", None)
    Controller(spec(trials=2), place.url).run()
    run_folder.note_study(place, {"study": "toy.py"})
    database = place.folder / "study.db"
    database.unlink()
    if emptied:
        database.touch()
    with pytest.raises(ValueError, match=r"was started before.*--restart"):
        run_choice.choose(spec(), tmp_path, None)
    assert run_choice.choose(spec(), tmp_path, None, restart=True).place == place
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
    assert run_choice.choose(spec(), tmp_path, elsewhere).place.url == elsewhere
