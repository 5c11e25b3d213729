"""Fine-tuning tasks: rows of prompt and completion, as tokens, with the score that fits them.

Labelled tasks are scored by accuracy: of all completions seen in training, the model's answer is
the one with the least summed loss, its end mark included, so that each label's exact probability as
a string is compared. Tasks without labels are scored by exact match of the greedy answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from objectives.config import data, training
from objectives.data import task_checks, task_rows
from objectives.data.builtin_tasks import Split
from objectives.data.examples import Example
from objectives.data.task_checks import Metric, findings
from objectives.data.task_rows import Rows, digest
from objectives.data.tokenize import encode
from objectives.store.store import key_of

BUCKET, STEP = 16, 8
"""A task's rows are padded to a multiple of BUCKET tokens, and cut to one of STEP; assumed."""


@dataclass(frozen=True)
class Encoded:
    """Rows as tokens: N rows, T tokens of the longest, rounded up to BUCKET.

    `ids` [N, T + 1], padded on the right; `positions` [N, C]: the targets that belong to the
    completion or are its end mark; `weights` [N, C]: 1 for those, 0 for the padding of C.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]

    @property
    def length(self) -> int:
        """T"""
        return int(self.ids.shape[1]) - 1

    def width(self, rows: NDArray[np.int64]) -> int:
        """Tokens that these rows need, rounded up: nothing beyond their last target counts."""
        return min(self.length, -(-int(num_tokens(self, rows).max()) // STEP) * STEP)


def num_tokens(rows: Encoded, picked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens that each row needs: up to the one that predicts its last target."""
    last = (rows.positions[picked] * (rows.weights[picked] > 0)).max(-1)
    needed: NDArray[np.int64] = last + 1
    return needed


@dataclass(frozen=True)
class Task:
    """A task ready for fine-tuning."""

    name: str
    metric: Metric
    train: Encoded
    validation: Encoded
    test: Encoded
    choices: Encoded | None
    """Accuracy only: every test row with every label, row by row; N * num_labels rows."""
    answers: NDArray[np.int64]
    """Accuracy only: the right label of each test row; [N]."""
    chance: float
    """Share of test rows that the commonest training completion answers, and for accuracy at least
    one over the number of labels."""
    left_out: int
    """Rows longer than `finetune.max_length`."""
    key: str
    """Identity of the rows."""
    notes: tuple[str, ...] = ()
    """What a reader of its score should know: how it is scored, and what is odd in its rows."""
    override: data.TaskOverride | None = None
    """What it has in place of the recipe's fine-tuning."""

    @property
    def mean_tokens(self) -> float:
        """Of a training row."""
        return float(num_tokens(self.train, np.arange(len(self.train.ids))).mean())


def load(fine: training.Finetune, tokenizer: PreTrainedTokenizerBase) -> list[Task]:
    """The recipe's tasks as tokens.

    Raises:
        ValueError: an unknown or unreadable task, a missing label, a split without rows, answers
            that cannot be distinguished or never match.
    """
    return [_prepare(task, fine, tokenizer) for task in fine.tasks]


def read_rows(task: data.Task) -> Rows:
    """A task's rows by split, before any of them are left out."""
    return task_rows.read(task).rows


def check(task: data.Task) -> list[str]:
    """What a reader of the task's score should know, from its rows alone: no tokenizer is needed.

    Raises:
        ValueError: as `load` does, but for the lengths of rows.
    """
    if isinstance(task, data.BuiltinTask):
        task_rows.check_builtin(task)
        return []
    read = task_rows.read(task)
    scored = task_checks.scored(task, read.rows)
    return [*read.notes, *scored.notes, *findings(task.name, scored.metric, scored.rows)]


def _prepare(task: data.Task, fine: training.Finetune, tokenizer: PreTrainedTokenizerBase) -> Task:
    read = task_rows.read(task)
    scored = task_checks.scored(task, read.rows)
    metric = scored.metric
    kept, left_out = _picked(task, scored.rows, fine, tokenizer)
    counts = Counter(row.completion for row in kept["train"])
    choices, answers = None, np.empty(0, np.int64)
    if metric == "accuracy":
        labels = sorted(counts)
        _check_labels(task.name, labels, kept)
        choices = _encode([(r.prompt, c) for r in kept["test"] for c in labels], tokenizer)
        answers = np.array([labels.index(row.completion) for row in kept["test"]])
    commonest = counts.most_common(1)[0][0]
    guessing = 1 / len(counts) if metric == "accuracy" else 0.0
    encoded = {
        split: _encode([(row.prompt, row.completion) for row in found], tokenizer)
        for split, found in kept.items()
    }
    return Task(
        name=task.name,
        metric=metric,
        train=encoded["train"],
        validation=encoded["validation"],
        test=encoded["test"],
        choices=choices,
        answers=answers,
        chance=max(guessing, float(np.mean([row.completion == commonest for row in kept["test"]]))),
        left_out=left_out,
        key=key_of(
            metric, {split: [digest(r).hex() for r in found] for split, found in kept.items()}
        ),
        notes=(*read.notes, *scored.notes, *findings(task.name, metric, kept)),
        override=task.override,
    )


def kept_rows(task: data.Task, fine: training.Finetune, tokenizer: PreTrainedTokenizerBase) -> Rows:
    """The task's rows that are trained and scored on, in the order they are.

    Raises:
        ValueError: an unreadable task, a split without rows.
    """
    scored = task_checks.scored(task, read_rows(task))
    return _picked(task, scored.rows, fine, tokenizer)[0]


def _picked(
    task: data.Task, by_split: Rows, fine: training.Finetune, tokenizer: PreTrainedTokenizerBase
) -> tuple[Rows, int]:
    """Each split's rows that are kept, and how many were too long."""
    fine = training.of_task(fine, task.override)
    limits = {"train": fine.train_rows, "validation": fine.validation_rows, "test": fine.test_rows}
    kept: Rows = {}
    left_out = 0
    for split, found in by_split.items():
        kept[split], too_long = _pick(found, limits[split], fine.max_length, tokenizer)
        left_out += too_long
        if not kept[split]:
            raise ValueError(
                f"task {task.name!r} has no {split} rows of at most {fine.max_length} tokens "
                f"({too_long} are longer); raise finetune.max_length or give other rows."
            )
    return kept, left_out


def _check_labels(name: str, labels: list[str], kept: Rows) -> None:
    others: tuple[Split, ...] = ("validation", "test")
    for split in others:
        unseen = sorted({row.completion for row in kept[split]} - set(labels))
        if unseen:
            raise ValueError(
                f"task {name!r}: label {unseen[0].strip()!r} is in {split} but in no training "
                "row; add training rows for it, or raise finetune.train_rows."
            )


def _pick(
    found: list[Example], limit: int | None, max_length: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Example], int]:
    """The first `limit` rows in the order of their hashes that are short enough."""
    kept: list[Example] = []
    too_long = 0
    ordered = sorted(found, key=digest)
    for row in ordered:
        if limit is not None and len(kept) == limit:
            break
        # A byte-level tokenizer never needs more tokens than bytes: most rows need no counting.
        if len(row.prompt.encode()) + len(row.completion.encode()) + 1 > max_length:
            prompt, completion = encode(tokenizer, [row.prompt, row.completion])
            if len(prompt) + len(completion) + 1 > max_length:
                too_long += 1
                continue
        kept.append(row)
    return kept, too_long


def _encode(pairs: list[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))  # labels repeat
    ids_of = dict(zip(texts, encode(tokenizer, texts), strict=True))
    prompts, completions = ([ids_of[text] for text in some] for some in zip(*pairs, strict=True))
    end = tokenizer.eos_token_id
    lengths = [len(p) + len(c) + 1 for p, c in zip(prompts, completions, strict=True)]
    width = -(-(max(lengths) - 1) // BUCKET) * BUCKET
    counted = max(len(completion) for completion in completions) + 1
    ids = np.full((len(pairs), width + 1), end, np.int64)
    positions = np.zeros((len(pairs), counted), np.int64)
    weights = np.zeros((len(pairs), counted), np.float32)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids[row, : lengths[row]] = [*prompt, *completion, end]
        # Target t is token t + 1. Without a prompt the first token has nothing to be told from.
        targets = np.arange(max(len(prompt) - 1, 0), lengths[row] - 1)
        positions[row, : len(targets)] = targets
        weights[row, : len(targets)] = 1
    return Encoded(ids, positions, weights)
