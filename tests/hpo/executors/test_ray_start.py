"""Ray that is installed and cannot start."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from hpo.cli import main
from hpo.executors import ray_actors


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study, in a folder where a package `ray` is found first."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "mine.py"
    study.write_text("from tests.hpo.toy_objective import *\nSTUDY = spec(trials=2)\n")
    return study


def complaint(study: Path, code: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `hpo run` complains of where Ray's start is this code."""
    (study.parent / "ray.py").write_text(f"def init(**given):\n    {code}\n")
    assert main.main(["run", "mine.py", "--executor", "ray"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "take --executor processes" in line
    assert "ray" not in sys.modules
    return line


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('the head node does not answer\\nand many more lines')",
         "the head node does not answer"),
        ("raise SystemExit(15)", "exit code 15"),
        ("raise ValueError", "ValueError"),
        ("raise ConnectionError('redis://u:PW@h is away')", "redis://u:***@h is away"),
        ("import os; os.abort()", "exit code -6"),
    ],
)  # fmt: skip
def test_a_ray_that_cannot_start_is_one_sentence_and_a_failure(
    code: str, reason: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint(study, code, capsys)
    assert line.startswith(f"hpo: Ray cannot start here ({reason}); check RAY_ADDRESS")


def test_a_ray_that_hangs_is_ended_with_what_it_has_started(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_actors, "START_S", 3.0)
    code = (
        "import subprocess, time, os; child = subprocess.Popen(['sleep', '60']); "
        "open('started', 'w').write(f'{os.getpid()} {child.pid}'); time.sleep(60)"
    )
    assert "(no answer within 3 s)" in complaint(study, code, capsys)
    for number in map(int, Path("started").read_text().split()):
        alive = psutil.pid_exists(number) and psutil.Process(number).status() != "zombie"
        assert not alive
