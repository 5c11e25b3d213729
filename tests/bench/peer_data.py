"""What the peer's trials train on and how they are scored: tensors on the device, large batches.

N rows, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from objectives.config.recipe import Recipe
from objectives.data.tasks import Encoded, Task
from objectives.data.token_dataset import TokenDataset

IGNORED = -100
"""Label of a target that does not count, as in torch and transformers."""


SCORED_TOKENS = {"cpu": 2048, "cuda": 65_536}
"""Tokens of a scoring batch; on a CPU measured: the fastest of 1,024 to 16,384 at 0.2M and at 1.3M
parameters, on a GPU assumed."""


@dataclass(frozen=True)
class Rows:
    """Token rows with the label of each target; [N, T] each."""

    ids: Tensor
    labels: Tensor

    @staticmethod
    def of_text(ids_NT1: NDArray[np.int64], device: str) -> Rows:
        """Sequences of which every target counts."""
        ids = torch.from_numpy(ids_NT1).to(device)
        return Rows(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())

    @staticmethod
    def of_task(rows: Encoded, device: str) -> Rows:
        """Prompts and completions; the completions count."""
        targets = rows.ids[:, 1:]
        labels = np.full_like(targets, IGNORED)
        row, place = np.nonzero(rows.weights)
        column = rows.positions[row, place]
        labels[row, column] = targets[row, column]
        return Rows(
            torch.from_numpy(rows.ids[:, :-1]).to(device), torch.from_numpy(labels).to(device)
        )

    def take(self, picked: Tensor) -> dict[str, Any]:
        """A batch, cut to the targets that count."""
        ids, labels = self.ids[picked], self.labels[picked]
        (counted,) = torch.nonzero((labels != IGNORED).any(0), as_tuple=True)
        first, last = int(counted[0]), int(counted[-1]) + 1
        labels = labels[:, first:last]
        return {"input_ids": ids[:, :last], "labels": labels, "logits_to_keep": last - first}


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every trial of a study uses; made once."""

    recipe: Recipe
    corpus: TokenDataset
    tasks: list[Task]
    train: list[Rows]
    validation: list[Rows]
    test: list[Rows]
    """Test rows; of a task with labels every row with every label."""
    sample: Rows
    """Validation text for the base loss."""
    kept_sample: Rows
    """Validation text for forgetting."""
    device: str

    @property
    def bf16(self) -> bool:
        """Whether matrix products run in bf16."""
        return self.recipe.pretrain.precision == "bf16"


def prepare(recipe: Recipe, corpus: TokenDataset, tasks: list[Task], device: str) -> Material:
    """Tensors on the device."""
    pre = recipe.pretrain
    return Material(
        recipe=recipe,
        corpus=corpus,
        tasks=tasks,
        train=[Rows.of_task(task.train, device) for task in tasks],
        validation=[Rows.of_task(task.validation, device) for task in tasks],
        test=[Rows.of_task(task.choices or task.test, device) for task in tasks],
        sample=Rows.of_text(corpus.sample("validation", pre.eval_tokens, pre.seq_len), device),
        kept_sample=Rows.of_text(
            corpus.sample("validation", recipe.probes.forgetting_tokens, pre.seq_len), device
        ),
        device=device,
    )


def row_scores(material: Material, model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
    """Each row's summed nats and whether the argmax hits all its targets; [N] each, on the CPU."""
    counted = rows.labels != IGNORED
    places = torch.arange(1, rows.labels.shape[1] + 1, device=rows.labels.device)
    order = (counted * places).amax(1).argsort(stable=True)
    kind = torch.device(material.device).type
    found = []
    model.eval()
    with torch.inference_mode():
        for picked in order.split(max(1, SCORED_TOKENS[kind] // rows.ids.shape[1])):
            batch = rows.take(picked)
            labels = batch.pop("labels")
            with torch.autocast(kind, torch.bfloat16, enabled=material.bf16):
                logits = model(**batch).logits.float()
            nats = F.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
            )
            hits = (logits.argmax(-1) == labels) | (labels == IGNORED)
            found.append((nats.view(labels.shape).sum(1), hits.all(1)))
    back = order.argsort()
    nats_N, hits_N = (torch.cat(parts)[back].cpu() for parts in zip(*found, strict=True))
    return nats_N, hits_N


def mean_loss(material: Material, model: nn.Module, rows: Rows) -> float:
    """Nats a target that counts."""
    nats, _ = row_scores(material, model, rows)
    return float(nats.double().sum() / (rows.labels != IGNORED).sum().cpu())


def task_score(material: Material, model: nn.Module, place: int) -> tuple[float, float]:
    """The task's metric and nats a completion token on its test rows."""
    task, rows = material.tasks[place], material.test[place]
    nats, hits = row_scores(material, model, rows)
    counted = float(task.test.weights.sum())
    if task.choices is None:
        return float(hits.double().mean()), float(nats.double().sum()) / counted
    by_label = nats.double().view(len(task.answers), -1)
    answers = torch.from_numpy(task.answers)
    own = by_label.gather(1, answers[:, None]).sum()
    return float((by_label.argmin(1) == answers).double().mean()), float(own) / counted
