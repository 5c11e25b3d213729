"""The reference lists what a recipe has, and what it says of a value is what the recipe takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from objectives import Recipe, VisionRecipe
from objectives.config.reference import ITEM, REQUIRED, Parameter, parameters
from objectives.config.training import MidTraining
from objectives.config.tree import SHORT_FORMS

RECIPES = (Recipe(), VisionRecipe())


LISTED = [each for recipe in RECIPES for each in parameters(recipe, SHORT_FORMS)]


def plain(found: Parameter) -> bool:
    """Whether the path can be set in a recipe that has only its defaults."""
    elsewhere = found.owner in ("Cifar10", "HubImages") or found.path.startswith("pretrain.mid.")
    return not elsewhere and f".{ITEM}." not in found.path


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_path_of_a_recipe_is_listed(recipe: Recipe | VisionRecipe) -> None:
    listed = {each.path for each in parameters(recipe, SHORT_FORMS)}
    for path in {*recipe.paths(), *SHORT_FORMS}:
        general = re.sub(r"\.\d+(?=\.|$)", f".{ITEM}", path)
        assert {general, general.removesuffix(f".{ITEM}")} & listed, path


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_default_is_the_recipes_and_can_be_set(recipe: Recipe | VisionRecipe) -> None:
    for each in filter(plain, parameters(recipe, SHORT_FORMS)):
        assert recipe.with_params({each.path: each.default}).to_dict() == recipe.to_dict(), each


@pytest.mark.parametrize("each", LISTED, ids=lambda each: f"{each.owner}.{each.path}")
def test_every_path_has_a_meaning_and_every_count_a_unit(each: Parameter) -> None:
    assert each.meaning.strip()
    assert each.unit or not each.type.startswith(("int", "list of int"))


def test_bounds_and_choices_are_those_that_the_recipe_checks() -> None:
    for each in filter(plain, parameters(Recipe(), SHORT_FORMS)):
        for wrong in wrong_values(each):
            with pytest.raises(ValueError, match=r"\S"):
                Recipe().with_params({each.path: wrong})


def wrong_values(each: Parameter) -> list[Any]:
    """Values just outside of what is allowed."""
    if each.type.startswith("choice"):
        return ["no such choice"]
    if not each.type.startswith(("int", "float")):
        return []
    return [
        float(bound) + {">": 0, ">=": -1, "<": 0, "<=": 1}[sign]
        for sign, bound in re.findall(r"(>=|<=|>|<) ([-\d.e]+)", each.allowed)
    ]


def test_the_default_of_a_study_is_its_own_value_also_below_an_optional_subtree() -> None:
    mid = MidTraining(sources=Recipe().corpus.sources, steps=7)
    recipe = Recipe().with_params({"pretrain.lr": 0.5})
    changed = type(recipe)(pretrain=type(recipe.pretrain)(lr=0.5, mid=mid))
    found = {each.path: each.default for each in parameters(changed, SHORT_FORMS)}
    assert found["pretrain.lr"] == 0.5
    assert found["pretrain.mid.steps"] == 7
    assert {each.path: each.default for each in LISTED}["pretrain.mid.steps"] == REQUIRED
