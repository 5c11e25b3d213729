"""A study killed with SIGKILL at random instants and started again, until it ends.

1. The study runs undisturbed; W is the time from its first sign of work to its end.
2. It runs in another folder and is killed after it has worked for a time drawn uniformly from 0 to
   W / STRETCHES, so at any instant of training, scoring, writing or recording. It is started again
   with the same command, and so on until it ends by itself. A kill costs a process's start, so the
   stretches are short against W and a folder takes many of them; a study that was killed MOST_KILLS
   times is let run, so the bench ends. Then the next folder, until all kills are done.
3. After each kill the record is read: a finished trial that is gone, or whose metrics changed, is
   lost. At the end of each folder the metrics of all trials are compared with the undisturbed
   run's, bit for bit.

Time lost a kill is what all processes of a folder took, less the undisturbed one, over its kills:
once with the start of the process that goes on, once of the work alone.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hpo.core.failures import StorageError
from hpo.storage import run_folder
from tests.bench.figures import Figure, Options, mean_of
from tests.toy_size import small_inputs

STUDY = Path(__file__).with_name("kills_study.py")


NAME = "kills"


KILLS, QUICK_KILLS = 50, 3


MOST_KILLS = 20


STRETCHES = 6
"""Assumed: with a start of about W / 2 it makes a folder of some ten kills."""


SIGN = b" | "
"""What is in every line of progress."""


SEED = 0


ROOT = Path(__file__).parents[2]


Metrics = dict[str, float]


@dataclass
class Ledger:
    """What happened to one folder."""

    kills: int = 0
    seconds: float = 0.0
    worked_s: float = 0.0
    """Of these, from a process's first sign of work to its end."""
    lost: int = 0
    finished: dict[int, Metrics] = field(default_factory=dict)
    """The record as it was last seen: trial -> metrics."""


def run(options: Options) -> dict[str, Figure]:
    """Kill, restart, compare; `repeats` is the number of kills."""
    wanted = options.repeats or (QUICK_KILLS if options.quick else KILLS)
    drawn = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        calm = Ledger()
        _run(Path(folder) / "calm", None, calm, options)
        options.say(
            f"undisturbed: {calm.seconds:.1f} s, of it {calm.worked_s:.1f} s of work, "
            f"{len(calm.finished)} trials"
        )
        ledgers: list[Ledger] = []
        while (left := wanted - sum(each.kills for each in ledgers)) > 0:
            out = Path(folder) / f"killed-{len(ledgers)}"
            ledgers.append(_disturb(out, min(left, MOST_KILLS), calm.worked_s, drawn, options))
    killed = [each for each in ledgers if each.kills]
    lost_s = [(each.seconds - calm.seconds) / each.kills for each in killed]
    lost_work_s = [(each.worked_s - calm.worked_s) / each.kills for each in killed]
    different = sum(_different(calm.finished, each.finished) for each in ledgers)
    compared = len(ledgers) * len(calm.finished)
    return {
        "kills": Figure(value=sum(each.kills for each in ledgers), unit="kills"),
        "studies": Figure(value=len(ledgers), unit="studies"),
        "undisturbed_s": Figure(value=calm.seconds, unit="s"),
        "undisturbed_work_s": Figure(value=calm.worked_s, unit="s"),
        "finished_trials_lost": Figure(
            value=sum(each.lost for each in ledgers), n=compared, unit="trials", goal="= 0"
        ),
        "metrics_different": Figure(value=different, n=compared, unit="trials", goal="= 0"),
        "lost_s_per_kill": mean_of(lost_s, "s"),
        "lost_work_s_per_kill": mean_of(lost_work_s, "s"),
    }


def _disturb(out: Path, most: int, work_s: float, drawn: random.Random, options: Options) -> Ledger:
    """Run a study to its end through at most so many kills."""
    ledger = Ledger()
    while ledger.kills < most:
        if _run(out, drawn.uniform(0, work_s / STRETCHES), ledger, options):
            return ledger
    _run(out, None, ledger, options)
    return ledger


def _run(out: Path, kill_after: float | None, ledger: Ledger, options: Options) -> bool:
    """Start or continue the study, kill it after so much work; whether it came to its end.

    Raises:
        RuntimeError: it failed by itself.
    """
    command = [sys.executable, "-m", "hpo.cli.main", "run", str(STUDY), "--out", str(out)]
    command += ["--device", options.device, *_settings(out.parent)]
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                                   env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
        try:
            _wait_for_work(process, log)
            working = time.monotonic()
            code = process.wait(kill_after)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
            process.wait()
        ledger.seconds += time.monotonic() - started
        ledger.worked_s += time.monotonic() - working
        log.seek(0)
        said = log.read().decode(errors="replace")
    ledger.kills += code is None
    _compare(out, ledger)
    if code is None:
        options.say(f"kill {ledger.kills} after {kill_after:.1f} s: {len(ledger.finished)} trials")
    elif code:
        raise RuntimeError(f"the study failed with exit code {code}:\n{said[-2000:]}")
    else:
        options.say(f"ended after {ledger.kills} kills, {ledger.seconds:.1f} s in all")
    return code == 0


def _settings(folder: Path) -> list[str]:
    """Settings that name the inputs in the folder."""
    return [f"--set={path}={json.dumps(value)}" for path, value in small_inputs(folder).items()]


def _wait_for_work(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Until the first line of progress, or the end."""
    while process.poll() is None and SIGN not in os.pread(log.fileno(), 2**16, 0):
        time.sleep(0.01)


def _compare(out: Path, ledger: Ledger) -> None:
    """Look for what was finished when last seen, and note what is finished now."""
    now = _finished(out)
    ledger.lost += _different(ledger.finished, now)
    ledger.finished = now


def _finished(out: Path) -> dict[int, Metrics]:
    """Metrics of the finished trials; empty before there is a record."""
    try:
        found = run_folder.read(run_folder.find_run(NAME, out, None))
    except (ValueError, StorageError):
        return {}
    return {trial.number: trial.metrics for trial in found.trials if trial.state == "complete"}


def _different(expected: dict[int, Metrics], found: dict[int, Metrics]) -> int:
    """How many of the expected trials are missing or have other metrics, to the last bit."""
    return sum(found.get(number) != metrics for number, metrics in expected.items())
