"""Jobs in a real SLURM of one node, started for these tests."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo.executors.on_slurm import SAID, Job, slurm_pool
from hpo.executors.pool import Pool
from hpo.launch import Launch
from hpo.spec import Event
from tests import slurm_cluster
from tests.hpo.executors.test_on_slurm import REQUESTS, STUDY, begun, expected, measured

pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[test]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "there"),
]
TIME_LIMIT_MIN = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with (
        # A socket's path has at most 107 characters.
        tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder,
        slurm_cluster.cluster(Path(folder)) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def made(cluster: None, tmp_path: Path) -> Iterator[Callable[[], Pool]]:
    (tmp_path / "mine.py").write_text(STUDY)
    launch = Launch(study=str(tmp_path / "mine.py"), store=str(tmp_path / "store"), device="cpu")
    pools: list[Pool] = []

    def make() -> Pool:
        pools.append(slurm_pool(launch, tmp_path, settings={"time": TIME_LIMIT_MIN}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def link_of(pool: Pool) -> Job:
    (link,) = pool.links
    assert isinstance(link, Job)
    return link


def queue() -> list[str]:
    """State of every job that SLURM has not ended."""
    command = ["squeue", "--noheader", "--format=%T"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_batch_is_a_job_whose_results_are_found_again(
    made: Callable[[], Pool], tmp_path: Path
) -> None:
    assert measured(made()) == expected()
    assert measured(made()) == expected()
    assert begun(tmp_path) == 1


def test_a_job_that_is_killed_is_submitted_again(made: Callable[[], Pool], tmp_path: Path) -> None:
    (tmp_path / "dies").touch()
    told: list[Event] = []
    assert measured(made(), told.append) == expected()
    assert any(event.get("stage", "").startswith("replaced: job ") for event in told)
    assert begun(tmp_path) == 2


def test_a_preempted_job_is_queued_again_by_slurm_under_its_number(
    made: Callable[[], Pool], tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    pool, told = made(), []
    link = link_of(pool)
    numbers = set()

    def preempt(event: Event) -> None:
        if link.job is not None:
            numbers.add(link.job.job_id)
        if event.get("stage") == "pretrain" and "pretrain" not in told:
            subprocess.run(["scancel", "--signal=USR2", link.job.job_id], check=True)
        if event.get("stage") == "queued again":
            (tmp_path / "slow").unlink()
        told.append(event.get("stage"))

    assert measured(pool, preempt) == expected()
    assert begun(tmp_path) == 2
    assert len(numbers) == 1
    assert "queued again" in told


def test_a_job_outlives_its_controller_and_is_listened_to(
    made: Callable[[], Pool], tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    made().submit(REQUESTS, lambda event: None)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)

    def hasten(event: Event) -> None:
        if event.get("stage") == "pretrain":
            (tmp_path / "slow").unlink(missing_ok=True)

    assert measured(made(), hasten) == expected()
    assert begun(tmp_path) == 1


def test_a_pool_that_is_closed_cancels_its_jobs(made: Callable[[], Pool], tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    pool = made()
    future = pool.submit(REQUESTS, lambda event: None)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    assert "RUNNING" in queue()
    pool.close()
    assert future.exception(timeout=60) is not None
    deadline = time.monotonic() + 30
    while queue() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert queue() == []
    assert '"stopped"' in (link_of(pool).folder / SAID).read_text()
