"""`hpo claims`: what it prints, and what it keeps in a file."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.cli.claims import record
from hpo.cli.parser import parser
from hpo.report import claims
from tests.hpo.cli.test_main import HEAD, complaint, folder, words

__all__ = ["folder"]


STUDY = (
    HEAD
    + """
import numpy as np
from hpo import PlannedContrast, PlannedContrasts
from hpo.core.paper import Contrast, Paper, Quantity, Table

class Noisy(ToyObjective):
    def evaluate(self, requests, on_event=None):
        found = super().evaluate(requests, on_event)
        for request, result in zip(requests, found):
            decay = request["params"].get("pretrain.weight_decay", 0.1)
            noise = np.random.default_rng([request["seed"], round(1e3 * decay)])
            result.metrics["base_loss"] += 1e-3 * noise.normal()
            result.metrics["gain"] += 1e-3 * noise.normal()
        return found

STUDY = spec(
    space={}, trials=6, replicates=3, objective=Noisy(),
    contrasts=PlannedContrasts(
        contrasts=(
            PlannedContrast(
                name="decay", metric="base_loss", arm="standard", minus="no decay", expected="up"
            ),
        ),
        alpha=0.01,
    ),
    paper=Paper(arxiv="0000.00000", scale="large", tables=(
        Table(
            title="T", points=("standard", "no decay"), quantities=(Quantity(metric="gain"),),
            claims=(
                Contrast(text="decay gains", metric="gain", sign=1,
                         weights={"standard": 1.0, "no decay": -1.0}),
            ),
        ),
    )),
)
"""
)


OTHER = (
    '{"runs": [1]}',
    '{"runs": {}}',
    '{"runs": [{"study": "a", "variant": 3}]}',
    '{"runs": [{"study": "a", "value": NaN}]}',
    '{"runs": [{"study": "a", "value": 1e999}]}',
    '{"runs": ' + 10_000 * "[" + 10_000 * "]" + "}",
    "[]",
    "",
)
"""Files that hold no recorded claims."""


@pytest.fixture
def finished(
    folder: Path, copy_run: Callable[[str, Path], None], capsys: pytest.CaptureFixture[str]
) -> Path:
    """A working folder with a finished run."""
    copy_run(STUDY, folder)
    capsys.readouterr()
    return folder


def test_planned_contrasts_and_a_papers_claims_are_printed_alone(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["claims", "toy"]) == 0
    printed = words(capsys)
    assert printed.startswith("Planned contrasts")
    assert "Stated before the first result. Paired over seeds; two-sided t test at 0.01" in printed
    assert "decay gains: here +0.09" in printed


def test_a_record_has_what_reproduces_the_run_and_replaces_an_earlier_one_of_it(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"study": "alpha", "variant": "full", "params": {}}
    Path("claims.json").write_text(json.dumps({"runs": [other]}))
    for _ in range(2):
        assert main.main(["claims", "toy", "--record", "claims.json", "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
    runs = json.loads(Path("claims.json").read_text())["runs"]
    assert runs == [other, printed]
    assert (printed["study"], printed["command"]) == ("mine.py", "hpo run mine.py")
    assert (printed["seeds"], printed["trials"], printed["device_s"]) == ([0, 1, 2], 6, 6.0)
    assert printed["machine"]["device"] == "toy"
    assert printed["commit"]
    (contrast,) = printed["contrasts"]["findings"]
    assert contrast["value"] == pytest.approx(0.01, abs=0.003)  # decay^2, in the toy's formula
    (claim,) = printed["claims"]
    assert claim["value"] == pytest.approx(0.1, abs=0.003)
    assert (claim["verdict"], claim["p"] < 0.01, claim["detectable"] > 0) == ("agree", True, True)


def test_the_command_of_a_run_sets_again_what_was_set() -> None:
    task = {"kind": "file", "name": "a b", "label_field": None}
    params = {"finetune.tasks": [task], "finetune.lrs": [0.001, 0.01], "model.preset": "llama-1m"}
    line = claims.command("mine.py", {"variant": "small", "params": params})
    parsed = parser().parse_args(shlex.split(line)[1:])
    assert (parsed.study, parsed.variant, dict(parsed.params)) == ("mine.py", "small", params)


def test_a_file_of_something_else_is_left_as_it_is(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in OTHER:
        Path("claims.json").write_text(other)
        assert main.main(["claims", "toy", "--record", "claims.json"]) == 2
        assert "claims.json is there and is no file of recorded claims" in complaint(capsys)
        assert Path("claims.json").read_text() == other
    os.mkfifo("pipe")  # nobody writes into it
    assert main.main(["claims", "toy", "--record", "pipe"]) == 2
    assert "pipe is there and is no file of recorded claims" in complaint(capsys)


def test_a_link_is_followed_and_what_is_beside_the_runs_stays(finished: Path) -> None:
    Path("claims.json").write_text('{"title": "mine", "runs": [{"study": "a"}]}')
    Path("link.json").symlink_to("claims.json")
    assert main.main(["claims", "toy", "--record", "link.json"]) == 0
    assert Path("link.json").is_symlink()
    found = json.loads(Path("claims.json").read_text())
    assert (found["title"], [each["study"] for each in found["runs"]]) == ("mine", ["a", "mine.py"])


def test_runs_that_are_recorded_at_once_are_all_kept(tmp_path: Path) -> None:
    names = [f"study {number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        each = [{"study": name, "variant": None} for name in names]
        list(pool.map(lambda found: record(tmp_path / "claims.json", found), each))
    runs = json.loads((tmp_path / "claims.json").read_text())["runs"]
    assert [run["study"] for run in runs] == sorted(names)


def test_a_run_that_claims_nothing_says_how_it_could(
    folder: Path, copy_run: Callable[[str, Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    copy_run(HEAD + "STUDY = spec(trials=5, sampler='random')\n", folder)
    capsys.readouterr()
    assert main.main(["claims", "toy"]) == 2
    assert "no planned contrasts and no paper's claims" in complaint(capsys)
