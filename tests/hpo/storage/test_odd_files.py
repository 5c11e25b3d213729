"""What may be in the place of the file of a record, beside it, or in it: nothing waits for ever."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.cli import main
from tests.hpo.cli.test_main import folder
from tests.hpo.storage.test_damaged_record import DATABASE, complaint, finished

__all__ = ["finished", "folder"]


COMMANDS = (["show", "toy"], ["run", "mine.py", "--trials", "4"],
            ["run", "mine.py", "--trials", "4", "--restart"])  # fmt: skip


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "letter").touch()


def a_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's path may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


ODD: list[Callable[[Path], None]] = [os.mkfifo, a_folder, a_socket]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
def test_what_is_no_regular_file_is_never_opened(
    odd: Callable[[Path], None], ending: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLite would wait at a FIFO for ever."""
    content = DATABASE.read_bytes()
    path = DATABASE.with_name(DATABASE.name + ending)
    path.unlink(missing_ok=True)
    odd(path)
    for words in COMMANDS:
        assert f"{path.name} is no regular file" in complaint(capsys, *words)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    DATABASE.write_bytes(content)
    assert main.main(["run", "mine.py", "--trials", "4"]) == 0


def test_a_journal_that_is_a_link_is_not_followed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("victim").write_text("keep me")
    DATABASE.with_name("study.db-journal").symlink_to(Path("victim").absolute())
    for words in COMMANDS:
        assert "study.db-journal is no regular file" in complaint(capsys, *words)
    assert Path("victim").read_text() == "keep me"


def edited(*statements: str) -> None:
    with contextlib.closing(sqlite3.connect(DATABASE)) as opened, opened:
        for each in statements:
            opened.execute(each)


ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select"


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("trials", "x trial_id, x number, 1 study_id, 'COMPLETE' state, null datetime_start, "
                   "null datetime_complete"),
        ("trial_user_attributes", "x trial_user_attribute_id, 1 trial_id, 'a' key, '1' value_json"),
        ("alembic_version", "x version_num"),
    ],
)  # fmt: skip
def test_a_view_in_place_of_a_table_is_damage(
    table: str, columns: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its query may never end."""
    edited(
        f"alter table {table} rename to kept", f"create view {table} as {ENDLESS} {columns} from c"
    )
    for words in COMMANDS:
        assert f"is damaged ('{table}' is a view and not a table)" in complaint(capsys, *words)


def test_a_table_without_one_of_its_columns_is_damage(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited("alter table trials rename column state to status")
    for words in COMMANDS:
        assert "is damaged (its table 'trials' lacks columns)" in complaint(capsys, *words)


def test_a_trigger_changes_nothing_of_what_a_run_writes(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited("create trigger t after update on trials begin delete from trial_user_attributes; end")
    before = DATABASE.read_bytes()
    for words in COMMANDS[1:]:
        assert "is damaged (its trigger 't' would change" in complaint(capsys, *words)
    assert DATABASE.read_bytes() == before
    assert main.main(["show", "toy"]) == 0


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("delete from trials where number = 1", "trial 1 is missing among its 2 trials"),
        ("update trials set number = 0", "trial 1 is missing among its 3 trials"),
        ("update trials set number = number + 5", "trial 0 is missing among its 3 trials"),
        ("update trials set number = -number", "trial 1 is missing among its 3 trials"),
        ("insert into trials (number, study_id, state) values (99, 1, 'COMPLETE')",
         "trial 3 is missing among its 4 trials"),
    ],
)  # fmt: skip
def test_a_trial_whose_row_is_gone_is_missed(
    edit: str, says: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(edit)
    for words in COMMANDS:
        assert f"is damaged ({says})" in complaint(capsys, *words)


def test_rows_of_a_study_that_is_gone_are_damage(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited("delete from studies")
    assert "has rows of a study 'toy' that is not there" in complaint(capsys, *COMMANDS[2])


def test_a_name_that_two_studies_have_is_a_sentence_with_a_remedy_that_helps(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited("drop index ix_studies_study_name", "insert into studies (study_name) values ('toy')")
    for words in COMMANDS:
        assert "if it was edited or damaged, restore a copy" in complaint(capsys, *words)


@pytest.mark.parametrize(
    "tables", [("cookies (name text)",), ("studies (title text)", "trials (judge text)")]
)
def test_another_programs_database_gets_no_tables(
    tables: tuple[str, ...], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DATABASE.unlink()
    edited(*(f"create table {each}" for each in tables))
    before = DATABASE.read_bytes()
    for words in COMMANDS:
        complaint(capsys, *words)
    assert "holds tables of another program" in complaint(capsys, *COMMANDS[2])
    url = f"sqlite:///{DATABASE.absolute()}"
    words = ["run", "mine.py", "--name", "other", "--storage", url]
    assert "holds tables of another program" in complaint(capsys, *words)
    assert DATABASE.read_bytes() == before


@pytest.mark.parametrize(
    "edit",
    ["update alembic_version set version_num = 'v9.9.9.a'",
     "update alembic_version set version_num = 'v2.6.0.a'",
     "update alembic_version set version_num = ''",
     "update alembic_version set version_num = x'ff'",
     "insert into alembic_version values ('v9')"],
)  # fmt: skip
def test_tables_of_another_version_of_optuna_are_reported_in_a_sentence(
    edit: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(edit)
    for words in COMMANDS:
        said = complaint(capsys, *words)
        assert "has tables of another version of Optuna than the installed" in said
        assert "Error:" not in said


def test_a_note_with_an_option_that_is_not_taken_is_one_row_of_the_list(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs/toy/run.json").write_text(
        f'{{"name": "toy", "storage": "sqlite:///{DATABASE.absolute()}?detect_types=3"}}'
    )
    assert main.main(["list"]) == 0
    assert "'detect_types'" in capsys.readouterr().out
    for words in COMMANDS[:2]:
        assert "the option 'detect_types' of a sqlite URL" in complaint(capsys, *words)
