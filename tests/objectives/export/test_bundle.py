"""An exported trial, read by programs that know nothing of this project."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from objectives import Execution, PlasticityObjective, Request
from objectives.config.data import BuiltinTask, FileTask
from objectives.config.recipe import Recipe
from objectives.export.bundle import file_names
from objectives.finetuning import checkpoints
from objectives.store import maintenance
from tests.objectives import toy

READ_PLAINLY = '''
import json, sys, torch
from pathlib import Path
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
folder, found = Path(sys.argv[1]), {}

def nats(model, rows):
    logits = model(input_ids=rows[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")

def answer(model, encode, prompt, text):
    """Summed loss of the answer after the prompt, and whether it is the greedy one."""
    ids = torch.tensor([encode(prompt) + encode(text)])
    logits = model(input_ids=ids[:, :-1]).logits[0, len(encode(prompt)) - 1 :]
    wanted = torch.tensor(encode(text))
    lost = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    return lost.item(), bool((logits.argmax(1) == wanted).all())

with torch.no_grad():
    base = AutoModelForCausalLM.from_pretrained(folder / "base").eval()
    ids = load_file(folder / "evaluation/validation.safetensors")["ids"].long()
    found["base_loss"] = nats(base, ids).double().mean().item()
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    encode = lambda text: tokenizer(text)["input_ids"]
    for path in sorted(folder.glob("evaluation/*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for place in sorted(folder.glob(f"adapters/{path.stem}-*")):
            model = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(folder / "base"), place).eval()
            right = []
            for row in rows:
                if "answer" in row:
                    right.append(answer(model, encode, row["prompt"], row["answer"])[1])
                    continue
                lost = [answer(model, encode, row["prompt"], each)[0] for each in row["choices"]]
                right.append(lost.index(min(lost)) == row["label"])
            found[place.name] = sum(right) / len(right)
print(json.dumps(found))
'''


@pytest.fixture(scope="module")
def recipe(toy_folder: Path) -> Recipe:
    base = toy.recipe(toy_folder, steps=10)
    rows = [
        {"prompt": f"{word} {number}:", "completion": " the" if number % 3 else f" {word}"}
        for number in range(20)
        for word in toy.WORDS
    ]
    path = str(toy.write_jsonl(toy_folder / "answers.jsonl", rows))
    fine = toy.finetune(
        tasks=(BuiltinTask(name="list_ops"), FileTask(name="answers", train=path, test=path)),
        lrs=(1e-2, 3e-2),
        steps=30,
        batch_size=4,
        train_rows=200,
        test_rows=12,
    )
    return Recipe(model=base.model, corpus=base.corpus, pretrain=base.pretrain, finetune=fine)


def request(**params: Any) -> Request:
    return Request(params=params, fidelity=1.0, seed=1)


def objective(recipe: Recipe, folder: Path) -> PlasticityObjective:
    return PlasticityObjective(recipe, Execution(device="cpu", store=folder / "store"))


@pytest.fixture(scope="module")
def exported(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("export")
    (folder / "out").mkdir()
    measured = objective(recipe, folder)
    measured.evaluate([request()])
    return folder, measured.export(request(), folder / "out")


def test_plain_transformers_and_peft_measure_the_same(exported: tuple[Path, Any]) -> None:
    folder, found = exported
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", READ_PLAINLY, str(folder / "out")],
        capture_output=True, text=True, cwd=folder, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain, metrics = json.loads(done.stdout), found.result.metrics
    assert plain["base_loss"] == pytest.approx(metrics["base_loss"], rel=1e-6)
    for task in ("list_ops", "answers"):
        seeds = [value for name, value in plain.items() if name.startswith(f"{task}-")]
        assert len(seeds) == 2
        assert math.fsum(seeds) / 2 == pytest.approx(metrics[f"task.{task}.after"], abs=1e-9)
    assert 0 < metrics["task.answers.after"] < 1


def test_every_file_it_names_is_there_and_no_other(exported: tuple[Path, Any]) -> None:
    folder, found = exported
    assert found.result.cost["tokens"] == 0
    assert json.loads((folder / "out/base/config.json").read_text())["use_cache"] is True
    assert {"base", "adapters/list_ops-1000", "adapters/answers-1001"} <= found.files.keys()
    for name in found.files:
        assert (folder / "out" / name).exists(), name
    named = [folder / "out" / name for name in found.files]
    for path in (folder / "out").rglob("*"):
        assert path.is_dir() or any(path.is_relative_to(each) for each in named), path


def test_tasks_of_the_harness_point_to_their_rows(exported: tuple[Path, Any]) -> None:
    folder, _ = exported
    task = json.loads((folder / "out/evaluation/list_ops.yaml").read_text())
    (path,) = task["dataset_kwargs"]["data_files"].values()
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert len(rows) == 12
    assert task["task"] == "hpo_list_ops"
    key = "label" if task["output_type"] == "multiple_choice" else "answer"
    assert all(key in row for row in rows)


def test_what_the_store_lost_is_trained_again_to_the_same_bits(
    exported: tuple[Path, Any], recipe: Recipe, tmp_path: Path
) -> None:
    folder, _ = exported
    store = tmp_path / "store"
    shutil.copytree(folder / "store", store)
    for stage in (checkpoints.STAGE, maintenance.PRETRAIN):
        shutil.rmtree(store / stage)
    (tmp_path / "out").mkdir()
    steps: list[str] = []
    events = objective(recipe, tmp_path).export(
        request(), tmp_path / "out", lambda event: steps.append(event["stage"])
    )
    assert events.result.cost["tokens"] > 0
    assert {"pretrain", "fine-tune list_ops"} <= set(steps)
    for name in ("base/model.safetensors", "adapters/answers-1001/adapter_model.safetensors"):
        old, new = (load_file(each / "out" / name) for each in (folder, tmp_path))
        assert toy.same(old, new)


def test_fully_tuned_models_are_folders_of_their_own(
    recipe: Recipe, tmp_path: Path, exported: tuple[Path, Any]
) -> None:
    (tmp_path / "out").mkdir()
    few = {"finetune.method": "full", "finetune.seeds": 1, "finetune.lrs": [1e-3]}
    found = objective(recipe, exported[0]).export(request(**few), tmp_path / "out")
    tuned = [name for name in found.files if name.startswith("finetuned/")]
    assert sorted(tuned) == ["finetuned/answers-1000", "finetuned/list_ops-1000"]
    assert (tmp_path / "out" / tuned[0] / "config.json").is_file()


def test_a_failed_request_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights to export: .*warmup_steps"):
        objective(recipe, tmp_path).export(
            request(**{"pretrain.schedule.warmup_steps": 99}), tmp_path
        )


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["../x", "a/b", "a_b"], ["___x", "a_b", "a_b_2"]),
        (["", "ü", "_"], ["task", "_", "__2"]),
    ],
)
def test_files_are_named_so_that_none_leaves_its_folder(tasks: list[str], names: list[str]) -> None:
    assert list(file_names(tasks).values()) == names
