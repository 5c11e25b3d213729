"""Storage URLs: names of folders, refusals, and databases that reading leaves alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError

from hpo.cli import main
from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.storage import addresses, run_folder
from hpo.storage.record import load_study, url_of
from tests.hpo.toy_objective import spec

ODD = ["a?b", "a?c", "a%20b", "a b", "a#b", "%3F", "a&b=c", "ü ß", "{x}", "a@b:c", "a+b", "'q'\"",
       "mode=ro"]  # fmt: skip


READING = (["list"], ["show", "toy"], ["report", "toy"], ["plot", "toy"], ["compare", "toy", "toy"],
           ["export", "toy", "--trial", "0", "--to", "to"])  # fmt: skip


SECRET = "hunter2"


MALFORMED = [
    "postgresql:/u:{}@127.0.0.1/x",
    "postgresql//u:{}@127.0.0.1/x",
    "postgresql:u:{}@127.0.0.1/x",
    "postgresql:///u:{}@127.0.0.1/x",
    "u:{}@127.0.0.1/x",
    "//u:{}@127.0.0.1/x",
    "postgresql://u:{}",
    "postgresql://u:{}/x",
    "postgresql+psycopg:/u:a/{}@127.0.0.1/x",
    "postgresql://u:p@{}@127.0.0.1/x",
    "mysql+pymysql:///u:{}@127.0.0.1",
    "sqlite://u:{}@127.0.0.1/x",
    "nosuch://u:{}@127.0.0.1/x",
    "nosuch://127.0.0.1/x#{}",
    "postgres://u:{}@127.0.0.1/x",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a study file."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from tests.hpo.toy_objective import *\nSTUDY = spec(trials=2)\n")
    return tmp_path


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ODD)
def test_a_folder_may_have_any_name_and_keeps_its_record_inside(name: str, tmp_path: Path) -> None:
    place = run_folder.make_run_folder(tmp_path / name, "toy", None)
    Controller(spec(trials=2), place.url).run()
    assert {path.name for path in place.folder.iterdir()} == {run_folder.NOTE, "study.db"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    found = run_folder.find_run("toy", tmp_path / name, None)
    assert len(run_folder.read(found).trials) == 2
    assert addresses.file_of(place.url) == place.folder / "study.db"
    assert addresses.file_of(addresses.opened(place.url, "read")) is not None


def test_folders_whose_names_differ_after_a_question_mark_hold_two_runs(folder: Path) -> None:
    assert main.main(["run", "mine.py", "--out", "a?b"]) == 0
    assert main.main(["run", "mine.py", "--out", "a?c", "--trials", "1"]) == 0
    counts = [len(run_folder.load("toy", out).trials) for out in ("a?b", "a?c")]
    assert counts == [2, 1]
    assert not Path("a").exists()


def test_a_plain_path_gives_the_url_it_always_gave(tmp_path: Path) -> None:
    assert url_of(tmp_path) == f"sqlite:///{tmp_path / 'study.db'}"


@pytest.mark.parametrize("pattern", MALFORMED)
def test_a_malformed_url_is_refused_before_anything_is_written_and_not_shown(
    pattern: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, before = pattern.format(SECRET), checksums(folder)
    assert main.main(["run", "mine.py", "--storage", url]) == 2
    assert main.main(["show", "toy", "--storage", url]) == 2
    assert main.main(["copy", "toy", "--to-storage", url]) == 2
    monkeypatch.setenv(run_folder.STORAGE_ENV, url)
    assert main.main(["run", "mine.py"]) == 2
    said = capfd.readouterr()
    assert len(said.err.splitlines()) == 4
    assert SECRET not in said.err + said.out
    assert checksums(folder) == before


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://u@h/x", r"begin the URL with postgresql\+psycopg://"),
        ("copy.db", r"got 'copy.db'; a file is written sqlite:///copy.db"),
        ("sqlite://copy.db", "three slashes: sqlite:///FILE"),
        ("sqlite:/copy.db", "something else that begins with 'sqlite'"),
        ("sqlite://", "must be kept on disk"),
        ("nosuch://h/x", r"sqlite or postgresql\+psycopg or mysql\+pymysql"),
        ("mysql://h/x", r"pip install 'pymysql', and begin the URL with mysql\+pymysql://"),
        ("", "got ''"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_right_remedy(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        addresses.checked(url, "--storage")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///x.db", "sqlite:////tmp/a:b@c.db", "sqlite+pysqlite:///x.db",
        "postgresql+psycopg://u:p@h:5432/x", "postgresql+psycopg://u:a%40b@[::1]/x",
        "postgresql+psycopg:///x?host=/run/postgresql", "mysql+pymysql://u:p@h/x",
    ],
)  # fmt: skip
def test_a_url_as_it_should_be_is_taken(url: str) -> None:
    assert addresses.checked(url, "--storage") == url


@pytest.mark.parametrize("command", READING, ids=lambda words: words[0])
def test_reading_leaves_a_strangers_note_and_what_it_names_alone(
    command: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another program's database, one that is not there, a server, and a link out of the folder."""
    other = folder / "cookies.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("create table cookies (value text)")
    linked = folder / "runs" / "linked" / "study.db"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(other)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        address = f"mysql+pymysql://u@127.0.0.1:{server.getsockname()[1]}/x"
        named = [f"sqlite:///{other}", f"sqlite:///{folder / 'new.db'}", address, None]
        for index, url in enumerate(named):
            run = linked.parent if url is None else folder / "runs" / f"evil{index}"
            run.mkdir(exist_ok=True)
            (run / run_folder.NOTE).write_text(json.dumps({"name": "toy", "storage": url}))
        before = checksums(folder)
        for name in ("evil0", "evil1", "evil2", "linked"):
            words = [name if word == "toy" else word for word in command]
            expected = 0 if command == ["list"] else 2
            assert main.main(words) == expected
        with pytest.raises(BlockingIOError):
            server.accept()
    assert checksums(folder) == before
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert said.err.count("give it with --storage") == (0 if command == ["list"] else 4)


@pytest.mark.parametrize("command", READING, ids=lambda words: words[0])
def test_reading_never_makes_tables_in_a_database_of_the_runs_folder(
    command: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Empty, and another program's with Optuna's tables half there."""
    for name, text in {"empty": "", "half": "create table studies (study_id integer)"}.items():
        run = folder / "runs" / name
        run.mkdir(parents=True)
        (run / run_folder.NOTE).write_text(json.dumps({"name": "toy", "storage": None}))
        (run / "study.db").touch()
        with contextlib.closing(sqlite3.connect(run / "study.db")) as connection:
            connection.executescript(text)
    before = checksums(folder)
    for name in ("empty", "half"):
        words = [name if word == "toy" else word for word in command]
        assert main.main(words) == (0 if command == ["list"] else 2 if words[0] == "compare" else 1)
    assert checksums(folder) == before
    assert "Traceback" not in capfd.readouterr().err


def test_a_mistyped_source_makes_no_database(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", "mine.py"]) == 0
    before = checksums(folder)
    typo = ["--storage", "sqlite:///no.db"]
    assert main.main(["copy", "toy", "--to-storage", "sqlite:///copy.db", *typo]) == 1
    assert main.main(["show", "toy", *typo]) == 1
    assert "holds no study 'toy' (there is no file no.db); check --storage" in (
        capsys.readouterr().err
    )
    assert checksums(folder) == before


def test_what_is_opened_to_be_read_cannot_be_written(tmp_path: Path) -> None:
    Controller(spec(trials=2), url_of(tmp_path)).run()
    study = load_study(url_of(tmp_path), "toy", "read")
    with pytest.raises(StorageInternalError):
        study.set_user_attr("a", 1)


KILLED_IN_A_COMMIT = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma cache_size = 1")
connection.execute("begin")
connection.execute("update trial_user_attributes set value_json = value_json || ' '")
connection.execute("create table filler as with recursive n(x) as"
                   " (select 1 union all select x + 1 from n limit 20000) select x from n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_record_whose_writer_was_killed_in_a_commit_can_be_read(tmp_path: Path) -> None:
    """The half-written pages are taken back first, but not where that would delete other files."""
    run = Controller(spec(trials=2), url_of(tmp_path)).run()
    path = tmp_path / "study.db"
    command = [sys.executable, "-c", KILLED_IN_A_COMMIT, str(path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    journal = path.with_name("study.db-journal")
    kept, half = journal.read_bytes(), path.read_bytes()
    place = run_folder.RunFolder(tmp_path, "toy", url_of(tmp_path))
    assert run_folder.read(place) == run
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    name = str(victim).encode()
    tail = len(name).to_bytes(4, "big") + (sum(name) & 0xFFFFFFFF).to_bytes(4, "big")
    page_no = (2**30 // 4096 + 1).to_bytes(4, "big")
    journal.write_bytes(kept + page_no + name + tail + addresses.SUPER_JOURNAL)
    path.write_bytes(half)
    with contextlib.suppress(StorageError):
        run_folder.read(place)
    assert victim.read_text() == "keep me"
