"""Actors of a Ray cluster of two nodes."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.core.objective import Event, Request
from hpo.executors.ray_actors import ray_pool
from hpo.executors.worker import plain_result
from hpo.study_files import StudyRequest
from tests.hpo.toy_objective import ToyObjective

pytestmark = [pytest.mark.ray, pytest.mark.slow]


HEAD = """
from pathlib import Path
from tests.hpo.toy_objective import *
HERE = Path(__file__).parent
"""


REQUESTS = [Request(params={"pretrain.lr": lr}, fidelity=1.0, seed=0) for lr in (0.01, 0.02)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install -e '.[test]'")
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = {"num_cpus": 1, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            made.add_node(num_cpus=1)
            ray.init(address=made.address, log_to_driver=False, logging_level="warning")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def expected() -> list[dict[str, Any]]:
    return [plain_result(each) for each in ToyObjective().evaluate(REQUESTS)]


@pytest.mark.filterwarnings("ignore")
def test_actors_on_two_nodes_give_what_this_process_gives_and_dead_ones_are_replaced(
    cluster: Any, tmp_path: Path
) -> None:
    study = tmp_path / "mine.py"
    study.write_text(
        HEAD
        + "def act(requests):\n    print('node', os.getpid())\n    Once(0, HERE, kill)(requests)\n"
        "STUDY = spec(objective=ToyObjective(before=act))"
    )
    told: list[Event] = []
    launch = StudyRequest(study=str(study), store=str(tmp_path / "store"), device="cpu")
    with contextlib.closing(ray_pool(launch, tmp_path)) as pool:
        assert pool.slots == 2
        futures = [pool.submit(REQUESTS, told.append) for _ in range(2)]
        for future in futures:
            assert [plain_result(each) for each in future.result(timeout=120)] == expected()
    assert any(event.get("stage", "").startswith("replaced: ") for event in told)
    logs = [path.read_text() for path in (tmp_path / "workers").iterdir()]
    assert len(logs) == 2
    assert all("node" in log for log in logs)
    assert os.getpid() not in [int(word) for log in logs for word in log.split() if word.isdigit()]


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_too_small_is_reported(cluster: Any, tmp_path: Path) -> None:
    launch = StudyRequest(study="mine.py", store="store")
    with pytest.raises(ValueError, match=r"has 2 CPUs and 0 GPUs, and a worker asks for 1 and 0.5"):
        ray_pool(launch, tmp_path, gpus=0.5)
