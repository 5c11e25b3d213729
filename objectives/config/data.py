"""Corpora and tasks of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from objectives.config.config_class import config_class
from objectives.config.paths import Count, Positive, Several, Unit, Whole


@config_class
class Stdlib:
    """Text that ships with the running Python: documentation topics, docstrings and source."""

    kind: Literal["stdlib"] = "stdlib"
    max_bytes: Annotated[Count, Unit("bytes")] = 8_000_000
    """Documents are taken in hash order until this many bytes of UTF-8."""
    weight: Positive = 1.0
    """Share of the training sequences, relative to the other sources."""


@config_class
class Files:
    """Local files, folders or patterns: .txt and .md, .jsonl, .json, .csv, .tsv, .parquet; packed
    by gzip, bzip2, xz or zstd.

    A text file is one document; a longer one is cut at blank lines
    (`objectives.data.file_rows.texts`), and one without blank lines is a document a line.
    """

    kind: Literal["files"] = "files"
    paths: Annotated[tuple[str, ...], Several]
    """Files, folders or glob patterns."""
    text_field: str = "text"
    """Field of a row that has the text."""
    max_bytes: Annotated[Count, Unit("bytes")] | None = None
    """Documents are taken until this many bytes of UTF-8; None takes all."""
    weight: Positive = 1.0
    """Share of the training sequences, relative to the other sources."""


@config_class
class HubDataset:
    """A Hugging Face dataset by hub name, or a folder written by `save_to_disk`."""

    kind: Literal["hub"] = "hub"
    name: str
    """Name on the hub, or a folder."""
    config: str | None = None
    """Configuration of the dataset."""
    split: str = "train"
    """Split of the dataset."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""
    text_field: str = "text"
    """Field of a row that has the text."""
    streaming: bool = True
    """Read as it is needed, instead of a download of the whole split first."""
    max_bytes: Annotated[Count, Unit("bytes")] | None = 100_000_000
    """Documents are taken until this many bytes of UTF-8; None takes all."""
    weight: Positive = 1.0
    """Share of the training sequences, relative to the other sources."""


Source: TypeAlias = Annotated[Stdlib | Files | HubDataset, Field(discriminator="kind")]


@config_class
class Corpus:
    """Pretraining text, its split and its tokenizer."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1), Several] = (Stdlib(),)
    """Where the text comes from."""
    tokenizer: str | None = None
    """A Hugging Face tokenizer (hub name or folder); None trains a byte-level BPE on the corpus."""
    vocab_size: Annotated[int, Field(ge=257, le=2**53), Whole, Unit("tokens")] = 1024
    """Size of the trained BPE; not used with `tokenizer`."""
    validation_frac: Annotated[float, Field(gt=0, lt=1), Unit("share of documents")] = 0.05
    """Share of documents, picked by their hash, that are held out; not used with `validation`."""
    validation: Annotated[tuple[Source, ...], Several] = ()
    """Text to validate on; what of the training text is in it, too, is left out of training. Empty
    holds out a share of the documents."""


BuiltinTaskName = Literal[
    "code_module", "token_kind", "doc_name", "docstring", "commands", "list_ops", "arithmetic"
]
"""The keys of `objectives.data.builtin_tasks.TASKS`."""


@config_class
class TaskOverride:
    """What fine-tuning on one task has in place of the recipe's `finetune`; None leaves it."""

    steps: Annotated[Count, Unit("steps")] | None = None
    """Optimizer steps, in place of `finetune.steps` or `finetune.epochs`."""
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1), Several] | None = None
    """Learning rates that are tried."""
    train_rows: Annotated[Count, Unit("rows")] | None = None
    """Training rows that are used."""
    max_length: Annotated[Count, Unit("tokens")] | None = None
    """Rows longer than this many tokens are left out."""


@config_class
class BuiltinTask:
    """A task made from the running Python; a name in `objectives.data.builtin_tasks.TASKS`."""

    kind: Literal["builtin"] = "builtin"
    name: BuiltinTaskName
    """The task."""
    override: TaskOverride | None = None
    """Steps, rates, rows and length of this task alone; None leaves the recipe's."""


@config_class
class FileTask:
    """Files with `prompt`, `completion` and, for classification, `label`; or with `messages`.

    JSON Lines, JSON, CSV, TSV or Parquet, also packed; a path may be a folder or a pattern. With
    `messages`, a list of turns with `role` and `content`, the completion is the last turn of the
    assistant and the prompt the turns before it (`objectives.data.chats`).
    """

    kind: Literal["file"] = "file"
    name: str
    """Name of the task in metrics, such as `task.NAME.after`."""
    train: str
    """File with the training rows."""
    validation: str | None = None
    """File with the validation rows. None holds out a tenth of train, picked by the row's hash."""
    test: str
    """File with the test rows."""
    prompt: str = "{prompt}"
    """A `str.format` template over the row's fields, such as "Review: {text}\\nSentiment:"."""
    completion: str = "{completion}"
    """Another one, such as " {sentiment}"."""
    label_field: str | None = "label"
    """Field with the label; None where the task has none."""
    metric: Literal["auto", "accuracy", "exact_match"] = "auto"
    """auto: accuracy where most rows have a label (the others are left out) and each label has one
    text; else exact match. The result's notes say which."""
    override: TaskOverride | None = None
    """Steps, rates, rows and length of this task alone; None leaves the recipe's."""


@config_class
class HubTask:
    """A Hugging Face dataset and templates that turn a row into prompt and completion."""

    kind: Literal["hub"] = "hub"
    name: str
    """Name of the task in metrics, such as `task.NAME.after`."""
    dataset: str
    """Name on the hub, or a folder."""
    config: str | None = None
    """Configuration of the dataset."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""
    prompt: str
    """A `str.format` template over the row's fields, such as "Review: {text}\\nSentiment:"."""
    completion: str
    """Another template, such as " {sentiment}"."""
    label_field: str | None = None
    """Field with the label; None where the task has none."""
    train_split: str = "train"
    """Split with the training rows."""
    validation_split: str | None = None
    """Split with the validation rows; None holds out a tenth of train."""
    test_split: str = "test"
    """Split with the test rows."""
    metric: Literal["auto", "accuracy", "exact_match"] = "auto"
    """auto: accuracy where rows have labels, else exact match."""
    override: TaskOverride | None = None
    """Steps, rates, rows and length of this task alone; None leaves the recipe's."""


Task: TypeAlias = Annotated[BuiltinTask | FileTask | HubTask, Field(discriminator="kind")]
