"""What questions cost: found from answers, and weighed."""

from __future__ import annotations

import dataclasses

import pytest

from hpo.core.objective import Request
from hpo.core.trial import Answer, Ask, Trial
from hpo.search import cost_model
from hpo.search.cost_model import CostModel, StepCost


def entry(*answers: tuple[float, bool, dict[str, float]]) -> Trial:
    return Trial(
        number=0,
        params={},
        asks=tuple(Ask(0, 0, fidelity, 0, base_only) for fidelity, base_only, _ in answers),
        answers=tuple(
            Answer(fidelity, order, {}, cost, base_only)
            for order, (fidelity, base_only, cost) in enumerate(answers)
        ),
    )


@pytest.mark.parametrize("p", [1.0, 3e5, 1e12])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 10.0])
@pytest.mark.parametrize("reused", [0.0, 0.3, 1.0])
def test_both_prices_are_found_whatever_was_reused(p: float, ratio: float, reused: float) -> None:
    f = ratio * p

    def cost(fidelity: float, *, base_only: bool) -> dict[str, float]:
        whole = p * fidelity + (0.0 if base_only else f)
        return {"tokens": whole * (1 - reused), "tokens_reused": whole * reused}

    asked = [(1 / 9, False), (1 / 9, True), (1.0, False)]
    found = cost_model.learnt([entry(*((s, b, cost(s, base_only=b)) for s, b in asked))])
    assert found.pretraining == pytest.approx(p, rel=1e-3)
    assert found.finetuning == pytest.approx(f, rel=1e-3, abs=1e-3 * p)


@pytest.mark.parametrize("answers", [(), ((1.0, False, {}),), ((0.5, False, {"time_s": 3.0}),)])
def test_without_tokens_a_trial_costs_its_fidelity(
    answers: tuple[tuple[float, bool, dict[str, float]], ...],
) -> None:
    assert cost_model.learnt([entry(*answers)]) == CostModel(1.0, 0.0)


def staged(
    fidelity: float, *, base_only: bool, here: float, pace: tuple[float, float] = (2.0, 5.0)
) -> tuple[float, bool, dict[str, float]]:
    """An answer of 1,000 tokens of pretraining in full and 400 after it, a share of them trained
    here at this many seconds a token."""
    pretrain, finetune = 1000 * fidelity, 0.0 if base_only else 400.0
    cost = {
        "tokens": here * (pretrain + finetune),
        "tokens_reused": (1 - here) * (pretrain + finetune),
        "pretrain_tokens": here * pretrain,
        "pretrain_tokens_reused": (1 - here) * pretrain,
        "pretrain_s": here * pretrain * pace[0],
        "finetune_s": here * finetune * pace[1],
    }
    return fidelity, base_only, cost


@pytest.mark.parametrize("here", [1.0, 0.25])
def test_prices_in_seconds_are_known_from_the_first_answer(here: float) -> None:
    trials = [entry(staged(1.0, base_only=False, here=here))]
    found = cost_model.learnt(trials, "seconds")
    assert found.separate
    assert (found.pretraining, found.finetuning) == pytest.approx((2000.0, 2000.0))
    assert cost_model.learnt(trials, "tokens") == CostModel(1000.0, 400.0, by_stage=True)


def test_what_was_found_in_the_store_does_not_look_cheap() -> None:
    trained = entry(staged(1.0, base_only=False, here=1.0))
    stored = [entry(staged(1 / 9, base_only=False, here=0.0)) for _ in range(5)]
    found = cost_model.learnt([*stored, trained], "seconds")
    assert (found.pretraining, found.finetuning) == pytest.approx((2000.0, 2000.0))


def test_prices_are_tokens_until_both_stages_were_timed() -> None:
    stored = entry(staged(1.0, base_only=False, here=0.0))
    base = entry(staged(1 / 3, base_only=True, here=1.0))
    found = cost_model.learnt([stored, base], "seconds")
    assert found == CostModel(1000.0, 400.0, by_stage=True)
    assert not cost_model.learnt([base], "seconds").separate


def test_a_trial_that_failed_before_its_fine_tuning_does_not_make_that_cheap() -> None:
    done = entry((0.5, False, {"tokens": 9.0}), (1.0, False, {"tokens": 14.0}))
    died = dataclasses.replace(entry((1.0, False, {"tokens": 3.0})), state="failed")
    assert cost_model.learnt([done, died]) == cost_model.learnt([done])


@pytest.mark.parametrize("ratio", [0.05, 0.8, 2.0])
@pytest.mark.parametrize("fidelity", [1 / 9, 1.0])
def test_prices_are_not_split_before_answers_tell_them_apart(ratio: float, fidelity: float) -> None:
    def answer(fidelity: float) -> tuple[float, bool, dict[str, float]]:
        return (fidelity, False, {"tokens": fidelity + ratio})

    alike = [entry(*[answer(fidelity)] * 6)]
    found = cost_model.learnt(alike)
    assert not found.separate
    assert found.finetuning == 0
    assert found.begun(fidelity) == pytest.approx(fidelity + ratio)
    known = cost_model.learnt([*alike, entry(answer(1 / 3))])
    assert known.separate
    assert known.finetuning / known.pretraining == pytest.approx(ratio)


def test_answers_that_are_all_alike_give_some_price() -> None:
    found = cost_model.learnt(
        [entry((1.0, False, {"tokens": 10.0}), (1.0, False, {"tokens": 10.0}))]
    )
    assert found.pretraining > 0
    assert found.pretraining + found.finetuning == pytest.approx(10.0, rel=1e-3)


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shown", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("finetuning", "rest"), [(0.0, 1.0), (2.0, 1.0), (1.0, 10.0)])
def test_fine_tuning_pays_where_it_saves_more_than_it_costs(
    chance: float, shown: float, finetuning: float, rest: float
) -> None:
    step = StepCost(Request(params={}, fidelity=0.5, seed=0), 1.0, finetuning, rest)
    saved = (1 - shown) * (1 - chance) * rest
    alone = step.expected(chance, shown, base_only=True)
    gained = alone - step.expected(chance, 1.0, base_only=False)
    assert gained == pytest.approx(saved - finetuning, abs=1e-9)


@pytest.mark.parametrize("chance", [0.0, 0.2, 1.0])
def test_a_rung_that_says_nothing_costs_the_way_to_the_end_and_one_that_says_all_its_share(
    chance: float,
) -> None:
    step = StepCost(Request(params={}, fidelity=0.5, seed=0), 1.0, 2.0, 5.0)
    assert step.expected(chance, 0.0, base_only=False) == 8.0
    assert step.expected(chance, 1.0, base_only=False) == pytest.approx(3.0 + 5.0 * chance)
    assert step.expected(chance, 0.0, base_only=True) == 6.0


@pytest.mark.parametrize(
    ("finetuning", "lowest"), [(0.0, 1 / 9), (0.7, 1 / 9), (0.8, None), (0.3, 1 / 3), (0.4, None)]
)
def test_a_whole_question_pays_up_to_half_a_trial(finetuning: float, lowest: float | None) -> None:
    rung = lowest or (1 / 9 if finetuning > 0.5 else 1 / 3)
    assert CostModel(1.0, finetuning).pays(rung) is (lowest is not None)


class Half:
    """Half of any training is there once anything was trained."""

    def reused(self, request: Request, done: Request) -> float:
        return 0.5


def test_a_step_costs_what_is_not_there_and_leaves_the_rest() -> None:
    price = CostModel(pretraining=10.0, finetuning=2.0)
    low = Request(params={}, fidelity=0.4, seed=0)
    full = Request(params={}, fidelity=1.0, seed=0)
    fresh = cost_model.step_cost(Half(), price, low, None)  # type: ignore[arg-type]
    assert (fresh.now, fresh.finetuning, fresh.rest) == (4.0, 2.0, 7.0)
    branch = cost_model.step_cost(Half(), price, full, low)  # type: ignore[arg-type]
    assert (branch.now, branch.finetuning, branch.rest) == (5.0, 2.0, 0.0)
