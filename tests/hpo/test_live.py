"""A report that follows a run, and optuna-dashboard on its storage."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hpo import cli, live, runs
from hpo.dashboard import serve
from hpo.study import Controller
from tests.hpo.toy_objective import spec


@pytest.fixture
def place(tmp_path: Path) -> runs.Place:
    """A finished run."""
    found = runs.make_place(tmp_path, "toy", None)
    Controller(spec(trials=3), found.url).run()
    return found


def test_results_rewrite_the_report_and_every_event_is_told_on(place: runs.Place) -> None:
    heard: list[dict[str, Any]] = []
    told = live.following(heard.append, place)
    told({"wave": [0]})
    assert not place.report.exists()
    told({"recorded": [0], "finished": 1})
    assert "Live: this page" in place.report.read_text(encoding="utf-8")
    assert heard == [{"wave": [0]}, {"recorded": [0], "finished": 1}]


def test_reports_that_take_long_are_written_seldom(place: runs.Place) -> None:
    told = live.following(lambda event: None, place)
    told({"recorded": [0]})
    place.report.unlink()
    told({"recorded": [1]})
    assert not place.report.exists()


def test_a_live_run_ends_with_a_report_that_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = "from tests.hpo.toy_objective import *\nSTUDY = spec(trials=3)\n"
    Path("mine.py").write_text(study, encoding="utf-8")
    assert cli.main(["run", "mine.py", "--live"]) == 0
    assert "Live report: " in capsys.readouterr().out
    assert "Live: this page" not in Path("runs/toy/report.html").read_text(encoding="utf-8")


def test_a_missing_dashboard_says_what_to_install(
    place: runs.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ValueError, match=r"pip install 'plasticity-hpo\[dashboard\]'"):
        serve(place.url, "toy", 8080, print)


needs_dashboard = pytest.mark.skipif(
    importlib.util.find_spec("optuna_dashboard") is None, reason="optuna-dashboard not installed"
)


@needs_dashboard
@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_outside_its_range_is_refused(place: runs.Place, port: int) -> None:
    with pytest.raises(ValueError, match="--port must be from 1 to 65535"):
        serve(place.url, "toy", port, print)


@needs_dashboard
def test_the_dashboard_shows_the_run_on_this_machine_only(place: runs.Place) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hpo.cli", "dashboard", "toy", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--out", str(place.folder.parent)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}/dashboard/studies/1" in line
        studies = json.loads(_get(f"http://127.0.0.1:{port}/api/studies"))
        assert [each["study_name"] for each in studies["study_summaries"]] == ["toy"]
    finally:
        process.kill()
        process.communicate()


def _get(url: str, patience_s: float = 30.0) -> bytes:
    """What is there once the server listens."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                found: bytes = answer.read()
                return found
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
