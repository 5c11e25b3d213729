"""Real runs in real processes: signals, kill -9 and full disks; the study ends the same to the bit.

The undisturbed run is the measure. A disturbed one is started again with the same command.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from hpo.storage import run_folder
from tests import stops_child
from tests.toy_size import TOY, small_inputs

SERVER = multiprocessing.get_context("forkserver")


SERVER.set_forkserver_preload(["tests.stops_child"])


KILLS = 6


pytestmark = pytest.mark.slow


SETTINGS = TOY | {
    "pretrain.steps": 12, "pretrain.batch_size": 2, "pretrain.seq_len": 16,
    "finetune.steps": 8, "finetune.lrs": [1e-2, 3e-2],
}  # fmt: skip


SECOND = """
import dataclasses
from studies.quickstart import STUDY
STUDY = dataclasses.replace(STUDY, name="second")
"""


@dataclass(frozen=True)
class Place:
    """A folder of inputs, the settings that name them, and the undisturbed run of them."""

    folder: Path
    fixed: list[str]

    def words(self, out: Path, study: str = "quickstart") -> list[str]:
        return ["run", study, "--out", str(out), "--trials", "3", "--device", "cpu", *self.fixed]

    def start(self, out: Path, study: str = "quickstart", **given: Any) -> ForkServerProcess:
        out.mkdir(exist_ok=True)
        words = self.words(out, study)
        said = log(out, Path(study).stem)
        process = SERVER.Process(target=stops_child.run, args=(words, said), kwargs=given)
        process.start()
        return process

    def run(self, out: Path, **given: Any) -> int | None:
        process = self.start(out, **given)
        process.join()
        return process.exitcode


def log(out: Path, study: str = "quickstart") -> Path:
    return out / f"{study}.txt"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("stops")
    (folder / "second.py").write_text(SECOND)
    settings = SETTINGS | small_inputs(folder)
    found = Place(folder, [f"--set={path}={json.dumps(value)}" for path, value in settings.items()])
    assert found.run(folder / "undisturbed") == 0, log(folder / "undisturbed").read_text()
    return found


def measured(out: Path, name: str = "quickstart") -> str:
    """All that the finished trials measured, to the last bit."""
    trials = run_folder.read(run_folder.find_run(name, out, None)).trials
    kept = [[each.number, each.params, each.metrics, each.curves, each.notes]
            for each in trials if each.state == "complete"]  # fmt: skip
    assert len(kept) == 3
    return json.dumps(kept, sort_keys=True)


def trained(out: Path) -> float:
    """Tokens that the process which recorded the trials trained on."""
    trials = run_folder.read(run_folder.find_run("quickstart", out, None)).trials
    return sum(each.cost["tokens"] for each in trials)


@pytest.mark.parametrize(
    ("number", "at"),
    [
        (signal.SIGTERM, ("pretrain", 6)),
        (signal.SIGINT, ("pretrain", 12)),
        (signal.SIGINT, ("fine-tune", 5)),
        (signal.SIGTERM, ("score", 1)),
    ],
)
def test_a_signal_ends_a_run_that_goes_on_where_it_was(
    number: int, at: tuple[str, int], place: Place, tmp_path: Path
) -> None:
    assert place.run(tmp_path, signals=number, at=at) == 130
    said = log(tmp_path).read_text()
    assert "Stopped; what was finished is kept. To continue:\nhpo run quickstart --out" in said
    assert place.run(tmp_path) == 0
    assert measured(tmp_path) == measured(place.folder / "undisturbed")
    assert trained(tmp_path) < trained(place.folder / "undisturbed")


def test_a_study_killed_at_random_instants_ends_the_same(place: Place, tmp_path: Path) -> None:
    drawn = random.Random(0)
    kills = 0
    while True:
        process = place.start(tmp_path)
        process.join(drawn.uniform(0.3, 1.2) if kills < KILLS else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        assert process.exitcode == stops_child.KILLED
        kills += 1
    assert process.exitcode == 0
    assert kills > 0
    assert measured(tmp_path) == measured(place.folder / "undisturbed")


def test_a_full_disk_pauses_the_study_and_the_same_command_goes_on(
    place: Place, tmp_path: Path
) -> None:
    kept: set[Path] = set()
    for entries in (0, 5, 8):
        assert place.run(tmp_path, entries=entries) == 1
        said = log(tmp_path).read_text()
        assert "(No space left on device); free some space" in said
        assert "then run the same command to go on" in said
        assert kept <= finished(tmp_path)
        kept = finished(tmp_path)
    assert len(kept) > 5
    assert place.run(tmp_path) == 0
    assert measured(tmp_path) == measured(place.folder / "undisturbed")


def finished(out: Path) -> set[Path]:
    """Finished stages in the store."""
    return {path for stage in ("tokenizer", "tokens", "pretrain", "tune", "finetune")
            for path in (out / "store" / stage).glob("*")}  # fmt: skip


def mounted(folder: Path, size: str, *more: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *more]), "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_disk_that_is_really_full(place: Place, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or not mounted(disk, "3m"):
        pytest.skip("needs the right to mount a small disk")
    try:
        assert place.run(disk) == 1
        said = log(disk).read_text().splitlines()[-1]
        assert "run the same command" in said
        assert mounted(disk, "200m", "remount")
        assert place.run(disk) == 0
        assert measured(disk) == measured(place.folder / "undisturbed")
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_studies_that_share_a_store_are_stopped_each_by_itself(
    place: Place, tmp_path: Path
) -> None:
    first = place.start(tmp_path, signals=signal.SIGTERM, at=("", 0))
    second = place.start(tmp_path, str(place.folder / "second.py"))
    for process in (first, second):
        process.join()
    assert (first.exitcode, second.exitcode) == (130, 0)
    assert place.run(tmp_path) == 0
    expected = measured(place.folder / "undisturbed")
    assert measured(tmp_path) == measured(tmp_path, "second") == expected
