"""The pool's rules, with links to workers of this process that break when they are told to."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from hpo.core.conditions import ConditionsChanged
from hpo.core.failures import ObjectiveError
from hpo.core.objective import Event, Request
from hpo.executors import pool as pool_module
from hpo.executors.interrupts import Interrupted
from hpo.executors.pool import Lost, Pool
from hpo.executors.worker import Message, plain_result
from tests.hpo.toy_objective import ToyObjective

Talk = Callable[[Sequence[Request], int], Iterator[Message | None]]
"""What a worker says to a batch, by how many were started before it; its end is the worker's."""


class ToyLink:
    """A link to a generator."""

    name = "worker 0"

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.started = 0
        self.batches: list[int] = []
        self.stops = 0
        self.says: Iterator[Message | None] = iter(())

    def start(self) -> None:
        self.started += 1

    def send(self, message: Message) -> None:
        self.batches.append(len(message["requests"]))
        self.says = self.talk(message["requests"], self.started - 1)

    def receive(self, timeout_s: float) -> Message | None:
        try:
            return next(self.says)
        except StopIteration:
            raise Lost("it left with code 3") from None

    def log(self) -> str:
        return "no more memory\nsaid postgresql://u:secret@h/x"

    def stop(self) -> None:
        self.stops += 1

    def gone(self) -> bool:
        return True

    def kill(self) -> None:
        pass


def requests(*lrs: float) -> list[Request]:
    return [Request(params={"pretrain.lr": lr}, fidelity=1.0, seed=0) for lr in lrs]


def results(batch: Sequence[Request]) -> Message:
    return {"results": [plain_result(each) for each in ToyObjective().evaluate(batch)]}


def at(step: int, stage: str = "pretrain") -> Message:
    return {"event": {"stage": stage, "step": step, "steps": 100}}


def measured(talk: Talk, batch: list[Request], **given: Any) -> tuple[ToyLink, Pool, list[Any]]:
    link = ToyLink(talk)
    pool = Pool([link], **given)
    found = list(pool.submit(batch, lambda event: None).result(timeout=30))
    pool.close()
    return link, pool, found


def test_a_batch_lost_with_its_worker_is_measured_by_the_next() -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield at(5)
        if before == 2:
            yield results(batch)

    link, _, found = measured(talk, requests(0.01, 0.02))
    assert (link.started, link.batches) == (3, [2, 2, 2])
    assert [plain_result(each) for each in found] == results(requests(0.01, 0.02))["results"]


def test_a_trial_that_ends_every_worker_fails_alone_with_the_reason() -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield {"beat": True}
        if all(each["params"]["pretrain.lr"] != 0.03 for each in batch):
            yield results(batch)

    link, _, found = measured(talk, requests(0.01, 0.02, 0.03, 0.04, 0.05), most_losses=2)
    assert [each.failure is None for each in found] == [True, True, False, True, True]
    assert found[2].failure == (
        "its worker died 2 times in a row: it left with code 3; last log lines: no more memory "
        "/ said postgresql://u:***@h/x"
    )
    assert link.batches == [5, 5, 3, 3, 2, 1, 1, 2]


def test_losses_do_not_count_while_the_batch_gets_further() -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield at(before)
        if before == 10:
            yield results(batch)

    link, _, found = measured(talk, requests(0.01))
    assert (link.started, found[0].failure) == (11, None)


def test_steps_that_were_reported_before_are_no_progress() -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield at(7 - before)

    link, _, found = measured(talk, requests(0.01))
    assert link.started == 3
    assert "died 3 times in a row" in found[0].failure


@pytest.mark.parametrize(
    ("says", "given", "said"),
    [
        ([None] * 3, {"silence_s": 0.0}, "no sign of life for 0 s"),
        ([{"beat": True}] * 3, {"patience_s": 0.0}, "no progress for 0 s"),
        ([{"stopped": True}], {}, "told to stop from elsewhere"),
    ],
)
def test_a_silent_a_hung_and_a_stopped_worker_are_lost(
    says: list[Message | None], given: dict[str, float], said: str
) -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield from says

    _, _, found = measured(talk, requests(0.01), **given)
    assert said in found[0].failure


PREPARING: Message = {"event": {"stage": "tokenize", "step": 0, "steps": 1, "preparing": True}}


def answered(says: list[Message], **given: float) -> list[Any]:
    """Of a request whose worker says this before its results."""

    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield from says
        yield results(batch)

    _, _, found = measured(talk, requests(0.01), **given)
    return found


@pytest.mark.parametrize(
    ("says", "given", "hung"),
    [
        ([PREPARING, {"beat": True}], {}, True),
        ([PREPARING, at(1), {"beat": True}], {}, False),
        ([{"ready": True}, {"beat": True}], {}, False),
        ([PREPARING, {"beat": True}], {"patience_s": 3600.0}, False),
    ],
)
def test_a_worker_that_beats_but_gets_no_further_in_its_data_is_hung_sooner_than_one_that_trains(
    says: list[Message], given: dict[str, float], hung: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "PREPARATION_S", 0.0)

    found = answered(says, **given)
    assert ("no progress for 0 s while it prepared its data" in str(found[0].failure)) == hung


def busy(cpu_s: float) -> Message:
    return {"beat": True, "cpu_s": cpu_s}


QUEUED: Message = {**at(0, "in the queue"), "queued": True}


@pytest.mark.parametrize(
    ("says", "given", "hung"),
    [
        ([{"beat": True}], {}, True),
        ([busy(0.1), busy(0.9)], {}, True),
        ([busy(2.0), busy(4.0), {"ready": True}, busy(4.0)], {}, False),
        ([busy(2.0), busy(4.0), busy(4.5)], {}, True),
        ([busy(2.0), busy(4.0)], {"patience_s": 0.0}, True),
        ([QUEUED, {"beat": True}], {}, True),
        ([QUEUED, QUEUED, {"ready": True}, {"beat": True}], {}, False),
        ([{"beat": True}], {"patience_s": 3600.0}, False),
    ],
)
def test_a_worker_that_does_nothing_while_it_loads_the_study_is_hung_within_minutes(
    says: list[Message], given: dict[str, float], hung: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that computes, as checksums of a large corpus, or waits in a queue is not."""
    monkeypatch.setattr(pool_module, "PREPARATION_S", 0.0)

    found = answered(says, **given)
    assert ("while it loaded the study" in str(found[0].failure)) == hung


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("ValueError", ObjectiveError, "ValueError: no such corpus"),
        ("KeyError", ObjectiveError, "KeyError: no such corpus"),
        ("StoreError", ObjectiveError, "no such corpus"),
    ],
)
def test_what_the_objective_raises_comes_out_and_the_worker_stays(
    kind: str, error: type[Exception], said: str
) -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        if len(link.batches) == 1:
            yield {"error": {"kind": kind, "text": "no such corpus", "trace": "line 1"}}
        yield results(batch)

    link = ToyLink(talk)
    pool = Pool([link])
    with pytest.raises(error) as caught:
        pool.submit(requests(0.01), lambda event: None).result(timeout=30)
    assert str(caught.value) == said
    pool.submit(requests(0.01), lambda event: None).result(timeout=30)
    assert link.started == 1
    pool.close()


def test_a_study_that_a_worker_cannot_load_is_reported() -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield {"refused": "no study file 'mine.py'; check the path."}

    pool = Pool([ToyLink(talk)])
    with pytest.raises(ValueError, match="worker 0 cannot load the study: no study file"):
        pool.submit(requests(0.01), lambda event: None).result(timeout=30)
    pool.close()


def test_an_interruption_raised_by_an_event_comes_out_and_the_worker_is_asked_to_leave() -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield at(1)
        yield results(batch)

    def interrupt(event: Event) -> None:
        if event.get("step"):
            raise Interrupted

    link = ToyLink(talk)
    pool = Pool([link])
    with pytest.raises(Interrupted):
        pool.submit(requests(0.01), interrupt).result(timeout=30)
    assert link.stops == 1
    pool.close()


def test_batches_are_measured_side_by_side_and_end_in_any_order() -> None:
    begun = threading.Event()

    def first(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        begun.wait(30)
        yield results(batch)

    def second(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        begun.set()
        yield results(batch)

    def either(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        return (first if len(batch) == 1 else second)(batch, before)

    pool = Pool([ToyLink(either), ToyLink(either)])
    assert pool.slots == 2
    futures = [pool.submit(requests(*[0.01] * count), lambda event: None) for count in (1, 2)]
    assert [len(future.result(timeout=30)) for future in futures] == [1, 2]
    pool.close()


def test_a_closed_pool_cancels_what_waits_and_takes_nothing_more() -> None:
    begun, held = threading.Event(), threading.Event()

    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        begun.set()
        held.wait(30)
        yield at(1)

    pool = Pool([ToyLink(talk)])
    running, waiting = (pool.submit(requests(0.01), lambda event: None) for _ in range(2))
    assert begun.wait(30)
    threading.Timer(0.1, held.set).start()
    pool.close()
    assert isinstance(running.exception(timeout=30), Lost)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(requests(0.01), lambda event: None)


def test_events_name_the_worker_and_the_size_of_its_batch() -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield at(1)
        yield results(batch)

    told: list[Event] = []
    pool = Pool([ToyLink(talk)])
    pool.submit(requests(0.01, 0.02), told.append).result(timeout=30)
    pool.close()
    about = {"worker": "worker 0", "batch": 2}
    assert told == [
        {"stage": "start", "step": 0, "steps": 1, **about},
        {"stage": "pretrain", "step": 1, "steps": 100, **about},
        {"idle": True, "step": 0, "steps": 1, **about},
    ]


def test_a_worker_that_starts_while_the_pool_closes_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "TICK_S", 0.0)
    starts, go_on = threading.Event(), threading.Event()

    class Slow(ToyLink):
        killed = False

        def start(self) -> None:
            starts.set()
            go_on.wait()
            self.killed = False

        def kill(self) -> None:
            self.killed = True

    link = Slow(lambda batch, before: itertools.repeat(None, 50))
    pool = Pool([link])
    answer = pool.submit(requests(0.01), lambda event: None)
    starts.wait()
    pool.close()
    go_on.set()
    with pytest.raises(Lost, match="the executor is closed"):
        answer.result(timeout=30)
    assert link.killed


@pytest.mark.parametrize("here", [{"corpus": "books"}, {}])
def test_a_worker_with_other_data_than_the_studys_measures_nothing(here: dict[str, str]) -> None:
    def talk(batch: Sequence[Request], before: int) -> Iterator[Message | None]:
        yield {"ready": True, "conditions": here if before == 0 else {"corpus": "wiki"}}
        yield results(batch)

    link = ToyLink(talk)
    pool = Pool([link])
    pool.conditions = {"corpus": "wiki"}
    said = rf"worker 0 has other data .*: corpus \(wiki -> {here.get('corpus', 'none')}\)"
    with pytest.raises(ConditionsChanged, match=said):
        pool.submit(requests(0.01), lambda event: None).result(timeout=30)
    assert pool.submit(requests(0.01), lambda event: None).result(timeout=30)[0].failure is None
    assert link.started == 2
    pool.close()
