"""The recipe: paths, strict types, rules between fields, JSON there and back."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from objectives.config.data import BuiltinTask, Corpus, Files, FileTask, HubDataset, HubTask, Stdlib
from objectives.config.probes import Probes
from objectives.config.recipe import Model, Recipe
from objectives.config.training import Finetune, Lora, Pretrain, Schedule
from objectives.config.weight_decay import ModuleScores, Multipliers, WeightDecay

FULL = Recipe(
    model=Model(preset="gpt2-0.2m", weights="some/weights"),
    corpus=Corpus(
        sources=(
            Stdlib(max_bytes=10, weight=0.5),
            Files(paths=("a", "b*.txt"), max_bytes=None),
            HubDataset(name="x", config="en", streaming=False),
        ),
        tokenizer="t",
    ),
    pretrain=Pretrain(
        schedule=Schedule(shape="inverse_sqrt", decay_frac=0.0),
        clip_norm=None,
        precision="bf16",
        weight_decay=WeightDecay(
            value=None,
            tau_frac=0.3,
            coupling="independent",
            decayed="matrices",
            multipliers=Multipliers(attn_qk=0.5, norm=0.0),
            course="linear",
            policy="alpha_decay",
            scores=ModuleScores(map="sqrt", every=10),
        ),
    ),
    finetune=Finetune(
        tasks=(
            BuiltinTask(name="commands"),
            FileTask(name="mine", train="a.jsonl", test="b.jsonl"),
            HubTask(name="theirs", dataset="d", prompt="{a}", completion=" {b}"),
        ),
        method="full",
        lora=Lora(targets=("q_proj", "v_proj")),
        steps=None,
        epochs=2.0,
    ),
    probes=Probes(forgetting_tokens=0),
)


BY_TAU = {"pretrain.weight_decay.value": None, "pretrain.weight_decay.tau_frac": 0.5}


@pytest.mark.parametrize("recipe", [Recipe(), FULL])
def test_json_there_and_back_is_the_same_recipe(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("recipe", [Recipe(), FULL])
def test_every_path_can_be_set_to_its_own_value(recipe: Recipe) -> None:
    paths = recipe.paths()
    assert {"pretrain.lr", "pretrain.schedule.decay_frac", "finetune.lrs.0"} <= set(paths)
    assert recipe.with_params(paths) == recipe
    for path, value in paths.items():
        assert recipe.with_params({path: value}) == recipe


def test_params_change_their_path_and_nothing_else() -> None:
    base = Recipe()
    changed = base.with_params({"pretrain.lr": 0.5, "pretrain.schedule.shape": "linear"})
    differing = {k for k, v in changed.paths().items() if base.paths()[k] != v}
    assert differing == {"pretrain.lr", "pretrain.schedule.shape"}
    assert changed.pretrain.lr == 0.5
    assert base == Recipe()


def test_list_items_and_whole_subtrees_can_be_set() -> None:
    changed = Recipe().with_params(
        {
            "finetune.lrs.1": 0.25,
            "finetune.tasks.0": {"kind": "builtin", "name": "arithmetic"},
            "corpus.sources": [{"kind": "files", "paths": ["x.txt"]}],
        }
    )
    assert changed.finetune.lrs == (3e-3, 0.25, 3e-2)
    assert changed.finetune.tasks[0] == BuiltinTask(name="arithmetic")
    assert changed.corpus.sources == (Files(paths=("x.txt",)),)


def test_an_int_is_taken_for_a_float_and_numpy_floats_are_floats() -> None:
    changed = Recipe().with_params({"pretrain.lr": 1, "pretrain.weight_decay": np.float64(0.5)})
    assert changed.pretrain.lr == 1.0
    assert type(changed.pretrain.lr) is float
    assert changed.pretrain.weight_decay == WeightDecay(value=0.5)


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("lr", "pretrain.lr"),
        ("weight_decay", "pretrain.weight_decay"),
        ("pretrain.weight_decy", "pretrain.weight_decay"),
        ("pretrain.shedule.shape", "pretrain.schedule.shape"),
        ("finetune.lrs.3", "finetune.lrs.0"),
        ("finetune.lrs.-1", "finetune.lrs.0"),
        ("pretrain.lr.x", "pretrain.lr"),
        ("", "paths are"),
    ],
)
def test_an_unknown_path_names_near_ones(path: str, near: str) -> None:
    with pytest.raises(ValueError, match=r"unknown hyperparameter") as caught:
        Recipe().with_params({path: 1.0})
    assert near in str(caught.value)
    assert repr(path) in str(caught.value)


def test_an_unknown_field_inside_a_subtree_names_near_ones() -> None:
    with pytest.raises(ValueError, match=r"pretrain.schedule.warmup_steps"):
        Recipe().with_params({"pretrain.schedule": {"warmup_step": 3}})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pretrain.lr", "0.1"),
        ("pretrain.lr", None),
        ("pretrain.lr", True),
        ("pretrain.lr", 0.0),
        ("pretrain.lr", float("inf")),
        ("pretrain.lr", float("nan")),
        ("pretrain.weight_decay", -0.1),
        ("pretrain.weight_decay", "0.1"),
        ("pretrain.weight_decay", True),
        ("pretrain.weight_decay", None),
        ("pretrain.weight_decay.value", -0.1),
        ("pretrain.weight_decay.coupling", "loose"),
        ("pretrain.weight_decay.multipliers.head", -1.0),
        ("pretrain.weight_decay.scores.every", 0),
        ("pretrain.weight_decay.scores.map", "cubic"),
        ("pretrain.steps", 1.5),
        ("pretrain.steps", 0),
        ("pretrain.beta1", 1.0),
        ("pretrain.schedule.decay_frac", 1.01),
        ("pretrain.schedule.floor_ratio", -0.01),
        ("pretrain.schedule.shape", "step"),
        ("pretrain.precision", "fp16"),
        ("pretrain.activation_checkpointing", 1),
        ("corpus.validation_frac", 0.0),
        ("corpus.vocab_size", 256),
        ("corpus.sources", []),
        ("corpus.sources.0.max_bytes", 0),
        ("finetune.lora.dropout", 1.0),
        ("finetune.lrs", []),
        ("finetune.tasks", []),
        ("pretrain.steps", np.arange(3)),
        ("pretrain.steps", object()),
    ],
)
def test_a_wrong_type_or_range_is_one_sentence_with_the_path(path: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        Recipe().with_params({path: value})
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({"pretrain.accumulation": 3}, "must divide pretrain.batch_size, got 3 and 16"),
        ({"finetune.epochs": 1.0}, "exactly one of finetune.steps and finetune.epochs"),
        ({"finetune.steps": None}, "exactly one of finetune.steps and finetune.epochs"),
        ({"model.config": "gpt2"}, "exactly one of model.preset and model.config"),
        ({"model.preset": None}, "exactly one of model.preset and model.config"),
        ({"finetune.selection_seeds": 3}, "at most finetune.seeds, got 3 and 2"),
        ({"finetune.tasks.0.name": "commands"}, "finetune.tasks must have different names"),
        (
            {"pretrain.weight_decay.tau_frac": 0.5},
            "exactly one of .*weight_decay.value and .*tau_frac must be set, got 0.1 and 0.5",
        ),
        ({"pretrain.weight_decay.value": None}, "must be set, got None and None"),
        (
            {"pretrain.weight_decay": 0.1, "pretrain.weight_decay.value": 0.2},
            "name the same hyperparameter, got 0.1 and 0.2; give one",
        ),
        (
            {"pretrain.weight_decay.coupling": "l2", "pretrain.weight_decay.policy": "adam_c"},
            "policy 'adam_c' acts on the update and needs .*coupling decoupled or independent",
        ),
        ({**BY_TAU, "pretrain.weight_decay.coupling": "l2"}, "tau_frac needs a coupling other"),
        ({**BY_TAU, "pretrain.weight_decay.policy": "awd"}, "got 'decoupled' and 'awd'; set value"),
        ({**BY_TAU, "pretrain.weight_decay.policy": "stable"}, "set value instead"),
        (
            {"pretrain.weight_decay.scores.low": 0, "pretrain.weight_decay.scores.high": 0},
            "must not both be 0; for no decay set",
        ),
    ],
)
def test_rules_between_fields_are_held(params: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        Recipe().with_params(params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "params",
    [
        {"pretrain.accumulation": 4},
        {"finetune.steps": None, "finetune.epochs": 0.5},
        {"model.preset": None, "model.config": "gpt2"},
        {"finetune.selection_seeds": 2},
        {"pretrain.weight_decay.tau_frac": 0.5, "pretrain.weight_decay.value": None},
        {"pretrain.weight_decay.coupling": "l2", "pretrain.weight_decay.policy": "alpha_decay"},
    ],
)
def test_what_the_rules_allow_is_allowed(params: dict[str, Any]) -> None:
    recipe = Recipe().with_params(params)
    assert {path: recipe.paths()[path] for path in params} == params


@pytest.mark.parametrize("part", ["pretrain", "finetune", "pretrain.mid"])
def test_a_path_that_sets_one_warmup_unsets_the_other(part: str) -> None:
    recipe = Recipe().with_params(
        {"pretrain.mid": {"sources": [{"kind": "stdlib"}], "steps": 9, "schedule": {}}}
    )
    steps, frac = (f"{part}.schedule.{name}" for name in ("warmup_steps", "warmup_frac"))
    for path, other, value in ((steps, frac, 3), (frac, steps, 0.2), (steps, frac, 0)):
        recipe = recipe.with_params({path: value})
        assert (recipe.paths()[path], recipe.paths()[other]) == (value, None)
    recipe = recipe.with_params({frac: 0.2, steps: None})
    assert recipe.paths()[frac] == 0.2
    assert recipe.with_params({steps: None}) == recipe
    with pytest.raises(ValueError, match=f"at most one of {steps} and {frac} can be set, got 3"):
        recipe.with_params({steps: 3, frac: 0.2})
    with pytest.raises(ValueError, match="at most one of a schedule's warmup_steps and warmup_"):
        recipe.with_params({f"{part}.schedule": {"warmup_steps": 3, "warmup_frac": 0.2}})


def test_params_are_not_changed_by_setting_them() -> None:
    schedule = {"warmup_steps": 3}
    changed = Recipe().with_params(
        {"pretrain.schedule": schedule, "pretrain.schedule.warmup_steps": 5}
    )
    assert changed.pretrain.schedule.warmup_steps == 5
    assert schedule == {"warmup_steps": 3}


def test_rates_of_a_task_alone_must_be_different_too() -> None:
    with pytest.raises(ValueError, match=r"finetune\.tasks\.1\.override\.lrs must be different"):
        Recipe().with_params({"finetune.tasks.1.override": {"lrs": [0.01, 0.01]}})


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2J", "x" * 201])
def test_a_task_that_no_metric_can_be_called_by_is_refused(name: str) -> None:
    task = {"kind": "file", "name": name, "train": "a.jsonl", "test": "b.jsonl"}
    with pytest.raises(ValueError, match=r"finetune\.tasks\.0\.name must be a text of 1 to 200"):
        Recipe().with_params({"finetune.tasks": [task]})


@pytest.mark.parametrize(
    ("path", "above", "example"),
    [
        ("finetune.tasks.0.override.steps", "finetune.tasks.0.override", '{"steps": "..."}'),
        ("pretrain.mid.schedule.shape", "pretrain.mid", '{"schedule": "..."}'),
    ],
)
def test_a_field_of_a_part_that_is_none_says_which_part(
    path: str, above: str, example: str
) -> None:
    message = f"{path} cannot be set, as {above} is None; set {above} itself, such as {example}."
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe().with_params({path: 3})


def test_a_learning_rate_that_stands_twice_in_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"finetune\.lrs must be different"):
        Recipe().with_params({"finetune.lrs": [0.01, 0.01]})


def test_initials_find_the_hyperparameter() -> None:
    with pytest.raises(ValueError, match=r"did you mean pretrain\.weight_decay or"):
        Recipe().with_params({"pretrain.wd": 3.0})


def test_a_number_is_short_for_the_decays_value_and_leaves_what_is_beside_it() -> None:
    short = Pretrain(weight_decay=0.3)  # type: ignore[arg-type]
    assert short == Pretrain(weight_decay=WeightDecay(value=0.3))
    base = Recipe().with_params({"pretrain.weight_decay.policy": "cautious"})
    for value in (0.3, 0, np.float64(0.5)):
        changed = base.with_params({"pretrain.weight_decay": value})
        assert changed.pretrain.weight_decay == WeightDecay(value=float(value), policy="cautious")
    data = Recipe().to_dict()
    data["pretrain"]["weight_decay"] = 0.3
    assert Recipe.from_dict(data).pretrain == short


def test_the_order_of_params_does_not_matter_to_the_short_form() -> None:
    params = {"pretrain.weight_decay": 0.3, "pretrain.weight_decay.course": "linear"}
    there, back = params, dict(reversed(params.items()))
    assert Recipe().with_params(there) == Recipe().with_params(back)


def test_the_old_place_of_decayed_parameters_leads_to_the_new_one() -> None:
    with pytest.raises(ValueError, match=r"did you mean pretrain\.weight_decay\.decayed"):
        Recipe().with_params({"pretrain.decayed": "matrices"})


def test_a_number_that_is_no_strength_is_refused_in_python_too() -> None:
    with pytest.raises(ValueError, match=r"value of WeightDecay must be at least 0, got -1\.0"):
        Pretrain(weight_decay=-1.0)  # type: ignore[arg-type]
