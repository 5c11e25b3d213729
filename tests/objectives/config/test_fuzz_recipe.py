"""Junk in every field of a recipe, by path and constructor: a sentence, or a recipe of values."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import objectives
from objectives import Recipe, VisionRecipe
from tests.junk import BOUNDED, JUNK, check_sentence

PARTS = [
    getattr(objectives, name)
    for name in objectives.__all__
    if hasattr(getattr(objectives, name), "__pydantic_validator__")
]


PATHS = {kind: sorted(kind().paths()) for kind in (Recipe, VisionRecipe)}


def check_recipe(recipe: Any) -> None:
    """A recipe is plain data there and back, and can be a key."""
    data = json.loads(json.dumps(recipe.to_dict(), allow_nan=False))
    assert type(recipe).from_dict(data) == recipe
    assert recipe.with_params(recipe.paths()) == recipe
    assert hash(recipe) == hash(type(recipe).from_dict(data))


@pytest.mark.parametrize("kind", PATHS)
@BOUNDED
@given(data=st.data())
def test_junk_by_paths(kind: Any, data: st.DataObject) -> None:
    paths = st.one_of(st.sampled_from(PATHS[kind]), st.sampled_from(subtrees(PATHS[kind])))
    names = st.one_of(paths, paths.map(lambda path: path + "x"), st.text(max_size=5))
    params = data.draw(st.dictionaries(names, JUNK, min_size=1, max_size=3))
    try:
        recipe = kind().with_params(params)
    except ValueError as error:
        check_sentence(error)
    else:
        check_recipe(recipe)


def subtrees(paths: list[str]) -> list[str]:
    return sorted({path.rpartition(".")[0] for path in paths} - {""})


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
@BOUNDED
@given(data=st.data())
def test_junk_by_constructors(part: Any, data: st.DataObject) -> None:
    names = [each.name for each in dataclasses.fields(part)]
    some = st.one_of(st.sampled_from(names), st.text(max_size=5))
    named = data.draw(st.dictionaries(some, JUNK, max_size=3))
    unnamed = data.draw(st.lists(JUNK, max_size=1))
    try:
        made = part(*unnamed, **named)
    except ValueError as error:
        check_sentence(error)
    else:
        assert dataclasses.replace(made) == made
        assert hash(made) == hash(dataclasses.replace(made))


@pytest.mark.parametrize("kind", PATHS)
@BOUNDED
@given(data=JUNK)
def test_junk_by_data(kind: Any, data: Any) -> None:
    try:
        recipe = kind.from_dict(data)
    except ValueError as error:
        check_sentence(error)
    else:
        check_recipe(recipe)
