"""Params of a record that somebody has edited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from hpo.controller import Controller
from hpo.core.objective import Params
from hpo.core.param_rows import check_params
from hpo.core.rows import DamagedRow
from hpo.core.spec import Baseline, GridPoint
from hpo.core.trial import Ask, Trial
from hpo.storage.settings import named_params, spec_data
from tests.hpo.toy_objective import FULL_SPACE, ToyObjective, spec

LR, LAYERS, SHAPE, DECAY = (
    "pretrain.lr", "model.layers", "pretrain.shape", "pretrain.weight_decay"
)  # fmt: skip


STUDY = spec(
    space=FULL_SPACE,
    baselines=(Baseline("no decay", {DECAY: 0.0, LAYERS: 9}),),
    grid=(GridPoint("wide", {LAYERS: 4}),),
)


SEARCHED = {DECAY: 0.1, LR: 0.01, LAYERS: 2, SHAPE: "linear"}


NAMED = {**SEARCHED, DECAY: 0.0, LAYERS: 9}


def check(params: dict[str, Any], **more: Any) -> None:
    """Hold params against the settings, as those of trial 1 after a searched trial."""
    indexed, name = more.pop("indexed", {}), more.pop("name", None)
    asks = (Ask(0, 0, 1.0, 0),) if more.pop("asked", True) else ()
    trial = Trial(number=1, params=params, asks=asks, point=name, **more)
    first = Trial(number=0, params=SEARCHED, asks=(Ask(0, 0, 1.0, 0),))
    check_params([first, trial], [{}, indexed], STUDY.space, named_params(spec_data(STUDY)))


@pytest.mark.parametrize("path", [LR, DECAY])
@pytest.mark.parametrize("value", ["0.01", "x", True, [0.01], {}, float("nan"), float("inf")])
@pytest.mark.parametrize("more", [{}, {"name": "no decay"}, {"name": "wide"}, {"asked": False}])
def test_a_real_parameter_is_a_finite_number_in_every_trial(
    path: str, value: Any, more: dict[str, Any]
) -> None:
    with pytest.raises(DamagedRow, match="trial 1 has a value of pretrain"):
        check({**NAMED, LAYERS: 4, path: value}, **more)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({LAYERS: 2.5}, {}),
        ({LAYERS: 2.0}, {}),
        ({LAYERS: 9}, {}),
        ({LR: 0.2}, {}),
        ({LR: None}, {}),
        ({SHAPE: "other"}, {}),
        ({SHAPE: None}, {}),
        ({LAYERS: 9.5}, {"name": "no decay"}),
        ({LAYERS: 8}, {"name": "no decay"}),
        ({DECAY: 0.1}, {"name": "no decay"}),
        ({LR: 0.02}, {"replicate_of": 0}),
        ({LR: 0.02}, {"indexed": {LR: 0.01}}),
        ({SHAPE: "cosine"}, {"indexed": {SHAPE: "linear"}}),
    ],
)
def test_a_value_that_the_trial_cannot_have_is_damage(
    change: dict[str, Any], more: dict[str, Any]
) -> None:
    whole = NAMED if more.get("name") else SEARCHED
    check(whole, **more)
    with pytest.raises(DamagedRow, match="trial 1 has a value of"):
        check({**whole, **change}, **more)


def test_a_path_that_is_missing_a_name_and_a_repeated_trial_that_are_not_there_are_damage() -> None:
    with pytest.raises(DamagedRow, match="no point named"):
        check(SEARCHED, name="standard")
    with pytest.raises(DamagedRow, match="cannot repeat trial 2"):
        check(SEARCHED, replicate_of=2)
    with pytest.raises(DamagedRow, match=LR):
        check({path: value for path, value in SEARCHED.items() if path != LR})


@pytest.mark.parametrize(
    ("params", "more"),
    [
        (NAMED, {"name": "no decay"}),
        ({**NAMED, LR: 5.0, SHAPE: "other"}, {"name": "no decay"}),
        ({**NAMED, LR: None}, {"name": "no decay"}),
        ({**SEARCHED, LAYERS: 4.0}, {"name": "wide"}),
        (SEARCHED, {"replicate_of": 0}),
        ({**SEARCHED, LR: 0.01 * (1 + 1e-12)}, {"indexed": {LR: 0.01}}),
        ({LR: 9.0}, {"asked": False}),
        ({}, {"asked": False, "replicate_of": 0}),
    ],
)
def test_what_a_trial_can_have_is_taken(params: dict[str, Any], more: dict[str, Any]) -> None:
    check(params, **more)


@dataclass(frozen=True, kw_only=True)
class _Any(ToyObjective):
    """Takes any params."""

    def check(self, params: Params) -> None:
        pass


def test_a_list_among_a_baselines_params_is_recorded_and_read() -> None:
    study = spec(
        objective=_Any(), baselines=(Baseline("listed", {"lrs": [0.1, {"deep": [1, None]}]}),),
        trials=2, sampler="random",
    )  # fmt: skip
    (first, second) = Controller(study, "sqlite://").run().trials
    assert first.params["lrs"] == [0.1, {"deep": [1, None]}]
    assert "lrs" not in second.params


@pytest.mark.parametrize("value", ["auto", [0.1], True])
def test_a_baseline_without_a_number_where_the_space_has_one_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Baseline 'a' needs a number for pretrain.lr"):
        spec(objective=_Any(), baselines=(Baseline("a", {LR: value}),))


def test_seeds_of_a_named_trial_have_the_same_params_also_those_that_its_settings_leave_out() -> (
    None
):
    def trials(shape: str) -> list[Trial]:
        asks = (Ask(0, 0, 1.0, 0),)
        return [
            Trial(number=number, params={**NAMED, SHAPE: each}, asks=asks, baseline="no decay")
            for number, each in enumerate(("linear", shape))
        ]

    named = named_params(spec_data(STUDY))
    check_params(trials("linear"), [{}, {}], STUDY.space, named)
    with pytest.raises(DamagedRow, match=r"trial 1 has a value of pretrain\.shape"):
        check_params(trials("cosine"), [{}, {}], STUDY.space, named)
