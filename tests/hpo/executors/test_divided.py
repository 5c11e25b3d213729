"""A wave that is divided among workers, with links to workers of this process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpo.controller import Controller
from hpo.core.failures import ObjectiveError
from hpo.core.objective import Event, Request
from hpo.executors import EXECUTORS, Options, auto
from hpo.executors.divided import WAITS, Divided, divide
from hpo.executors.inline import Inline
from hpo.executors.interrupts import Interrupted
from hpo.executors.pool import Pool
from hpo.executors.worker import Message
from hpo.storage.record import url_of
from hpo.study_files import StudyRequest
from tests.hpo.executors.test_pool import ToyLink, at, requests, results
from tests.hpo.toy_objective import ToyObjective, spec


class Sharing(ToyObjective):
    """Requests of one learning rate share this much of their training."""

    share = 0.0

    def reused(self, request: Request, done: Request) -> float:
        return self.share * (request["params"] == done["params"])


def divided(
    talk: Callable[[Sequence[Request], int], Iterator[Message | None]], workers: int
) -> tuple[Divided, list[ToyLink]]:
    links = [ToyLink(talk) for _ in range(workers)]
    for index, link in enumerate(links):
        link.name = f"worker {index}"
    return Divided(Pool(links), Sharing()), links


def answer(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
    yield at(1)
    yield results(batch)


def test_results_come_in_the_order_of_the_requests_whatever_the_number_of_workers() -> None:
    batch = requests(0.01, 0.02, 0.03, 0.04, 0.05)
    wanted = [dict(each.metrics) for each in ToyObjective().evaluate(batch)]
    for workers in (1, 2, 3, 8):
        executor, links = divided(answer, workers)
        found = executor.submit(batch, lambda event: None).result(timeout=30)
        executor.close()
        assert [dict(each.metrics) for each in found] == wanted
        sizes = sorted(size for link in links for size in link.batches)
        assert sum(sizes) == 5
        assert sizes[-1] - sizes[0] <= 1


def test_all_workers_begin_before_there_is_a_batch_and_idle_ones_are_ended_at_once() -> None:
    executor, links = divided(answer, 3)
    begun = threading.Barrier(4, timeout=30)
    for link in links:
        link.start = begun.wait  # type: ignore[method-assign, assignment]
    executor.begin()
    begun.wait()
    executor.close()
    assert [link.stops for link in links] == [0, 0, 0]  # ended, as there is nothing to keep


def test_events_are_about_the_trials_of_their_part_and_idle_workers_wait_to_be_shown_so(
    tmp_path: Path,
) -> None:
    executor, _ = divided(answer, 2)
    events: list[Event] = []
    study = spec(objective=ToyObjective(), trials=4, wave=4)
    Controller(study, url_of(tmp_path), executor).run(events.append)
    executor.close()
    parts = {tuple(each["numbers"]) for each in events if each.get("stage") == "pretrain"}
    assert sorted(itertools.chain(*parts)) == [0, 1, 2, 3]
    assert len(parts) == 2
    assert sum(each.get("stage") == WAITS for each in events) == 2
    idle = [index for index, each in enumerate(events) if "idle" in each]
    done = max(index for index, each in enumerate(events) if each.get("stage") == WAITS)
    assert len(idle) == 2
    assert min(idle) > done


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_study_is_the_same_for_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    def run(executor: Any, folder: Path) -> list[dict[str, Any]]:
        folder.mkdir()
        study = spec(objective=ToyObjective(), trials=9, wave=3)
        record = Controller(study, url_of(folder), executor).run()
        return [{**each.params, **each.metrics} for each in record.trials]

    executor, _ = divided(answer, workers)
    found = run(executor, tmp_path / "divided")
    executor.close()
    assert found == run(Inline(ToyObjective()), tmp_path / "inline")


def test_an_error_of_the_objective_waits_for_what_the_other_workers_finish() -> None:
    finished = threading.Event()

    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        if batch[0]["params"]["pretrain.lr"] == 0.01:
            yield {"error": {"kind": "ValueError", "text": "no", "trace": "", "fatal": False}}
        else:
            yield from itertools.repeat(None, 3)
            finished.set()
            yield results(batch)

    executor, _ = divided(talk, 2)
    future = executor.submit(requests(0.01, 0.02), lambda event: None)
    with pytest.raises(ObjectiveError, match="no"):
        future.result(timeout=30)
    assert finished.is_set()
    executor.close()


def test_an_interruption_does_not_wait_for_the_other_workers() -> None:
    release = threading.Event()

    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield at(1)
        while not release.wait(0.01):
            yield None
        yield results(batch)

    def on_event(event: Event) -> None:
        if event.get("places") == [0] and event["stage"] == "pretrain":
            raise Interrupted

    executor, _ = divided(talk, 2)
    with pytest.raises(Interrupted):
        executor.submit(requests(0.01, 0.02), on_event).result(timeout=30)
    release.set()
    executor.close()


def test_parts_cost_alike_and_requests_that_share_their_training_stay_together() -> None:
    equal = requests(0.01, 0.02, 0.01, 0.02)
    shares = Sharing()
    assert divide(equal, 2, shares) == [[0, 2], [1, 3]]
    shares.share = 1.0
    assert divide(requests(0.01, 0.01, 0.02, 0.02), 2, shares) == [[0, 1], [2, 3]]
    rungs = [{**each, "fidelity": f} for each, f in zip(equal, (1.0, 0.1, 0.1, 0.1), strict=True)]
    bases: list[Request] = [{**each, "base_only": True} for each in rungs]  # type: ignore[typeddict-item]
    shares.share = 0.0
    assert divide(bases, 2, shares) == [[0], [1, 2, 3]]
    assert divide(equal, 1, shares) == [[0, 1, 2, 3]]
    assert divide(equal[:1], 4, shares) == [[0]]


class Working(ToyObjective):
    operations = 0.0

    def cpu_operations(self, requests: Sequence[Request]) -> float:
        return self.operations * len(requests)


@pytest.mark.parametrize(
    ("operations", "options", "wave", "workers"),
    [
        (0.0, Options(), 6, 0),  # on a GPU
        (1e9, Options(), 6, 0),  # not worth the start
        (1e13, Options(), 6, 4),
        (1e13, Options(), 3, 3),
        (1e13, Options(), 1, 0),
        (0.0, Options(workers=2), 6, 2),
        (1e13, Options(workers=1), 6, 0),
        (0.0, Options(workers=1000), 3, 3),  # no more than trials of a wave
    ],
)
def test_auto_takes_a_worker_of_one_thread_for_each_core_where_that_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operations: float, options: Options,
    wave: int, workers: int,
) -> None:  # fmt: skip
    from hpo.executors import processes

    for module in (auto, processes):
        monkeypatch.setattr(module, "num_cpus", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    objective = Working()
    objective.operations = operations
    study = spec(objective=objective, trials=12, wave=wave)
    launch = StudyRequest(study="mine.py", store="store")
    made = EXECUTORS["auto"](study, launch, tmp_path, options)
    if workers == 0:
        assert isinstance(made, Inline)
        return
    assert isinstance(made, Divided)
    links: list[Any] = list(made.pool.links)
    assert [link.environment["HPO_SHARERS"] for link in links] == [str(workers)] * workers
    assert {link.environment["OMP_NUM_THREADS"] for link in links} == {str(4 // workers)}
    made.close()


def test_an_objective_that_does_not_say_what_it_computes_is_measured_in_this_process(
    tmp_path: Path,
) -> None:
    launch = StudyRequest(study="mine.py", store="store")
    study = spec(objective=ToyObjective(), trials=12)
    assert isinstance(EXECUTORS["auto"](study, launch, tmp_path, Options()), Inline)
