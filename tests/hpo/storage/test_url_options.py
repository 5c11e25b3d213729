"""What is after the `?` of a storage URL: only what it takes to reach a database is passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.cli import main
from hpo.controller import Controller
from hpo.storage.addresses import checked
from tests.hpo.toy_objective import spec

HOSTS = {"sqlite": "sqlite:///x.db", "pg": "postgresql+psycopg://u@h/x",
         "my": "mysql+pymysql://u@h/x"}  # fmt: skip


TAKEN = [
    "sqlite?timeout=5", "sqlite?timeout=0.5", "pg?host=/run/pg&port=5432", "pg?host=a&host=b",
    "pg?sslmode=verify-full&sslrootcert=/etc/ca.pem&sslcert=c.pem&sslkey=k.pem",
    "pg?service=mine&passfile=/home/me/.pgpass", "pg?connect_timeout=5&tcp_user_timeout=5000",
    "pg?options=-csearch_path%3Dmine,public%20-c%20statement_timeout%3D5s",
    "pg?application_name=hpo&target_session_attrs=read-write",
    "my?unix_socket=/run/my.sock&charset=utf8mb4", "my?ssl_ca=/etc/ca.pem&ssl_verify_cert=true",
    "my?connect_timeout=5&read_timeout=30&program_name=hpo",
]  # fmt: skip


REFUSED = [
    *(f"{kind}?plugin=evil" for kind in HOSTS),
    "sqlite?detect_types=99999999999999", "sqlite?detect_types=3", "sqlite?uri=true&mode=memory",
    "sqlite?uri=true&vfs=evil", "sqlite?vfs=evil", "sqlite?cached_statements=-1",
    "sqlite?isolation_level=x", "sqlite?check_same_thread=1", "sqlite?timeout=nan",
    "sqlite?timeout=-1", "sqlite?timeout=1e400", "sqlite?timeout=1&timeout=2",
    "sqlite?factory=x", "pg?autocommit=1", "pg?row_factory=x", "pg?cursor_factory=x",
    "pg?context=x", "pg?prepare_threshold=0", "pg?replication=database", "pg?dbname=other",
    "pg?sslkeylogfile=/tmp/keys", "pg?client_encoding=latin1", "pg?oauth_issuer=http://evil",
    "pg?options=-cdefault_transaction_isolation%3Dserializable", "pg?connect_timeout=abc",
    "pg?connect_timeout=0", "pg?service=a%0Ahost%3Dh", "pg?sslkey=%00", "my?init_command=drop",
    "my?read_default_file=/etc/my.cnf", "my?read_default_group=x", "my?conv=x", "my?autocommit=1",
    "my?cursorclass=x", "my?client_flag=1", "my?defer_connect=1", "my?auth_plugin_map=x",
    "my?local_infile=1", "my?sql_mode=ANSI", "my?charset=latin1", "my?use_unicode=0",
    "my?connect_timeout=x", "my?server_public_key=x", "my?max_allowed_packet=1", "my?compress=x",
]  # fmt: skip


def filled(text: str) -> str:
    kind, query = text.split("?")
    return f"{HOSTS[kind]}?{query}"


@pytest.mark.parametrize("text", TAKEN)
def test_options_that_lead_to_a_database_are_taken(text: str) -> None:
    assert checked(filled(text), "--storage") == filled(text)


@pytest.mark.parametrize("text", REFUSED)
def test_options_that_load_code_read_files_or_change_what_is_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--storage: the option '?\w+'? .*\.$"):
        checked(filled(text), "--storage")
    with pytest.raises(ValueError, match=r"^the storage: the option "):
        Controller(spec(trials=1), filled(text))


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg_async://u@h/x", "postgresql+asyncpg://u@h/x", "sqlite+aiosqlite:///x.db",
     "sqlite+pysqlcipher:///x.db", "mysql+aiomysql://u@h/x"],
)  # fmt: skip
def test_drivers_whose_waits_would_not_end_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not one that is used here; begin the URL with \w+"):
        checked(url, "--storage")


@pytest.mark.parametrize("words", [["run", "mine.py"], ["show", "toy"], ["doctor"]])
def test_a_command_refuses_them_in_one_sentence_and_makes_nothing(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from tests.hpo.toy_objective import *\nSTUDY = spec(trials=2)\n")
    url = "sqlite:///x.db?detect_types=99999999999999"
    code = main.main([*words, "--storage", url])
    said = capsys.readouterr()
    if words != ["doctor"]:
        assert code == 2
        (line,) = said.err.splitlines()
        assert line.startswith("hpo: --storage: the option 'detect_types' of a sqlite URL")
    assert "OverflowError" not in said.err + said.out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
