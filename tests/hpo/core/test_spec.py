"""The rules a study has to keep, each with the value that breaks it; and what is taken as clear."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection

from hpo.controller import Controller
from hpo.core.domains import Choice, Float, Int
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal, Limit
from hpo.core.spec import Baseline, GridPoint, Prior, WarmStartTrial
from hpo.front import front
from tests.hpo import toy, toy_objective


class Unprintable:
    """Raises where it is shown."""

    def __repr__(self) -> str:
        raise KeyError("x")


LR, LAYERS = "pretrain.lr", "model.layers"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Float(low=2, high=1), "low <= high, got 2 and 1"),
        (lambda: Float(low=math.nan, high=1), "low of Float must be a finite number, got nan"),
        (lambda: Float(low=0, high=math.inf), "finite low <= high"),
        (lambda: Float(low=-1e308, high=1e308), "finite width"),
        (lambda: Float(low=0, high=1, log=True), "log=True needs low > 0, got 0"),
        (lambda: Float(low="0", high=1), "low of Float must be .* without quotes, got '0'"),
        (lambda: Float(low=None, high=1), "low of Float must be a finite number, got None"),
        (lambda: Float(low=True, high=2), "low of Float must be a finite number, got True"),
        (lambda: Float(low=0, high=1, log="yes"), "log of Float must be True or False, got 'yes'"),
        (lambda: Float(low=0), "Float needs high; write Float.high="),
        (lambda: Float(0.1, 1, False, 2), "Float takes at most 3 values without a name, got 2"),
        (lambda: Float(low=0, high=1, logg=True), "no field 'logg'; did you mean log"),
        (lambda: Int(low=2, high=1), "low <= high, got 2 and 1"),
        (lambda: Int(low=0, high=1, log=True), "log=True needs low >= 1, got 0"),
        (lambda: Int(low=1.5, high=2.5), "low of Int must be a whole number .*, got 1.5"),
        (lambda: Int(low=0, high=math.nan), "high of Int must be a whole number .*, got nan"),
        (lambda: Int(low=0, high=math.inf), "high of Int must be a whole number .*, got inf"),
        (lambda: Int(low=0, high=10**400), "high of Int must be a whole number from"),
        (lambda: Choice(options=()), "different options"),
        (lambda: Choice(options=("a", "a")), "different options"),
        (lambda: Choice(options=(1, True)), "different options"),
        (lambda: Choice(options="abc"), r"list of values, got 'abc'; write Choice.options=\['abc'"),
        (lambda: Choice(options=(math.nan, math.nan)), "finite numbers.*, got nan"),
        (lambda: Choice(options=(1, math.inf)), "finite numbers.*, got inf"),
        (lambda: Choice(options=([1], [2])), r"options of Choice must be numbers.*, got \[1\]"),
        (lambda: Choice(options=({"a": 1},)), "options of Choice must be numbers"),
        (lambda: Choice(options=(object(),)), "options of Choice must be finite numbers"),
        (lambda: Choice("a", "b"), "at most 1 values without a name, got 'b'; write Choice.opt"),
        (lambda: Limit(metric="gain", low=1, high=0), "Limit on gain needs low <= high"),
        (lambda: Limit(metric="gain", low=math.nan), "Limit on gain needs low <= high"),
        (lambda: Limit(metric="gain", low="1"), "must be a number without quotes, got '1'"),
        (lambda: Limit(metric=None), "metric of Limit must be a metric's name .*, got None"),
        (lambda: Limit(metric="gain", max=3), "Limit has no field 'max'"),
        (lambda: Prior(centre=math.nan, width=1), "centre of Prior must be finite"),
        (lambda: Prior(centre=0, width=0), "finite width above 0, got 0"),
        (lambda: Prior(centre=0, width="1"), "width of Prior must be .* without quotes"),
        (lambda: Prior(center=0, width=1), "Prior has no field 'center'; did you mean centre"),
        (lambda: Goal(metric="gain", direction="downward"), "did you mean down"),
        (lambda: Goal(metric="gain", direction="minimise_it"), "did you mean minimi"),
        (lambda: Goal(metric="gain", direction=None), 'must be "down" or "up", got None'),
        (lambda: Goal(metric="gain", direction=StudyDirection.NOT_SET), "got .*NOT_SET"),
        (lambda: Goal(metric="gain", direction=1), "got 1"),
        (lambda: Goal(metric="gain"), "Goal needs direction"),
        (lambda: Goal(metric="gain", mode="max"), "Goal has no field 'mode'"),
        (lambda: Goal(metric="", direction="up"), "metric of Goal must be a metric's name"),
        (lambda: Goal(metric=None, direction="up"), "metric of Goal must be a metric's name"),
        (lambda: Baseline(name="a\nb", params={}), "name of Baseline must be a text of printable"),
        (lambda: Baseline(name="\x1b]0;x\x07", params={}), "printable characters"),
        (lambda: Baseline(name="", params={}), "printable characters, got ''"),
        (lambda: Baseline(name="a" * 201, params={}), "at most 200 letters, got 201"),
        (lambda: Baseline(name="a", params={LR: math.nan}), f"{LR} must be finite .*, got nan"),
        (lambda: Baseline(name="a", params={LR: 10**400}), f"{LR} must be at most"),
        (lambda: Baseline(name="a", params={1: 2}), "keys of params .* must be strings, got 1"),
        (lambda: Baseline(name="a", params=[(LR, 1)]), "params of Baseline 'a' must be a dict"),
        (lambda: Baseline(name="a", params=None), "params of Baseline 'a' must be a dict"),
        (lambda: GridPoint(name=3, params={}), "name of GridPoint must be a text"),
        (lambda: Baseline({}), "Baseline needs params"),
        (lambda: WarmStartTrial(params=3, metrics={}), "params of Earlier must be a dict"),
        (
            lambda: WarmStartTrial(params={}, metrics=[("gain", 1)]),
            "metrics of Earlier must be a dict",
        ),
        (lambda: Choice(np.array(3)), "list of values, got 3"),
        (lambda: Choice({"a": 1}), "list of values, got {'a': 1}"),
        (lambda: Int(Unprintable(), 3), "got a Unprintable that cannot be printed"),
    ],
)
def test_a_broken_part_of_a_study_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "way"),
    [
        ("down", "down"),
        ("min", "down"),
        ("minimize", "down"),
        ("Minimise", "down"),
        (StudyDirection.MINIMIZE, "down"),
        ("up", "up"),
        ("MAX", "up"),
        ("maximize", "up"),
        (StudyDirection.MAXIMIZE, "up"),
    ],
)
def test_optunas_words_for_a_direction_mean_the_same(word: Any, way: str) -> None:
    goal = Goal(metric="base_loss", direction=word)
    assert goal.direction == way
    assert goal == Goal("base_loss", way)  # type: ignore[arg-type]
    trials = [toy.trial(0, 3.0, 0.1), toy.trial(1, 4.0, 0.1)]
    best = 0 if way == "down" else 1
    assert front.front(toy.run(trials, goals=(goal,))).trials == (trials[best],)


def test_a_study_that_minimizes_by_optunas_word_ends_at_the_smallest_loss(tmp_path: Path) -> None:
    goal = Goal(metric="base_loss", direction="minimize")  # type: ignore[arg-type]
    study = toy_objective.spec(goals=(goal,), trials=12, sampler="tpe")
    controller = Controller(study, f"sqlite:///{tmp_path}/study.db")
    run = controller.run()
    assert controller.record.study.direction == StudyDirection.MINIMIZE
    best = min(run.trials, key=lambda trial: trial.metrics["base_loss"])
    assert [trial.number for trial in front.front(run).trials] == [best.number]


def test_domains_of_one_point_are_allowed() -> None:
    assert Float(low=1, high=1, log=True).low == Int(low=1, high=1, log=True).low
    assert Choice(options=(None,)).options == (None,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "name holds letters"),
        ({"name": "a/b"}, "got 'a/b'"),
        ({"name": ".."}, "got '..'"),
        ({"name": None}, "got None"),
        ({"name": "a" * 300}, "at most 200 letters, got 300"),
        ({"objective": None}, "objective must have the methods .* got None without check"),
        ({"objective": toy_objective.ToyObjective}, "got the class ToyObjective; write objective="),
        ({"objective": lambda params: 1.0}, "without check, .*evaluate; a recipe becomes one by"),
        ({"trials": 0}, "trials must be a whole number of at least 1, got 0"),
        ({"trials": 2.5}, "trials must be a whole number .* got 2.5"),
        ({"trials": math.nan}, "got nan"),
        ({"trials": math.inf}, "got inf"),
        ({"trials": "24"}, "got '24'"),
        ({"trials": True}, "got True"),
        ({"trials": None}, "got None"),
        ({"trials": 10**7}, "trials must be a whole number from 1 to 1000000, got 10000000"),
        ({"trials": 10**5000}, "got a int that cannot be printed"),
        ({"wave": 0}, "wave must be a whole number of at least 1"),
        ({"wave": 2.5}, "wave must be a whole number"),
        ({"replicates": 0}, "replicates must be a whole number of at least 1"),
        ({"replicates": 1.5}, "replicates must be a whole number"),
        ({"confirm": -1}, "confirm must be a whole number of at least 0, got -1"),
        ({"confirm": math.nan}, "confirm must be a whole number"),
        ({"confirm": 1.5}, "confirm must be a whole number"),
        ({"patience": math.nan}, "patience must be a whole number"),
        ({"patience": 1.5}, "patience must be a whole number"),
        ({"patience": 0}, "patience must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295"),
        ({"replicate_share": 1}, "0 <= replicate_share < 1, got 1"),
        ({"replicate_share": math.nan}, "replicate_share must be a number, got nan"),
        ({"sampler": "bayes"}, "sampler 'bayes' is unknown; choose one of gp, gp-optuna"),
        ({"sampler": "gp_optuna"}, "did you mean gp-optuna"),
        ({"sampler": "NSGA2"}, "did you mean nsga2"),
        ({"sampler": None}, "sampler None is unknown; choose gp or"),
        ({"prices": "second"}, "did you mean seconds"),
        ({"finetune_at_rungs": "never"}, "finetune_at_rungs 'never' is unknown"),
        ({"finetune_at_rungs": "where it pay"}, "did you mean where it pays"),
        ({"rungs": (1, 0.5)}, "rising shares"),
        ({"rungs": (0.5,)}, "rising shares"),
        ({"rungs": ()}, "rising shares"),
        ({"rungs": (0, 1)}, "rising shares"),
        ({"rungs": ("1/3", 1)}, "each of rungs must be a number without quotes, got '1/3'"),
        ({"rungs": (math.nan, 1)}, "each of rungs must be a number, got nan"),
        ({"rungs": "1"}, 'rungs must be "auto" or rising shares'),
        ({"rungs": 3}, "rising shares"),
        ({"rungs": np.array(0.5)}, "rising shares"),
        ({"goals": np.array(0.5)}, "goals must be a list of Goal"),
        ({"rungs": None}, "each of rungs must be a number, got None"),
        ({"grid": (GridPoint(name="standard", params={}),)}, "different names"),
        ({"grid": (GridPoint(name="a", params={"lr": 1.0}),)}, "unknown hyperparameter 'lr'"),
        ({"grid": {"a": {}}}, "grid must be a list of Point"),
        ({"budget_s": 0}, "budget_s must be finite and above 0, got 0"),
        ({"budget_s": math.nan}, "budget_s must be a number above 0, got nan"),
        ({"budget_s": math.inf}, "budget_s must be finite .* None is without limit"),
        ({"budget_s": True}, "budget_s must be a number above 0, got True"),
        ({"budget_s": "2h"}, "budget_s must be a number above 0 without quotes, got '2h'"),
        ({"max_flops": -1}, "max_flops must be finite and above 0"),
        ({"goals": ()}, "different goals"),
        ({"goals": None}, "goals must be a list of Goal"),
        ({"goals": "gain"}, 'goals must be a list of Goal.metric="base_loss"'),
        ({"goals": ("gain", "base_loss")}, "each of goals must be a Goal.*, got 'gain'"),
        ({"goals": {"gain": "up"}}, "goals must be a list of Goal"),
        ({"goals": (GAIN_UP, Goal(metric="gain", direction="down"))}, "different goals"),
        ({"limits": (Limit(metric="x", low=0), Limit(metric="x", high=1))}, "different metrics"),
        ({"limits": {"gain": 0.1}}, "limits must be a list of Limit"),
        ({"baselines": (Baseline(name="a", params={}),) * 2}, "different names"),
        ({"baselines": {"standard": {}}}, "baselines must be a list of Baseline"),
        ({"baselines": ({"pretrain.lr": 0.01},)}, "each of baselines must be a Baseline"),
        ({"baselines": (GridPoint(name="a", params={}),)}, "each of baselines must be a Baseline"),
        ({"baselines": (Baseline(name="a", params={"lr": 1.0}),)}, "unknown hyperparameter 'lr'"),
        ({"warm": ({LR: 1},)}, "each of warm must be a Earlier"),
        ({"paper": "2602.11137"}, "paper must be a hpo.core.paper.Paper or None"),
        ({"description": 3}, "description must be a text"),
        ({"space": None}, "space must be a dict"),
        ({"space": [(LR, Float(low=0, high=1))]}, "space must be a dict"),
        ({"space": {3: Float(low=0, high=1)}}, "keys of space must be strings"),
        ({"space": {LR: (0.01, 3.0)}}, r"got \(0.01, 3.0\); write Float.low=0.01, high=3.0"),
        ({"space": {LR: [0.01, 0.1, 1.0]}}, r"write Choice.options=\[0.01, 0.1, 1.0, ...\]"),
        ({"space": {LR: "loguniform"}}, "got 'loguniform'; to fix a parameter, leave it out"),
        ({"space": {LR: 0.1}}, "got 0.1; to fix a parameter, leave it out of space"),
        ({"space": {LR: Float}}, "must be Float, Int or Choice"),
        ({"space": {LR: FloatDistribution(0, 1, step=0.25)}}, "no step, got .* with step 0.25"),
        ({"space": {LR: IntDistribution(0, 8, step=2)}}, "must have no step"),
        ({"space": {"pretrain.decay": Float(low=0, high=1)}}, "unknown hyperparameter"),
        ({"space": {"pretrain.shape": Float(low=0, high=1)}}, "pretrain.shape must be like"),
        ({"space": {"pretrain.lr": Choice(options=(0.1, "high"))}}, "got 'high'"),
        ({"priors": {"pretrain.lrs": Prior(centre=0.01, width=1)}}, "did you mean pretrain.lr"),
        ({"priors": {LR: Prior(centre=9.0, width=1)}}, "needs a centre in its domain"),
        ({"priors": {LR: (0.01, 1)}}, "needs a centre in its domain"),
        ({"priors": [Prior(centre=0.01, width=1)]}, "priors must be a dict"),
        ({"trails": 12}, "StudySpec has no field 'trails'; did you mean trials"),
        ({"n_trials": 12}, "StudySpec has no field 'n_trials'; did you mean trials"),
        ({"goal": GAIN_UP}, "did you mean goals"),
    ],
)
def test_a_study_that_breaks_a_rule_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        toy_objective.spec(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"trials": np.int64(12)}, {"trials": 12}),
        ({"trials": 12.0}, {"trials": 12}),
        ({"seed": np.uint32(7)}, {"seed": 7}),
        ({"budget_s": np.float32(2)}, {"budget_s": 2.0}),
        ({"goals": [BASE_LOSS_DOWN]}, {"goals": (BASE_LOSS_DOWN,)}),
        ({"goals": GAIN_UP}, {"goals": (GAIN_UP,)}),
        ({"limits": Limit("gain", 0)}, {"limits": (Limit(metric="gain", low=0),)}),
        ({"baselines": Baseline("a", {})}, {"baselines": (Baseline(name="a", params={}),)}),
        ({"baselines": [Baseline("a", {})]}, {"baselines": (Baseline(name="a", params={}),)}),
        ({"grid": (GridPoint(f"{i}", {}) for i in range(1))}, {"grid": (GridPoint("0", {}),)}),
        ({"rungs": [1 / 3, 1]}, {"rungs": (1 / 3, 1.0)}),
        ({"rungs": np.array([0.5, 1.0])}, {"rungs": (0.5, 1.0)}),
        ({"warm": [WarmStartTrial(params={}, metrics={})]}, {"warm": (WarmStartTrial(params={},
         metrics={}),)}),
        ({"space": {LR: FloatDistribution(0.1, 1)}}, {"space": {LR: Float(low=0.1, high=1.0)}}),
        (
            {"space": {LR: FloatDistribution(0.1, 1, log=True), LAYERS: IntDistribution(1, 5)}},
            {"space": {LR: Float(0.1, 1.0, log=True), LAYERS: Int(1, 5)}},
        ),
        (
            {"space": {"pretrain.shape": CategoricalDistribution(["cosine", "linear"])}},
            {"space": {"pretrain.shape": Choice(["cosine", "linear"])}},
        ),
        (
            {"baselines": (Baseline("a", {LR: np.float64(0.1), "model.layers": np.int64(3)}),)},
            {"baselines": (Baseline("a", {LR: 0.1, "model.layers": 3}),)},
        ),
    ],
)  # fmt: skip
def test_what_is_clear_is_taken(fields: dict[str, Any], same: dict[str, Any]) -> None:
    found, wanted = toy_objective.spec(**fields), toy_objective.spec(**same)
    for each in dataclasses.fields(found):
        if each.name != "objective":
            assert repr(getattr(found, each.name)) == repr(getattr(wanted, each.name))


def test_numbers_of_numpy_become_pythons() -> None:
    domain = Int(np.int64(1), np.int32(3), np.bool_(True))
    assert (type(domain.low), type(domain.high), domain.log) == (int, int, True)
    assert type(Float(np.float32(0.5), 1).low) is float
    options = Choice(np.array([1, 2])).options
    assert options == (1, 2)
    assert {type(each) for each in options} == {int}
    assert Choice(options=["a", Path("b")]).options == ("a", "b")  # type: ignore[arg-type, list-item]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"baselines": ()}, 1),
        ({}, 2),
        ({"grid": (GridPoint("a", {}),), "replicates": 2}, 6),
        ({"grid": (GridPoint("a", {}),), "replicates": 2, "trials": 3}, 3),
    ],
)
def test_with_nothing_to_search_each_recipe_is_measured_once(
    fields: dict[str, Any], count: int
) -> None:
    study = toy_objective.spec(space={}, **fields)
    run = Controller(study, "sqlite://").run()
    assert len(run.trials) == study.trials == run.planned == count
    assert len({(trial.name, trial.seed) for trial in run.trials}) == count


class Naming(toy_objective.ToyObjective):
    """Knows its metrics; with many layers one more."""

    def metrics(self) -> frozenset[str]:
        deep = {"depth"} if self.fixed["model.layers"] == 5 else set()
        return frozenset({"base_loss", "gain", "gain_sem", "finetuned", *deep})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"goals": Goal("base_los", "down")}, "goal 'base_los' .* did you mean base_loss"),
        ({"goals": Goal("accuracy", "up")}, "goal 'accuracy' .* one of base_loss, finetuned, gain"),
        ({"limits": Limit("finetune", 0)}, "limit 'finetune' .* did you mean finetuned"),
        ({"goals": Goal("depth", "down")}, "goal 'depth'"),
    ],
)
def test_a_misspelt_metric_is_refused_where_the_objective_knows_them(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        toy_objective.spec(objective=Naming(), **fields)
    assert toy_objective.spec(**fields).goals  # an objective that names none is left alone


def test_a_metric_that_a_setting_of_the_study_gives_is_known() -> None:
    space = {**toy_objective.SPACE, "model.layers": Int(1, 5)}
    goal = Goal("depth", "down")
    assert toy_objective.spec(objective=Naming(), goals=goal, space=space).goals == (goal,)
    deep = Baseline("deep", {"model.layers": 5})
    assert toy_objective.spec(objective=Naming(), goals=goal, baselines=deep).goals == (goal,)


def test_a_study_has_both_goals_unless_it_names_others() -> None:
    assert toy_objective.spec().goals == (BASE_LOSS_DOWN, GAIN_UP)
    one = toy_objective.spec(goals=(Goal(metric="finetuned", direction="up"),))
    assert [goal.metric for goal in one.goals] == ["finetuned"]


def test_study_files_may_import_from_the_earlier_path() -> None:
    import hpo
    from hpo import spec as earlier

    assert earlier.StudySpec is hpo.StudySpec
    assert earlier.Point is hpo.GridPoint
    assert all(hasattr(earlier, name) for name in earlier.__all__)
