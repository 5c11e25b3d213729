"""Jobs by submitit, run by its executor for one machine."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpo.core.objective import Event, Request
from hpo.executors import slurm_arrays
from hpo.executors.pool import Pool
from hpo.executors.slurm import OUTBOX, Job, slurm_pool
from hpo.executors.worker import plain_result
from hpo.study_files import StudyRequest
from tests.hpo.toy_objective import ToyObjective

pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[test]'")


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


STUDY = """
import time
from pathlib import Path
from tests.hpo.toy_objective import *
HERE = Path(__file__).parent
class Slow(ToyObjective):
    def evaluate(self, requests, on_event=None):
        with (HERE / "begun").open("a") as file:
            file.write("x")
        while (HERE / "slow").exists():
            on_event({"stage": "pretrain", "step": 1, "steps": 2})
            time.sleep(0.02)
        return super().evaluate(requests, on_event)
STUDY = spec(objective=Slow(before=Once(0, HERE, kill) if (HERE / "dies").exists() else print))
"""


REQUESTS = [Request(params={"pretrain.lr": lr}, fidelity=1.0, seed=0) for lr in (0.01, 0.02)]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[], Pool]]:
    (tmp_path / "mine.py").write_text(STUDY)
    launch = StudyRequest(
        study=str(tmp_path / "mine.py"), store=str(tmp_path / "store"), device="cpu"
    )
    pools: list[Pool] = []

    def make() -> Pool:
        pools.append(slurm_pool(launch, tmp_path, settings={"cluster": "local"}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def measured(pool: Pool, on_event: Callable[[Event], None] = lambda event: None) -> list[Any]:
    return [plain_result(each) for each in pool.submit(REQUESTS, on_event).result(timeout=120)]


def expected() -> list[Any]:
    return [plain_result(each) for each in ToyObjective().evaluate(REQUESTS)]


def begun(folder: Path) -> int:
    return len((folder / "begun").read_text()) if (folder / "begun").exists() else 0


def test_a_job_that_dies_is_submitted_again_and_what_is_done_is_not(
    made: Callable[[], Pool], tmp_path: Path
) -> None:
    (tmp_path / "dies").touch()
    told: list[Event] = []
    assert measured(made(), told.append) == expected()
    assert any(event.get("stage", "").startswith("replaced: job ") for event in told)
    assert begun(tmp_path) == 2
    assert measured(made()) == expected()
    assert begun(tmp_path) == 2


def test_a_job_that_outlived_its_controller_is_listened_to(
    made: Callable[[], Pool], tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    first = made()
    first.submit(REQUESTS, lambda event: None)
    (link,) = first.links
    assert isinstance(link, Job)
    while not (tmp_path / "begun").exists():
        pass

    def hasten(event: Event) -> None:
        if event.get("stage") == "pretrain":
            with contextlib.suppress(FileNotFoundError):
                (tmp_path / "slow").unlink()

    assert measured(made(), hasten) == expected()
    assert begun(tmp_path) == 1


def test_a_preempted_job_keeps_what_it_has_and_is_queued_again(
    made: Callable[[], Pool], tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    pool = made()
    (link,) = pool.links
    assert isinstance(link, Job)

    told: list[Event] = []

    def preempt(event: Event) -> None:
        stages = [each.get("stage") for each in told]
        if event.get("stage") == "pretrain" and "pretrain" not in stages:
            (task,) = psutil.Process(link.job._process.pid).children()
            task.send_signal(signal.SIGUSR2)  # what submitit has SLURM send
        if event.get("stage") == "queued again":
            (tmp_path / "slow").unlink()
        told.append(event)

    assert measured(pool, preempt) == expected()
    assert begun(tmp_path) == 2
    assert not any("replaced" in event.get("stage", "") for event in told)


def test_a_pool_that_is_closed_stops_its_jobs(made: Callable[[], Pool], tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    pool = made()
    future = pool.submit(REQUESTS, lambda event: None)
    (link,) = pool.links
    assert isinstance(link, Job)
    while not (tmp_path / "begun").exists():
        pass
    job = link.job
    pool.close()
    assert future.exception(timeout=60) is not None
    while not job.done():
        pass
    assert '"stopped"' in (link.folder / OUTBOX).read_text()


def test_shares_of_a_gpu_are_refused(tmp_path: Path) -> None:
    launch = StudyRequest(study="mine.py", store="store")
    with pytest.raises(ValueError, match=r"SLURM gives whole CPUs and GPUs, got 1 and 0\.5"):
        slurm_pool(launch, tmp_path, gpus=0.5, settings={"cluster": "local"})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("50%j", {}),
        ("two\nlines", {}),
        ("runs", {"comment": "x\nrm -rf ~"}),
        ("runs", {"a b": "x"}),
    ],
)
def test_names_that_a_script_of_slurm_would_misread_are_refused(
    name: str, settings: dict[str, str], tmp_path: Path
) -> None:
    launch = StudyRequest(study="mine.py", store="store")
    with pytest.raises(ValueError, match=r"SLURM cannot use the folder|of one line"):
        slurm_pool(launch, tmp_path / name, settings={"cluster": "local", **settings})


def test_a_folder_of_pickles_is_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slurm").mkdir(mode=0o777)
    slurm_arrays.private(tmp_path / "slurm")
    assert (tmp_path / "slurm").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ValueError, match="belongs to another user; choose another folder"):
        slurm_arrays.private(tmp_path / "slurm")


def test_calls_that_come_together_are_submitted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the pool has, at once; fewer when no more come."""
    sent: list[int] = []

    def send(self: slurm_arrays.Arrays, calls: list[Any]) -> None:
        sent.append(len(calls))
        for call, future in calls:
            future.set_result(call)

    monkeypatch.setattr(slurm_arrays.Arrays, "_send", send)
    place = slurm_arrays.Arrays(tmp_path, cluster="local", parameters={}, most=3)

    def submit(count: int) -> None:
        calls = [functools.partial(print, number) for number in range(count)]
        with ThreadPoolExecutor(count) as threads:
            assert list(threads.map(place.submit, calls)) == calls

    monkeypatch.setattr(slurm_arrays, "GATHER_S", 60.0)
    submit(3)
    monkeypatch.setattr(slurm_arrays, "GATHER_S", 0.2)
    submit(2)
    submit(1)
    assert sent == [3, 2, 1]


@pytest.mark.parametrize(
    ("cluster", "parameters", "reason"),
    [("nowhere", {}, "nowhere"), ("local", {"slurm_partitio": "gpu"}, "--slurm: .*partitio")],
)
def test_what_submitit_refuses_reaches_everybody_who_waits(
    cluster: str, parameters: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    place = slurm_arrays.Arrays(tmp_path, cluster=cluster, parameters=parameters, most=2)
    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(place.submit, print) for _ in range(2)]:
            with pytest.raises(ValueError, match=reason):
                future.result(60)
