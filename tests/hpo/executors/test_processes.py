"""Worker processes: real ones, killed and stopped as systems do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from hpo.cli import main
from hpo.controller import Controller
from hpo.core.failures import ObjectiveError
from hpo.core.objective import Event, Request
from hpo.executors import processes
from hpo.executors.pool import Pool
from hpo.executors.processes import Process, local_pool
from hpo.executors.worker import plain_result
from hpo.storage import run_folder
from hpo.study_files import StudyRequest
from tests.hpo.toy_objective import ToyObjective, spec
from tests.waiting import LONG_S, wait_for

ROOT = Path(__file__).parents[3]


HEAD = """
from pathlib import Path
from tests.hpo.toy_objective import *
HERE = Path(__file__).parent
"""


SLOW = """
import __main__, os, time
from hpo.executors import pool
if (HERE / "slow").exists():  # a busy machine may take its time to leave
    pool.CLOSE_S = __main__.LAST_S = __main__.GRACE_S = 600.0
class Slow(ToyObjective):
    def evaluate(self, requests, on_event=None):
        (HERE / "pid").write_text(str(os.getpid()))
        try:
            while (HERE / "slow").exists():
                on_event({"stage": "pretrain", "step": 1, "steps": 2000})
                time.sleep(0.01)
        except BaseException:
            (HERE / "kept").write_text("")
            raise
        return super().evaluate(requests, on_event)
STUDY = spec(objective=Slow(), trials=3)
"""


REQUESTS = [Request(params={"pretrain.lr": lr}, fidelity=1.0, seed=0) for lr in (0.01, 0.02)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the studies of these tests import from tests
    return tmp_path


def write(text: str) -> None:
    Path("mine.py").write_text(HEAD + text)


@pytest.fixture
def pool(folder: Path) -> Iterator[Callable[..., Pool]]:
    made: list[Pool] = []

    def make(text: str, workers: int = 1) -> Pool:
        write(text)
        launch = StudyRequest(study="mine.py", store="store", device="cpu")
        made.append(local_pool(launch, folder / "run", workers))
        return made[0]

    yield make
    for each in made:
        each.close()


def same(future: Future[object]) -> bool:
    expected = [plain_result(each) for each in ToyObjective().evaluate(REQUESTS)]
    return [plain_result(each) for each in future.result(timeout=LONG_S)] == expected  # type: ignore[attr-defined]


def test_two_workers_give_what_this_process_gives_and_what_they_print_is_logged(
    pool: Callable[..., Pool], folder: Path
) -> None:
    shout = "import os\ndef say(requests): print('threads', os.environ['OMP_NUM_THREADS'])\n"
    before = psutil.Process().children()
    made = pool(shout + "STUDY = spec(objective=ToyObjective(before=say))", workers=2)
    futures = [made.submit(REQUESTS, lambda event: None) for _ in range(2)]
    assert all(same(future) for future in futures)  # type: ignore[arg-type]
    made.close()
    logs = sorted((folder / "run" / "workers").iterdir())
    assert [log.name for log in logs] == ["worker-0.log", "worker-1.log"]
    assert "threads 1" in "".join(log.read_text() for log in logs)
    assert psutil.Process().children() == before


def test_a_killed_worker_is_replaced_and_its_batch_measured(pool: Callable[..., Pool]) -> None:
    told: list[Event] = []
    made = pool("STUDY = spec(objective=ToyObjective(before=Once(0, HERE, kill)))")
    assert same(made.submit(REQUESTS, told.append))  # type: ignore[arg-type]
    replaced = [event["stage"] for event in told if "replaced" in event.get("stage", "")]
    assert replaced == ["replaced: it was ended by SIGKILL, which is also how the system ends what "
                        "takes too much memory"]  # fmt: skip


def test_an_error_of_the_objective_is_reported_with_its_trace(pool: Callable[..., Pool]) -> None:
    made = pool("STUDY = spec(objective=ToyObjective(before=lambda requests: explode()))")
    with pytest.raises(ObjectiveError, match=r"^the machine caught fire") as caught:
        made.submit(REQUESTS, lambda event: None).result(timeout=LONG_S)
    assert "in explode" in caught.value.trace


def test_a_study_that_cannot_be_loaded_is_reported_in_a_sentence(pool: Callable[..., Pool]) -> None:
    made = pool("STUDY = 1 / 0")
    with pytest.raises(ValueError, match=r"worker 0 cannot load the study: .*: division by zero"):
        made.submit(REQUESTS, lambda event: None).result(timeout=LONG_S)


def test_what_reads_the_standard_input_of_a_worker_finds_it_empty(
    pool: Callable[..., Pool],
) -> None:
    ask = """
import os, sys
def ask(requests): (HERE / "read").write_text(repr((sys.stdin.read(), os.read(0, 9))))
STUDY = spec(objective=ToyObjective(before=ask))
"""
    assert same(pool(ask).submit(REQUESTS, lambda event: None))  # type: ignore[arg-type]
    assert Path("read").read_text() == "('', b'')"


RUN = [sys.executable, "-m", "hpo.cli.main", "run", "mine.py", "--executor", "processes"]


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program whose worker measures; it is over at the end, also where a test fails."""
    Path("slow").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: Path("pid").exists() and bool(Path("pid").read_text()))
            yield process
        finally:
            process.kill()


def test_a_signal_reaches_the_workers_which_keep_what_they_have(folder: Path) -> None:
    write(SLOW)
    with started(RUN) as process:
        worker = int(Path("pid").read_text())
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=LONG_S)
    assert process.returncode == 130, said
    assert "To continue:\nhpo run mine.py --executor processes" in said
    assert Path("kept").exists()
    assert not psutil.pid_exists(worker)
    Path("slow").unlink()
    assert main.main(["run", "mine.py"]) == 0
    place = run_folder.find_run("toy", Path("runs"), None)
    assert run_folder.read(place).trials == Controller(spec(trials=3), "sqlite://").run().trials


CONTROLLER = """
from pathlib import Path
from hpo.executors.processes import local_pool
from hpo.study_files import StudyRequest
pool = local_pool(StudyRequest(study="mine.py", store="store", device="cpu"), Path("run"), 1)
request = {"params": {"pretrain.lr": 0.01}, "fidelity": 1.0, "seed": 0}
pool.submit([request], lambda event: None).result()
"""


def test_workers_of_a_killed_controller_keep_what_they_have_and_leave(folder: Path) -> None:
    write(SLOW)
    with started([sys.executable, "-c", CONTROLLER]):
        pass
    worker = int(Path("pid").read_text())
    wait_for(lambda: not psutil.pid_exists(worker))
    assert Path("kept").exists()


def test_each_worker_has_a_gpu_of_those_that_may_be_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "DEVICES", "print(2)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    launch = StudyRequest(study="mine.py", store="store")
    found = [link.environment["CUDA_VISIBLE_DEVICES"] for link in local_pool(launch, folder).links]  # type: ignore[attr-defined]
    assert found == ["5", "7"]
    more = local_pool(launch, folder, workers=3).links
    assert [link.name for link in more] == [
        "worker 0 on GPU 5", "worker 1 on GPU 7", "worker 2 on GPU 5",
    ]  # fmt: skip
    on_cpu = local_pool(
        StudyRequest(study="mine.py", store="store", device="cpu"), folder, workers=2
    )
    assert [link.name for link in on_cpu.links] == ["worker 0", "worker 1"]


@pytest.mark.parametrize(
    ("gpus", "groups"), [(4, ["0,1", "2,3"]), (5, ["0,1", "2,3"]), (2, ["0,1"]), (1, ["0"])]
)
def test_a_worker_of_trials_on_several_gpus_has_as_many(
    gpus: int, groups: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "DEVICES", f"print({gpus})")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    launch = StudyRequest(study="mine.py", store="store", devices=2)
    found = [link.environment["CUDA_VISIBLE_DEVICES"] for link in local_pool(launch, folder).links]  # type: ignore[attr-defined]
    assert found == groups


def test_threads_are_divided_and_a_smaller_wish_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert processes._environment(0, [], 3)["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert processes._environment(0, [], 3)["OMP_NUM_THREADS"] == "2"
    assert processes._environment(0, [], 1)["OMP_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_a_single_worker_has_the_threads_of_this_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number would move the last digits of what it measures."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    launch = StudyRequest(study="mine.py", store="store", device="cpu")
    (link,) = local_pool(launch, folder, workers=1).links
    assert isinstance(link, Process)
    assert link.environment["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in link.environment
