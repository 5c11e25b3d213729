"""What a study opens is closed at its end, and not when the garbage collector comes by."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.controller import Controller
from hpo.executors.processes import local_pool
from hpo.storage.provenance import StudyChanged
from hpo.storage.record import load_study, open_study, url_of
from hpo.study_files import StudyRequest
from tests.hpo.cli.test_main import folder, write
from tests.hpo.toy_objective import spec

__all__ = ["folder"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")


def descriptors() -> dict[str, str]:
    """This process's open descriptors -> what each leads to."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder's own, which is closed by now
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


@pytest.fixture
def nothing_stays_open() -> Iterator[Callable[[], None]]:
    """Raises where more is open than when the test began; nothing is collected meanwhile."""
    gc.collect()
    gc.disable()
    before = descriptors()

    def check() -> None:
        assert {each: to for each, to in descriptors().items() if before.get(each) != to} == {}

    yield check
    gc.enable()


def test_a_run_closes_its_database_which_opens_again_for_who_asks(
    url: str, nothing_stays_open: Callable[[], None]
) -> None:
    controller = Controller(spec(trials=2, sampler="random"), url)
    run = controller.run()
    nothing_stays_open()
    assert len(controller.record.study.trials) == len(run.trials) == 2


def test_a_controller_that_does_not_run_has_nothing_open(
    url: str, nothing_stays_open: Callable[[], None]
) -> None:
    made = Controller(spec(), url)
    nothing_stays_open()
    with pytest.raises(StudyChanged):
        Controller(spec(seed=1), url)
    nothing_stays_open()
    assert made.record.study.user_attrs["spec"]["seed"] == 0


def test_a_database_that_nobody_holds_is_closed_at_once(
    tmp_path: Path, nothing_stays_open: Callable[[], None]
) -> None:
    url = url_of(tmp_path)
    open_study(url, "toy", spec().goals).set_user_attr("mine", 1)
    assert load_study(url, "toy", "read").user_attrs["mine"] == 1
    nothing_stays_open()


def test_commands_leave_nothing_open(
    folder: Path, nothing_stays_open: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(trials=2, sampler='random')")
    lines = ["run mine.py", "run mine.py --trials 3", "run mine.py --trials 4 --live", "list",
             "show toy", "show toy --json", "report toy", "export toy --trial 0 --to there",
             "copy toy --to-storage sqlite:///copy.db", "run mine.py --seed 3 --fork",
             "compare toy toy-2", "delete toy --yes"]  # fmt: skip
    for line in lines:
        assert main.main(line.split()) == 0, capsys.readouterr().err
        nothing_stays_open()


def test_worker_processes_leave_nothing_open(
    folder: Path, nothing_stays_open: Callable[[], None]
) -> None:
    write("STUDY = spec()")
    pool = local_pool(StudyRequest(study="mine.py", store="store", device="cpu"), folder, 1)
    controller = Controller(spec(trials=1), "sqlite:///study.db", pool)
    with contextlib.closing(pool):
        controller.run()
    nothing_stays_open()
