"""Fine-tuning: the grid, sharing among bases, chunks, the store."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives.config.data import FileTask, TaskOverride
from objectives.config.training import Finetune, Lora, Schedule
from objectives.data import tasks
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning.lr_refinement import choice_error
from objectives.finetuning.lr_search import Finetuner, Outcome, next_rates, promising_rates
from objectives.finetuning.runs import num_steps
from objectives.finetuning.trainer import FinetuneTrainer
from objectives.progress import Report
from objectives.store.store import Store
from objectives.training.runtime import Runtime
from objectives.types import curve
from tests.objectives import toy

CONFIG = toy.CONFIGS["llama"]


@pytest.fixture(scope="module")
def mine(toy_folder: Path) -> tuple[FileTask, FileTask]:
    """A task with labels, and a longer one without."""
    short = [
        {"prompt": f"the {w}", "completion": f" {'yes' if n % 2 else 'no'}", "label": str(n % 2)}
        for n, w in enumerate(toy.text(30))
        for w in (f"{n} {w[:8]}",)
    ]
    long = [{"prompt": f"see {w[:50]}", "completion": f" {w[-6:]}"} for w in toy.text(30)]
    found = []
    for name, rows in (("short", short), ("long", long)):
        train = toy.write_jsonl(toy_folder / f"{name}-train.jsonl", rows[:20])
        validation = toy.write_jsonl(toy_folder / f"{name}-validation.jsonl", rows[20:24])
        test = toy.write_jsonl(toy_folder / f"{name}-test.jsonl", rows[24:])
        found.append(
            FileTask(name=name, train=str(train), validation=str(validation), test=str(test))
        )
    return found[0], found[1]


@pytest.fixture
def fine(mine: tuple[FileTask, FileTask]) -> Finetune:
    return Finetune(
        tasks=mine,
        lora=Lora(rank=2),
        lrs=(1e-3, 1e-2),
        max_extensions=1,
        refine=0,
        steps=4,
        batch_size=3,
        schedule=Schedule(warmup_steps=1, shape="linear", floor_ratio=0.0),
    )


def finetuner(
    fine: Finetune, corpus: TokenDataset, folder: Path, report: Report | None = None, **given: Any
) -> Finetuner:
    runtime = Runtime(
        store=Store(folder),
        report=report or (lambda event: None),
        **{"max_lanes": 64, **given},
    )
    trainer = FinetuneTrainer(CONFIG, fine, runtime, bf16=False, device="cpu")
    return Finetuner(trainer, tasks.load(fine, corpus.tokenizer), seed=0)


def bases(*seeds: int) -> list[tuple[str, dict[str, Any]]]:
    return [(f"base{seed}", toy.initial(CONFIG, seed)) for seed in seeds]


def assert_alike(found: Outcome, expected: Outcome) -> None:
    """Equal but for rounding: other lanes beside, or other padding."""
    assert found.lr == expected.lr
    assert found.tried == pytest.approx(expected.tried, rel=1e-5)
    for name in ("before", "loss_before", "after", "loss_after", "base_loss_after"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4)
    assert found.stages == expected.stages
    for one, other in zip(found.curve, expected.curve, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(
    ("tried", "grid", "expected"),
    [
        ({1e-3: 3.0, 1e-2: 2.0, 1e-1: 1.0}, (1e-3, 1e-2, 1e-1), [1.0]),
        ({1e-3: 1.0, 1e-2: 2.0, 1e-1: 3.0}, (1e-3, 1e-2, 1e-1), [1e-4]),
        ({1e-3: 2.0, 1e-2: 1.0, 1e-1: 3.0}, (1e-3, 1e-2, 1e-1), []),
        ({1e-3: 3.0, 1e-2: 2.0, 1e-1: 1.0, 1.0: 2.0}, (1e-3, 1e-2, 1e-1), []),
        ({1e-3: 3.0, 1e-2: 2.0, 1e-1: 1.0, 1.0: 0.5}, (1e-3, 1e-2, 1e-1), [10.0]),
        ({1e-3: 3.0, 3e-3: 2.0, 1e-1: 1.0}, (1e-1, 3e-3, 1e-3), [0.1 * 0.1 / 3e-3]),
        ({1e-3: 1.0, 1e-2: 1.0}, (1e-3, 1e-2), [1e-4]),
        ({1e-3: math.inf, 1e-2: math.inf}, (1e-3, 1e-2), [1e-4]),
        ({1e-3: 1.0, 1e-2: math.inf}, (1e-3, 1e-2), [1e-4]),
        ({1e-3: 1.0}, (1e-3,), []),
    ],
)
def test_the_grid_grows_by_its_own_ratio_where_the_best_rate_is_at_its_edge(
    tried: Mapping[float, float], grid: tuple[float, ...], expected: Sequence[float]
) -> None:
    assert next_rates(grid, tried, 0) == sorted(grid)
    assert next_rates(grid, tried, 1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("means", "kept"),
    [
        ((2.0, 1.0, 1.19), (1.0, 1.19)),  # a fifth above the least
        ((2.0, 1.0, 1.21), (1.0,)),
        ((0.04, 0.01, 0.2), (0.01, 0.04)),  # small differences of small losses decide nothing
        ((1.0, 1.0, 1.0), (1.0,) * 3),
        ((1.0, math.nan, math.inf), (1.0,)),
        ((math.nan, math.nan, math.inf), (math.nan, math.nan, math.inf)),
    ],
)
def test_a_rate_is_given_up_where_its_loss_over_the_latter_half_is_clearly_above_the_least(
    means: tuple[float, ...], kept: tuple[float, ...]
) -> None:
    losses = {
        float(index): np.array([[9.0, 9.0, 9.0 * index, mean, mean, mean]] * 2)
        for index, mean in enumerate(means)
    }
    found = [means[int(rate)] for rate in promising_rates(losses, 0.2)]
    assert sorted(map(str, found)) == sorted(map(str, kept))


SEARCH: dict[str, Any] = {
    "lrs": (1e-5, 1e-2), "steps": 45, "max_extensions": 0, "give_up_above": 0.01
}  # fmt: skip


def test_giving_a_rate_up_changes_nothing_but_what_it_takes(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    some = dataclasses.replace(fine, **SEARCH)
    whole = finetuner(dataclasses.replace(some, give_up_above=None), toy_corpus, tmp_path / "whole")
    expected, early = whole.run(bases(0, 1)), finetuner(some, toy_corpus, tmp_path / "early")
    for found, others in zip(early.run(bases(0, 1)), expected, strict=True):
        for one, other in zip(found, others, strict=True):
            assert one.tried[1e-5] == math.inf
            finite = {rate: loss for rate, loss in one.tried.items() if math.isfinite(loss)}
            assert_alike(
                dataclasses.replace(one, tried=finite),
                dataclasses.replace(other, tried={rate: other.tried[rate] for rate in finite}),
            )
    for took, more in zip(early.trainer.total, whole.trainer.total, strict=True):
        # of two rates at one seed and the better at another, one ends after a third of its steps
        assert took.tokens == pytest.approx(more.tokens * (1 - 2 / 9))
    assert [work.tokens for work in early.trainer.now] == [
        work.tokens for work in early.trainer.total
    ]
    again = finetuner(some, toy_corpus, tmp_path / "early")
    assert [[each.tried for each in found] for found in again.run(bases(0, 1))] == [
        [each.tried for each in found]
        for found in finetuner(some, toy_corpus, tmp_path / "other").run(bases(0, 1))
    ]
    assert [work.tokens for work in again.trainer.now] == [0.0, 0.0]
    assert [work.tokens for work in again.trainer.total] == [
        work.tokens for work in early.trainer.total
    ]


@pytest.mark.parametrize("after", [5, 12, 30])
def test_an_interrupted_search_gives_the_same_rates_up(
    after: int, fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    some = dataclasses.replace(fine, **SEARCH)
    expected = finetuner(some, toy_corpus, tmp_path / "whole").run(bases(0))
    events = 0

    def stop(event: dict[str, Any]) -> None:
        nonlocal events
        events += 1
        if events == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetuner(some, toy_corpus, tmp_path / "cut", stop).run(bases(0))
    found = finetuner(some, toy_corpus, tmp_path / "cut").run(bases(0))
    for one, other in zip(found[0], expected[0], strict=True):
        assert_alike(one, other)


def test_rates_are_not_compared_during_the_warmup(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    schedule = Schedule(warmup_steps=20, shape="linear", floor_ratio=0.0)
    some = dataclasses.replace(fine, **SEARCH | {"schedule": schedule})
    for outcome in finetuner(some, toy_corpus, tmp_path).run(bases(0))[0]:
        assert all(map(math.isfinite, outcome.tried.values()))


@pytest.mark.parametrize("max_extensions", [0, 1, 3])
def test_a_grid_far_below_the_best_rate_grows_as_often_as_it_may(
    max_extensions: int, fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    given = dataclasses.replace(fine, lrs=(1e-6, 1e-5), max_extensions=max_extensions, steps=3)
    ((outcome, _),) = finetuner(given, toy_corpus, tmp_path).run(bases(0))
    assert len(outcome.tried) == 2 + max_extensions
    assert outcome.lr == max(outcome.tried) == pytest.approx(1e-5 * 10**max_extensions)
    assert outcome.at_edge


def test_a_grid_does_not_grow_beyond_what_floats_hold() -> None:
    assert next_rates((1e-323, 1e-320), {1e-323: 1.0, 1e-320: 2.0}, 1) == []
    assert next_rates((1e300, 1e308), {1e300: 2.0, 1e308: 1.0}, 1) == []


def test_rounds_end_where_no_rate_is_left_to_try(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    many = dataclasses.replace(fine, lrs=(1e-2,), max_extensions=10**15, refine=10**15, steps=1)
    ((outcome, _),) = finetuner(many, toy_corpus, tmp_path).run(bases(0))
    assert [*outcome.tried] == [1e-2]


def test_the_best_rate_is_looked_for_between_those_of_the_grid_for_each_base(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    given = dataclasses.replace(fine, lrs=(1e-3, 1e-2, 1e-1), steps=20)
    coarse = finetuner(given, toy_corpus, tmp_path / "coarse").run(bases(0, 1))
    some = dataclasses.replace(given, refine=2)
    first = finetuner(some, toy_corpus, tmp_path / "fine")
    refined = first.run(bases(0, 1))
    for outcomes, others in zip(refined, coarse, strict=True):
        for one, other in zip(outcomes, others, strict=True):
            assert set(other.tried) < set(one.tried)
            assert one.tried[one.lr] == min(one.tried.values()) <= other.tried[other.lr]
            rates = sorted(one.tried)
            assert min(b / a for a, b in pairwise(rates)) > 2 ** (1 / 16)  # all are different
    again = finetuner(some, toy_corpus, tmp_path / "fine")
    assert again.run(bases(0, 1)) == refined
    assert [work.tokens for work in again.trainer.now] == [0.0, 0.0]
    (alone,) = finetuner(some, toy_corpus, tmp_path / "alone").run(bases(1))
    for pair in zip(alone, refined[1], strict=True):
        assert_alike(*pair)


def test_the_choice_of_the_rate_adds_to_the_errors_of_loss_and_score() -> None:
    tried = {3e-3: 2.1, 1e-2: 2.0, 3e-2: 2.1}
    sure = Outcome(1e-2, tried, before=0.1, loss_before=4.0, after=[0.5], loss_after=[2.0])
    assert sure.choice_errors == pytest.approx((0, 0), abs=1e-3)
    noisy = dataclasses.replace(sure, after=[0.4, 0.6], loss_after=[1.95, 2.05])
    nats, score = noisy.choice_errors
    assert nats == choice_error(tried, float(np.std([1.95, 2.05], ddof=1))) > 0.005
    assert score == pytest.approx(nats * 0.4 / 2.0)
    assert dataclasses.replace(noisy, tried={1e-2: 2.0}).choice_errors == (0, 0)


@pytest.mark.parametrize("saved", [(), ("embeddings", "norms")])
def test_bases_together_equal_one_at_a_time_in_chunks_or_not(
    saved: tuple[Any, ...], fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    fine = dataclasses.replace(fine, lora=Lora(rank=2, modules_to_save=saved))
    sample = toy_corpus.sample("validation", 60, toy.SEQ_LEN)
    together = finetuner(fine, toy_corpus, tmp_path / "all").run(bases(0, 1, 2), sample)
    few = finetuner(fine, toy_corpus, tmp_path / "few", max_lanes=5)
    for found, expected in zip(few.run(bases(0, 1, 2), sample), together, strict=True):
        for pair in zip(found, expected, strict=True):
            assert_alike(*pair)
    for seed in (0, 2):
        (alone,) = finetuner(fine, toy_corpus, tmp_path / f"base-{seed}").run(bases(seed), sample)
        for pair in zip(alone, together[seed], strict=True):
            assert_alike(*pair)
    for outcomes in together:
        for outcome in outcomes:
            assert len(outcome.after) == len(outcome.base_loss_after) == fine.seeds
            assert outcome.tried[outcome.lr] == min(outcome.tried.values())


def test_tuning_lowers_the_loss_and_its_curve_says_so(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    given = dataclasses.replace(fine, steps=30, lrs=(3e-2,), max_extensions=0)
    for outcome in finetuner(given, toy_corpus, tmp_path).run(bases(0))[0]:
        assert max(outcome.loss_after) < outcome.loss_before - 0.5
        assert outcome.curve[-1][1] < outcome.curve[0][1]
        assert outcome.curve[-1][0] == 30
        assert (
            outcome.after[0] != outcome.after[1] or outcome.loss_after[0] != outcome.loss_after[1]
        )


def read_back(params: dict[str, Any]) -> dict[str, Any]:
    """In the order in which files give them."""
    return {name: params[name] for name in sorted(params, reverse=True)}


def test_full_fine_tuning_trains_every_parameter_in_whatever_order_the_base_comes(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    given = dataclasses.replace(fine, method="full", steps=15, lrs=(1e-2,), max_extensions=0)
    found = finetuner(given, toy_corpus, tmp_path / "a").run(bases(0, 1))
    assert found[0][0].loss_after != found[1][0].loss_after
    for outcomes in found:
        for outcome in outcomes:
            assert max(outcome.loss_after) < outcome.loss_before - 0.5
    shuffled = [(key, read_back(params)) for key, params in bases(0, 1)]
    again = finetuner(given, toy_corpus, tmp_path / "b").run(shuffled)
    for one, other in zip(found, again, strict=True):
        for pair in zip(one, other, strict=True):
            assert_alike(*pair)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_fine_tunes_from_the_store_are_the_same_and_nothing_is_trained(
    method: str, fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    given = dataclasses.replace(fine, method=method)  # type: ignore[arg-type]
    first = finetuner(given, toy_corpus, tmp_path)
    expected = first.run(bases(0, 1))
    events: list[dict[str, Any]] = []
    second = finetuner(given, toy_corpus, tmp_path, events.append)
    found = second.run(bases(0, 1))
    assert found == expected
    assert not [event for event in events if "lanes" in event]
    assert [work.tokens for work in second.trainer.now] == [0.0, 0.0]
    assert [work.tokens for work in second.trainer.total] == [
        work.tokens for work in first.trainer.total
    ]
    assert all(work.tokens > 0 for work in first.trainer.now)


def test_stored_and_fresh_fine_tunes_are_scored_together_as_well(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    expected = finetuner(fine, toy_corpus, tmp_path / "fresh").run(bases(0, 1))
    finetuner(fine, toy_corpus, tmp_path / "part").run(bases(1))
    found = finetuner(fine, toy_corpus, tmp_path / "part").run(bases(0, 1))
    for one, other in zip(found, expected, strict=True):
        for pair in zip(one, other, strict=True):
            assert_alike(*pair)


def test_a_rate_that_diverges_is_worth_infinity_and_another_is_chosen(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    given = dataclasses.replace(fine, lrs=(1e-2, 1e30), max_extensions=0, steps=5)
    for outcome in finetuner(given, toy_corpus, tmp_path / "a").run(bases(0))[0]:
        assert outcome.lr == 1e-2
        assert outcome.tried[1e30] == math.inf
    given = dataclasses.replace(fine, lrs=(1e29, 1e30), max_extensions=0, steps=5)
    for outcome in finetuner(given, toy_corpus, tmp_path / "b").run(bases(0))[0]:
        assert math.isnan(outcome.lr)
        assert outcome.after == []
        assert math.isfinite(outcome.loss_before)


def test_epochs_give_the_steps_that_the_rows_need(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    given = dataclasses.replace(fine, steps=None, epochs=1.5)
    one = finetuner(given, toy_corpus, tmp_path)
    assert [num_steps(given, task) for task in one.tasks] == [10, 10]


def test_a_task_has_steps_rates_rows_and_length_of_its_own(
    fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    short, long = fine.tasks
    own = TaskOverride(steps=6, lrs=(2e-3, 2e-2), train_rows=12, max_length=40)
    both = dataclasses.replace(fine, tasks=(dataclasses.replace(short, override=own), long))
    found = finetuner(both, toy_corpus, tmp_path / "both")
    assert [num_steps(both, task) for task in found.tasks] == [6, 4]
    (first, second) = found.run(bases(0))[0]
    assert set(first.tried) >= {2e-3, 2e-2}
    assert set(second.tried) >= {1e-3, 1e-2}
    same = dataclasses.replace(
        fine, tasks=(short,), steps=6, lrs=(2e-3, 2e-2), train_rows=12, max_length=40
    )
    ((alone,),) = finetuner(same, toy_corpus, tmp_path / "alone").run(bases(0))
    assert_alike(first, alone)  # its stages have the same keys, too
    by_epochs = dataclasses.replace(both, steps=None, epochs=1.5)
    assert [num_steps(by_epochs, task) for task in found.tasks] == [6, 10]


def test_outcomes_go_through_json(fine: Finetune, toy_corpus: TokenDataset, tmp_path: Path) -> None:
    given = dataclasses.replace(fine, max_extensions=0, seeds=1)
    for outcome in finetuner(given, toy_corpus, tmp_path).run(bases(0))[0]:
        assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def test_a_curve_is_the_mean_between_its_points() -> None:
    losses = np.arange(10.0)
    assert curve(losses, 5) == [[2, 0.5], [4, 2.5], [6, 4.5], [8, 6.5], [10, 8.5]]
    assert curve(losses, 100) == [[float(n + 1), float(n)] for n in range(10)]
    assert curve(losses[:1], 5) == [[1.0, 0.0]]
