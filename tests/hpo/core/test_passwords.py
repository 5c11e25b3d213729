"""No password comes through, however it is written, in errors, files or lists of processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from hpo.cli import doctor, main
from hpo.core.passwords import mask, shown
from hpo.executors.processes import Process, local_pool
from hpo.storage import run_folder
from hpo.study_files import StudyRequest
from tests import postgres
from tests.waiting import wait_for

SECRET = "hunter2"


HOSTILE = [
    "postgresql://user:{}@127.0.0.1:1/x",
    "postgresql://user:a {}@127.0.0.1:1/x",
    "postgresql://user:{}/?#@127.0.0.1:1/x",
    "postgresql://user@corp:{}@127.0.0.1:1/x",
    "postgresql://user:p@{}:word@127.0.0.1:1/x",
    "postgresql://user:p@{}@127.0.0.1:1/x",
    "postgresql://user:{{a}}{}@127.0.0.1:1/x",
    "postgresql://user:{{0}}{}@127.0.0.1:port/x",
    "postgresql://127.0.0.1:1/x?user=u&password={}",
    "postgresql://u@127.0.0.1:1/x?sslpassword={}",
    "mysql+pymysql://user:{}@127.0.0.1:1/x",
    "nonsense://user:{}@127.0.0.1:1/x",
    "host=127.0.0.1 user=u password={}",
    "password='{}' host=127.0.0.1",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:secret@127.0.0.1:1/x", "postgresql://user:***@127.0.0.1:1/x"),
        ("mysql+pymysql://u:a/b:c@host/x", "mysql+pymysql://u:***@host/x"),
        ("postgresql://u:a@b@host/x", "postgresql://u:***@host/x"),
        ("redis://:pw@host", "redis://:***@host"),
        ("at postgresql://u:p@h/x, not at h", "at postgresql://u:***@h/x, not at h"),
        ("postgresql://h/x?user=u&password=p&a=b", "postgresql://h/x?user=u&password=***&a=b"),
        ("postgresql://u@h:5432/x", "postgresql://u@h:5432/x"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("postgresql://me@corp:p@h/x", "postgresql://me@corp:***@h/x"),
        ("postgresql://h/x?sslpassword=p&a=b", "postgresql://h/x?sslpassword=***&a=b"),
        ("mysql://h/x?ssl_key_password=p", "mysql://h/x?ssl_key_password=***"),
        ("mssql:///?odbc_connect=PWD%3Dp", "mssql:///?odbc_connect=***"),
        ("postgresql:/u:p@h/x", "postgresql:/u:***/x"),
        ("postgresql//u:p@h/x", "postgresql//u:***/x"),
        ("postgresql:/u:a/p@h/x", "postgresql:/u:***@h/x"),
        ("postgresql:u:p@h/x", "postgresql:***@h/x"),
        ("postgresql:///u:a/p@h/x", "postgresql:///u:***@h/x"),
        ("(postgresql:/u:p@h), and u:p@h/x", "(postgresql:/u:*** and u:***@h/x"),
        ("postgresql://u:p", "postgresql://u:***"),
        ("postgresql://u:p/x", "postgresql://u:***/x"),
        ("postgresql://h:5432 and http://[::1]:80/x", "postgresql://h:5432 and http://[::1]:80/x"),
        ("postgresql://h/x#p", "postgresql://h/x#***"),
        ("host=h password=p user=u", "host=h password=*** user=u"),
        ("host=h password = 'p q' user=u", "host=h password = *** user=u"),
        ("postgresql://h/x?options=-c%20password=p", "postgresql://h/x?options=-c%20password=***"),
        ("postgresql://h/x?user=u&pass=p", "postgresql://h/x?user=u&pass=***"),
        ("snow://h/x?api_key=p&a=b", "snow://h/x?api_key=***&a=b"),
        ("postgresql://u%3Ap@h/x", "postgresql://u%3A***@h/x"),
        ("postgresql://u\uff1ap@h/x", "postgresql://u\uff1a***@h/x"),
        ("at postgresql://u:my p@h/x, not", "at postgresql://u:***@h/x, not"),
        ("postgresql://u: my p@r q@h/x", "postgresql://u: ***@h/x"),
        ("redis://:p q@h/1, s3://u:p q@h/x", "redis://:***@h/1, s3://u:***@h/x"),
        ("s3://bucket: refused, mail a@b.c", "s3://bucket: refused, mail a@b.c"),
        ("http://h:80/x and mail a@b.c", "http://h:80/x and mail a@b.c"),
        ("bypass=1 and compass = 2 and passes=3", "bypass=1 and compass = 2 and passes=3"),
        ("postgresql://h/x?pass%77ord=p&a=b", "postgresql://h/x?password=***&a=b"),
        ("mysql://h/x?x%2Epwd=p", "mysql://h/x?x.pwd=***"),
        ("/tmp/a?b%20c=d and ?%70ass=p", "/tmp/a?b%20c=d and ?pass=***"),
        ("http://h/x#token=p", "http://h/x#token=***"),
        ("http://h/x#part", "http://h/x#part"),
        ("/tmp/a:b@c.db, a@b.de: #3", "/tmp/a:b@c.db, a@b.de: #3"),
        ("no address at all", "no address at all"),
    ],
)
def test_mask_hides_passwords_and_nothing_else(text: str, expected: str) -> None:
    assert mask(text) == expected


def test_white_space_in_a_password_is_hidden_where_the_url_is_alone() -> None:
    assert shown("postgresql://u:two words\n@h/x") == "postgresql://u:***@h/x"
    assert shown("--storage=postgresql://u:two words@h/x") == "--storage=postgresql://u:***@h/x"
    assert shown("sqlite:////tmp/a b@c.db") == "sqlite:////tmp/a b@c.db"
    assert shown("postgresql:/u:two words@h/x") == "postgresql:***@h/x"
    assert shown("u:two words@h/x") == "u:***@h/x"


@pytest.mark.parametrize("pattern", HOSTILE)
def test_no_command_shows_or_writes_a_password_that_it_was_given(
    pattern: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DEVICE", "print('a device')")
    url, study = pattern.format(SECRET), tmp_path / "mine.py"
    study.write_text("from tests.hpo.toy_objective import *\nSTUDY = spec(trials=2)")
    out = ["--out", str(tmp_path / "runs")]
    codes = [
        main.main(["run", str(study), *out, "--storage", url]),
        main.main(["show", "toy", *out]),
        main.main(["show", "toy", *out, "--storage", url]),
        main.main(["copy", "toy", *out, "--to-storage", url]),
        main.main(["list", *out]),
        main.main(["doctor", *out, "--storage", url]),
    ]
    assert codes[0] in (1, 2)
    said = "".join(capfd.readouterr())
    written = [path.read_text() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert SECRET not in said + "".join(written)
    assert "Traceback" not in said


def with_password(server: postgres.Server, name: str, password: str) -> str:
    """The URL of a new database; the server takes any password."""
    found = make_url(server.database(name)).set(password=password)
    return found.render_as_string(hide_password=False).replace("%20", " ")


def test_the_line_to_continue_hides_a_password_with_white_space(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], server: postgres.Server
) -> None:
    study = tmp_path / "mine.py"
    study.write_text(
        "from tests.hpo.toy_objective import *\n"
        "STUDY = spec(objective=ToyObjective(before=lambda requests: interrupt()))"
    )
    url = with_password(server, "spaced", f"two {SECRET}")
    assert main.main(["run", str(study), "--out", str(tmp_path / "runs"), "--storage", url]) == 130
    said = "".join(capfd.readouterr())
    assert "To continue:" in said
    assert SECRET not in said


def test_a_url_may_come_by_the_environment_and_workers_do_not_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    server: postgres.Server,
) -> None:  # fmt: skip
    url = with_password(server, "elsewhere", SECRET)
    study, out = tmp_path / "mine.py", ["--out", str(tmp_path / "runs")]
    study.write_text(
        "import os\nfrom tests.hpo.toy_objective import *\n"
        f"seen = float('{run_folder.STORAGE_ENV}' in os.environ)\n"
        "STUDY = spec(trials=2, objective=ToyObjective(extra={'seen': seen}))"
    )
    monkeypatch.setenv(run_folder.STORAGE_ENV, url)
    words = ["run", str(study), *out, "--executor", "processes", "--workers", "1"]
    assert main.main(words) == 0
    assert run_folder.STORAGE_ENV not in os.environ
    found = run_folder.load("toy", tmp_path / "runs", url).trials
    assert [each.metrics["seen"] for each in found] == [0.0, 0.0]
    capfd.readouterr()
    assert main.main(["show", "toy", *out]) == 2
    assert f"in the environment as {run_folder.STORAGE_ENV}" in capfd.readouterr().err
    monkeypatch.setenv(run_folder.STORAGE_ENV, url)
    assert main.main(["show", "toy", *out, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["trials"]["complete"] == 2
    assert SECRET not in (tmp_path / "runs" / "toy" / "run.json").read_text()


def test_a_url_of_the_environment_changes_no_run_that_has_its_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_folder.make_run_folder(tmp_path, "toy", None)
    (place.folder / "study.db").touch()
    monkeypatch.setenv(run_folder.STORAGE_ENV, "postgresql://u:p@h/x")
    assert run_folder.find_run("toy", tmp_path, None).url == place.url
    assert (
        run_folder.make_run_folder(tmp_path, "toy", None, "postgresql://u:p@h/x").url == place.url
    )


def test_what_a_worker_receives_is_in_no_list_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(  # it waits for work, so that it is there to be looked at
        "from tests.hpo.toy_objective import *\nSTUDY = spec()"
    )
    launch = StudyRequest(study="mine.py", store="store", share=f"s3://key:{SECRET}@bucket")
    (link,) = local_pool(launch, tmp_path, 1).links
    assert isinstance(link, Process)
    link.start()
    assert link.process is not None
    words = Path(f"/proc/{link.process.pid}/cmdline")
    wait_for(lambda: words.read_bytes() != b"")  # as it is for a moment while it starts
    command = words.read_bytes().decode()
    link.kill()
    assert "hpo.executors.worker" in command
    assert SECRET not in command
