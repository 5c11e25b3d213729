"""Fine-tuning tasks: rows of prompt and completion, as tokens, with the score that fits them.

Labelled tasks are scored by accuracy: of all completions seen in training, the model's answer is
the one with the least summed loss, its end mark included, so that each label's exact probability as
a string is compared. Tasks without labels are scored by exact match of the greedy answer.
"""

from __future__ import annotations

import hashlib
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from objectives import recipe, sources
from objectives.builtin_tasks import TASKS, rows
from objectives.corpus import encode
from objectives.rows import Row
from objectives.store import key_of

BUCKET, STEP = 16, 8
"""A task's rows are padded to a multiple of BUCKET tokens, and cut to one of STEP; assumed."""
HELD_OUT = 10
"""One in this many training rows is validation where a task brings none."""

Split = Literal["train", "validation", "test"]
Rows = dict[Split, list[Row]]


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
    metric: Literal["accuracy", "exact_match"]
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

    @property
    def mean_tokens(self) -> float:
        """Of a training row."""
        return float(num_tokens(self.train, np.arange(len(self.train.ids))).mean())


def load(fine: recipe.Finetune, tokenizer: PreTrainedTokenizerBase) -> list[Task]:
    """The recipe's tasks as tokens.

    Raises:
        ValueError: an unknown or unreadable task, a missing label, a split without rows.
    """
    return [_prepare(task, read_rows(task), fine, tokenizer) for task in fine.tasks]


def read_rows(task: recipe.Task) -> Rows:
    """A task's rows by split, before any of them are left out."""
    if isinstance(task, recipe.BuiltinTask):
        if task.name not in TASKS:
            raise ValueError(
                f"unknown built-in task {task.name!r}; built-in tasks are {', '.join(TASKS)}."
            )
        return {split: list(found) for split, found in rows(task.name).items()}
    if isinstance(task, recipe.FileTask):
        train = list(_file_rows(task.train))
        validation = None if task.validation is None else list(_file_rows(task.validation))
        return _with_validation(train, validation, list(_file_rows(task.test)))
    train = _hub_rows(task, task.train_split)
    validation = None if task.validation_split is None else _hub_rows(task, task.validation_split)
    return _with_validation(train, validation, _hub_rows(task, task.test_split))


def _with_validation(train: list[Row], validation: list[Row] | None, test: list[Row]) -> Rows:
    if validation is None:
        held = [int.from_bytes(_hash(row)[:4], "big") % HELD_OUT == 0 for row in train]
        validation = [row for row, out in zip(train, held, strict=True) if out]
        train = [row for row, out in zip(train, held, strict=True) if not out]
    return {"train": train, "validation": validation, "test": test}


def _file_rows(name: str) -> Iterator[Row]:
    (path,) = sources.matching_files((name,)) if Path(name).is_file() else (Path(name),)
    if not path.is_file():
        raise ValueError(f"task file {name!r} does not exist; check the path.")
    for number, row in enumerate(sources.read_rows(path), 1):
        yield _row(row, f"{path} row {number}")


def _row(data: Mapping[str, Any], where: str) -> Row:
    prompt, completion, label = (data.get(key) for key in ("prompt", "completion", "label"))
    if not isinstance(prompt, str) or not isinstance(completion, str) or not completion.strip():
        raise ValueError(
            f"{where} needs text under 'prompt' and 'completion'; its fields are {', '.join(data)}."
        )
    return Row(prompt, completion, None if label is None else str(label))


def _hub_rows(task: recipe.HubTask, split: str) -> list[Row]:
    data = sources.load_dataset(task.dataset, task.config, split, task.revision, streaming=False)
    fields = [
        name
        for template in (task.prompt, task.completion)
        for _, name, _, _ in string.Formatter().parse(template)
        if name
    ]
    fields += [task.label_field] if task.label_field is not None else []
    found = []
    for row in data:
        missing = [name for name in fields if name.split(".")[0].split("[")[0] not in row]
        if missing:
            raise ValueError(
                f"task {task.name!r}: dataset {task.dataset!r} has no field {missing[0]!r}; "
                f"its fields are {', '.join(row)}."
            )
        label = None if task.label_field is None else str(row[task.label_field])
        found.append(Row(task.prompt.format(**row), task.completion.format(**row), label))
    return found


def _prepare(
    task: recipe.Task, by_split: Rows, fine: recipe.Finetune, tokenizer: PreTrainedTokenizerBase
) -> Task:
    metric = _metric(task, by_split)
    kept, left_out = _picked(task, by_split, fine, tokenizer)
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
            metric, {split: [_hash(r).hex() for r in found] for split, found in kept.items()}
        ),
    )


def kept_rows(task: recipe.Task, fine: recipe.Finetune, tokenizer: PreTrainedTokenizerBase) -> Rows:
    """The task's rows that are trained and scored on, in the order they are.

    Raises:
        ValueError: an unreadable task, a split without rows.
    """
    return _picked(task, read_rows(task), fine, tokenizer)[0]


def _picked(
    task: recipe.Task, by_split: Rows, fine: recipe.Finetune, tokenizer: PreTrainedTokenizerBase
) -> tuple[Rows, int]:
    """Each split's rows that are kept, and how many were too long."""
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


def _metric(task: recipe.Task, by_split: Rows) -> Literal["accuracy", "exact_match"]:
    wanted = "auto" if isinstance(task, recipe.BuiltinTask) else task.metric
    unlabelled = sum(row.label is None for found in by_split.values() for row in found)
    if wanted == "accuracy" and unlabelled:
        raise ValueError(
            f"task {task.name!r} asks for accuracy, but {unlabelled} of its rows have no 'label'; "
            "add the labels or set metric to 'exact_match'."
        )
    pairs = {(row.label, row.completion) for found in by_split.values() for row in found}
    one_to_one = len(pairs) == len({label for label, _ in pairs})
    if wanted == "accuracy" or (wanted == "auto" and not unlabelled and one_to_one):
        return "accuracy"
    return "exact_match"


def _check_labels(name: str, labels: list[str], kept: Rows) -> None:
    others: tuple[Split, ...] = ("validation", "test")
    for split in others:
        unseen = sorted({row.completion for row in kept[split]} - set(labels))
        if unseen:
            raise ValueError(
                f"task {name!r}: label {unseen[0].strip()!r} stands in {split} but in no training "
                "row; add training rows for it, or raise finetune.train_rows."
            )


def _pick(
    found: list[Row], limit: int | None, max_length: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Row], int]:
    """The first `limit` rows in the order of their hashes that are short enough."""
    kept: list[Row] = []
    too_long = 0
    ordered = sorted(found, key=_hash)
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
    prompts = encode(tokenizer, [prompt for prompt, _ in pairs])
    completions = encode(tokenizer, [completion for _, completion in pairs])
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


def _hash(row: Row) -> bytes:
    return hashlib.sha256(f"{row.prompt}\0{row.completion}\0{row.label}".encode()).digest()
