"""A study whose store keeps hardly anything, stopped between its waves and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.core.trial import Run
from hpo.storage import run_folder
from tests.toy_size import TOY, small_inputs

STUDY = """
from dataclasses import replace
from studies.quickstart import STUDY
STUDY = replace(STUDY, wave=2)
"""


BUDGET_GB = 0.0003


def run(folder: Path, out: str, *words: str) -> Run:
    settings = TOY | small_inputs(folder)
    fixed = [f"--set={path}={json.dumps(value)}" for path, value in settings.items()]
    assert main.main(["run", "mine.py", "--out", out, *words, *fixed]) == 0
    return run_folder.read(run_folder.find_run("quickstart", Path(out), None))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_it_ends_bit_for_bit_where_a_study_ends_that_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(STUDY)
    undisturbed = run(tmp_path, "large", "--trials", "4")
    small = ("--store-gb", str(BUDGET_GB))
    for trials in ("2", "4"):
        found = run(tmp_path, "small", "--trials", trials, *small)
        assert size(tmp_path / "small" / "store") <= BUDGET_GB * 1e9
    assert size(tmp_path / "large" / "store") > 4 * BUDGET_GB * 1e9
    for one, other in zip(found.trials, undisturbed.trials, strict=True):
        assert one.params == other.params
        assert one.metrics == other.metrics
        assert one.curves == other.curves
    spent, total = (
        [sum(trial.cost[name] for trial in each.trials) for name in ("tokens", "tokens_reused")]
        for each in (found, undisturbed)
    )
    assert sum(spent) == pytest.approx(sum(total))
    assert spent[0] >= total[0]
