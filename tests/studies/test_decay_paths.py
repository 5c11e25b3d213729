"""The paths of weight decay in a study: the short form, the long one, its timescale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hpo import study_files
from hpo.cli import main
from hpo.cli.parser import parser
from hpo.cli.run import study_request
from hpo.core import domains as space
from hpo.core.domains import Choice, Domain, Float
from hpo.core.spec import Baseline, StudySpec
from hpo.search import strategy, unit_cube
from objectives import PlasticityObjective, Pretrain, Recipe, WeightDecay

SHORT, LONG = "pretrain.weight_decay", "pretrain.weight_decay.value"


TAU = "pretrain.weight_decay.tau_frac"


STRENGTHS = Float(low=0.01, high=1.0, log=True)


def study(
    domains: Mapping[str, Domain], *baselines: Mapping[str, Any], decay: Any = 0.1
) -> StudySpec:
    return StudySpec(
        name="paths",
        objective=PlasticityObjective(Recipe(pretrain=Pretrain(weight_decay=decay))),
        space=domains,
        baselines=tuple(
            Baseline(name=str(place), params=params) for place, params in enumerate(baselines)
        ),
    )


@pytest.mark.parametrize("path", [SHORT, LONG])
def test_a_study_may_search_the_strength_by_either_name(path: str) -> None:
    policies = Choice(options=("uniform", "cautious"))
    spec = study({path: STRENGTHS, f"{SHORT}.policy": policies}, {}, {path: 0.0})
    assert strategy.planned_values(spec, 0) == {path: 0.1, f"{SHORT}.policy": "uniform"}
    assert strategy.planned_values(spec, 1)[path] == 0.0
    for place in range(8):
        spec.objective.check(unit_cube.sobol_point(spec.space, 0, place))


@pytest.mark.parametrize(
    ("domains", "baseline"),
    [
        ({SHORT: STRENGTHS, LONG: STRENGTHS}, {}),
        ({SHORT: STRENGTHS}, {LONG: 0.0}),
        ({LONG: STRENGTHS}, {SHORT: 0.0}),
    ],
)
def test_two_names_of_the_strength_in_one_study_are_refused(
    domains: Mapping[str, Domain], baseline: Mapping[str, Any]
) -> None:
    with pytest.raises(ValueError, match="name the same hyperparameter"):
        study(domains, baseline)


def test_a_study_searches_the_timescale_where_the_recipe_gives_the_strength_by_it() -> None:
    by_tau = WeightDecay(value=None, tau_frac=0.4)
    domains = {TAU: Float(low=0.03, high=3.0, log=True)}
    spec = study(domains, {}, {TAU: None, LONG: 0.0}, decay=by_tau)
    assert strategy.planned_values(spec, 0) == {TAU: 0.4}
    assert not space.inside(spec.space, strategy.planned_values(spec, 1))
    with pytest.raises(ValueError, match=r"exactly one of .*value and .*tau_frac must be set"):
        study(domains, {})
    with pytest.raises(ValueError, match=r"exactly one of .*value and .*tau_frac must be set"):
        study(domains, {SHORT: 0.0}, decay=by_tau)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([f"{LONG}=0.3"], "name the same hyperparameter"),
        ([f"{SHORT}=0.3", f"{LONG}=0.3"], "name the same hyperparameter"),
        ([f"{TAU}=0.5"], "exactly one of"),
        ([f"{LONG}=null", f"{TAU}=0.5"], "name the same hyperparameter"),
        ([f"{SHORT}.policy=lazy"], "pretrain.weight_decay.policy"),
        (["pretrain.decayed=matrices"], "did you mean pretrain.weight_decay.decayed"),
    ],
)
def test_settings_that_clash_with_the_space_are_wrong_usage(
    settings: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    assert main.main(["run", "quickstart", "--out", str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err


def test_fixing_the_strength_takes_it_out_of_the_quickstarts_space() -> None:
    arguments = parser().parse_args(
        ["run", "quickstart", "--set", f"{SHORT}=0.3", "--set", f"{SHORT}.policy=cautious"]
    )
    spec = study_request(arguments).spec()
    assert SHORT in study_files.load("quickstart").space
    assert SHORT not in spec.space
    assert spec.objective.values()[LONG] == 0.3
    assert spec.objective.values()[f"{SHORT}.policy"] == "cautious"
