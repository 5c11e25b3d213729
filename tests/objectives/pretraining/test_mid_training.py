"""The second phase: its rates, its text, its keys, and the trunk that its variants share."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives import Execution, PlasticityObjective
from objectives.config.data import Files
from objectives.config.recipe import Recipe
from objectives.config.training import MidTraining, Schedule
from objectives.data import token_dataset
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining.batches import batches
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.result_notes import text_notes
from objectives.store.store import Store
from objectives.types import Request
from tests.objectives import toy
from tests.objectives.data.test_token_dataset import text_of
from tests.objectives.pretraining.test_sweep import (
    Counter,
    Stop,
    alone,
    assert_same,
    both,
    run,
    stop_at,
)

FIRST, MID = toy.STEPS, 8


WSO = Schedule(warmup_steps=4, decay_frac=0.0)


@pytest.fixture(scope="module")
def files(toy_folder: Path) -> Files:
    """Other text; ten of its documents are in the corpus too."""
    rows = [{"text": text} for text in toy.text(90, seed=1) + toy.text(10)]
    return Files(paths=(str(toy.write_jsonl(toy_folder / "second.jsonl", rows)),))


@pytest.fixture(scope="module")
def recipe(toy_folder: Path, files: Files) -> Recipe:
    mid = MidTraining(sources=(files,), steps=MID)
    return toy.recipe(toy_folder, schedule=WSO, mid=mid)


@pytest.fixture(scope="module")
def second(toy_folder: Path, toy_corpus: TokenDataset, files: Files) -> TokenDataset:
    text = dataclasses.replace(toy.corpus_recipe(toy_folder), sources=(files,))
    return token_dataset.prepare(
        text, toy.SEQ_LEN, Store(toy_folder / "corpus-store"), first=toy_corpus
    )


def job(
    recipe: Recipe,
    second: TokenDataset | None,
    steps: int = FIRST + MID,
    seed: int = 0,
    **params: Any,
) -> PretrainJob:
    dotted = {f"pretrain.{name.replace('__', '.')}": value for name, value in params.items()}
    return PretrainJob(recipe.with_params(dotted), seed, steps, second=second)


def bare(recipe: Recipe, steps: int = FIRST, **params: Any) -> PretrainJob:
    """Without a second phase."""
    return job(recipe, None, steps, mid=None, **params)


@pytest.mark.parametrize("alpha_pre", [0.1, 1.0])
@pytest.mark.parametrize("alpha_mid", [0.0, 0.1, 1.0])
def test_rates_are_the_papers_formula(
    alpha_pre: float, alpha_mid: float, recipe: Recipe, second: TokenDataset
) -> None:
    changed = recipe.with_params(
        {
            "pretrain.schedule.decay_frac": 0.25,
            "pretrain.schedule.shape": "linear",
            "pretrain.schedule.floor_ratio": alpha_pre,
        }
    )
    one = job(changed, second, mid__schedule__floor_ratio=alpha_mid)
    first = bare(changed)
    assert (one.lr[:FIRST] == first.lr).all()
    assert first.lr[-1] == pytest.approx(1e-2 * alpha_pre)
    expected = [
        first.lr[-1] * ((1 - alpha_mid) * (FIRST + MID - t) / MID + alpha_mid)
        for t in range(FIRST + 1, FIRST + MID + 1)
    ]
    np.testing.assert_allclose(one.lr[FIRST:], expected, rtol=1e-14, atol=1e-18)


def test_the_second_phase_has_its_own_decay_where_one_is_given(
    recipe: Recipe, second: TokenDataset
) -> None:
    assert set(job(recipe, second).decay) == {0.1}
    assert job(recipe, second, mid__weight_decay=0.0).decay.tolist() == [0.1] * FIRST + [0.0] * MID


@pytest.mark.parametrize(("steps", "first"), [(28, 20), (14, 10), (7, 5), (3, 2), (2, 1)])
def test_fewer_steps_shorten_both_phases(
    steps: int, first: int, recipe: Recipe, second: TokenDataset
) -> None:
    one = job(recipe, second, steps, schedule__warmup_steps=0)
    assert (one.first_steps, len(one.lr)) == (first, steps)


@pytest.mark.parametrize(
    ("steps", "params", "rule"),
    [
        (28, {"schedule__decay_frac": 0.5, "schedule__floor_ratio": 0.0}, "first phase ends at 0"),
        (
            28,
            {"mid__schedule__warmup_steps": 9},
            r"^pretrain\.mid\.schedule\.warmup_steps is 9 but",
        ),
        (1, {}, "^pretrain.mid needs a first phase, but the run has 1 steps"),
    ],
)
def test_a_second_phase_that_cannot_be_is_refused(
    steps: int, params: dict[str, Any], rule: str, recipe: Recipe, second: TokenDataset
) -> None:
    with pytest.raises(ValueError, match=rule):
        _ = job(recipe, second, steps, **params).lr


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({"pretrain.schedule.decay": "merged"}, "must be 'trained' where pretrain.mid follows"),
        ({"pretrain.mid.sources": []}, "pretrain.mid.sources"),
        ({"pretrain.mid.steps": 0}, "pretrain.mid.steps"),
        ({"pretrain.mid.vocab_size": 512}, "unknown hyperparameter 'pretrain.mid.vocab_size'"),
        ({"pretrain.mid": {"steps": 3}}, "pretrain.mid"),
    ],
)
def test_wrong_values_are_one_sentence(params: dict[str, Any], rule: str, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        recipe.with_params(params)
    assert "\n" not in str(caught.value)


def test_the_recipe_goes_through_json_and_the_phase_can_be_left_out(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.with_params(recipe.paths()) == recipe
    assert recipe.with_params({"pretrain.mid": None}).pretrain.mid is None


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([{"text": ""}], r"^pretrain\.mid\.sources\.0 \(files\) holds no text"),
        ([{"text": "a"}], r"of pretrain\.mid holds \d tokens, fewer than one sequence of 12"),
    ],
)
def test_too_little_text_is_refused(
    rows: list[dict[str, Any]],
    rule: str,
    toy_folder: Path,
    toy_corpus: TokenDataset,
    tmp_path: Path,
) -> None:
    file = Files(paths=(str(toy.write_jsonl(tmp_path / "small.jsonl", rows)),))
    text = dataclasses.replace(toy.corpus_recipe(toy_folder), sources=(file,))
    with pytest.raises(ValueError, match=rule):
        token_dataset.prepare(text, toy.SEQ_LEN, Store(tmp_path / "store"), first=toy_corpus)


def test_its_text_is_in_the_tokens_and_the_split_of_the_corpus(
    toy_corpus: TokenDataset, second: TokenDataset
) -> None:
    assert second.tokenizer is toy_corpus.tokenizer
    assert second.key != toy_corpus.key
    trained, held = text_of(second, second.train[0]), text_of(second, second.validation)
    assert sorted(trained + held) == sorted(toy.text(90, seed=1) + toy.text(10))
    assert not set(held) & set(text_of(toy_corpus, toy_corpus.train[0]))
    assert not set(trained) & set(text_of(toy_corpus, toy_corpus.validation))


def test_batches_come_from_the_corpus_and_then_from_the_second_text(
    recipe: Recipe, toy_corpus: TokenDataset, second: TokenDataset
) -> None:
    jobs = [job(recipe, second, seed=seed) for seed in (0, 3)] + [bare(recipe, FIRST + MID)]
    batch_at = batches(jobs, toy_corpus, "cpu")
    T = toy.SEQ_LEN
    for step, texts in ((5, [toy_corpus] * 3), (FIRST + 2, [second, second, toy_corpus])):
        for one, text, ids in zip(jobs, texts, batch_at(step).ids, strict=True):
            position, phase = (step, 0) if text is toy_corpus else (step - FIRST, 1)
            assert (ids.numpy() == text.batch(one.seed, position, 4, T, phase=phase)).all()
    together = batches(jobs[:1] * 2, toy_corpus, "cpu")(FIRST)
    assert together.ids.shape == (4, T + 1)


def sequences(one: PretrainJob, corpus: TokenDataset, steps: range) -> set[tuple[int, ...]]:
    batch_at = batches([one], corpus, "cpu")
    return {tuple(row.tolist()) for step in steps for row in batch_at(step).ids}


def test_a_second_phase_on_the_same_text_goes_on_where_the_first_one_stopped(
    recipe: Recipe, toy_corpus: TokenDataset
) -> None:
    one, longer = job(recipe, toy_corpus), bare(recipe, FIRST + MID)
    for step in range(FIRST + MID):
        found, expected = (batches([each], toy_corpus, "cpu")(step).ids for each in (one, longer))
        assert (found == expected).all()
    first = sequences(one, toy_corpus, range(FIRST))
    second = sequences(one, toy_corpus, range(FIRST, FIRST + MID))
    assert not first & second  # the corpus is larger than the run
    repeated = recipe.with_params({"pretrain.steps": 2000, "pretrain.mid.steps": 800})
    (note,) = text_notes(job(repeated, toy_corpus, 2800), toy_corpus)
    assert note == f"the run sees its training text {toy_corpus.epochs(2800 * 48, 12):.1f} times"


def test_text_that_both_phases_share_does_not_come_in_the_same_order_again(
    recipe: Recipe, toy_corpus: TokenDataset
) -> None:
    """Another share of the text makes it another corpus of the same sequences."""
    again = dataclasses.replace(toy_corpus, weights=(2.0,))
    one = job(recipe, again)
    batch_at = batches([one], toy_corpus, "cpu")
    same = [(batch_at(step).ids == batch_at(FIRST + step).ids).all() for step in range(MID)]
    assert not any(same)


def test_keys_know_the_second_phase_only_once_it_has_begun(
    recipe: Recipe, toy_corpus: TokenDataset, second: TokenDataset
) -> None:
    constant = {"mid__schedule__floor_ratio": 1.0}
    one, plain = job(recipe, second, **constant), bare(recipe, FIRST + MID)
    assert (one.lr == plain.lr).all()
    for step in range(1, FIRST + 1):
        assert one.key(toy_corpus, step) == plain.key(toy_corpus, step)
    others = [
        plain,
        one,
        job(recipe, second),
        job(recipe, second, mid__weight_decay=0.5),
        job(recipe, second, mid__steps=9, **constant),
        job(recipe, toy_corpus, **constant),
        job(recipe, dataclasses.replace(second, weights=(2.0,)), **constant),
    ]
    end = FIRST + MID
    assert len({each.key(toy_corpus, end) for each in others}) == len(others)
    assert job(recipe, second, mid__weight_decay=0.1).key(toy_corpus, end) == (
        job(recipe, second).key(toy_corpus, end)
    )
    longer = job(recipe, second, FIRST + 20, mid__steps=20, **constant)
    assert longer.first_steps == FIRST
    assert longer.key(toy_corpus, end) == one.key(toy_corpus, end)


def variants(recipe: Recipe, second: TokenDataset) -> list[PretrainJob]:
    """Both ends of the paper's grid on one trunk; without; decayed first; another seed."""
    return [
        job(recipe, second, mid__schedule__floor_ratio=1.0),
        job(recipe, second),
        bare(recipe),
        bare(recipe, FIRST + MID),
        job(recipe, second, schedule__decay_frac=0.25),
        job(recipe, second, seed=1),
    ]


# A trunk of 20 with two ends in the second phase and one in the first; a branch from 15 to the end;
# and a lane of its own.
STEPS = FIRST + 3 * MID + (5 + MID) + (FIRST + MID)


def test_variants_share_the_trunk_bit_for_bit(
    recipe: Recipe, toy_corpus: TokenDataset, second: TokenDataset, tmp_path: Path
) -> None:
    jobs, counter = variants(recipe, second), Counter()
    expected = alone(jobs, toy_corpus, tmp_path)
    found = run(jobs, toy_corpus, tmp_path / "together", counter)
    assert_same(found, expected)
    assert counter.steps == STEPS
    assert sum(one.trained_steps for one in found) == pytest.approx(STEPS)
    assert_same(run(jobs, toy_corpus, tmp_path / "few", max_lanes=2), expected)
    assert [len(one.losses) for one in found] == [one.steps for one in jobs]
    assert (found[0].losses[:FIRST] == found[2].losses).all()
    assert (found[0].losses[FIRST:] != found[3].losses[FIRST:]).all()
    assert [step for step, _ in found[0].validation] == [5.0, 10.0, 15.0, 20.0, 25.0]


def test_variants_that_come_later_start_where_the_first_phase_ended(
    recipe: Recipe, toy_corpus: TokenDataset, second: TokenDataset, tmp_path: Path
) -> None:
    decayed = recipe.with_params({"pretrain.schedule.decay_frac": 0.5})
    counter = Counter()
    for floor in (0.0, 0.1, 1.0):
        one = job(decayed, second, mid__schedule__floor_ratio=floor)
        (found,) = run([one], toy_corpus, tmp_path / "store", counter)
        assert_same([found], alone([one], toy_corpus, tmp_path / str(floor)))
    assert counter.steps == FIRST + 3 * MID


@pytest.fixture(scope="module")
def grown(
    recipe: Recipe,
    toy_corpus: TokenDataset,
    second: TokenDataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[BaseModel]:
    """The variants, trained undisturbed."""
    return run(variants(recipe, second), toy_corpus, tmp_path_factory.mktemp("grown"))


@pytest.mark.parametrize("step", [17, FIRST, FIRST + 3, FIRST + MID])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    step: int,
    recipe: Recipe,
    toy_corpus: TokenDataset,
    second: TokenDataset,
    grown: list[BaseModel],
    tmp_path: Path,
) -> None:
    jobs = variants(recipe, second)
    before, counter = Counter(), Counter()
    with pytest.raises(Stop):
        run(jobs, toy_corpus, tmp_path / "store", both(before, stop_at(step)))
    assert_same(run(jobs, toy_corpus, tmp_path / "store", counter), grown)
    assert before.steps + counter.steps == STEPS


def test_the_second_phase_can_be_merged(
    recipe: Recipe, toy_corpus: TokenDataset, second: TokenDataset, tmp_path: Path
) -> None:
    kept = recipe.with_params({"pretrain.keep_trunk": True, "pretrain.merge_points": 10})
    counter = Counter()
    run([job(kept, second, mid__schedule__floor_ratio=1.0)], toy_corpus, tmp_path, counter)
    one = job(kept, second, mid__schedule__decay="merged")
    assert one.merge is not None
    assert one.merge.steps == (20, 22, 24, 26, 28)
    assert one.merge.weights == pytest.approx((3 / 16, 1 / 4, 1 / 4, 1 / 4, 1 / 16))
    (found,) = run([one], toy_corpus, tmp_path, counter)
    assert counter.steps == FIRST + MID
    assert_same([found], alone([one], toy_corpus, tmp_path / "alone"))


def test_results_have_the_second_texts_loss_and_its_tokens(recipe: Recipe, tmp_path: Path) -> None:
    fine = toy.finetune(seeds=1, schedule=Schedule(warmup_steps=1), test_rows=4)
    whole = Recipe(
        model=recipe.model, corpus=recipe.corpus, pretrain=recipe.pretrain, finetune=fine
    )
    objective = PlasticityObjective(whole, Execution(device="cpu", store=tmp_path))
    params: list[dict[str, Any]] = [
        {},
        {"pretrain.mid": None},
        {"pretrain.mid.schedule.floor_ratio": 1.0},
        {"pretrain.schedule.decay_frac": 1.0, "pretrain.schedule.floor_ratio": 0.0},
    ]
    requests = [Request(params=each, fidelity=1.0, seed=0) for each in params]
    found = objective.evaluate(requests)
    with_mid, without, _, refused = found
    assert refused.failure == (
        "pretrain.mid needs a rate to go on from, but the first phase ends at 0; raise "
        "pretrain.schedule.floor_ratio above 0."
    )
    assert "mid_loss" not in without.metrics
    assert 0 < with_mid.metrics["mid_loss"] < 2 * math.log(toy.VOCAB)
    assert with_mid.metrics["mid_loss"] != with_mid.metrics["base_loss"]
    assert len({one.metrics["base_loss"] for one in found[:3]}) == 3
    assert with_mid.curves["val_loss"][-1] == [FIRST + MID, with_mid.metrics["base_loss"]]
    ratio = with_mid.metrics["tokens_per_param"] / without.metrics["tokens_per_param"]
    assert ratio == pytest.approx((FIRST + MID) / FIRST)
    assert [one.cost["tokens"] for one in objective.evaluate(requests)[:3]] == [0, 0, 0]
    fresh = sum(one.cost["tokens"] for one in found[:3])
    total = sum(one.cost["tokens"] + one.cost["tokens_reused"] for one in found[:3])
    assert total - fresh == 2 * FIRST * 4 * toy.SEQ_LEN
    short = objective({}, fidelity=0.5)
    assert short.curves["lr"][-1] == [14.0, 0.0]
    assert short.curves["lr"][9] == [10.0, 1e-2]


def test_notes_count_the_epochs_of_each_phase(
    recipe: Recipe, toy_corpus: TokenDataset, second: TokenDataset
) -> None:
    longer = recipe.with_params({"pretrain.steps": 2000, "pretrain.mid.steps": 800})
    found = text_notes(job(longer, second, 2800), toy_corpus)
    epochs = [toy_corpus.epochs(2000 * 48, 12), second.epochs(800 * 48, 12)]
    assert found == [
        f"the run sees its training text {epochs[0]:.1f} times",
        f"the second phase sees its training text {epochs[1]:.1f} times",
    ]
