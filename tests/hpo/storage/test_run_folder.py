"""Runs on disk: making, finding and naming them."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path

import pytest

from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.storage import run_folder
from hpo.storage.record import DATABASE, url_of
from tests.hpo.toy_objective import spec


def made(out: Path, name: str = "toy") -> run_folder.RunFolder:
    place = run_folder.make_run_folder(out, name, None)
    Controller(spec(name=name, trials=2), place.url).run()
    return place


def test_a_run_is_found_by_its_name_and_by_its_folder(tmp_path: Path) -> None:
    place = made(tmp_path)
    assert run_folder.find_run("toy", tmp_path, None) == place
    assert run_folder.find_run(str(place.folder), Path("elsewhere"), None) == place
    assert run_folder.all_runs(tmp_path) == [place]
    assert place.url == url_of(tmp_path / "toy")
    assert len(run_folder.read(place).trials) == 2


def test_making_a_run_again_keeps_it(tmp_path: Path) -> None:
    place = made(tmp_path)
    assert run_folder.make_run_folder(tmp_path, "toy", None) == place
    assert len(run_folder.read(place).trials) == 2
    assert sorted(path.name for path in place.folder.iterdir()) == [run_folder.NOTE, DATABASE]


def test_an_unknown_run_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run 'x' in .*; there are none; start one: hpo run"):
        run_folder.find_run("x", tmp_path, None)
    made(tmp_path, "one")
    made(tmp_path, "two")
    with pytest.raises(ValueError, match="runs there are one, two"):
        run_folder.find_run("x", tmp_path, None)


def test_a_storage_outside_of_the_run_is_remembered_for_writing_and_asked_for_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    run_folder.make_run_folder(tmp_path, "plain", url)
    assert run_folder.make_run_folder(tmp_path, "plain", None).url == url
    with pytest.raises(
        ValueError, match=r"record is in sqlite:.*other\.db; give it with --storage"
    ):
        run_folder.find_run("plain", tmp_path, None)
    assert run_folder.find_run("plain", tmp_path, url).url == url
    assert run_folder.all_runs(tmp_path) == []
    secret = "postgresql://u:secret@h/x"
    run_folder.make_run_folder(tmp_path, "guarded", secret)
    with pytest.raises(ValueError, match=r"postgresql://u:\*\*\*@h/x; give it with --storage"):
        run_folder.find_run("guarded", tmp_path, None)
    assert run_folder.find_run("guarded", tmp_path, secret).url == secret
    monkeypatch.setenv(run_folder.STORAGE_ENV, url)
    assert [place.name for place in run_folder.all_runs(tmp_path)] == ["plain"]


LEADING_OUT = ["../x", "../../x", "/tmp/x", "a/b", "..", "", "a\0", "\x1b[2J", "x" * 300, None, 1]


@pytest.mark.parametrize(
    "note",
    [
        *(
            "",
            "[]",
            "{}",
            '{"name": "toy"}',
            "\0",
            '{"name": "toy", "storage": null}' + " " * 10**7,
        ),
        *(json.dumps({"name": name, "storage": None}) for name in LEADING_OUT),
    ],
    ids=lambda note: note[:40],
)
def test_a_broken_note_is_reported_and_hides_no_other_run(note: str, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / run_folder.NOTE).write_text(note)
    with pytest.raises(ValueError, match=r"run.json cannot be read; delete it and run"):
        run_folder.find_run("broken", tmp_path, None)
    made(tmp_path)
    assert [place.name for place in run_folder.all_runs(tmp_path)] == ["toy"]


def test_a_full_disk_is_no_fault_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"is full; free some space, then run the same command"):
        run_folder.make_run_folder(tmp_path, "toy", None)
    monkeypatch.undo()
    assert run_folder.make_run_folder(tmp_path, "toy", None).name == "toy"


def test_a_run_without_its_database_is_reported(tmp_path: Path) -> None:
    place = made(tmp_path)
    (place.folder / DATABASE).unlink()
    with pytest.raises(ValueError, match=r"has no study\.db; run the study again"):
        run_folder.find_run("toy", tmp_path, None)


def test_a_run_that_was_never_started_is_reported(tmp_path: Path) -> None:
    place = run_folder.make_run_folder(tmp_path, "toy", f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(StorageError, match="holds no study 'toy'"):
        run_folder.read(place)


def test_a_folder_that_cannot_be_made_is_reported_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to the output folder .*Not a directory"):
        run_folder.make_run_folder(tmp_path / "file", "toy", None)


def test_the_note_of_a_run_holds_its_name_and_storage(tmp_path: Path) -> None:
    place = run_folder.make_run_folder(tmp_path, "toy", None)
    assert json.loads((place.folder / run_folder.NOTE).read_text()) == {
        "name": "toy",
        "storage": None,
    }


def test_names_of_forks_count_up_from_two() -> None:
    assert [*itertools.islice(run_folder.fork_names("a"), 3)] == ["a", "a-2", "a-3"]


def test_a_run_goes_on_in_the_storage_it_was_started_with(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    assert run_folder.make_run_folder(tmp_path, "study", url).url == url
    assert run_folder.make_run_folder(tmp_path, "study", None).url == url


def test_a_study_cannot_take_the_name_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be named 'store'"):
        run_folder.make_run_folder(tmp_path, "store", None)


def test_a_fifo_in_place_of_a_note_is_named_and_waited_for_by_nobody(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "one" / run_folder.NOTE)
    (tmp_path / "two" / run_folder.NOTE).symlink_to("/dev/zero")
    for _, found in run_folder.listed(tmp_path):
        assert "cannot be read" in str(found)
    assert len(run_folder.listed(tmp_path)) == 2
    with pytest.raises(ValueError, match="no run 'one'"):
        run_folder.find_run("one", tmp_path, None)
