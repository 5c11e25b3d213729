"""optuna-dashboard on a run's storage: who is answered, over real HTTP on this machine."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.cli import dashboard
from hpo.cli.dashboard import HOST, Guard, serve
from hpo.controller import Controller
from hpo.storage import run_folder
from tests import ports
from tests.hpo.toy_objective import spec

needs_dashboard = pytest.mark.skipif(
    importlib.util.find_spec("optuna_dashboard") is None, reason="optuna-dashboard not installed"
)


@pytest.fixture
def place(tmp_path: Path) -> run_folder.RunFolder:
    """A finished run."""
    found = run_folder.make_run_folder(tmp_path, "toy", None)
    Controller(spec(trials=3), found.url).run()
    return found


def inner(environ: dict[str, Any], start: Any) -> list[bytes]:
    """An application that says what reached it."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode()]


@contextlib.contextmanager
def served(*, writable: bool) -> Iterator[tuple[int, Guard]]:
    port = ports.free()
    guard = Guard(inner, port, writable=writable)
    with dashboard._Server((HOST, port), dashboard._Handler) as server:
        server.set_app(guard)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield port, guard
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content; Host is sent only where it is given here."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    given = {"Host": f"127.0.0.1:{port}"} | (headers or {})
    connection.putrequest(method, path, skip_host=True)
    for name, value in given.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = (answer.status, dict(answer.getheaders()), answer.read())
    connection.close()
    return found


@pytest.mark.parametrize("writable", [False, True])
def test_only_requests_of_this_server_with_its_token_are_answered(writable: bool) -> None:
    with served(writable=writable) as (port, guard):
        cookie = {"Cookie": f"other=1; hpo-{port}={guard.token}"}
        write = 200 if writable else 405
        table: list[tuple[str, dict[str, str], int]] = [
            ("GET", cookie, 200),
            ("HEAD", cookie, 200),
            ("GET", {**cookie, "Host": f"localhost:{port}"}, 200),
            ("GET", {**cookie, "Host": f"[::1]:{port}"}, 200),
            ("GET", {**cookie, "Origin": f"http://localhost:{port}"}, 200),
            *((method, cookie, write) for method in ("POST", "PUT", "DELETE", "PATCH", "X")),
            ("DELETE", {**cookie, "Origin": f"http://127.0.0.1:{port}"}, write),
            ("GET", {}, 403),
            ("GET", {"Cookie": f"hpo-{port}={guard.token}x"}, 403),
            ("GET", {"Cookie": f"hpo-{port + 1}={guard.token}"}, 403),
            ("GET", {"Cookie": "\u00fc=;;=,\""}, 403),
            ("GET", {**cookie, "Host": "evil.example"}, 403),
            ("GET", {**cookie, "Host": f"evil.example:{port}"}, 403),
            ("GET", {**cookie, "Host": f"127.0.0.1:{port + 1}"}, 403),
            ("GET", {**cookie, "Host": f"127.0.0.1:{port}@evil.example"}, 403),
            ("GET", {**cookie, "Host": "127.0.0.1"}, 403),
            ("GET", {**cookie, "Host": ""}, 403),
            ("GET", {**cookie, "Origin": "http://evil.example"}, 403),
            ("GET", {**cookie, "Origin": "null"}, 403),
            ("GET", {**cookie, "Origin": f"https://127.0.0.1:{port}"}, 403),
            ("DELETE", {**cookie, "Origin": "http://evil.example"}, 403),
            ("DELETE", {**cookie, "Host": "evil.example", "Origin": "http://evil.example"}, 403),
            ("DELETE", {}, 403),
        ]  # fmt: skip
        found = [ask(port, method, "/api/studies/1", headers)[0] for method, headers, _ in table]
    assert found == [status for _, _, status in table]


def test_the_address_that_is_printed_sets_a_cookie_that_other_sites_cannot_send() -> None:
    with served(writable=False) as (port, guard):
        status, headers, _ = ask(port, "GET", f"/dashboard/studies/1?a=b%26c&token={guard.token}")
        assert (status, headers["Location"]) == (303, "/dashboard/studies/1?a=b%26c")
        value, *settings = headers["Set-Cookie"].split("; ")
        assert settings == ["Path=/", "HttpOnly", "SameSite=Strict"]
        assert ask(port, "GET", "/x", {"Cookie": value})[2] == b"GET /x"
        assert ask(port, "GET", "/x?token=wrong", {"Cookie": value})[0] == 403
        elsewhere = ask(port, "GET", f"//evil.example/%0d%0aX:1?token={guard.token}")
        assert elsewhere[0] == 303
        assert elsewhere[1]["Location"].startswith("/evil.example/%0D%0A")


def test_a_request_without_encodings_reaches_the_dashboard_with_none() -> None:
    """It would raise KeyError for each static file."""
    seen: list[Any] = []
    guard = Guard(lambda environ, start: seen.append(environ) or [], 1234)
    about = {"HTTP_HOST": f"{HOST}:1234", "HTTP_COOKIE": f"{guard.cookie}={guard.token}"}
    guard({"REQUEST_METHOD": "GET", "PATH_INFO": "/static/x.js", **about}, inner)
    assert [each["HTTP_ACCEPT_ENCODING"] for each in seen] == [""]


def test_every_start_has_a_token_of_its_own() -> None:
    assert Guard(inner, 1).token != Guard(inner, 1).token


def test_a_missing_dashboard_says_what_to_install(
    place: run_folder.RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ValueError, match=r"pip install 'plasticity-hpo\[dashboard\]'"):
        serve(place.url, "toy", 8080, print)


@needs_dashboard
@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_outside_its_range_is_refused(place: run_folder.RunFolder, port: int) -> None:
    with pytest.raises(ValueError, match="--port must be from 1 to 65535"):
        serve(place.url, "toy", port, print)


@needs_dashboard
def test_a_port_that_is_taken_is_reported(place: run_folder.RunFolder) -> None:
    with served(writable=False) as (port, _), pytest.raises(ValueError, match="choose another"):
        serve(place.url, "toy", port, print)


@needs_dashboard
@pytest.mark.parametrize("writable", [False, True])
def test_a_study_can_be_seen_and_is_deleted_only_where_that_was_allowed(
    writable: bool, place: run_folder.RunFolder
) -> None:
    port = ports.free()
    command = [sys.executable, "-m", "hpo.cli.main", "dashboard", "toy", "--port", str(port)]
    command += ["--writable"] if writable else []
    process = subprocess.Popen(
        [*command, "--out", str(place.folder.parent)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        start = f"Dashboard: http://127.0.0.1:{port}"
        assert line.startswith(f"{start}/dashboard/studies/1?token=")
        assert ("read-only" in line) != writable
        opened = line.removeprefix(start).split(" ")[0]
        cookie = {"Cookie": _patient(port, opened)["Set-Cookie"].split(";")[0]}
        assert ask(port, "GET", "/api/studies")[0] == 403
        assert b"html" in ask(port, "GET", "/dashboard/studies/1", cookie)[2]
        studies = json.loads(ask(port, "GET", "/api/studies", cookie)[2])
        assert [each["study_name"] for each in studies["study_summaries"]] == ["toy"]
        assert ask(port, "GET", "/api/studies/1", cookie)[0] == 200
        deleted = ask(port, "DELETE", "/api/studies/1", {**cookie, "Content-Length": "0"})[0]
        assert deleted == (204 if writable else 405)
    finally:
        process.kill()
        process.communicate()
    if not writable:
        assert len(run_folder.read(place).trials) == 3


def _patient(port: int, path: str) -> dict[str, str]:
    """Headers of the answer, once the server listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask(port, "GET", path)[1]
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
