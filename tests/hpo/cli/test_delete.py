"""`hpo delete`: what goes, what stays, and who is asked."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from hpo.cli import main
from hpo.storage import lease, run_folder
from hpo.storage.record import find_study
from tests.hpo.cli.test_main import HEAD, complaint, folder, read, words

__all__ = ["folder"]


@pytest.fixture
def finished(
    folder: Path, copy_run: Callable[[str, Path], None], capsys: pytest.CaptureFixture[str]
) -> Path:
    """A run and a store beside it."""
    copy_run(HEAD + "STUDY = spec(trials=3, sampler='random')\n", folder)
    (folder / "runs" / "store" / "pretrain").mkdir(parents=True)
    capsys.readouterr()
    return folder / "runs" / "toy"


class Terminal(io.StringIO):
    """A person at the keyboard."""

    def isatty(self) -> bool:
        return True


def test_the_run_goes_and_the_store_stays(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "workers").mkdir()
    (finished / "workers" / "worker-0.log").write_text("")
    (finished / "error.log").write_text("")
    assert main.main(["delete", "toy", "--yes"]) == 0
    assert words(capsys) == "Deleted run toy; finished stages stay in the store."
    assert not finished.exists()
    assert (finished.parent / "store" / "pretrain").is_dir()
    assert main.main(["run", "mine.py"]) == 0


def test_files_of_others_stay_and_links_are_not_followed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("")
    (finished / "workers").symlink_to(tmp_path / "elsewhere")
    assert main.main(["delete", str(finished), "--yes"]) == 0
    assert "Not the run's, so left in" in words(capsys)
    assert [path.name for path in finished.iterdir()] == ["notes.txt"]
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_nothing_is_deleted_unasked(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["delete", "toy"]) == 2
    assert "(3 trials, 3 complete) is deleted only with --yes" in complaint(capsys)
    assert len(read().trials) == 3


@pytest.mark.parametrize(("answer", "left"), [("y\n", False), ("\n", True), ("", True)])
def test_a_person_is_asked(
    answer: str, left: bool, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert main.main(["delete", "toy"]) == 0
    assert finished.exists() == left


def test_a_run_that_is_being_run_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = run_folder.find_run("toy", Path("runs"), None)
    study = find_study(place.url, "toy")
    assert study is not None
    with lease.held(study, place.url):
        assert main.main(["delete", "toy", "--yes"]) == 1
    assert "is being run by process" in complaint(capsys)
    assert len(read().trials) == 3


def test_in_a_storage_elsewhere_only_the_study_goes(folder: Path) -> None:
    url = f"sqlite:///{folder / 'all.db'}"
    for name in ("one", "two"):
        main.main(["run", "mine.py", "--name", name, "--trials", "2", "--storage", url])
    assert main.main(["delete", "one", "--yes"]) == 2
    assert sorted(optuna.get_all_study_names(url)) == ["one", "two"]
    assert main.main(["delete", "one", "--yes", "--storage", url]) == 0
    assert optuna.get_all_study_names(url) == ["two"]
    assert not (folder / "runs" / "one").exists()
    assert len(run_folder.load("two", storage=url).trials) == 2


def test_a_database_that_holds_another_study_stays(finished: Path) -> None:
    url = f"sqlite:///{finished / 'study.db'}"
    optuna.create_study(storage=url, study_name="other")
    assert main.main(["delete", "toy", "--yes"]) == 0
    assert optuna.get_all_study_names(url) == ["other"]


def test_what_is_left_of_a_run_can_be_deleted(finished: Path) -> None:
    (finished / "study.db").unlink()
    assert main.main(["delete", "toy", "--yes"]) == 0
    assert not finished.exists()


def test_an_unknown_run_is_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["delete", "nope", "--yes"]) == 2
    assert "no run 'nope'" in complaint(capsys)
