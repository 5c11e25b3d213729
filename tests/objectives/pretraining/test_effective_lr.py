"""Runs at another run's effective rate: the rates are those, whoever trains when and with whom."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from objectives import Execution, PlasticityObjective, VisionRecipe
from objectives.config.recipe import Recipe
from objectives.config.training import Schedule
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.run import pretrain
from objectives.training import loop, optimizers, setup
from objectives.training.runtime import Runtime
from objectives.types import Request
from tests.objectives import toy
from tests.objectives.pretraining.test_sweep import (
    Counter,
    Killed,
    OneMore,
    Report,
    Stop,
    alone,
    assert_same,
    both,
    job,
    run,
)

DECAY = 3.0


NONE = {"weight_decay": 0.0}


@pytest.fixture
def base(toy_folder: Path) -> Recipe:
    return toy.recipe(toy_folder)


def follower(
    recipe: Recipe, steps: int = toy.STEPS, of: float = DECAY, **params: Any
) -> PretrainJob:
    return job(recipe, steps, **{"effective_lr_of__value": of, **NONE, **params})


class Sphere:
    """A loss that does not see the length of the weights."""

    def losses(self, params: Mapping[str, Tensor], frozen: Any, batch: Any) -> Tensor:
        w_KP = params["w"]
        at_KP = w_KP / torch.linalg.vector_norm(w_KP, dim=1, keepdim=True)
        scales_P = torch.linspace(1, 2, w_KP.shape[1])
        return (scales_P * (at_KP - batch.target) ** 2).sum(1)


@dataclasses.dataclass(frozen=True)
class Target:
    """A step's own minimum."""

    target: Tensor

    def split(self, parts: int) -> list[Target]:
        return [self]


def target_at(step: int) -> Target:
    drawn = torch.randn(6, generator=torch.Generator().manual_seed(step))
    return Target(drawn / drawn.norm())


def by_signs(
    decays: list[float], rates: Tensor, followed_SK: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sign descent, which is AdamW without memory: weights after and norms before each step."""
    values = torch.randn(1, 6, generator=torch.Generator().manual_seed(7)).repeat(len(decays), 1)
    state = loop.State.fresh({"w": values.shape[1:]}, values.clone())
    plan = loop.Plan(
        lr_SK=rates[:, None].repeat(1, len(decays)),
        decay_SK=torch.tensor([decays] * len(rates)),
        followed_SK=followed_SK,
        constants=optimizers.constants(len(decays), "cpu", beta1=0.0, beta2=0.0, eps=1e-300),
    )
    before, after = [loop.weight_norms(state.rows)], list[Tensor]()

    def look(step: int, loss_K: Tensor) -> None:
        before.append(loop.weight_norms(state.rows))
        after.append(state.rows.values.clone())

    loop.train(Sphere(), state, plan, target_at, until=len(rates), after_step=look)
    return torch.stack(after), torch.stack(before[:-1])


@pytest.mark.usefixtures("float64")
def test_without_length_in_the_loss_decay_is_nothing_but_its_effective_rate() -> None:
    """w' = (1 - lr wd) w - lr sign(g): directions are those of the rate lr / ((1 - lr wd) |w|)."""
    rates = torch.linspace(0.05, 0.02, 30)
    decayed_SKP, norms_SK = by_signs([0.8], rates)
    length_SK = (1 - rates[:, None] * 0.8) * norms_SK
    none_S1 = torch.full_like(length_SK, math.nan)
    found_SKP, _ = by_signs([0.0, 0.0], rates, torch.cat([length_SK, none_S1], 1))
    directions = torch.nn.functional.normalize(found_SKP, dim=2)
    expected = torch.nn.functional.normalize(decayed_SKP, dim=2)[:, 0]
    assert torch.allclose(directions[:, 0], expected, atol=1e-12, rtol=0)
    assert (directions[-1, 1] - expected[-1]).abs().max() > 1e-2
    assert torch.equal(found_SKP[:, 1], by_signs([0.0], rates)[0][:, 0])


def test_a_run_that_follows_itself_is_the_run_bit_for_bit(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    plain, itself = run(
        [job(base, weight_decay=0.5), follower(base, of=0.5, weight_decay=0.5)],
        toy_corpus,
        tmp_path,
    )
    assert toy.same(plain.params, itself.params)
    assert (plain.losses == itself.losses).all()
    assert itself.rates is not None
    assert (itself.rates == job(base).lr).all()
    assert plain.rates is None
    assert plain.key != itself.key


def test_the_rates_keep_the_effective_rate_of_the_run_with_decay(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    decayed, matched, plain = run(
        [job(base, weight_decay=DECAY), follower(base), job(base, **NONE)], toy_corpus, tmp_path
    )
    assert matched.rates is not None
    assert matched.rates[0] == job(base).lr[0]
    effective = matched.rates[1:] / matched.norms[:-1]
    assert effective == pytest.approx(job(base).lr[1:] / decayed.norms[:-1], rel=1e-12)
    assert (matched.rates[1:] > job(base).lr[1:]).all()  # decay makes weights smaller
    assert decayed.norms[-1] < 0.9 * plain.norms[-1]
    assert not toy.same(matched.params, plain.params)
    weights = torch.cat([p.flatten() for p in matched.params.values()])
    assert matched.norms[-1] == pytest.approx(float(weights.norm()), rel=1e-6)


def kinds(recipe: Recipe) -> list[PretrainJob]:
    """Followers of all kinds among others."""
    constant = {"schedule__decay_frac": 0.0}
    return [
        job(recipe, weight_decay=DECAY),
        follower(recipe),
        follower(recipe, effective_lr_of__value=None, effective_lr_of__tau_frac=0.3),
        follower(recipe, **constant),
        follower(recipe, weight_decay=0.2),
        follower(recipe, optimizer="sgd", lr=0.1),
        job(recipe, seed=1, effective_lr_of__value=DECAY, **NONE),
        job(recipe, **NONE),
    ]


def test_followers_in_any_company_equal_single_runs_bit_for_bit(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs = kinds(base)
    together = run(jobs, toy_corpus, tmp_path / "together")
    expected = [run([one], toy_corpus, tmp_path / "grown")[0] for one in jobs]
    assert_same(together, expected)
    for one, other in zip(together, expected, strict=True):
        assert (one.rates is None) == (other.rates is None)
        assert one.rates is None or (one.rates == other.rates).all()
    assert len({one.key for one in together}) == len(jobs)
    assert_same([together[0]], alone(jobs[:1], toy_corpus, tmp_path))
    assert_same(run(jobs, toy_corpus, tmp_path / "together"), together)  # all of it stored


@pytest.mark.parametrize("max_lanes", [1, 64])
def test_a_reference_is_trained_once_whether_asked_for_or_not_and_counted(
    max_lanes: int, base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    asked, counter = [job(base, weight_decay=DECAY), follower(base)], Counter()
    together = run(asked, toy_corpus, tmp_path / "asked", counter, max_lanes=max_lanes)
    assert counter.steps == 2 * toy.STEPS
    assert sum(one.trained_steps for one in together) == pytest.approx(counter.steps)
    counter = Counter()
    (one,) = run(asked[1:], toy_corpus, tmp_path / "not", counter, max_lanes=max_lanes)
    assert_same([one], together[1:])
    assert one.trained_steps == counter.steps == 2 * toy.STEPS
    assert one.reference_steps == toy.STEPS
    (later,) = run(asked[:1], toy_corpus, tmp_path / "not", counter)
    assert counter.steps == 2 * toy.STEPS
    assert_same([later], together[:1])


def test_followers_share_what_they_have_in_common_and_go_on_at_a_longer_horizon(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    constant, counter = {"schedule__decay_frac": 0.0}, Counter()
    run([follower(base, 10, **constant)], toy_corpus, tmp_path, counter)
    jobs = [follower(base, **constant), follower(base, schedule__decay_frac=0.25)]
    found = run(jobs, toy_corpus, tmp_path, counter)
    assert counter.steps == 2 * (20 + 5)
    assert_same(found, [run([one], toy_corpus, tmp_path / f"{one.lr[-1]}")[0] for one in jobs])
    before = counter.steps
    run([follower(base, 10)], toy_corpus, tmp_path / "falling", counter)
    run([follower(base)], toy_corpus, tmp_path / "falling", counter)
    assert counter.steps - before == 2 * (10 + 20)


def stop_after(calls: int) -> Report:
    """Stops at this event, in whichever run it is."""
    seen = Counter()

    def report(event: dict[str, Any]) -> None:
        seen({"lanes": 1})
        if seen.steps == calls:
            raise Stop

    return report


@pytest.mark.parametrize("calls", [7, 20, 33])
def test_an_interrupted_follower_goes_on_with_the_stored_reference(
    calls: int, base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs, before, counter = [follower(base)], Counter(), Counter()
    with pytest.raises(Stop):
        run(jobs, toy_corpus, tmp_path / "store", both(before, stop_after(calls)))
    (found,) = run(jobs, toy_corpus, tmp_path / "store", counter)
    (expected,) = run(jobs, toy_corpus, tmp_path / "undisturbed")
    assert_same([found], [expected])
    assert found.rates is not None
    assert expected.rates is not None
    assert (found.rates == expected.rates).all()
    assert (found.norms == expected.norms).all()
    assert before.steps + counter.steps == 2 * toy.STEPS


def test_a_follower_killed_at_each_write_in_turn_still_ends_right(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [follower(base, 6), job(base, 6)]
    expected = run(jobs, toy_corpus, tmp_path / "undisturbed")
    monkeypatch.setattr(setup, "CHECKPOINT_S", 0.0)
    ended = 0
    while True:
        try:
            store = OneMore(tmp_path / "s", "killed")
            found = pretrain(jobs, toy_corpus, Runtime(store=store, report=Counter()))
            break
        except Killed:
            ended += 1
    assert_same(found, expected)
    assert ended > 10


def test_where_the_reference_diverges_there_is_nothing_to_follow(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs, counter = [follower(base, lr=1e30), follower(base)], Counter()
    lost, found = run(jobs, toy_corpus, tmp_path, counter)
    assert lost.reference_lost
    assert 0 < lost.diverged_at < 5
    assert (len(lost.losses), lost.key) == (0, jobs[0].base_key(toy_corpus))
    assert (found.diverged_at, found.reference_lost) == (None, False)
    assert lost.trained_steps + found.trained_steps == pytest.approx(counter.steps)


def test_a_trial_that_follows_says_its_rates_costs_and_why_it_failed(
    toy_folder: Path, tmp_path: Path
) -> None:
    text = toy.recipe(toy_folder, steps=6, evals=2)
    fine = toy.finetune(seeds=1, schedule=Schedule(warmup_steps=1))  # fmt: skip
    recipe = Recipe(model=text.model, corpus=text.corpus, pretrain=text.pretrain, finetune=fine)
    objective = PlasticityObjective(recipe, Execution(device="cpu", store=tmp_path))
    followed = {"pretrain.weight_decay": 0.0, "pretrain.effective_lr_of.value": DECAY}
    asked = [followed, followed | {"pretrain.lr": 1e30}]
    found, failed = objective.evaluate(
        [Request(params=params, fidelity=1.0, seed=0) for params in asked]
    )
    decayed = objective({"pretrain.weight_decay": DECAY})
    assert decayed.cost["tokens_reused"] > 0
    tokens = 6 * recipe.pretrain.batch_size * recipe.pretrain.seq_len
    assert found.cost["tokens"] > 2 * tokens
    assert found.cost["tokens_reused"] == pytest.approx(0)
    assert found.cost["device_s_saved"] == pytest.approx(0)
    steps = [step for step, _ in found.curves["lr"]]
    rates, its = (np.array(each.curves["lr"])[:, 1] for each in (found, decayed))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert rates[0] == its[0]
    assert (rates[1:] > its[1:]).all()
    at = [point[1] for point in found.curves["probe.norms.effective_lr"]]
    norms = [point[1] for point in found.curves["probe.norms.weight_norm"]]
    assert at == pytest.approx(rates[[2, 5]] / norms)
    assert failed.failure is not None
    assert failed.failure.startswith("the run that pretrain.effective_lr_of names diverged, so")
    assert failed.failure.endswith("lower pretrain.lr")
    again = objective(followed)
    assert again.cost["tokens"] == 0
    assert again.curves == found.curves


BAD: list[tuple[dict[str, Any], str]] = [
    ({"effective_lr_of.value": 0.1, "effective_lr_of.tau_frac": 0.1}, "at most one of"),
    ({"effective_lr_of.value": 0.1, "schedule.decay": "merged"}, "must be 'trained' where"),
    ({"effective_lr_of.tau_frac": 0.1, "weight_decay.coupling": "l2"}, "has no effect with"),
    ({"effective_lr_of.tau_frac": 0.1, "weight_decay.policy": "awd"}, "has no effect with"),
    ({"effective_lr_of.value": -0.1}, "effective_lr_of.value must be at least 0, got -0.1"),
    ({"effective_lr_of": 0.1}, "pretrain.effective_lr_of"),
]


@pytest.mark.parametrize(("params", "said"), BAD)
def test_an_effective_rate_that_cannot_be_followed_is_refused(
    params: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Recipe().with_params({f"pretrain.{name}": value for name, value in params.items()})


def test_classifiers_of_images_have_rates_of_their_own() -> None:
    with pytest.raises(ValueError, match=r"unknown hyperparameter 'pretrain\.effective_lr_of"):
        VisionRecipe().with_params({"pretrain.effective_lr_of.value": 0.1})
