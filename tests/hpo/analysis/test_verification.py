"""A run carried to a larger model: which recipes, by which params, and what follows from results.

The larger model here is a formula, so that the best recipe, the best rule and the front are known.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from hpo.analysis import transfer
from hpo.analysis.carried_recipes import chosen, plan, spread
from hpo.analysis.verification import Verification, verify
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP
from hpo.core.trial import Run, Trial
from hpo.core.verification_plan import VerificationPlan
from hpo.front.front import counted_points, front
from objectives import PlasticityObjective, Recipe
from tests.hpo import toy

RECIPE = PlasticityObjective(Recipe()).describe()


STEPS = RECIPE["recipe"]["pretrain"]["steps"]


DECAYS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def trial(number: int, decay: float, base_loss: float, gain: float, **params: Any) -> Trial:
    lr = params.get("pretrain.lr", 3e-3)
    tau = {"tau_frac": 1 / (lr * decay * STEPS)} if decay else {}
    return toy.trial(
        number, base_loss, gain, params={"pretrain.weight_decay": decay, **params},
        metrics={"tokens_per_param": 2.0, **tau}, baseline="standard" if decay == 0.1 else None,
    )  # fmt: skip


def proxy_run(*trials: Trial) -> Run:
    """By default base_loss rises with decay and gain has its best at 1."""
    found = trials or tuple(
        trial(n, decay, 3.0 + 0.1 * n, 0.5 - 0.05 * abs(n - 5)) for n, decay in enumerate(DECAYS)
    )
    return toy.run(list(found), reproduce={"study": {"objective": RECIPE}})


def planned(run: Run, **fields: Any) -> VerificationPlan:
    given = {"size": "llama-1m", "num_params": 1e6, "tokens_per_param": 20.0}
    given |= {"rules": tuple(transfer.RULES)}
    return plan(run, chosen(front(run), 8), **(given | fields))


def test_items_are_spread_from_the_first_to_the_last() -> None:
    assert spread(range(9), 3) == [0, 4, 8]
    assert spread(range(2), 3) == [0, 1]
    assert (spread(range(5), 1), spread(range(5), 0)) == ([0], [])


@pytest.mark.parametrize("num", [3, 4, 6, 8, 12])
def test_recipes_are_of_the_front_baselines_and_dominated_ones(num: int) -> None:
    found = front(toy.large(60))
    numbers = [each.number for each in chosen(found, num)]
    assert len(numbers) == len(set(numbers)) == num
    kinds = [found.standings[number] for number in numbers]
    assert kinds.count("front") >= 1
    assert sum(kind != "front" for kind in kinds) >= 2


def test_all_recipes_are_taken_where_there_are_no_more() -> None:
    assert [each.number for each in chosen(front(proxy_run()), 20)] == [*range(8)]
    with pytest.raises(ValueError, match=r"3 recipes or more, and 2 of this run are measured"):
        chosen(front(proxy_run(*proxy_run().trials[:2])), 8)


def test_a_recipe_has_the_decay_that_transfer_gives_and_its_shares_of_the_schedule() -> None:
    run = proxy_run()
    found = planned(run, lr_factor=0.5)
    size = transfer.read_proxy(run, run.trials[4])
    target = transfer.Scale(params=1e6, tokens=2e7, batch=size.scale.batch, lr=0.5 * size.scale.lr)
    advice = {each.rule: each.decay for each in transfer.advise(size, target)}
    carried = [each for each in found.points if each.trial == 4]
    assert {rule: each.decay for each in carried for rule in each.rules} == pytest.approx(
        advice, rel=1e-5
    )
    for each in carried:
        assert each.params["pretrain.weight_decay.value"] == each.decay
        assert each.params["pretrain.steps"] == round(2e7 / size.scale.batch)
        assert each.params["pretrain.lr"] == target.lr
        recipe = Recipe().with_params(each.params)
        share = size.schedule.warmup_frac
        assert recipe.pretrain.schedule.warmup_frac == pytest.approx(share)
        assert recipe.pretrain.weight_decay.value == each.decay


def test_rules_that_give_one_decay_share_a_point() -> None:
    found = planned(proxy_run(), rules=("tau_share", "power_lines_slope", "carry_over"))
    assert [each.rules for each in found.points if each.trial == 0] == [
        ("tau_share", "power_lines_slope", "carry_over")
    ]
    assert found.recipes == tuple(range(8))
    assert len(found.of_rule("tau_share")) == 8


def test_decay_in_the_gradient_is_carried_over_as_it_is() -> None:
    one = trial(0, 0.1, 3.0, 0.2, **{"pretrain.weight_decay.coupling": "l2"})
    one = one.with_answer(metrics={k: v for k, v in one.metrics.items() if k != "tau_frac"})
    found = plan(proxy_run(one), [one], size="s", num_params=1e6, tokens_per_param=20.0,
                 rules=tuple(transfer.RULES))  # fmt: skip
    (point,) = found.points
    assert (point.rules, point.decay) == (("carry_over",), None)
    assert point.params["pretrain.weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr_factor": 1e-320}, "a peak rate of .* gives no finite weight decay"),
        ({"lr_factor": 1e308}, "a peak rate of .* gives no finite weight decay"),
        ({"tokens_per_param": 1e-9}, "steps of training, .* give more tokens a parameter"),
        ({"tokens_per_param": 1e30}, "steps of training, .* give fewer tokens a parameter"),
    ],
)
def test_a_size_that_nothing_trains_at_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(proxy_run(), **fields)


def test_a_plan_comes_back_from_json() -> None:
    found = planned(proxy_run())
    assert VerificationPlan.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def measured(
    found: VerificationPlan, loss: Any, gain: Any, *, seeds: int = 3, noise: float = 0.01
) -> Run:
    """The plan at a larger model with these means, functions of recipe and rule."""
    rng, trials = np.random.default_rng(0), list[Trial]()
    for seed in range(seeds):
        for point in found.points:
            values = {
                "base_loss": loss(point) + 0.5 * seed + noise * rng.normal(),
                "gain": gain(point) + noise * rng.normal(),
            }
            trials.append(
                Trial.measured(len(trials), point.params, values, state="complete",
                               point=point.name, seed=seed)
            )  # fmt: skip
    return toy.run(trials, (BASE_LOSS_DOWN, GAIN_UP))


def judged(run: Run, target: Run, found: VerificationPlan) -> Verification:
    means = {each.trial.number: each.trial for each in counted_points(run)}
    return verify(means, [each.number for each in front(run).trials], target, found)


def test_the_proxys_order_pick_and_front_are_judged_by_the_larger_model() -> None:
    """There loss has its least at recipe 2, not at 0; gain is as at the proxy."""
    run = proxy_run()
    found = planned(run, rules=("carry_over",))
    target = measured(
        found, lambda p: 3.0 + 0.1 * abs(p.trial - 2), lambda p: 0.5 - 0.05 * abs(p.trial - 5)
    )
    (rule,) = judged(run, target, found).rules
    loss, gain = rule.goals
    assert (loss.pick, loss.best) == (0, 2)
    assert loss.place in (4, 5)  # beside recipe 4, which is as good
    assert loss.regret.value == pytest.approx(0.2, abs=0.03)
    assert loss.regret.significant
    # Of 28 pairs 10 are undecided or the other way: |a - 2| orders 0, 1 and their mirror images.
    wrong = sum(abs(a - 2) > abs(b - 2) for b in range(8) for a in range(b))
    ties = sum(abs(a - 2) == abs(b - 2) for b in range(8) for a in range(b))
    assert loss.agreement.num_decided == 28 - ties
    assert loss.agreement.accuracy_decided.value == pytest.approx(1 - wrong / (28 - ties))
    assert (gain.pick, gain.best, gain.place, gain.regret.value) == (5, 5, 1, 0.0)
    assert {*rule.stayed} == {2, 3, 4, 5}
    assert {*rule.left} == {0, 1}
    assert rule.entered == ()


def test_the_rule_that_carries_decay_best_is_found_over_recipes() -> None:
    run = proxy_run()
    found = planned(run, rules=("tau_share", "carry_over"))

    def loss(point: Any) -> float:  # 0.2 better under tau_share, where the rules differ
        return 3.0 + 0.1 * point.trial - 0.2 * (point.rules == ("tau_share",))

    verdict = judged(run, measured(found, loss, lambda p: 0.1 * p.trial), found)
    of_loss, of_gain = verdict.differences
    assert (of_loss.better, of_loss.other, of_loss.num_recipes) == ("tau_share", "carry_over", 8)
    assert of_loss.lead.value == pytest.approx(0.2 * 7 / 8, abs=0.02)  # alike without decay
    assert (of_loss.lead.significant, of_gain.lead.significant) == (True, False)
    means = {rule.rule: rule.goals[0].mean for rule in verdict.rules}
    assert means["carry_over"] - means["tau_share"] == pytest.approx(of_loss.lead.value)


def test_rules_that_are_alike_are_seldom_told_apart() -> None:
    rng, found_any = np.random.default_rng(5), 0
    run = proxy_run()
    found = planned(run)
    for _ in range(6):
        shift = {each.name: rng.normal() for each in found.points}
        target = measured(found, lambda p, s=shift: s[p.name], lambda p, s=shift: -s[p.name])
        found_any += any(each.lead.significant for each in judged(run, target, found).differences)
    assert found_any <= 2  # each at most 5 %; three of six have a probability of 0.002


def test_recipes_without_a_result_are_named_and_left_out() -> None:
    run = proxy_run()
    found = planned(run, rules=("carry_over",))
    target = measured(found, lambda p: 3.0 + p.trial, lambda p: float(p.trial))
    gone = {each.name for each in found.points if each.trial in (1, 6)}
    kept = [each for each in target.trials if each.point not in gone]
    (rule,) = judged(run, toy.run(kept), found).rules
    assert rule.unmeasured == (1, 6)
    assert rule.goals[0].agreement.num_recipes == 6
    few = judged(run, toy.run(kept[:2]), found)
    assert few.rules[0].goals == ()
    assert (few.differences, few.is_complete) == ((), False)


def test_seeds_that_not_all_recipes_have_are_not_compared() -> None:
    run = proxy_run()
    found = planned(run, rules=("carry_over",), seeds=3)
    target = measured(found, lambda p: 3.0 + 0.1 * p.trial, lambda p: 0.1 * p.trial)
    assert judged(run, target, found).is_complete
    some = judged(run, toy.run(target.trials[:-1]), found)
    assert (some.num_seeds, some.is_complete) == (2, False)
    none = judged(run, toy.run([]), found)
    assert (none.num_seeds, none.rules[0].goals) == (0, ())


def test_recipes_that_a_rule_makes_the_same_are_no_pair() -> None:
    """All have one rate, so that Power Lines, which reads no decay, gives one recipe."""
    run = proxy_run()
    found = planned(run, rules=("power_lines", "carry_over"))
    target = measured(found, lambda p: 3.0, lambda p: 0.1 * p.trial)
    law, carried = judged(run, target, found).rules
    loss, _ = law.goals
    assert (loss.agreement.num_pairs, carried.goals[0].agreement.num_pairs) == (0, 28)
    assert math.isnan(loss.agreement.accuracy.value)
    assert (loss.pick, loss.best, loss.place, loss.regret.value) == (0, 0, 1, 0.0)
    assert (law.left, {*law.stayed, *law.entered}) == ((), {*range(8)})
