"""Databases that are cut, garbage or of another kind, and rows of a record with wrong content."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.cli import main
from tests.hpo.cli.test_main import HEAD, folder

__all__ = ["folder"]


DATABASE = Path("runs/toy/study.db")


@pytest.fixture
def finished(
    folder: Path, copy_run: Callable[[str, Path], None], capsys: pytest.CaptureFixture[str]
) -> Path:
    """A working folder with a finished run."""
    copy_run(HEAD + "STUDY = spec(trials=3, sampler='random')\n", folder)
    capsys.readouterr()
    return folder


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence that a command says of what it finds."""
    capsys.readouterr()
    assert main.main(list(words)) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "Traceback" not in line
    return line


def cut() -> None:
    os.truncate(DATABASE, DATABASE.stat().st_size // 2)


def garbage_inside() -> None:
    content = bytearray(DATABASE.read_bytes())
    content[4096:] = bytes(byte ^ 0x5A for byte in content[4096:])
    DATABASE.write_bytes(bytes(content))


def text() -> None:
    DATABASE.write_text("dear database,\n" * 1000)


def other_tables() -> None:
    DATABASE.unlink()
    with sqlite3.connect(DATABASE) as made:
        made.execute("CREATE TABLE cookies (name TEXT)")


@pytest.mark.parametrize("damage", [cut, garbage_inside, text])
@pytest.mark.parametrize("words", [("show", "toy"), ("run", "mine.py", "--trials", "5")])
def test_a_damaged_database_is_reported_with_a_remedy_that_helps(
    damage: Callable[[], None], words: tuple[str, ...], finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    damage()
    said = complaint(capsys, *words)
    assert "is it reachable" not in said
    assert "move it away" in said
    DATABASE.rename("elsewhere.db")
    for left in DATABASE.parent.glob("study.db-*"):
        left.unlink()
    assert main.main(["run", "mine.py", "--trials", "5", "--restart"]) == 0


def test_a_folder_in_place_of_the_database_is_reported(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DATABASE.rename("elsewhere.db")
    DATABASE.mkdir()
    for words in (("run", "mine.py", "--trials", "5"), ("run", "mine.py", "--restart")):
        assert "is it reachable" not in complaint(capsys, *words)


VALUES = ["", "{", "[1", "\0", "[" * 100_000, "null", "1", '"x"', "[]", "{}", "[[]]", '{"x": {}}']


ROWS = [
    ("study_user_attributes", "spec"),
    ("study_user_attributes", "reproduce"),
    ("study_user_attributes", "planned"),
    ("study_user_attributes", "lease"),
    ("study_user_attributes", "paper"),
    ("study_user_attributes", "warm"),
    ("trial_user_attributes", "metrics"),
    ("trial_user_attributes", "params"),
    ("trial_user_attributes", "curves"),
    ("trial_user_attributes", "cost"),
    ("trial_user_attributes", "notes"),
    ("trial_user_attributes", "seed"),
]


GOING_ON = [
    ("study_user_attributes", "spec"), ("study_user_attributes", "warm"),
    ("study_user_attributes", "conditions"), ("study_user_attributes", "group"),
    ("study_user_attributes", "prices"),
    ("trial_user_attributes", "asked"), ("trial_user_attributes", "order"),
    ("trial_user_attributes", "step_cost"), ("trial_user_attributes", "rungs"),
    ("trial_user_attributes", "stopped_at"), ("trial_user_attributes", "replicate_of"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "key"), ROWS)
def test_a_row_with_any_content_never_ends_in_a_traceback(
    table: str, key: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it cannot be read, one such value is shown in every way, the others in one."""
    content, refused = DATABASE.read_bytes(), False
    for value in VALUES:
        once_refused = refused
        DATABASE.write_bytes(content)
        with sqlite3.connect(DATABASE) as made:
            row = made.execute(f"SELECT count(*) FROM {table} WHERE key = ?", (key,)).fetchone()
            if not row[0] and table.startswith("study"):
                made.execute(f"INSERT INTO {table} (study_id, key, value_json) VALUES (1, ?, ?)",
                             (key, value))  # fmt: skip
            made.execute(f"UPDATE {table} SET value_json = ? WHERE key = ?", (value, key))
        made.close()
        for words in (["show", "toy"], ["show", "toy", "--json"], ["list"]):
            capsys.readouterr()
            code = main.main(words)
            said = capsys.readouterr().err.splitlines()
            assert (code in (0, 1, 2), len(said)) == (True, 0 if code == 0 else 1), (value, words)
            refused = refused or code != 0
            if code and once_refused:
                break


def put(table: str, key: str, value: str) -> None:
    """Have every row of this key hold a value, also where there was none."""
    owner = table.split("_")[0]
    owners = "studies" if owner == "study" else "trials"
    with sqlite3.connect(DATABASE) as made:
        made.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
        made.execute(
            f"INSERT INTO {table} ({owner}_id, key, value_json) SELECT {owner}_id, ?, ? FROM "
            f"{owners}", (key, value)
        )  # fmt: skip
    made.close()


@pytest.mark.parametrize(("table", "key"), GOING_ON)
def test_a_run_that_goes_on_from_a_row_with_any_content_ends_in_one_sentence_or_well(
    table: str, key: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = DATABASE.read_bytes()
    for value in ("null", "[[1]]", "{}"):
        DATABASE.write_bytes(content)
        put(table, key, value)
        capsys.readouterr()
        code = main.main(["run", "mine.py", "--trials", "4"])
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hpo:")]
        assert code in (0, 1, 2), (key, value)
        assert len(said) == (code != 0), (key, value, said)
        assert "Error:" not in "".join(said), (key, value, said)


def test_a_domain_in_the_record_beyond_64_bits_is_drawn_as_any_other(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(DATABASE) as made:
        made.execute(
            "UPDATE study_user_attributes SET value_json = json_set(value_json, "
            "'$.space.\"pretrain.lr\".high', json('10000000000000000000000000')) "
            "WHERE key = 'spec'"
        )
    made.close()
    assert main.main(["show", "toy"]) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET state = 'DONE'",
        "UPDATE study_directions SET direction = 'UP'",
        "UPDATE trial_user_attributes SET value_json = NULL WHERE key = 'metrics'",
        "UPDATE trial_user_attributes SET value_json = '{}' WHERE key = 'metrics'",
        "UPDATE trial_params SET distribution_json = '{}'",
        "UPDATE trial_values SET value = NULL",
        "UPDATE trials SET number = ''",
        "UPDATE trial_user_attributes SET value_json = '{\"pretrain.lr\": []}' "
        "WHERE key = 'params'",
        "UPDATE trial_user_attributes SET value_json = json_set(value_json, "
        "'$.\"pretrain.lr\"', 'fast') WHERE key = 'params'",
        "UPDATE trial_params SET param_value = param_value / 2",
        f"UPDATE trial_params SET distribution_json = '{'[' * 100_000}'",
    ],
)
@pytest.mark.parametrize("words", [("show", "toy"), ("run", "mine.py", "--trials", "5")])
def test_a_row_that_optuna_cannot_decode_is_damage(
    statement: str, words: tuple[str, ...], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(DATABASE) as opened:
        opened.execute(statement)
    assert "is damaged" in complaint(capsys, *words)
