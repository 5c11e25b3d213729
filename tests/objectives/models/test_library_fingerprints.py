"""Fingerprints of what libraries draw: in the keys that depend on it, equal while it is equal."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from objectives.config.recipe import Recipe
from objectives.config.training import Finetune
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning import runs
from objectives.models import causal_lm, library_fingerprints, presets
from objectives.pretraining.job import PretrainJob
from tests.objectives import toy

PRINTS = ("initial_weights", "adapters", "classifier_weights", "permutations")


@pytest.fixture(params=PRINTS)
def changed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a print that is another one."""
    name: str = request.param
    monkeypatch.setattr(library_fingerprints, name, lambda *given: "another")
    return name


@pytest.fixture
def preset(toy_folder: Path) -> Recipe:
    base = toy.recipe(toy_folder)
    return base.with_params({"model.preset": "gpt2-0.2m", "model.config": None})


def keys(recipe: Recipe, corpus: TokenDataset) -> dict[str, str]:
    """Of a base, of adapters on it, and of a model tuned whole."""
    job = PretrainJob(recipe, 0, 4)
    task: Any = type("Task", (), {"key": "0" * 8, "override": None})
    tuned = {
        method: runs.stage_key("base", Finetune(method=method), False, task, 1e-2, [0])
        for method in ("lora", "full")
    }
    return {"base": job.key(corpus, 4), "program": job.program_key(corpus), **tuned}


def test_a_library_that_draws_otherwise_changes_the_keys_of_what_it_drew(
    changed: str, preset: Recipe, toy_corpus: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = keys(preset, toy_corpus)
    monkeypatch.undo()
    before = keys(preset, toy_corpus)
    differ = {name for name in now if now[name] != before[name]}
    assert (
        differ
        == {
            "initial_weights": {"base", "program"},
            "adapters": {"lora"},
            "classifier_weights": set(),
            "permutations": {"base", "program", "lora", "full"},
        }[changed]
    )


@pytest.mark.parametrize(
    ("package", "of_preset", "of_config"),
    [("torch", True, True), ("transformers", False, True), ("numpy", False, False)],
)
def test_an_upgrade_that_draws_the_same_keeps_stages_but_where_that_was_not_tried(
    package: str, of_preset: bool, of_config: bool, preset: Recipe, toy_folder: Path,
    toy_corpus: TokenDataset, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipes = (preset, toy.recipe(toy_folder))
    before = [keys(each, toy_corpus)["base"] for each in recipes]
    version = library_fingerprints.versions

    def upgraded(*packages: str) -> str:
        return version(*packages).replace(f"{package} ", f"{package} 99.")

    monkeypatch.setattr(library_fingerprints, "versions", upgraded)
    after = [keys(each, toy_corpus)["base"] for each in recipes]
    assert [one != other for one, other in zip(before, after, strict=True)] == [
        of_preset,
        of_config,
    ]


def test_a_patch_release_is_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = library_fingerprints.versions.__wrapped__
    for version in ("2.13.0", "2.13.1+cu130", "2.13.0.dev20260101"):
        monkeypatch.setattr("importlib.metadata.version", lambda name, v=version: v)
        assert plain("torch") == "torch 2.13"


def test_prints_are_the_same_in_every_precision_and_leave_the_global_generator_alone(
    float64: None,
) -> None:
    def all_of_them() -> list[str]:
        each = [
            library_fingerprints.initial_weights.__wrapped__(family) for family in ("llama", "gpt2")
        ]
        return each + [getattr(library_fingerprints, name).__wrapped__() for name in PRINTS[1:]]

    state = torch.get_rng_state()
    double = all_of_them()
    torch.set_default_dtype(torch.float32)
    assert double == all_of_them()
    assert torch.equal(state, torch.get_rng_state())
    assert len(set(double)) == len(double)


@pytest.mark.parametrize("name", ["normal_", "uniform_"])
def test_other_numbers_give_other_prints(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (
        library_fingerprints.initial_weights.__wrapped__("llama"),
        library_fingerprints.adapters(),
    )
    draw = getattr(torch.Tensor, name)
    monkeypatch.setattr(torch.Tensor, name, lambda *given, **named: draw(*given, **named).mul_(2))
    after = (
        library_fingerprints.initial_weights.__wrapped__("llama"),
        (library_fingerprints.adapters.__wrapped__()),
    )
    assert before != after


def test_presets_are_known_by_their_family_and_other_models_by_version() -> None:
    recipe = Recipe()
    assert causal_lm.family_of(recipe.model) == "llama"
    assert {preset.family for preset in presets.PRESETS.values()} == set(library_fingerprints._TINY)
    given = copy.deepcopy(recipe).with_params({"model.weights": "somewhere"})
    assert causal_lm.family_of(given.model) is None
    configured = recipe.with_params({"model.preset": None, "model.config": "somewhere"})
    assert causal_lm.family_of(configured.model) is None
