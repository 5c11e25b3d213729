"""The rules a study has to keep, each with the value that breaks it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from hpo.spec import BASE_LOSS_DOWN, GAIN_UP, Baseline, Choice, Float, Goal, Int, Limit, Point
from tests.hpo import toy_objective


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Float(low=2, high=1), "low <= high, got 2 and 1"),
        (lambda: Float(low=math.nan, high=1), "finite low <= high"),
        (lambda: Float(low=0, high=math.inf), "finite low <= high"),
        (lambda: Float(low=0, high=1, log=True), "log=True needs low > 0, got 0"),
        (lambda: Int(low=2, high=1), "low <= high, got 2 and 1"),
        (lambda: Int(low=0, high=1, log=True), "log=True needs low >= 1, got 0"),
        (lambda: Choice(options=()), "different options"),
        (lambda: Choice(options=("a", "a")), "different options"),
        (lambda: Limit(metric="gain", low=1, high=0), "Limit on gain needs low <= high"),
        (lambda: Limit(metric="gain", low=math.nan), "Limit on gain needs low <= high"),
    ],
)
def test_a_broken_domain_or_limit_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_domains_of_one_point_are_allowed() -> None:
    assert Float(low=1, high=1, log=True).low == Int(low=1, high=1, log=True).low
    assert Choice(options=(None,)).options == (None,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "name holds letters"),
        ({"name": "a/b"}, "got 'a/b'"),
        ({"name": ".."}, "got '..'"),
        ({"trials": 0}, "at least 1, got 0"),
        ({"wave": 0}, "at least 1"),
        ({"replicates": 0}, "replicates of at least 1"),
        ({"grid": (Point(name="standard", params={}),)}, "different names"),
        ({"grid": (Point(name="a", params={"lr": 1.0}),)}, "unknown hyperparameter 'lr'"),
        ({"budget_s": 0}, "budget_s above 0"),
        ({"budget_s": math.nan}, "budget_s above 0"),
        ({"goals": ()}, "different goals"),
        ({"goals": (GAIN_UP, Goal(metric="gain", direction="down"))}, "different goals"),
        ({"limits": (Limit(metric="x", low=0), Limit(metric="x", high=1))}, "different metrics"),
        ({"baselines": (Baseline(name="a", params={}),) * 2}, "different names"),
        ({"space": {"pretrain.decay": Float(low=0, high=1)}}, "unknown hyperparameter"),
        ({"space": {"pretrain.shape": Float(low=0, high=1)}}, "pretrain.shape must be like"),
        ({"space": {"pretrain.lr": Choice(options=(0.1, "high"))}}, "got 'high'"),
        ({"baselines": (Baseline(name="a", params={"lr": 1.0}),)}, "unknown hyperparameter 'lr'"),
    ],
)
def test_a_study_that_breaks_a_rule_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        toy_objective.spec(**fields)


def test_a_study_has_both_goals_unless_told_otherwise() -> None:
    assert toy_objective.spec().goals == (BASE_LOSS_DOWN, GAIN_UP)
    one = toy_objective.spec(goals=(Goal(metric="finetuned", direction="up"),))
    assert [goal.metric for goal in one.goals] == ["finetuned"]
