"""One trial's weights and recipe as files that other programs read.

    base/                      the pretrained model, a Hugging Face folder
    adapters/TASK-SEED/        each fine-tune: a PEFT adapter for base/
    finetuned/TASK-SEED/       the same where all weights were tuned: a Hugging Face folder
    recipe/                    the recipe for other trainers, see
    `objectives.export.trainer_configs` evaluation/                what the scores were measured on:
    validation.safetensors with the
                               token sequences behind base_loss; TASK.jsonl and TASK.yaml, a task
                               for lm-evaluation-harness

Weights are taken from the store; a stage that is not there any more is trained again.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from objectives.config.training import Finetune
from objectives.data import tasks as data_tasks
from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.export import huggingface, trainer_configs
from objectives.export.training_plan import TrainingPlan
from objectives.finetuning.checkpoints import FinetuneResult
from objectives.finetuning.lr_search import Outcome, finetuning_seeds
from objectives.finetuning.trainer import FinetuneTrainer
from objectives.models import causal_lm
from objectives.pretraining.checkpoints import BaseModel, Parameters
from objectives.pretraining.job import PretrainJob
from objectives.training.runtime import Runtime
from objectives.trial import Trial
from objectives.types import Result

HARNESS_PREFIX = "hpo_"
"""Before a task's name in lm-evaluation-harness, where names are shared by all tasks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What was written; all JSON-able."""

    files: dict[str, str]
    """Path below the folder -> what is there."""
    result: Result
    """What was measured for these weights, now or when they were trained."""
    unsupported: dict[str, list[str]]
    """File of the recipe -> what it cannot express."""
    base_model: str | None = None
    """Name on the hub of the weights that pretraining began with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialArtifacts:
    """A request's weights, and what they were measured on."""

    job: PretrainJob
    corpus: TokenDataset
    tasks: Sequence[Task]
    base: BaseModel
    outcomes: Sequence[Outcome]

    @staticmethod
    def of(trial: Trial) -> TrialArtifacts:
        """Those of a trial that the pipeline has measured."""
        return TrialArtifacts(
            job=trial.job,
            corpus=trial.corpus,
            tasks=trial.tasks,
            base=trial.model,
            outcomes=trial.outcomes,
        )

    @property
    def config(self) -> PreTrainedConfig:
        """The model's."""
        return causal_lm.build_config(self.job.recipe.model, self.corpus.vocab_size)


def write_bundle(
    folder: Path, trained: TrialArtifacts, result: Result, runtime: Runtime
) -> ExportSummary:
    """Write all files into the folder."""
    config, tokenizer = trained.config, trained.corpus.tokenizer
    huggingface.write_model(folder / "base", config, trained.base.params, tokenizer)
    files = {"base": "the pretrained model and its tokenizer"}
    trainer = _trainer(trained, runtime)
    seeds = finetuning_seeds(trained.job.recipe.finetune, trained.job.seed)
    names = file_names([task.name for task in trained.tasks])
    for task, outcome in zip(trained.tasks, trained.outcomes, strict=True):
        for seed, params in zip(seeds, _tuned(trainer, task, outcome.lr, seeds), strict=True):
            name = f"{trainer.kind}/{names[task.name]}-{seed}"
            files[name] = f"fine-tuned on {task.name} at rate {outcome.lr:g}, seed {seed}"
            if trainer.adapted is not None:
                huggingface.write_adapter(folder / name, trainer.adapted, params, folder / "base")
            else:
                huggingface.write_model(folder / name, config, params, tokenizer)
    lost = trainer_configs.write_configs(TrainingPlan(trained.job, config), folder / "recipe")
    files |= {f"recipe/{name}": what for name, (what, _) in trainer_configs.TARGETS.items()}
    files |= _evaluation(folder, trained, names)
    base = _hub_name(trained.job.recipe.model.weights)
    return ExportSummary(files=files, result=result, unsupported=lost, base_model=base)


def _hub_name(weights: str | None) -> str | None:
    """Weights as the hub names them; None for a folder, or where it begins at random."""
    if weights is None or Path(weights).expanduser().exists() or weights.startswith(("/", ".")):
        return None
    return weights


def file_names(tasks: Sequence[str]) -> dict[str, str]:
    """Task -> what its files are called: letters, digits, "-" and "_" alone, all different."""
    found: dict[str, str] = {}
    for place, task in enumerate(tasks):
        name = re.sub(r"[^A-Za-z0-9_-]", "_", task) or "task"
        found[task] = f"{name}_{place}" if name in found.values() else name
    return found


def _trainer(trained: TrialArtifacts, runtime: Runtime) -> FinetuneTrainer:
    pre = trained.job.recipe.pretrain
    trainer = FinetuneTrainer(
        trained.config,
        trained.job.recipe.finetune,
        runtime,
        bf16=pre.precision == "bf16",
        device=trained.job.device,
    )
    trainer.open([(trained.base.key, trained.base.params)], trained.tasks[0].validation)
    return trainer


def _tuned(
    trainer: FinetuneTrainer, task: Task, lr: float, seeds: Sequence[int]
) -> list[Parameters]:
    """Trained parameters at the chosen rate, one a seed, in the stages they were trained in."""
    found: list[Parameters] = []

    def take(base: int, rate: float, tuned: FinetuneResult) -> None:
        found.extend(tuned.params)

    selecting = trainer.fine.selection_seeds
    for some in (seeds[:selecting], seeds[selecting:]):
        if some:
            trainer.tune(task, {0: [lr]}, some, take)
    return found


def _evaluation(folder: Path, trained: TrialArtifacts, names: Mapping[str, str]) -> dict[str, str]:
    """What the scores were measured on."""
    place = folder / "evaluation"
    place.mkdir(parents=True, exist_ok=True)
    pre, fine = trained.job.recipe.pretrain, trained.job.recipe.finetune
    ids: NDArray[np.int64] = trained.corpus.sample("validation", pre.eval_tokens, pre.seq_len)
    save_file({"ids": torch.from_numpy(ids.astype(np.int32))}, place / "validation.safetensors")
    files = {"evaluation/validation.safetensors": "token sequences that base_loss is the mean over"}
    for task in trained.tasks:
        rows = _harness_rows(task, fine, trained.corpus.tokenizer)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        data, name = place / f"{names[task.name]}.jsonl", names[task.name]
        data.write_text(text, encoding="utf-8")
        described = _harness_task(task, HARNESS_PREFIX + name, data)
        (place / f"{name}.yaml").write_text(described, encoding="utf-8")
        files[f"evaluation/{name}.yaml"] = f"{task.name} for lm-evaluation-harness"
        files[f"evaluation/{name}.jsonl"] = f"test rows of {task.name}"
    return files


def _harness_rows(
    task: Task, fine: Finetune, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    """The task's test rows; answers end in the end mark, which our scores count too."""
    (described,) = (each for each in fine.tasks if each.name == task.name)
    kept = data_tasks.kept_rows(described, fine, tokenizer)
    end = tokenizer.eos_token
    if task.metric == "exact_match":
        return [{"prompt": row.prompt, "answer": row.completion + end} for row in kept["test"]]
    labels = sorted({row.completion for row in kept["train"]})
    return [
        {
            "prompt": row.prompt,
            "choices": [label + end for label in labels],
            "label": labels.index(row.completion),
        }
        for row in kept["test"]
    ]


def _harness_task(task: Task, name: str, data: Path) -> str:
    """A task of lm-evaluation-harness (0.4.13) that gives the task's metric as `acc`.

    Of several choices the likeliest, or of one answer whether it is the greedy one.
    """
    answer = {
        "accuracy": {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
        },
        "exact_match": {"output_type": "loglikelihood", "doc_to_target": "{{answer}}"},
    }[task.metric]
    found = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.absolute())}},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        **answer,
    }
    return json.dumps(found, indent=2) + "\n"
