"""SLURM and Kubernetes examples: their signals stop a study, and the next job or pod goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hpo.storage import run_folder
from tests.waiting import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"


STUDY = """
import time
from pathlib import Path
from tests.hpo.toy_objective import *

class Slow(ToyObjective):
    def evaluate(self, requests, on_event=None):
        mark = Path("begun")
        if len(requests) == 1 and not mark.exists():  # the second wave of the first process
            mark.touch()
            for step in range(2000):
                time.sleep(0.02)
                on_event({"stage": "measure", "step": step, "steps": 2000})
        return super().evaluate(requests, on_event)

STUDY = spec(trials=4, objective=Slow())
"""


pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working folder with a study, `hpo` and a `scontrol` that notes what it is asked."""
    (tmp_path / "mine.py").write_text(STUDY)
    commands = tmp_path / "bin"
    commands.mkdir()
    hpo = f'#!/bin/sh\nexec {sys.executable} -m hpo "$@"\n'
    for name, text in (("hpo", hpo), ("scontrol", '#!/bin/sh\necho "$@" >> asked\n')):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return tmp_path


def start(place: Path, words: list[str], **given: str) -> subprocess.Popen[bytes]:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    root = str(EXAMPLES.parent)
    environment = {**os.environ, "PATH": path, "PYTHONPATH": root, **given}
    with (place / "log").open("ab") as log:
        return subprocess.Popen(words, cwd=place, env=environment, stdout=log, stderr=log)


def stopped(place: Path, process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """The exit code after a signal in the second wave."""
    wait_for(lambda: (place / "begun").exists() or process.poll() is not None)
    time.sleep(0.1)
    process.send_signal(number)
    return process.wait(60)


def states(place: Path) -> list[str]:
    found = run_folder.read(run_folder.find_run("toy", place / "runs", None))
    return [trial.state for trial in found.trials]


def test_a_slurm_job_is_queued_again_and_goes_on(place: Path) -> None:
    words = ["bash", str(EXAMPLES / "slurm.sh")]
    given = {"STUDY": "mine.py", "OUT": "runs", "SLURM_JOB_ID": "77", "HPO_OPTIONS": "--seed 0"}
    code = stopped(place, start(place, words, **given), signal.SIGUSR1)
    assert code == 130, (place / "log").read_text()
    assert (place / "asked").read_text() == "requeue 77\n"
    assert states(place) == ["complete"] * 3 + ["running"]
    assert start(place, words, **given).wait(100) == 0, (place / "log").read_text()
    assert (place / "asked").read_text() == "requeue 77\n"
    assert states(place) == ["complete"] * 4


def test_a_pod_that_is_evicted_leaves_a_run_that_the_next_one_continues(place: Path) -> None:
    claim, job = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    failing = job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    study = {"quickstart": "mine.py", "/data/runs": "runs"}
    words = [study.get(word, word) for word in [*container["command"], *container["args"]]]
    code = stopped(place, start(place, words), signal.SIGTERM)
    assert code == 130, (place / "log").read_text()
    assert code not in failing
    assert states(place) == ["complete"] * 3 + ["running"]
    assert start(place, words).wait(100) == 0, (place / "log").read_text()
    assert states(place) == ["complete"] * 4
