"""Ray that is installed and cannot start."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from hpo import cli


def test_a_ray_that_cannot_start_is_one_sentence_and_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def init(**given: Any) -> None:
        raise RuntimeError("the head node does not answer\nand many more lines")

    broken = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", broken)
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from tests.hpo.toy_objective import *\nSTUDY = spec(trials=2)\n")
    assert cli.main(["run", "mine.py", "--executor", "ray"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpo: Ray cannot start here (the head node does not answer); check")
