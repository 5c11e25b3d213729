"""Junk in every field of a study and on the command line: a sentence, or a study that can run."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.cli.parser import parser
from hpo.cli.run import study_request
from hpo.core.checks import MOST_SEED
from hpo.core.domains import Choice, Float, Int, distributions, inside
from hpo.core.goals import Goal, Limit
from hpo.core.spec import Baseline, GridPoint, Prior, Sampler, StudySpec, WarmStartTrial
from hpo.search.unit_cube import sobol_point
from hpo.storage.settings import spec_data
from tests.hpo import toy_objective
from tests.junk import BOUNDED, JUNK, SCALARS, check_sentence

PARTS = (Float, Int, Choice, Goal, Limit, Prior, Baseline, GridPoint)


NUMBERS = st.one_of(st.floats(), st.integers(-5, 9), SCALARS)


@st.composite
def parts(draw: st.DrawFn) -> Any:
    """A domain, goal or the like of junk; what is refused is refused in a sentence."""
    kind = draw(st.sampled_from(PARTS))
    names = [each.name for each in fields(kind)]
    given = {name: draw(NUMBERS if name in ("low", "high") else JUNK) for name in names}
    try:
        return kind(**given)
    except ValueError as error:
        check_sentence(error)
        return draw(
            st.sampled_from(
                [
                    Float(0.1, 1), Int(1, 4), Choice(["cosine", "linear"]), Goal("gain", "up"),
                    Limit("gain", 0), Prior(0.1, 1), Baseline("a", {}), GridPoint("b", {}),
                    WarmStartTrial(params={}, metrics={}), FloatDistribution(0.1, 1),
                    IntDistribution(1, 4), CategoricalDistribution(["cosine", None]),
                ]
            )
        )  # fmt: skip


VALUES = st.one_of(
    JUNK,
    parts(),
    st.lists(parts(), max_size=3),
    st.dictionaries(st.sampled_from(["pretrain.lr", "model.layers", "x"]), parts(), max_size=2),
)


def check_types(study: StudySpec) -> None:
    """What a study promises to those who read it."""
    for name, least in (("trials", 1), ("wave", 1), ("replicates", 1), ("confirm", 0), ("seed", 0)):
        value = getattr(study, name)
        assert type(value) is int
        assert least <= value <= MOST_SEED
    for limit in (study.budget_s, study.max_flops):
        assert limit is None or (type(limit) in (int, float) and 0 < limit < math.inf)
    assert study.patience is None or (type(study.patience) is int and study.patience >= 1)
    assert 0 <= study.replicate_share < 1
    assert study.sampler in get_args(Sampler)
    assert study.finetune_at_rungs in ("where it pays", "always")
    assert study.rungs == "auto" or study.rungs[-1] == 1.0
    assert study.fidelities[-1] == 1.0
    assert study.prices in ("auto", "seconds", "tokens")
    kinds = {
        "goals": Goal,
        "limits": Limit,
        "baselines": Baseline,
        "grid": GridPoint,
        "warm": WarmStartTrial,
    }
    for name, kind in kinds.items():
        assert type(getattr(study, name)) is tuple
        assert all(type(each) is kind for each in getattr(study, name))
    assert all(goal.direction in ("down", "up") and goal.metric for goal in study.goals)
    assert all(type(each) in (Float, Int, Choice) for each in study.space.values())
    assert set(study.priors) <= set(study.space)
    json.dumps(spec_data(study), allow_nan=False)
    assert distributions(study.space).keys() == study.space.keys()
    for place in range(3):
        assert inside(study.space, sobol_point(study.space, study.seed, place))
    assert study.space or study.trials <= max(1, len(study.planned))


@BOUNDED
@given(st.data())
def test_a_study_of_junk_is_refused_in_a_sentence_or_can_run(data: st.DataObject) -> None:
    names = [each.name for each in fields(StudySpec)]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    given_fields = {name: data.draw(VALUES, label=name) for name in chosen}
    try:
        study = toy_objective.spec(**given_fields)
    except ValueError as error:
        check_sentence(error)
    else:
        check_types(study)


@pytest.mark.parametrize("name", [each.name for each in fields(StudySpec)])
def test_every_field_of_a_study_meets_junk(name: str) -> None:
    @BOUNDED
    @given(VALUES)
    def one(value: Any) -> None:
        try:
            study = toy_objective.spec(**{name: value})
        except ValueError as error:
            check_sentence(error)
        else:
            check_types(study)

    one()


WORDS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["-1", "0", "1", "2.5", "1e3", "nan", "inf", "9" * 4000, "9" * 5000, "1h30m"]),
    st.sampled_from(["mine.py", ".", "quickstart", "s", "-", "--", "-h3", "--trails", "--json"]),
    st.sampled_from(
        ["None", "True", "[", "{", "[" * 3000, "(" * 500, "1" + "," * 50, "'", '"\\ud83d"']
    ),
)


OPTIONS = sorted(
    {
        option
        for command in parser()._subparsers._group_actions[0].choices.values()  # type: ignore[union-attr]
        for action in command._actions
        for option in action.option_strings
    }
    - {"-h", "--help"}
)


@st.composite
def settings_of(draw: st.DrawFn) -> list[str]:
    """--set of a path and junk."""
    path = draw(st.sampled_from(["pretrain.lr", "model.layers", "pretrain.shape", "x", ""]))
    return ["--set", f"{path}={draw(WORDS)}"]


LINES = st.lists(
    st.one_of(
        WORDS.map(lambda word: [word]),
        st.tuples(st.sampled_from(OPTIONS), WORDS).map(list),
        settings_of(),
    ),
    max_size=4,
).map(lambda groups: [word for group in groups for word in group])


def check_usage(stopped: SystemExit, printed: str) -> None:
    """Fail unless the parser stopped with one line."""
    assert stopped.code == 2
    assert printed.startswith("hpo: ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "check", "show", "transfer", "store", "plot", "", "rn"])
def test_junk_on_the_command_line_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from tests.hpo.toy_objective import *\nSTUDY = spec()\n")
    made = parser()

    @BOUNDED
    @given(LINES)
    def one(line: list[str]) -> None:
        words = [command, *(["mine.py"] if command in ("run", "check") else []), *line]
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                arguments = made.parse_args([word for word in words if word])
        except SystemExit as stopped:
            check_usage(stopped, errors.getvalue())
            return
        if command in ("run", "check"):
            try:
                check_types(study_request(arguments).spec())
            except ValueError as error:
                check_sentence(error)

    one()
    assert not Path("runs").exists()
