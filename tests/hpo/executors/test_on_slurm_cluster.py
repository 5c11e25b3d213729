"""Jobs in a real SLURM of one node, started for these tests."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hpo.core.objective import Event, Request
from hpo.executors.pool import Pool
from hpo.executors.slurm import LISTEN_S, OUTBOX, Job, slurm_pool
from hpo.executors.worker import plain_result
from hpo.study_files import StudyRequest
from tests import slurm_cluster
from tests.hpo.executors.test_slurm import REQUESTS, STUDY, begun, expected, measured
from tests.hpo.toy_objective import ToyObjective

pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[test]'")


pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "there"),
]


TIME_LIMIT_MIN = 30


BATCHES = [REQUESTS, [Request(params={"pretrain.lr": 0.03}, fidelity=1.0, seed=0)]]


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
def made(cluster: None, tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    (tmp_path / "mine.py").write_text(STUDY)
    launch = StudyRequest(
        study=str(tmp_path / "mine.py"), store=str(tmp_path / "store"), device="cpu"
    )
    pools: list[Pool] = []

    def make(workers: int = 1) -> Pool:
        settings = {"time": TIME_LIMIT_MIN}
        pools.append(slurm_pool(launch, tmp_path, workers, settings=settings))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def link_of(pool: Pool) -> Job:
    (link,) = pool.links
    assert isinstance(link, Job)
    return link


def queue(what: str = "%T") -> list[str]:
    """State of every job that SLURM has not ended, or its number; array elements by themselves."""
    command = ["squeue", "--noheader", "--array", f"--format={what}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def two_under_way(
    pool: Pool, on_event: Callable[[Event], None] = lambda event: None
) -> list[Future[Any]]:
    return [pool.submit(requests, on_event) for requests in BATCHES]


def all_expected() -> list[Any]:
    return [[plain_result(each) for each in ToyObjective().evaluate(some)] for some in BATCHES]


def results(futures: list[Future[Any]]) -> list[Any]:
    return [[plain_result(each) for each in some.result(timeout=120)] for some in futures]


def test_a_job_that_is_killed_is_submitted_again_and_its_results_are_found_again(
    made: Callable[..., Pool], tmp_path: Path
) -> None:
    (tmp_path / "dies").touch()
    told: list[Event] = []
    assert measured(made(), told.append) == expected()
    assert any(event.get("stage", "").startswith("replaced: job ") for event in told)
    assert begun(tmp_path) == 2
    assert measured(made()) == expected()
    assert begun(tmp_path) == 2


def test_a_preempted_job_is_queued_again_by_slurm_under_its_number(
    made: Callable[..., Pool], tmp_path: Path
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
    made: Callable[..., Pool], tmp_path: Path
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


def test_batches_that_begin_together_are_one_array_and_end_together_when_it_is_closed(
    made: Callable[..., Pool], tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    pool = made(2)
    futures = two_under_way(pool)
    until(lambda: begun(tmp_path) == 2)
    first, second = sorted(queue("%i"))
    array = first.removesuffix("_0")
    assert [first, second] == [f"{array}_0", f"{array}_1"]
    assert sorted(link.job.job_id for link in pool.links) == [first, second]  # type: ignore[attr-defined]
    assert (tmp_path / "slurm").stat().st_mode & 0o777 == 0o700
    assert all((tmp_path / "slurm" / "jobs" / f"{one}_0_log.out").is_file() for one in queue("%i"))
    assert queue() == ["RUNNING"] * 2
    pool.close()
    assert all(each.exception(timeout=60) is not None for each in futures)
    until(lambda: queue() == [])
    for link in pool.links:
        assert isinstance(link, Job)
        assert '"stopped"' in (link.folder / OUTBOX).read_text()


def test_an_element_is_preempted_and_queued_again_or_killed_and_replaced_by_itself(
    made: Callable[..., Pool], tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    told: list[Event] = []
    futures = two_under_way(made(2), told.append)
    until(lambda: begun(tmp_path) == 2)
    before = sorted(queue("%i"))
    killed, preempted = before
    subprocess.run(["scancel", "--signal=USR2", preempted], check=True)
    until(lambda: any(event.get("stage") == "queued again" for event in told))
    until(lambda: begun(tmp_path) == 3)
    assert sorted(queue("%i")) == before
    assert not any("replaced" in event.get("stage", "") for event in told)
    subprocess.run(["scancel", "--signal=KILL", "--full", killed], check=True)
    until(lambda: begun(tmp_path) == 4)
    kept, replacement = sorted(queue("%i"), key=lambda one: "_" not in one)
    assert kept == preempted
    assert "_" not in replacement
    (tmp_path / "slow").unlink()
    assert results(futures) == all_expected()
    assert begun(tmp_path) == 4
    lost = [event["stage"] for event in told if "replaced" in event.get("stage", "")]
    assert lost == [f"replaced: job {killed} ended without a result"]


def test_an_array_outlives_its_controller_and_is_listened_to(
    made: Callable[..., Pool], tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    two_under_way(made(2))
    until(lambda: begun(tmp_path) == 2)
    futures = two_under_way(made(2))
    time.sleep(2 * LISTEN_S)
    (tmp_path / "slow").unlink()
    assert results(futures) == all_expected()
    assert begun(tmp_path) == 2
