"""Proposals: reproducible, inside the space, and learned from what was seen."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Mapping

import numpy as np
import pytest

from hpo.controller import Controller
from hpo.core import domains, goals
from hpo.core.domains import Choice, Domain, Float, Int
from hpo.core.goals import Limit
from hpo.core.objective import Value
from hpo.core.spec import Baseline, StudySpec
from hpo.core.trial import Trial
from hpo.front import losses
from hpo.search import initial_design, strategy, unit_cube
from tests.hpo import toy_objective
from tests.hpo.toy_objective import FULL_SPACE, SPACE, ToyObjective, spec

SAMPLERS = ("gp", "gp-optuna", "tpe", "nsga2", "random")


def measured(study: StudySpec, count: int) -> list[Trial]:
    """The study's first trials, proposed and measured one by one."""
    trials: list[Trial] = []
    for number in range(count):
        values = strategy.propose(study, number, trials)
        if number < len(study.baselines):
            values |= study.baselines[number].params
        (result,) = study.objective.evaluate([{"params": values, "fidelity": 1.0, "seed": 0}])
        trials.append(
            Trial.measured(number=number, state="complete", params=values, metrics=result.metrics)
        )
    return trials


@functools.cache
def history(count: int = 12) -> list[Trial]:
    """Baselines and random trials, quickly had."""
    return measured(spec(sampler="random", trials=30), count)


@pytest.mark.parametrize(
    ("sampler", "number"),
    [("gp", 4), ("gp", 12), ("tpe", 4), ("tpe", 12), ("nsga2", 12), ("random", 12)],
)
def test_a_proposal_is_a_function_of_seed_number_and_results(sampler: str, number: int) -> None:
    study = spec(sampler=sampler, trials=30)
    assert strategy.propose(study, number, history()) == strategy.propose(study, number, history())


@pytest.mark.parametrize(
    ("sampler", "number"), [("gp", 4), ("tpe", 4), ("tpe", 12), ("nsga2", 12), ("random", 12)]
)
def test_another_seed_or_number_draws_otherwise(sampler: str, number: int) -> None:
    """The GP is left out where it is past its Sobol points: a sure optimum is the same for all."""
    study = spec(sampler=sampler, trials=30)
    here = strategy.propose(study, number, history())
    assert strategy.propose(dataclasses.replace(study, seed=1), number, history()) != here
    assert strategy.propose(study, number + 1, history()) != here


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2"])
def test_a_model_heeds_the_results(sampler: str) -> None:
    study = spec(sampler=sampler, trials=30)
    seen = history()
    swapped = [
        trial.with_answer(metrics={name: -value for name, value in trial.metrics.items()})
        for trial in seen
    ]
    assert strategy.propose(study, 12, seen) != strategy.propose(study, 12, swapped)


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2"])
def test_a_model_proposes_after_thousands_of_results(sampler: str) -> None:
    """Of which it is shown some; of more generations Optuna's NSGA-II does not come back."""
    study = spec(sampler=sampler, trials=5000)
    units = np.random.default_rng(0).random((4000, 2))
    points = [
        {path: domain.at(unit) for (path, domain), unit in zip(SPACE.items(), row, strict=True)}
        for row in units.tolist()
    ]
    results = study.objective.evaluate([{"params": p, "fidelity": 1.0, "seed": 0} for p in points])
    seen = [
        Trial.measured(number=number, state="complete", params=point, metrics=result.metrics)
        for number, (point, result) in enumerate(zip(points, results, strict=True))
    ]
    assert domains.inside(SPACE, strategy.propose(study, 4000, seen))


def test_the_random_sampler_heeds_nothing() -> None:
    study = spec(sampler="random")
    assert strategy.propose(study, 12, []) == strategy.propose(study, 12, history())


def test_a_model_proposes_in_the_space_and_unlike_random_beside_a_baseline_outside_it() -> None:
    study = spec(trials=30)
    seen = history()
    assert not domains.inside(study.space, strategy.planned_values(study, 1))
    for number in range(12, 15):
        values = strategy.propose(study, number, seen)
        blind = strategy.propose(dataclasses.replace(study, sampler="random"), number, seen)
        assert domains.inside(study.space, values)
        assert values != blind


def test_the_gp_comes_closer_to_a_goal_than_random() -> None:
    """One goal with its best at lr 0.01: the model's last proposals are nearer than chance."""

    def distance(sampler: str) -> float:
        study = spec(sampler=sampler, goals=(goals.BASE_LOSS_DOWN,))
        late = measured(study, 13)[9:]
        return float(np.mean([trial.metrics["base_loss"] for trial in late]))

    assert distance("gp") < 3.05 < distance("random")


def test_baselines_come_first_and_then_sobol_points() -> None:
    study = spec()
    assert strategy.propose(study, 0, []) == {"pretrain.weight_decay": 0.1, "pretrain.lr": 0.01}
    assert strategy.propose(study, 1, []) == {"pretrain.weight_decay": 0.0, "pretrain.lr": 0.01}
    for place in range(initial_design.start_up(study)):
        expected = unit_cube.sobol_point(study.space, study.seed, place)
        assert strategy.propose(study, 2 + place, []) == expected


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("baselines", [(), toy_objective.BASELINES])
def test_no_params_are_measured_twice_at_one_seed_in_a_small_discrete_space(
    sampler: str, baselines: tuple[Baseline, ...]
) -> None:
    small = {"pretrain.shape": Choice(options=("cosine", "linear")),
             "model.layers": Int(low=1, high=2)}  # fmt: skip
    study = spec(sampler=sampler, space=small, trials=11, wave=3, baselines=baselines)
    controller = Controller(study, "sqlite://")
    run = controller.run()
    measured = [(tuple(sorted(trial.params.items())), trial.seed) for trial in run.trials]
    assert len(set(measured)) == len(measured) == 11
    searched = [e.params for e in controller.record.history.trials if e.kind == "proposed"]
    assert len({tuple(params.values()) for params in searched}) == len(searched)
    inside = [trial for trial in run.trials if domains.inside(small, trial.params)]
    assert {t.replicate_of for t in inside if t.seed != 0} <= {t.number for t in inside}


def test_what_failed_in_a_small_space_is_not_asked_for_again_at_its_seed() -> None:
    small = {"pretrain.lr": Choice(options=(0.001, 0.01, 0.1))}
    objective = ToyObjective(fails_above_lr=0.005)
    for sampler in ("gp", "random"):
        study = spec(objective=objective, sampler=sampler, space=small, trials=8, baselines=())
        run = Controller(study, "sqlite://").run()
        measured = [(tuple(trial.params.values()), trial.seed) for trial in run.trials]
        assert len(set(measured)) == 8


def test_start_up_points_do_not_repeat_and_fill_the_space() -> None:
    points = [unit_cube.sobol_point(FULL_SPACE, 0, place) for place in range(16)]
    assert len({tuple(point.values()) for point in points}) == 16
    assert {point["pretrain.shape"] for point in points} == {"cosine", "linear"}
    assert {point["model.layers"] for point in points} == {1, 2, 3, 4, 5}
    decay = [math.log10(float(point["pretrain.weight_decay"])) for point in points]  # type: ignore[arg-type]
    assert sorted(math.floor((x + 2) * 8) for x in decay) == sorted([*range(16)])


@pytest.mark.parametrize(
    "domain",
    [
        Float(low=-1.0, high=2.0),
        Float(low=0.1, high=0.7),
        Float(low=1e-7, high=3.0, log=True),
        Float(low=0.3, high=0.3),
        Int(low=-2, high=2),
        Int(low=1, high=4, log=True),
        *(Int(low=low, high=low + 2, log=True) for low in range(3, 60)),
        Int(low=7, high=7, log=True),
        Choice(options=("a", "b", "c")),
    ],
)
@pytest.mark.parametrize("unit", [0.0, 1e-12, 0.5, 1 - 1e-12, 1 - 2**-53])
def test_every_share_of_a_domain_is_in_it(domain: Domain, unit: float) -> None:
    value = domain.at(unit)
    assert domains.inside({"x": domain}, {"x": value})


@pytest.mark.parametrize(
    ("domain", "ends"),
    [
        (Int(low=3, high=9), (3, 9)),
        (Int(low=5, high=64, log=True), (5, 64)),
        (Choice(options=("a", "b", "c")), ("a", "c")),
    ],
)
def test_the_ends_of_a_discrete_domain_are_reached(
    domain: Domain, ends: tuple[Value, Value]
) -> None:
    assert (domain.at(0.0), domain.at(1 - 2**-53)) == ends


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        (Float(low=0, high=1), 1, True),
        (Float(low=0, high=1), 1.01, False),
        (Float(low=0, high=1), math.nan, False),
        (Float(low=0, high=1), True, False),
        (Float(low=0, high=1), "1", False),
        (Float(low=0, high=1), None, False),
        (Int(low=1, high=3), 3, True),
        (Int(low=1, high=3), 2.5, False),
        (Choice(options=("a", 2)), 2, True),
        (Choice(options=("a", 2)), "b", False),
    ],
)
def test_inside_tells_what_a_domain_holds(domain: Domain, value: Value, expected: bool) -> None:
    assert domains.inside({"x": domain}, {"x": value}) is expected


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"loss": 4.0, "a": 1.5}, {"a high": -0.5, "a low": 0.5, "loss high": 0.5}),
        ({"a": 2.0}, {"a high": 0.0, "a low": 0.0, "loss high": losses.MISSING}),
        ({"loss": math.inf, "a": math.nan}, dict.fromkeys(["a high", "a low", "loss high"], 1e9)),
        (
            {"loss": -math.inf, "a": math.inf},
            {"a high": 1e9, "a low": -1e9, "loss high": -1e9},
        ),
    ],
)
def test_constraints_are_complete_sorted_and_finite(
    metrics: Mapping[str, float], expected: dict[str, float]
) -> None:
    limits = (Limit(metric="loss", high=3.5), Limit(metric="a", low=2.0, high=2.0))
    found = losses.constraints(limits, metrics)
    assert list(found) == sorted(found)
    assert found == expected


def test_failed_trials_teach_the_model_nothing() -> None:
    study = spec(trials=30)
    seen = history(10)
    point = unit_cube.sobol_point(study.space, 9, 0)
    failed = Trial.measured(
        number=10, state="failed", params=point, metrics={"gain": 9.0, "base_loss": 0.0}
    )
    assert strategy.propose(study, 11, [*seen, failed]) == strategy.propose(study, 11, seen)


def test_running_trials_are_pending_for_the_model() -> None:
    study = spec(trials=30)
    seen = history(10)
    pending = Trial.measured(number=10, state="running", params=strategy.propose(study, 11, seen))
    assert strategy.propose(study, 11, [*seen, pending]) != strategy.propose(study, 11, seen)


def test_a_limit_keeps_the_model_to_its_side() -> None:
    free = spec(trials=30, goals=(goals.GAIN_UP,))
    tight = dataclasses.replace(free, limits=(Limit(metric="base_loss", high=3.1),))
    seen = history(14)
    wild, tame = (strategy.propose(study, 14, seen) for study in (free, tight))
    assert float(wild["pretrain.weight_decay"]) > 0.4 > float(tame["pretrain.weight_decay"])  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_a_study(sampler: str) -> None:
    study = spec(sampler=sampler, trials=14, wave=6, space=FULL_SPACE)
    run = Controller(study, "sqlite://").run()
    assert [trial.state for trial in run.trials] == ["complete"] * 14
    proposed = run.trials[len(study.baselines) :]
    assert all(domains.inside(study.space, trial.params) for trial in proposed)
    assert len({tuple(trial.params.values()) for trial in proposed}) == len(proposed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_without_anything_to_search_measures_its_recipe_once(sampler: str) -> None:
    run = Controller(spec(sampler=sampler, space={}, baselines=(), trials=8), "sqlite://").run()
    assert [dict(trial.params) for trial in run.trials] == [{}]


def test_a_sampler_that_is_not_installed_is_reported_before_anything_is_measured() -> None:
    if importlib.util.find_spec("botorch") is not None:
        pytest.skip("botorch is installed")
    with pytest.raises(ValueError, match=r"needs botorch.*plasticity-hpo\[botorch\]"):
        Controller(spec(sampler="botorch"), "sqlite://")
