"""Which stages a change of each recipe field invalidates: those that it matters to, no others.

Every path of the recipe and of every kind of source and task is in the table, each with another
value. The keys are those that a trial would use; what is read (files, datasets) is read.
"""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from objectives.config.data import Corpus, FileTask, HubDataset, HubTask
from objectives.config.recipe import Recipe
from objectives.config.training import Schedule
from objectives.data import python_stdlib, sources, token_dataset
from objectives.finetuning import measured, runs
from objectives.models import causal_lm, hub
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.data_cache import DataCache
from objectives.pretraining.job import PretrainJob
from objectives.probes import runner
from objectives.probes.registry import PROBES as PROBE_TABLE
from objectives.probes.types import ProbedModel
from objectives.store.store import Store
from objectives.training import loop
from tests.objectives import toy

TOKENIZER, TOKENS = "tokenizer", "tokens"


TRUNK, BASE = "weights at a step", "weights at the end"


TUNES, PROBES, MEASURES = "tunes", "probes", "measures"


FROM_BASE = {BASE, TUNES, PROBES, MEASURES}


FROM_WEIGHTS = FROM_BASE | {TRUNK}


FROM_TOKENS = FROM_WEIGHTS | {TOKENS}


ALL = FROM_TOKENS | {TOKENIZER}


FROM_TUNES = {TUNES, MEASURES}


FROM_ROWS = FROM_TUNES | {PROBES}


ONLY_PROBES = {PROBES}


ONLY_MEASURES = {MEASURES}


NOTHING: set[str] = set()


STDLIB = toy.text(200, seed=9)


STEP = 5
"""Of the trunk, after the warmup and in the decay."""


@dataclass(frozen=True)
class Change:
    """Another value of a path, and the stages that are then others."""

    value: Any
    stages: set[str]


def settings(folder: Path) -> dict[str, Change]:
    """The fields that every recipe has."""
    curve: dict[str, Any] = {"warmup_steps": 2, "warmup_frac": 0.3, "decay_frac": 0.5,
                             "shape": "sqrt", "floor_ratio": 0.2}  # fmt: skip
    return {
        "model.preset": Change(None, FROM_WEIGHTS),
        "model.config": Change(str(folder / "gpt2"), FROM_WEIGHTS),
        "model.weights": Change(str(folder / "weights"), FROM_WEIGHTS),
        "corpus.tokenizer": Change(str(folder / "tokenizer"), FROM_TOKENS),
        "corpus.vocab_size": Change(280, ALL),
        "corpus.validation_frac": Change(0.3, ALL),
        "pretrain.steps": Change(40, FROM_BASE),  # the trunk knows its course, not the horizon
        "pretrain.batch_size": Change(8, FROM_WEIGHTS),
        "pretrain.seq_len": Change(8, FROM_WEIGHTS),
        "pretrain.lr": Change(2e-2, FROM_WEIGHTS),
        "pretrain.optimizer": Change("sgd", FROM_WEIGHTS),
        **{f"pretrain.weight_decay.{name}": Change(value, FROM_WEIGHTS) for name, value in {
            "value": 0.2, "tau_frac": 0.5, "coupling": "l2", "decayed": "matrices",
            "course": "linear", "final_ratio": 0.5, "timescale_frac": 0.5, "policy": "cautious",
            **{f"multipliers.{role}": 0.5 for role in (
                "attn_qk", "attn_vo", "mlp", "embed", "head", "norm")},
            "scores.map": "sqrt", "scores.low": 0.5, "scores.high": 4.0, "scores.every": 7,
            "scores.preserve_mean": True, "scores.min_eigenvalues": 3}.items()},
        **{f"pretrain.schedule.{name}": Change(value, FROM_WEIGHTS)
           for name, value in curve.items()},
        "pretrain.effective_lr_of.value": Change(0.3, FROM_WEIGHTS),
        "pretrain.effective_lr_of.tau_frac": Change(0.5, FROM_WEIGHTS),
        "pretrain.beta1": Change(0.8, FROM_WEIGHTS),
        "pretrain.beta2": Change(0.9, FROM_WEIGHTS),
        "pretrain.eps": Change(1e-6, FROM_WEIGHTS),
        "pretrain.clip_norm": Change(None, FROM_WEIGHTS),
        "pretrain.accumulation": Change(2, FROM_WEIGHTS),
        "pretrain.precision": Change("bf16", FROM_WEIGHTS),
        "pretrain.activation_checkpointing": Change(True, NOTHING),  # the same sums, done twice
        "pretrain.eval_tokens": Change(48, {MEASURES, PROBES}),
        "pretrain.curve_tokens": Change(48, {MEASURES}),
        "pretrain.evals": Change(2, ONLY_PROBES),  # the norms along the run
        "pretrain.schedule.decay": Change("merged", FROM_WEIGHTS),
        "pretrain.merge_points": Change(4, FROM_BASE),
        "pretrain.keep_trunk": Change(True, NOTHING),  # what is kept, not what it is
        "pretrain.mid": Change(None, FROM_BASE),
        "pretrain.mid.steps": Change(11, FROM_BASE),
        "pretrain.mid.weight_decay": Change(0.3, FROM_BASE),
        **{f"pretrain.mid.schedule.{name}": Change(value, FROM_BASE)
           for name, value in {**curve, "decay": "merged"}.items()},
        "finetune.method": Change("full", FROM_TUNES),
        "finetune.lora.rank": Change(3, FROM_TUNES),
        "finetune.lora.alpha": Change(3.0, FROM_TUNES),
        "finetune.lora.dropout": Change(0.1, FROM_TUNES),
        "finetune.lora.targets": Change(["q_proj"], FROM_TUNES),
        "finetune.lora.modules_to_save": Change([], FROM_TUNES),
        "finetune.lrs": Change([1e-2, 5e-2], ONLY_MEASURES),  # a fine-tune has one rate
        "finetune.max_extensions": Change(1, ONLY_MEASURES),
        "finetune.give_up_above": Change(None, ONLY_MEASURES),
        "finetune.refine": Change(0, ONLY_MEASURES),
        "finetune.steps": Change(7, FROM_TUNES),
        "finetune.epochs": Change(1.0, FROM_TUNES),
        "finetune.batch_size": Change(3, FROM_TUNES),
        "finetune.seeds": Change(3, ONLY_MEASURES),
        "finetune.selection_seeds": Change(2, FROM_TUNES),
        "finetune.weight_decay": Change(0.1, FROM_TUNES),
        "finetune.beta1": Change(0.8, FROM_TUNES),
        "finetune.beta2": Change(0.9, FROM_TUNES),
        **{f"finetune.schedule.{name}": Change(value, FROM_TUNES)
           for name, value in curve.items()},
        "finetune.clip_norm": Change(None, FROM_TUNES),
        "finetune.max_length": Change(30, FROM_ROWS),  # leaves rows out here
        "finetune.train_rows": Change(5, FROM_ROWS),
        "finetune.from_scratch": Change("off", NOTHING),  # a fine-tune of another base
        "finetune.validation_rows": Change(2, FROM_ROWS),
        "finetune.test_rows": Change(3, FROM_ROWS),  # the order of rows is drawn with all of them
        "probes.forgetting_tokens": Change(0, ONLY_MEASURES),
        "probes.run": Change(["norms"], NOTHING),  # each probe is a stage
        **{f"probes.{name}": Change(value, ONLY_PROBES) for name, value in {
            "tokens": 99, "rows": 9, "vectors": 3, "noise_draws": 3, "noise_isotropic": 0.1,
            "noise_relative": 0.1, "tiny_rate": 0.1, "tiny_frac": 0.1, "lost_batches": 3}.items()},
    }  # fmt: skip


def variants(folder: Path) -> dict[str, Change]:
    """The fields of each kind of source and of task; the first path says where it is."""
    other = str(folder / "other.jsonl")
    reads = ("config", "revision", "train_split", "validation_split", "test_split", "dataset")
    hub_task = {name: Change("other", FROM_ROWS) for name in reads}
    return {
        "corpus.sources.0.kind": Change("files", ALL),
        "corpus.sources.0.max_bytes": Change(9_000, ALL),
        "corpus.sources.0.weight": Change(2.0, FROM_WEIGHTS),
        "corpus.sources.1.kind": Change("stdlib", ALL),
        "corpus.sources.1.paths": Change([other], ALL),
        "corpus.sources.1.text_field": Change("title", ALL),
        "corpus.sources.1.max_bytes": Change(900, ALL),
        "corpus.sources.1.weight": Change(2.0, FROM_WEIGHTS),
        "corpus.sources.2.kind": Change("stdlib", ALL),
        "corpus.sources.2.name": Change("other", ALL),
        "corpus.sources.2.config": Change("other", ALL),
        "corpus.sources.2.split": Change("other", ALL),
        "corpus.sources.2.revision": Change("other", ALL),
        "corpus.sources.2.text_field": Change("title", ALL),
        "corpus.sources.2.streaming": Change(False, NOTHING),  # how the same rows arrive
        "corpus.sources.2.max_bytes": Change(900, ALL),
        "corpus.sources.2.weight": Change(2.0, FROM_WEIGHTS),
        "pretrain.mid.sources.0.kind": Change("files", FROM_BASE),
        "pretrain.mid.sources.0.max_bytes": Change(9_000, FROM_BASE),
        "pretrain.mid.sources.0.weight": Change(2.0, FROM_BASE),
        "finetune.tasks.0.kind": Change("file", FROM_ROWS),
        "finetune.tasks.0.name": Change("list_ops", FROM_ROWS),
        **{
            f"finetune.tasks.{place}.override": Change({"steps": 7, "lrs": [0.5]}, FROM_TUNES)
            for place in range(3)
        },
        "finetune.tasks.1.kind": Change("builtin", FROM_ROWS),
        "finetune.tasks.1.name": Change("renamed", {MEASURES, PROBES}),
        "finetune.tasks.1.train": Change(other, FROM_ROWS),
        "finetune.tasks.1.validation": Change(other, FROM_ROWS),
        "finetune.tasks.1.test": Change(other, FROM_ROWS),
        "finetune.tasks.1.prompt": Change("{title}", FROM_ROWS),
        "finetune.tasks.1.completion": Change(" {title}", FROM_ROWS),
        "finetune.tasks.1.label_field": Change(None, FROM_ROWS),
        "finetune.tasks.1.metric": Change("exact_match", FROM_ROWS),
        "finetune.tasks.2.kind": Change("builtin", FROM_ROWS),
        "finetune.tasks.2.name": Change("renamed", {MEASURES, PROBES}),
        **{f"finetune.tasks.2.{name}": change for name, change in hub_task.items()},
        "finetune.tasks.2.prompt": Change("{title}", FROM_ROWS),
        "finetune.tasks.2.completion": Change(" {title}", FROM_ROWS),
        "finetune.tasks.2.label_field": Change("title", FROM_ROWS),
        "finetune.tasks.2.metric": Change("exact_match", FROM_ROWS),
    }


# What has to change along with a path for the recipe to be valid.
WITH: dict[str, dict[str, Any]] = {
    "model.preset": {"model.config": "llama"},
    "model.config": {"model.preset": None},
    "finetune.epochs": {"finetune.steps": None},
    "pretrain.weight_decay.tau_frac": {"pretrain.weight_decay.value": None},
    "finetune.steps": {"finetune.epochs": None},
}


# What both recipes have, for a field to come into play.
GIVEN: dict[str, dict[str, Any]] = {
    "pretrain.steps": {"pretrain.schedule.decay_frac": 0.0},
    "pretrain.schedule.decay": {"pretrain.mid": None},
    "pretrain.weight_decay.final_ratio": {"pretrain.weight_decay.course": "linear"},
    "pretrain.weight_decay.timescale_frac": {"pretrain.weight_decay.course": "inverse_time"},
    **{
        f"pretrain.weight_decay.scores.{name}": {"pretrain.weight_decay.policy": "alpha_decay"}
        for name in ("map", "low", "high", "every", "preserve_mean", "min_eigenvalues")
    },
    "pretrain.merge_points": {"pretrain.mid": None, "pretrain.schedule.decay": "merged"},
    "finetune.tasks.2.metric": {"finetune.tasks.2.label_field": "label"},
}


def whole(folder: Path) -> Recipe:
    """A recipe with every kind of source and task."""
    base = toy.recipe(folder, schedule=Schedule(warmup_steps=4, decay_frac=0.8))
    rows = str(folder / "rows.jsonl")
    text = str(folder / "text.jsonl")
    return base.with_params(
        {
            "model": {"preset": "llama-0.2m", "config": None, "weights": None},
            "corpus.sources": [
                {"kind": "stdlib", "max_bytes": 10_000},
                {"kind": "files", "paths": [text], "max_bytes": 20_000},
                {"kind": "hub", "name": "one", "revision": "1"},
            ],
            "pretrain.mid": {"sources": [{"kind": "stdlib", "max_bytes": 10_000}], "steps": 10,
                             "schedule": {"decay_frac": 0.8}},
            "probes.run": list(PROBE_TABLE),
            "finetune.tasks": [
                {"kind": "builtin", "name": "commands"},
                {"kind": "file", "name": "mine", "train": rows, "test": rows},
                {"kind": "hub", "name": "far", "dataset": "one", "prompt": "{text}",
                 "completion": " {label}"},
            ],
            "finetune.train_rows": 50,
            "finetune.validation_rows": 4,
            "finetune.test_rows": 4,
            "finetune.lrs": [1e-2],
            "finetune.lora.modules_to_save": ["norms"],
        }
    )  # fmt: skip


def rows_of(name: str, config: str | None, split: str, revision: str | None) -> list[Any]:
    """A dataset whose rows are others for every name, config, split and revision."""
    said = f"{name} {config} {split} {revision}"
    return [
        {
            "text": f"{words[: 10 + place]} {said}",
            "title": f"{place} {said}",
            "label": "ab"[place % 2],
        }
        for place, words in enumerate(toy.text(40))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, configs, weights and a tokenizer that recipes name."""
    path = tmp_path_factory.mktemp("keys")
    for name, seed in (("text", 0), ("rows", 1), ("other", 2)):
        toy.write_jsonl(
            path / f"{name}.jsonl",
            [{"text": words, "title": f"{place} {words}", "prompt": words[: 9 + place % 9],
              "completion": f" {'ab'[place % 2]}", "label": "ab"[place % 2]}
             for place, words in enumerate(toy.text(80, seed))],
        )  # fmt: skip
    toy.CONFIGS["gpt2"].save_pretrained(path / "gpt2")
    recipe = Recipe()
    config = causal_lm.build_config(recipe.model, toy.VOCAB)
    for name, seed in (("weights", 0), ("other-weights", 1)):
        toy.plain(config, causal_lm.initial_parameters(recipe.model, config, seed)).save_pretrained(  # type: ignore[operator]
            path / name
        )
    one = token_dataset.prepare(toy.corpus_recipe(path), toy.SEQ_LEN, Store(path / "store"))
    one.tokenizer.save_pretrained(path / "tokenizer")
    return path


@pytest.fixture(autouse=True)
def inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets without a network, and a standard library that is read in no time."""

    def load(
        name: str, config: str | None, split: str, revision: str | None, *, streaming: bool
    ) -> list[Any]:
        return rows_of(name, config, split, revision)

    monkeypatch.setattr(sources, "load_dataset", load)
    monkeypatch.setattr(hub, "commit_of", lambda name, revision, notes=None: revision)
    monkeypatch.setattr(python_stdlib, "documents", lambda: STDLIB)


def keys(recipe: Recipe, folder: Path, seed: int = 0, device: str = "cpu") -> dict[str, Any]:
    """The keys of all stages of a trial."""
    store = Store(folder / "keys-store")
    trained = []
    get = store.get

    def noting(stage: str, key: str) -> Path | None:
        if stage == "tokenizer":
            trained.append(key)
        return get(stage, key)

    store.get = noting  # type: ignore[method-assign]
    read = DataCache()
    text, loaded = read.corpus_and_tasks(recipe, store, lambda event: None)
    pre = recipe.pretrain
    job = PretrainJob(recipe, seed, pre.steps + (pre.mid.steps if pre.mid else 0), device)
    job = read.with_second_text(job, text, store, lambda event: None)
    key = job.base_key(text)
    base = BaseModel(key, {}, np.empty(0), [], pre.curve_tokens, loop.NEVER, 0.0)
    tuned = [
        runs.stage_key(key, recipe.finetune, pre.precision == "bf16", task, 1e-2,
                       range(recipe.finetune.selection_seeds))
        for task in loaded
    ]  # fmt: skip
    subject = ProbedModel(job, base, 1.0)
    return {
        TOKENIZER: trained[0] if trained else None,
        TOKENS: text.key,
        TRUNK: job.key(text, STEP),
        BASE: key,
        TUNES: tuned,
        PROBES: {name: runner._key(name, subject, loaded) for name in recipe.probes.run},
        MEASURES: measured.measures_key(job, base.key, text, loaded),
    }


@functools.cache
def keys_of_whole(folder: Path, path: str = "") -> dict[str, Any]:
    """Of the recipe from which a path is changed."""
    return keys(whole(folder).with_params(GIVEN.get(path, {})), folder)


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    if after[TOKENIZER] is None:  # none is trained
        after = {**after, TOKENIZER: before[TOKENIZER]}
    kept = {name: before[PROBES][name] for name in after[PROBES]}
    before = {**before, PROBES: kept}
    return {stage for stage in before if before[stage] != after[stage]}


def table(folder: Path) -> dict[str, Change]:
    return settings(folder) | variants(folder)


NAMES = list(table(Path()))


def test_a_warmup_by_its_share_has_the_keys_of_as_many_steps(folder: Path) -> None:
    recipe = whole(folder)
    steps, fracs = (
        recipe.with_params({
            f"pretrain.schedule.{name}": pretraining, f"finetune.schedule.{name}": finetuning
        })
        for name, pretraining, finetuning in (("warmup_steps", 6, 20), ("warmup_frac", 0.3, 0.2))
    )  # fmt: skip
    assert recipe.finetune.steps == 100
    assert changed(keys(steps, folder), keys(fracs, folder)) == NOTHING
    other = fracs.with_params({"finetune.schedule.warmup_frac": 0.3})
    assert changed(keys(fracs, folder), keys(other, folder)) == FROM_TUNES


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {MEASURES}),
        ({"steps": 7}, FROM_TUNES),
        ({"lrs": [0.5]}, {MEASURES}),
        ({"train_rows": 20}, FROM_ROWS),
        ({"max_length": 40}, {MEASURES}),  # all rows are shorter
    ],
)
def test_a_tasks_own_settings_count_as_the_recipes_do(
    own: dict[str, Any], expected: set[str], folder: Path
) -> None:
    recipe = whole(folder)
    other = recipe.with_params({"finetune.tasks.1.override": own})
    assert changed(keys(recipe, folder), keys(other, folder)) == expected


def test_every_field_of_the_recipe_stands_in_the_table(folder: Path) -> None:
    lists = (
        "finetune.lora.targets",
        "finetune.lora.modules_to_save",
        "finetune.lrs",
        "corpus.sources.1.paths",
        "probes.run",
    )
    paths = {
        next((name for name in lists if path.startswith(f"{name}.")), path)
        for path in (*whole(folder).paths(), *Recipe().paths())
    }
    extra = {
        f"finetune.tasks.3.{name}" for name in ("kind", "name", "override")
    }  # Recipe() has four tasks
    fixed = {"finetune.schedule.decay"}  # has one value that is allowed
    assert paths - extra - fixed == set(NAMES)
    kinds = [HubDataset(name="x"), FileTask(name="x", train="y", test="z"),
             HubTask(name="x", dataset="y", prompt="z", completion="z")]  # fmt: skip
    assert {kind.kind for kind in kinds} == {"hub", "file"}


def set_kind(recipe: Recipe, path: str, kind: str, folder: Path) -> Recipe:
    """A source or task of another kind in the place."""
    given: dict[str, Any] = {
        "stdlib": {"kind": "stdlib", "max_bytes": 10_000},
        "files": {"kind": "files", "paths": [str(folder / "text.jsonl")]},
        "builtin": {"kind": "builtin", "name": "list_ops"},
        "file": {"kind": "file", "name": "commands", "train": str(folder / "rows.jsonl"),
                 "test": str(folder / "rows.jsonl")},
    }  # fmt: skip
    return recipe.with_params({path.removesuffix(".kind"): given[kind]})


@pytest.mark.parametrize("path", NAMES)
def test_a_field_invalidates_exactly_the_stages_it_matters_to(path: str, folder: Path) -> None:
    change, recipe = table(folder)[path], whole(folder).with_params(GIVEN.get(path, {}))
    before = keys_of_whole(folder, path if path in GIVEN else "")
    if path.endswith(".kind"):
        other = set_kind(recipe, path, change.value, folder)
    else:
        with_it = {
            name: str(folder / value) if name == "model.config" else value
            for name, value in WITH.get(path, {}).items()
        }
        other = recipe.with_params({**with_it, path: change.value})
    assert other != recipe
    assert changed(before, keys(other, folder)) == change.stages


def test_which_run_is_followed_counts_by_that_run_and_not_by_how_it_is_named(folder: Path) -> None:
    def following(**of: float) -> Recipe:
        return whole(folder).with_params(
            {f"pretrain.effective_lr_of.{name}": value for name, value in of.items()}
        )

    one = keys(following(value=0.5), folder)
    assert changed(one, keys(following(value=0.3), folder)) == FROM_WEIGHTS
    pre = whole(folder).pretrain
    assert pre.mid is not None
    tau_frac = 1 / (pre.lr * 0.5 * (pre.steps + pre.mid.steps))
    assert changed(one, keys(following(tau_frac=tau_frac), folder)) == NOTHING


def test_seed_and_device_change_the_weights(folder: Path) -> None:
    recipe, before = whole(folder), keys_of_whole(folder)
    assert changed(before, keys(recipe, folder)) == NOTHING
    assert changed(before, keys(recipe, folder, seed=1)) == FROM_WEIGHTS
    assert changed(before, keys(recipe, folder, device="cuda:0")) == FROM_WEIGHTS


def test_content_counts_and_not_the_name_of_its_file(folder: Path, tmp_path: Path) -> None:
    recipe, before = whole(folder), keys_of_whole(folder)
    for name in ("text", "rows"):
        shutil.copy(folder / f"{name}.jsonl", tmp_path / f"{name}.jsonl")
    moved = recipe.with_params(
        {
            "corpus.sources.1.paths": [str(tmp_path / "text.jsonl")],
            "finetune.tasks.1.train": str(tmp_path / "rows.jsonl"),
            "finetune.tasks.1.test": str(tmp_path / "rows.jsonl"),
        }
    )
    assert changed(before, keys(moved, folder)) == NOTHING
    shutil.copy(folder / "other.jsonl", tmp_path / "text.jsonl")
    assert changed(before, keys(moved, folder)) == ALL
    shutil.copy(folder / "text.jsonl", tmp_path / "text.jsonl")
    shutil.copy(folder / "other.jsonl", tmp_path / "rows.jsonl")
    assert changed(before, keys(moved, folder)) == FROM_ROWS


def test_weights_in_a_folder_count_by_their_content(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "weights", tmp_path / "w")
    recipe = whole(folder).with_params({"model.weights": str(tmp_path / "w")})
    before = keys(recipe, folder)
    shutil.copy(folder / "other-weights" / "model.safetensors", tmp_path / "w")
    assert changed(before, keys(recipe, folder)) == FROM_WEIGHTS


def test_a_tokenizer_counts_by_its_rules_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    def of(path: Path) -> str:
        return token_dataset._print_of(PreTrainedTokenizerFast.from_pretrained(path))

    for name in ("same", "merges"):
        shutil.copytree(folder / "tokenizer", tmp_path / name)
    rules = json.loads((tmp_path / "merges" / "tokenizer.json").read_text())
    rules["model"]["merges"].reverse()
    (tmp_path / "merges" / "tokenizer.json").write_text(json.dumps(rules))
    assert of(tmp_path / "same") == of(folder / "tokenizer")
    assert of(tmp_path / "merges") != of(folder / "tokenizer")


def test_the_size_of_a_trained_tokenizer_does_not_matter_to_a_given_one(folder: Path) -> None:
    given = whole(folder).with_params({"corpus.tokenizer": str(folder / "tokenizer")})
    other = given.with_params({"corpus.vocab_size": 290})
    assert isinstance(given.corpus, Corpus)
    assert changed(keys(given, folder), keys(other, folder)) == NOTHING


@pytest.mark.parametrize("path", [name for name in NAMES if name.startswith("finetune.lora.")])
def test_adapter_settings_do_not_matter_to_full_fine_tunes(path: str, folder: Path) -> None:
    full = whole(folder).with_params({"finetune.method": "full"})
    other = full.with_params({path: table(folder)[path].value})
    assert changed(keys(full, folder), keys(other, folder)) == ONLY_MEASURES
