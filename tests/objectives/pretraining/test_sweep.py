"""Pretraining as a tree: sharing, stopping and continuing change nothing but the work done."""

from __future__ import annotations

import copy
import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from objectives.config.recipe import Recipe
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining.checkpoints import BaseModel, latest_start, startable
from objectives.pretraining.job import PretrainJob, check_length
from objectives.pretraining.run import pretrain
from objectives.store.store import Store, StoreError
from objectives.training import setup
from objectives.training.runtime import Runtime
from tests.objectives import toy

Report = Callable[[dict[str, Any]], None]


class Counter:
    """Counts lanes times steps as they are trained."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, event: dict[str, Any]) -> None:
        self.steps += event["lanes"]


@pytest.fixture(scope="module")
def base(toy_folder: Path) -> Recipe:
    return toy.recipe(toy_folder)


def job(recipe: Recipe, steps: int = toy.STEPS, seed: int = 0, **params: Any) -> PretrainJob:
    dotted = {f"pretrain.{name.replace('__', '.')}": value for name, value in params.items()}
    return PretrainJob(recipe.with_params(dotted), seed, steps)


def tree(recipe: Recipe) -> list[PretrainJob]:
    """Schedules with a common trunk at two horizons, another decay, another seed."""
    wso = {"schedule__decay_frac": 0.0}
    wsd = {"schedule__shape": "linear", "schedule__floor_ratio": 0.0}
    return [
        job(recipe, **wso),
        job(recipe, **wsd, schedule__decay_frac=0.25),
        job(recipe, **wsd, schedule__decay_frac=0.5),
        job(recipe, steps=10, **wso),
        job(recipe, steps=13, **wsd, schedule__decay_frac=0.25),
        job(recipe, **wso, weight_decay=1.0),
        job(recipe, **wso, seed=1),
    ]


# Trunk 20; branches from 15 and 10; at horizon 13 the branch leaves at 13 - round(3.25) = 10; and
# two lanes of their own.
TREE_STEPS = 20 + 5 + 10 + 3 + 20 + 20


def run(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    folder: Path,
    report: Report | None = None,
    **given: Any,
) -> list[BaseModel]:
    store = Store(folder)
    try:
        given = {"max_lanes": 64, **given}
        return pretrain(jobs, corpus, Runtime(store=store, report=report or Counter(), **given))
    finally:
        store.close()


def alone(jobs: Sequence[PretrainJob], corpus: TokenDataset, tmp_path: Path) -> list[BaseModel]:
    """Each job in a fresh store."""
    return [run([one], corpus, tmp_path / f"alone-{i}")[0] for i, one in enumerate(jobs)]


def assert_same(found: Sequence[BaseModel], expected: Sequence[BaseModel]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.key == other.key
        assert toy.same(one.params, other.params)
        assert (one.losses == other.losses).all()
        assert one.validation == other.validation
        assert one.diverged_at == other.diverged_at


def test_sharing_changes_nothing_bit_for_bit(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs = tree(base)
    expected = alone(jobs, toy_corpus, tmp_path)
    together = run(jobs, toy_corpus, tmp_path / "together")
    assert_same(together, expected)
    one_by_one = [run([one], toy_corpus, tmp_path / "grown")[0] for one in jobs]
    assert_same(one_by_one, expected)
    assert [len(one.losses) for one in together] == [one.steps for one in jobs]
    assert [step for step, _ in together[0].validation] == [5.0, 10.0, 15.0]
    assert len({one.key for one in together}) == len(jobs)


def test_every_stretch_of_the_tree_is_trained_once_and_counted(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs, counter = tree(base), Counter()
    found = run(jobs, toy_corpus, tmp_path / "store", counter)
    assert counter.steps == TREE_STEPS
    assert sum(one.trained_steps for one in found) == pytest.approx(TREE_STEPS)
    assert found[-1].trained_steps == 20
    again = run(jobs, toy_corpus, tmp_path / "store", counter)
    assert counter.steps == TREE_STEPS
    assert [one.trained_steps for one in again] == [0.0] * len(jobs)
    assert_same(again, found)


def test_equal_jobs_are_one_lane(base: Recipe, toy_corpus: TokenDataset, tmp_path: Path) -> None:
    counter = Counter()
    one, other = run([job(base), job(base)], toy_corpus, tmp_path, counter)
    assert counter.steps == toy.STEPS
    assert one.trained_steps == other.trained_steps == toy.STEPS / 2
    assert_same([one], [other])


@pytest.mark.parametrize("max_lanes", [1, 3])
def test_the_most_lanes_at_once_change_nothing(
    max_lanes: int, base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs = tree(base)
    expected = run(jobs, toy_corpus, tmp_path / "together")
    assert_same(run(jobs, toy_corpus, tmp_path / "few", max_lanes=max_lanes), expected)


class Stop(Exception):
    """Raised in the middle."""


def stop_at(step: int) -> Report:
    def report(event: dict[str, Any]) -> None:
        if event["step"] == step:
            raise Stop

    return report


@pytest.fixture(scope="module")
def grown(
    base: Recipe, toy_corpus: TokenDataset, tmp_path_factory: pytest.TempPathFactory
) -> list[BaseModel]:
    """The tree, trained undisturbed."""
    return run(tree(base), toy_corpus, tmp_path_factory.mktemp("grown"))


@pytest.mark.parametrize("step", [7, 10, 20])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    step: int, base: Recipe, toy_corpus: TokenDataset, grown: list[BaseModel], tmp_path: Path
) -> None:
    jobs = tree(base)
    before, counter = Counter(), Counter()
    with pytest.raises(Stop):
        run(jobs, toy_corpus, tmp_path / "store", both(before, stop_at(step)))
    found = run(jobs, toy_corpus, tmp_path / "store", counter)
    assert_same(found, grown)
    assert before.steps + counter.steps == TREE_STEPS
    assert sum(one.trained_steps for one in found) == pytest.approx(counter.steps)


def both(*reports: Report) -> Report:
    def report(event: dict[str, Any]) -> None:
        for one in reports:
            one(dict(event))

    return report


def test_a_run_stopped_again_and_again_still_ends_right(
    base: Recipe, toy_corpus: TokenDataset, grown: list[BaseModel], tmp_path: Path
) -> None:
    jobs = tree(base)
    for step in (3, 10, 17):
        with pytest.raises(Stop):
            run(jobs, toy_corpus, tmp_path / "store", stop_at(step))
    assert_same(run(jobs, toy_corpus, tmp_path / "store"), grown)


def lengths(folder: Path, stage: str) -> list[int]:
    """Steps at which something of this stage is stored."""
    return sorted(int(key.split("-")[0]) for key in Store(folder).keys(stage))


def test_checkpoints_on_the_way_change_nothing_and_leave_nothing(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = tree(base)
    expected = run(jobs, toy_corpus, tmp_path / "rare")
    monkeypatch.setattr(setup, "CHECKPOINT_S", 0.0)
    assert_same(run(jobs, toy_corpus, tmp_path / "often"), expected)
    assert lengths(tmp_path / "often", "checkpoint") == []
    for stage in ("pretrain", "moments"):
        assert lengths(tmp_path / "often", stage) == lengths(tmp_path / "rare", stage)


def test_a_stopped_run_leaves_one_checkpoint_a_lane_and_a_finished_one_none(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = tree(base)[:3]  # one lane to step 10, two to 15, three to 20
    expected = run(jobs, toy_corpus, tmp_path / "undisturbed")
    monkeypatch.setattr(setup, "CHECKPOINT_S", 0.0)
    counter = Counter()
    for step, left in ((7, [7]), (13, [13, 13]), (17, [17, 17, 17])):
        with pytest.raises(Stop):
            run(jobs, toy_corpus, tmp_path / "s", both(counter, stop_at(step)))
        assert lengths(tmp_path / "s", "checkpoint") == left
    assert_same(run(jobs, toy_corpus, tmp_path / "s", counter), expected)
    assert counter.steps == 20 + 5 + 10
    assert lengths(tmp_path / "s", "checkpoint") == []


def test_a_checkpoint_stays_as_long_as_jobs_of_the_same_call_need_it(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs = tree(base)[:3]
    with pytest.raises(Stop):
        run(jobs, toy_corpus, tmp_path, stop_at(7))
    seen: list[int] = []
    run(jobs, toy_corpus, tmp_path, lambda event: seen.append(event["step"]), max_lanes=1)
    assert min(seen) == 8
    assert lengths(tmp_path, "checkpoint") == []


def test_a_checkpoint_that_another_process_uses_stays(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run([job(base)], toy_corpus, tmp_path, stop_at(7))
    other = Store(tmp_path)
    (key,) = other.keys("checkpoint")
    assert other.get("checkpoint", key) is not None
    run([job(base)], toy_corpus, tmp_path)
    assert lengths(tmp_path, "checkpoint") == [7]
    other.close()


class Killed(BaseException):
    """The process ends here."""


def full_disk(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """A write during which the disk becomes full."""

    def writing(folder: Path) -> None:
        write(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    return writing


class OneMore(Store):
    """A store that takes one new entry, then has the process killed, or is full at the next."""

    def __init__(self, root: Path, ends: str) -> None:
        super().__init__(root)
        self.ends, self.left = ends, 1

    def put(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], None],
        *,
        seconds: float | None = None,
    ) -> Path:
        new = not self._path(stage, key).exists()
        if self.ends == "full" and new and not self.left:
            write = full_disk(write)
        self.left -= new
        entry = super().put(stage, key, write, seconds=seconds)
        if self.ends == "killed" and new:
            raise Killed
        return entry


@pytest.mark.parametrize(
    ("ends", "policy"), [("killed", "uniform"), ("full", "uniform"), ("killed", "alpha_decay")]
)
def test_a_run_that_ends_at_each_write_in_turn_still_ends_right(
    ends: str, policy: str, base: Recipe, toy_corpus: TokenDataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Between two writes of one moment the lanes are stored at different steps."""
    base = base.with_params(
        {
            "pretrain.weight_decay.policy": policy,
            "pretrain.weight_decay.scores.every": 4,
            "pretrain.weight_decay.scores.min_eigenvalues": 8,
        }
    )
    jobs = [
        job(base, steps=6, schedule__decay_frac=0.0),
        job(base, steps=6, schedule__decay_frac=0.5),
        job(base, steps=6, weight_decay=1.0),
    ]
    expected = run(jobs, toy_corpus, tmp_path / "undisturbed")
    monkeypatch.setattr(setup, "CHECKPOINT_S", 0.0)
    ended, mixed = 0, 0
    while True:
        store = OneMore(tmp_path / "store", ends)
        runtime = Runtime(store=store, report=Counter(), max_lanes=64)
        mixed += len({latest_start(store, startable(store), toy_corpus, each) for each in jobs}) > 1
        try:
            found = pretrain(jobs, toy_corpus, runtime)
            break
        except (Killed, StoreError):
            ended += 1
    assert_same(found, expected)
    assert ended > 10
    assert mixed > 5


def points(*jobs: PretrainJob, folder: Path, corpus: TokenDataset) -> list[list[list[float]]]:
    found = run(jobs, corpus, folder)
    return [one.validation_of(each) for one, each in zip(found, jobs, strict=True)]


def test_a_validation_curve_has_the_points_its_job_asks_for_on_its_sample(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    often, seldom, other = job(base), job(base, evals=2), job(base, curve_tokens=48)
    expected = [
        points(each, folder=tmp_path / str(place), corpus=toy_corpus)[0]
        for place, each in enumerate((often, seldom, other))
    ]
    assert [[step for step, _ in curve] for curve in expected] == [[5, 10, 15], [10], [5, 10, 15]]
    assert expected[1] == expected[0][1:2]
    assert expected[2] != expected[0]
    together = points(often, seldom, folder=tmp_path / "together", corpus=toy_corpus)
    assert together == expected[:2]
    later = points(seldom, other, folder=tmp_path / "together", corpus=toy_corpus)
    assert later == [expected[1], []]
    assert points(often, folder=tmp_path / "1", corpus=toy_corpus) == [expected[0][1:2]]


def test_points_measured_on_another_sample_are_not_mixed_in(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    for steps, sample in ((10, 48), (toy.STEPS, 96)):
        each = job(base, steps, schedule__decay_frac=0.0, curve_tokens=sample)
        (curve,) = points(each, folder=tmp_path / "grown", corpus=toy_corpus)
    (whole,) = points(each, folder=tmp_path / "whole", corpus=toy_corpus)
    assert curve == whole[1:]
    assert [step for step, _ in whole] == [5, 10, 15]


def test_dropout_in_pretraining_is_the_same_after_a_stop_and_in_any_company(
    base: Recipe, toy_corpus: TokenDataset, toy_folder: Path, tmp_path: Path
) -> None:
    config = copy.deepcopy(toy.CONFIGS["gpt2"])
    config.resid_pdrop = config.embd_pdrop = 0.2
    config.save_pretrained(toy_folder / "dropping")
    recipe = base.with_params({"model.config": str(toy_folder / "dropping")})
    jobs = [job(recipe), job(recipe, weight_decay=1.0)]
    expected = alone(jobs, toy_corpus, tmp_path)
    with pytest.raises(Stop):
        run(jobs, toy_corpus, tmp_path / "store", stop_at(7))
    assert_same(run(jobs, toy_corpus, tmp_path / "store"), expected)


def test_a_longer_horizon_continues_a_shorter_constant_one(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    counter = Counter()
    for steps in (8, 14, toy.STEPS):
        found = run(
            [job(base, steps, schedule__decay_frac=0.0)], toy_corpus, tmp_path / "s", counter
        )
    assert counter.steps == toy.STEPS
    assert_same(found, alone([job(base, schedule__decay_frac=0.0)], toy_corpus, tmp_path))


def test_a_decayed_horizon_is_not_continued_and_keeps_no_memory(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    counter = Counter()
    run([job(base, 10)], toy_corpus, tmp_path, counter)
    assert list(Store(tmp_path).keys("moments")) == []
    run([job(base)], toy_corpus, tmp_path, counter)
    assert counter.steps == 30


def test_a_diverging_job_comes_back_marked_and_the_others_right(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs = [*tree(base)[:3], job(base, lr=1e30), job(base, lr=1e30, schedule__decay_frac=0.5)]
    found = run(jobs, toy_corpus, tmp_path / "store")
    assert_same(found[:3], alone(jobs[:3], toy_corpus, tmp_path))
    assert [one.diverged_at for one in found[:3]] == [None] * 3
    for one in found[3:]:
        assert 0 < one.diverged_at < 5
        assert len(one.losses) >= one.diverged_at
        assert list(Store(tmp_path / "store").keys("pretrain")).count(one.key) == 0
    again = run(jobs, toy_corpus, tmp_path / "store")
    assert [one.diverged_at for one in again] == [one.diverged_at for one in found]


def test_a_damaged_base_is_trained_again(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    (expected,) = run([job(base)], toy_corpus, tmp_path)
    path = tmp_path / "pretrain" / expected.key / "params.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.warns(UserWarning, match="damaged"):
        (found,) = run([job(base)], toy_corpus, tmp_path)
    assert_same([found], [expected])
    assert found.trained_steps == toy.STEPS


SCORED = {"weight_decay__scores__min_eigenvalues": 4, "weight_decay__scores__every": 6}


def decays(recipe: Recipe) -> list[PretrainJob]:
    """Decays of all kinds, for one constant rate; some share a program, none a lane."""
    alpha = {**SCORED, "weight_decay__policy": "alpha_decay", "schedule__decay_frac": 0.0}
    ways: list[dict[str, Any]] = [
        alpha,
        {**alpha, "weight_decay__scores__low": 0.1, "weight_decay": 2.0},
        {**alpha, "schedule__decay_frac": 0.5, "weight_decay__decayed": "matrices"},
        {**alpha, "weight_decay__coupling": "l2"},
        {**alpha, "weight_decay__policy": "ada_decay"},
        {"weight_decay__policy": "awd", "weight_decay": 0.01},
        {"weight_decay__policy": "awd", "weight_decay": 1.0, "weight_decay__course": "linear"},
        {"weight_decay__policy": "cautious", "weight_decay": 3.0},
        {"weight_decay__policy": "adam_c"},
        {"weight_decay__policy": "stable", "weight_decay": 0.01},
        {"weight_decay__coupling": "l2"},
        {"weight_decay__multipliers__attn_qk": 5.0, "weight_decay__course": "inverse_time"},
        {"weight_decay__value": None, "weight_decay__tau_frac": 0.3},
        {"optimizer": "sgd", "lr": 0.1},
        {**alpha, "optimizer": "sgd", "lr": 0.1, "weight_decay__coupling": "l2"},
    ]
    return [job(recipe, **way) for way in ways]


@pytest.fixture(scope="module")
def together(
    base: Recipe, toy_corpus: TokenDataset, tmp_path_factory: pytest.TempPathFactory
) -> list[BaseModel]:
    """All of them trained as lanes, undisturbed."""
    return run(decays(base), toy_corpus, tmp_path_factory.mktemp("together"))


def test_lanes_with_decays_of_all_kinds_equal_single_runs_bit_for_bit(
    base: Recipe, toy_corpus: TokenDataset, together: list[BaseModel], tmp_path: Path
) -> None:
    jobs = decays(base)
    assert_same(together, alone(jobs, toy_corpus, tmp_path))
    assert len({one.key for one in together}) == len(jobs)
    plain = run([job(base)], toy_corpus, tmp_path / "plain")[0]
    assert not any(toy.same(one.params, plain.params) for one in together)


@pytest.mark.parametrize("step", [9, 12])
def test_what_a_policy_remembers_survives_an_interruption(
    step: int,
    base: Recipe,
    toy_corpus: TokenDataset,
    together: list[BaseModel],
    tmp_path: Path,
) -> None:
    """Step 9 is between two looks at the modules, after step 12 comes the next one."""
    jobs = decays(base)
    for kind in range(len(jobs)):
        with pytest.raises(Stop):
            run(jobs[kind : kind + 1], toy_corpus, tmp_path / "store", stop_at(step))
    counter = Counter()
    assert_same(run(jobs, toy_corpus, tmp_path / "store", counter), together)
    assert counter.steps == len(jobs) * (toy.STEPS - step)


def test_strengths_that_know_the_horizon_keep_nothing_to_go_on_from(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    constant = {"schedule__decay_frac": 0.0, "weight_decay__course": "inverse_time"}
    run([job(base, **constant)], toy_corpus, tmp_path)
    assert list(Store(tmp_path).keys("moments")) == []


def test_a_rule_that_the_model_cannot_have_is_one_clear_error(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"scores\.min_eigenvalues is 50 but"):
        run([job(base, weight_decay__policy="alpha_decay")], toy_corpus, tmp_path)


CHANGES: list[tuple[dict[str, Any], bool]] = [
    ({"pretrain.lr": 0.02}, True),
    ({"pretrain.weight_decay": 0.2}, True),
    ({"pretrain.weight_decay.coupling": "l2"}, True),
    ({"pretrain.weight_decay.coupling": "independent"}, True),
    ({"pretrain.weight_decay.policy": "cautious"}, True),
    ({"pretrain.weight_decay.course": "linear"}, True),
    ({"pretrain.weight_decay.multipliers.head": 0.0}, True),
    ({"pretrain.weight_decay.scores.every": 3}, False),
    ({"pretrain.weight_decay.final_ratio": 0.5}, False),
    ({"pretrain.batch_size": 8}, True),
    ({"pretrain.seq_len": 8}, True),
    ({"pretrain.weight_decay.decayed": "matrices"}, True),
    ({"pretrain.beta1": 0.8}, True),
    ({"pretrain.beta2": 0.9}, True),
    ({"pretrain.eps": 1e-6}, True),
    ({"pretrain.optimizer": "sgd"}, True),
    ({"pretrain.clip_norm": None}, True),
    ({"pretrain.accumulation": 2}, True),
    ({"pretrain.precision": "bf16"}, True),
    ({"pretrain.schedule.warmup_steps": 3}, True),
    ({"model.config": None, "model.preset": "llama-0.2m"}, True),
    ({"finetune.seeds": 3}, False),
    ({"finetune.lrs": [0.1]}, False),
    ({"finetune.lora.rank": 2}, False),
    ({"probes.forgetting_tokens": 0}, False),
    ({"pretrain.steps": 40}, False),
    ({"pretrain.evals": 2}, False),
]


@pytest.mark.parametrize(("params", "matters"), CHANGES)
def test_a_key_changes_exactly_with_what_can_change_the_weights(
    params: dict[str, Any], matters: bool, base: Recipe, toy_corpus: TokenDataset
) -> None:
    one = job(base, schedule__decay_frac=0.0)
    other = PretrainJob(one.recipe.with_params(params), one.seed, one.steps)
    assert (one.key(toy_corpus, 10) != other.key(toy_corpus, 10)) == matters
    assert PretrainJob(one.recipe, 1, one.steps).key(toy_corpus, 10) != one.key(toy_corpus, 10)


def test_a_key_does_not_know_what_follows(base: Recipe, toy_corpus: TokenDataset) -> None:
    wso = job(base, schedule__decay_frac=0.0)
    wsd = job(base, schedule__decay_frac=0.25)
    longer = job(base, 30, schedule__decay_frac=0.0)
    for step in (1, 10, 15):
        assert wso.key(toy_corpus, step) == wsd.key(toy_corpus, step)
        assert wso.key(toy_corpus, step) == longer.key(toy_corpus, step)
    assert wso.key(toy_corpus, 16) != wsd.key(toy_corpus, 16)
    keys = [wso.key(toy_corpus, step) for step in range(1, 21)]
    assert len(set(keys)) == 20


def test_a_config_changed_in_its_folder_changes_the_key(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    keys = []
    for name in ("llama", "neox"):
        toy.CONFIGS[name].save_pretrained(tmp_path / "config")
        changed = base.with_params({"model.config": str(tmp_path / "config")})
        keys.append(PretrainJob(changed, 0, 20).key(toy_corpus, 5))
    assert keys[0] != keys[1]
    same_shape = base.with_params({"model.config": str(tmp_path / "copy")})
    toy.CONFIGS["neox"].save_pretrained(tmp_path / "copy")
    assert PretrainJob(same_shape, 0, 20).key(toy_corpus, 5) == keys[1]


def test_sequences_longer_than_the_models_positions_are_refused() -> None:
    recipe = Recipe().with_params({"model.preset": "gpt2-0.2m", "pretrain.seq_len": 2048})
    with pytest.raises(ValueError, match="at most the model's 1024 positions, got 2048"):
        check_length(recipe, 300)
    check_length(recipe.with_params({"pretrain.seq_len": 1024}), 300)
