"""Files that are written: whole or not at all, with the mode of umask, through no link."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

import pytest

from hpo.core import files
from hpo.report.html.page import write_report
from hpo.report.results import Results
from hpo.storage import run_folder
from tests.hpo import toy

ROOT = Path(__file__).parents[3]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of somebody else, to which links lead."""
    path = tmp_path / "victim"
    path.write_text("letter")
    return path


def test_a_new_file_takes_no_place_of_another_and_follows_no_link(
    tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("victim", "link"):
        with pytest.raises(FileExistsError):
            files.write_new(tmp_path / name, "text")
    assert victim.read_text() == "letter"
    assert not (tmp_path / "elsewhere").exists()
    files.write_new(tmp_path / "new", "é")
    assert (tmp_path / "new").read_text(encoding="utf-8") == "é"


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_a_file_has_the_mode_that_umask_says_and_no_trace_of_its_writing(
    mask: int, tmp_path: Path
) -> None:
    before = os.umask(mask)
    try:
        files.write(tmp_path / "a.html", "first")
        files.write(tmp_path / "a.html", "text é")
        os.close(files.open_log(tmp_path / "log"))
        write_report(Results(toy.mixed()), tmp_path / "report.html")
        run_folder.make_run_folder(tmp_path, "toy", None)
    finally:
        os.umask(before)
    made = [tmp_path / name for name in ("a.html", "log", "report.html", "toy/run.json")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o666 & ~mask}
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "text é"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.html",
        "log",
        "report.html",
        "toy",
    ]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(
    tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run.json", "report.html", "error.log", f"run.json.{os.getpid()}"):
        (tmp_path / "run" / name).symlink_to(victim)
    (tmp_path / "run" / "run.json").unlink()
    run_folder.make_run_folder(tmp_path, "run", None)
    write_report(Results(toy.mixed()), tmp_path / "run" / "report.html")
    files.write(tmp_path / "run" / "error.log", "trace")
    assert victim.read_text() == "letter"
    assert (tmp_path / "run" / "error.log").read_text() == "trace"


def test_a_log_that_is_a_link_or_a_pipe_is_not_opened(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(OSError):  # noqa: PT011
            files.open_log(tmp_path / name)
    assert victim.read_text() == "letter"
    for text in (b"one ", b"two"):
        handle = files.open_log(tmp_path / "log")
        os.write(handle, text)
        os.close(handle)
    assert (tmp_path / "log").read_text() == "one two"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(tmp_path / "a", "old")

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(tmp_path / "a", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_what_killed_writers_left_of_a_file_is_removed_when_it_is_old_and_nothing_else(
    tmp_path: Path, victim: Path
) -> None:
    mine = [".a.html." + "0" * 16, ".a.html.abcd_123"]
    others = [
        ".a.html.notes",
        ".a.html." + "0" * 15 + "g",
        ".b.html." + "0" * 16,
        "a.html." + "0" * 16,
    ]
    for name in mine + others:
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (1, 1))
    young = ".a.html." + "1" * 16
    (tmp_path / young).write_text("being written")
    link = ".a.html." + "2" * 16
    (tmp_path / link).symlink_to(victim)
    folder = ".a.html." + "3" * 16
    (tmp_path / folder).mkdir()
    os.utime(tmp_path / folder, (1, 1))
    files.write(tmp_path / "a.html", "whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, young, link, folder, "a.html", "victim"}


def test_a_name_as_long_as_systems_allow_is_written(tmp_path: Path) -> None:
    name = "x" * 250 + ".json"
    files.write(tmp_path / name, "{}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def opened_for_writing(tree: ast.AST) -> list[int]:
    """Lines that open, make or replace a file by other means than those of this module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            opens = name in ("open", "fdopen") and any(t in ("w", "wb", "x", "xb") for t in texts)
            if opens or name in ("write_text", "write_bytes", "mkstemp", "NamedTemporaryFile"):
                found.append(node.lineno)
    return found


def test_nothing_in_the_package_writes_files_by_other_means() -> None:
    other = {
        str(path.relative_to(ROOT)): opened_for_writing(ast.parse(path.read_text(encoding="utf-8")))
        for path in (ROOT / "hpo").rglob("*.py")
        if path.name not in ("files.py", "worker.py")  # that opens its own output
    }
    assert {path: lines for path, lines in other.items() if lines} == {}


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "workers").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="it is a symbolic link, which is not followed"):
        files.make_folder(tmp_path / "workers")
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "elsewhere").iterdir()) == []
