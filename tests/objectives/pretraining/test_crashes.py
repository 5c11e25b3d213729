"""A whole trial through every kind of damage, full disks and stops: the results stay the same bits.

The store is that of a real trial of a toy model; only the disk's fullness is faked.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from objectives import Execution, PlasticityObjective, Result, progress
from objectives.config.recipe import Recipe
from objectives.config.training import Lora
from objectives.data import tasks, token_dataset
from objectives.store.entries import MANIFEST
from objectives.store.store import Store, StoreError
from objectives.training import setup
from objectives.types import Request
from tests.objectives import toy
from tests.objectives.pretraining.test_sweep import Killed, OneMore

PARAMS: list[dict[str, Any]] = [
    {"pretrain.schedule.decay_frac": 0.0},
    {"pretrain.schedule.decay_frac": 0.5},
]


STAGES = {"tokenizer", "tokens", "pretrain", "moments", "tune", "probe", "finetune"}


@pytest.fixture(scope="module")
def recipe(toy_folder: Path) -> Recipe:
    base = toy.recipe(toy_folder, steps=6, evals=2)
    fine = toy.finetune(lora=Lora(rank=2, dropout=0.1), lrs=(1e-3, 1e-2), steps=4)
    return Recipe(model=base.model, corpus=base.corpus, pretrain=base.pretrain, finetune=fine)


def measure(
    recipe: Recipe, folder: Path, report: Callable[[dict[str, Any]], None] | None = None
) -> list[Result]:
    objective = PlasticityObjective(recipe, Execution(device="cpu", store=folder))
    requests = [Request(params=params, fidelity=1.0, seed=0) for params in PARAMS]
    return objective.evaluate(requests, report)


def bits(results: list[Result]) -> str:
    """All that is measured, to the last bit."""
    return json.dumps([[each.metrics, each.curves, each.notes] for each in results], sort_keys=True)


def tokens(results: list[Result]) -> float:
    return sum(each.cost["tokens"] for each in results)


@pytest.fixture(scope="module")
def undisturbed(
    recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Result]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, measure(recipe, folder)


Undisturbed = tuple[Path, list[Result]]


def largest(entry: Path) -> Path:
    return max((path for path in entry.iterdir() if path.name != MANIFEST),
               key=lambda path: path.stat().st_size)  # fmt: skip


def flip_a_bit(entry: Path) -> None:
    content = bytearray(largest(entry).read_bytes())
    content[len(content) // 2] ^= 1
    largest(entry).write_bytes(bytes(content))


def empty(entry: Path) -> None:
    for path in entry.iterdir():
        path.unlink()


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "torn": lambda entry: os.truncate(largest(entry), largest(entry).stat().st_size // 2),
    "truncated": lambda entry: os.truncate(largest(entry), largest(entry).stat().st_size - 1),
    "no content": lambda entry: os.truncate(largest(entry), 0),
    "bit-flipped": flip_a_bit,
    "missing file": lambda entry: largest(entry).unlink(),
    "missing manifest": lambda entry: (entry / MANIFEST).unlink(),
    "torn manifest": lambda entry: os.truncate(entry / MANIFEST, 30),
    "another manifest": lambda entry: (entry / MANIFEST).write_text('{"files": []}'),
    "empty entry": empty,
    "foreign file in it": lambda entry: (entry / "foreign").write_text("?"),
    "foreign file in its place": lambda entry: (shutil.rmtree(entry), entry.write_text("?")),
}


@pytest.mark.parametrize("turn", range(4))
def test_damage_of_every_kind_in_every_stage_is_found_set_aside_reported_and_repaired(
    turn: int, undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    """All kinds in one store: each entry has the next one."""
    folder, expected = undisturbed
    shutil.copytree(folder, tmp_path / "store")
    entries = [path for stage in sorted(STAGES) for path in (tmp_path / "store" / stage).iterdir()]
    assert {path.parent.name for path in entries} == STAGES
    assert len(entries) >= len(DAMAGE)
    kinds = list(DAMAGE.values())
    for place, entry in enumerate(entries):
        kinds[(place + 3 * turn) % len(kinds)](entry)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = measure(recipe, tmp_path / "store")
    assert bits(found) == bits(expected)
    assert tokens(found) == tokens(expected)
    aside = list((tmp_path / "store" / "damaged").iterdir())
    told = [str(each.message) for each in said if "is damaged" in str(each.message)]
    assert len(aside) == len(told) == len(entries)
    for stage in STAGES:
        assert any(text.startswith(f"a stored {stage} stage is damaged") for text in told)
    again = measure(recipe, tmp_path / "store")
    assert bits(again) == bits(expected)
    assert tokens(again) == 0


def test_foreign_things_beside_the_entries_do_no_harm(
    undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    folder, expected = undisturbed
    shutil.copytree(folder, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "finetune")
    for stage in STAGES:
        (tmp_path / "store" / stage / "foreign").mkdir(parents=True)
        (tmp_path / "store" / stage / "note.txt").write_text("?")
    found = measure(recipe, tmp_path / "store")
    assert bits(found) == bits(expected)
    assert tokens(found) == 0


@pytest.mark.parametrize("ends", ["killed", "full"])
def test_a_trial_that_ends_at_each_write_in_turn_loses_nothing_and_ends_right(
    ends: str, undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder, expected = undisturbed
    ended: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr("objectives.config.execution.Store", one_more(ends))
        while True:
            try:
                found = measure(recipe, tmp_path)
                break
            except (Killed, StoreError) as error:
                ended.append(str(error))
    assert bits(found) == bits(expected)
    if ends == "full":
        assert {text.split(" stage ")[0] for text in ended} >= {
            f"cannot keep a {stage}" for stage in STAGES - {"tokenizer"}
        }
        assert all("(No space left on device); free some space" in text for text in ended)
        assert list((tmp_path / "partial").iterdir()) == []
    entries = sum(len(list(Store(folder).keys(stage))) for stage in STAGES)
    assert len(ended) >= entries - 2  # a moment's weights may be kept without its moments


def one_more(ends: str) -> Callable[..., Store]:
    """Makes stores that end like this."""
    return lambda root, **given: OneMore(root, ends)


def unfinished_tunes(store: Store) -> list[str]:
    """What is kept of fine-tunes that are finished."""
    finished = set(store.keys("tune"))
    return [key for key in store.keys("checkpoint") if key.split("-")[1] in finished]


class Stop(Exception):
    """Raised in the middle."""


def stop_in(stage: str, step: int) -> Callable[[dict[str, Any]], None]:
    def report(event: dict[str, Any]) -> None:
        if event["stage"] == stage and event["step"] == step:
            raise Stop

    return report


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_fine_tune_goes_on_where_it_was_stopped(
    step: int, undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expected = undisturbed[1]
    monkeypatch.setattr(progress, "TELL_S", 0.0)
    with pytest.raises(Stop):
        measure(recipe, tmp_path, stop_in("fine-tune list_ops", step))
    store = Store(tmp_path)
    cells = len(PARAMS) * len(recipe.finetune.lrs)
    assert len(list(store.keys("checkpoint"))) == cells
    found = measure(recipe, tmp_path)
    assert bits(found) == bits(expected)
    (width,) = {each.mean_tokens for each in batch_tasks(recipe, tmp_path)}
    done = step * cells * recipe.finetune.batch_size * width
    bases = (6 + 2) * recipe.pretrain.batch_size * recipe.pretrain.seq_len
    assert tokens(found) == pytest.approx(tokens(expected) - bases - done)
    assert unfinished_tunes(store) == []


def batch_tasks(recipe: Recipe, folder: Path) -> list[Any]:
    """The recipe's tasks as tokens."""
    tokens = token_dataset.prepare(recipe.corpus, recipe.pretrain.seq_len, Store(folder))
    return tasks.load(recipe.finetune, tokens.tokenizer)


def test_fine_tunes_are_stored_from_time_to_time_and_survive_a_kill(
    undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = undisturbed
    for stage in ("tokenizer", "tokens", "pretrain", "moments"):  # test_sweep kills pretraining
        shutil.copytree(folder / stage, tmp_path / stage)
    monkeypatch.setattr(setup, "CHECKPOINT_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr("objectives.config.execution.Store", one_more("killed"))
        ended = 0
        while True:
            try:
                found = measure(recipe, tmp_path)
                break
            except Killed:
                ended += 1
    assert bits(found) == bits(expected)
    assert ended > 20
    assert unfinished_tunes(Store(tmp_path)) == []


def test_a_curve_that_lacks_points_says_so(
    undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    folder, expected = undisturbed
    shutil.copytree(folder, tmp_path / "store")
    found = measure(recipe.with_params({"pretrain.evals": 3}), tmp_path / "store")
    assert tokens(found) == 0
    for one, before in zip(found, expected, strict=True):
        assert one.metrics == before.metrics
        assert one.curves["val_loss"] == before.curves["val_loss"][-1:]
        assert "the validation curve lacks 2 points" in one.notes[-1] + one.notes[0]
        assert not any("lacks" in note for note in before.notes)


def test_losses_on_another_sample_are_measured_anew(
    undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    folder, expected = undisturbed
    shutil.copytree(folder, tmp_path / "store")
    found = measure(recipe.with_params({"pretrain.eval_tokens": 48}), tmp_path / "store")
    fresh = measure(recipe.with_params({"pretrain.eval_tokens": 48}), tmp_path / "fresh")
    assert [each.metrics for each in found] == [each.metrics for each in fresh]
    assert found[0].metrics["base_loss"] != expected[0].metrics["base_loss"]
    assert tokens(found) == 0
