"""Corpora and tasks of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from objectives.config.config_class import config_class
from objectives.config.paths import Count, Positive, Several, Whole


@config_class
class Stdlib:
    """Text that ships with the running Python: documentation topics, docstrings and source."""

    kind: Literal["stdlib"] = "stdlib"
    max_bytes: Count = 8_000_000
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
    text_field: str = "text"
    max_bytes: Count | None = None
    weight: Positive = 1.0


@config_class
class HubDataset:
    """A Hugging Face dataset by hub name, or a folder written by `save_to_disk`."""

    kind: Literal["hub"] = "hub"
    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    text_field: str = "text"
    streaming: bool = True
    max_bytes: Count | None = 100_000_000
    weight: Positive = 1.0


Source: TypeAlias = Annotated[Stdlib | Files | HubDataset, Field(discriminator="kind")]


@config_class
class Corpus:
    """Pretraining text, its split and its tokenizer."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1), Several] = (Stdlib(),)
    tokenizer: str | None = None
    """A Hugging Face tokenizer (hub name or folder); None trains a byte-level BPE on the corpus."""
    vocab_size: Annotated[int, Field(ge=257, le=2**53), Whole] = 1024
    """Size of the trained BPE; not used with `tokenizer`."""
    validation_frac: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of documents, picked by their hash, that are held out."""


BuiltinTaskName = Literal[
    "code_module", "token_kind", "doc_name", "commands", "list_ops", "arithmetic"
]
"""The keys of `objectives.data.builtin_tasks.TASKS`."""


@config_class
class BuiltinTask:
    """A task made from the running Python; a name in `objectives.data.builtin_tasks.TASKS`."""

    kind: Literal["builtin"] = "builtin"
    name: BuiltinTaskName


@config_class
class FileTask:
    """Files with `prompt`, `completion` and, for classification, `label`; or with `messages`.

    JSON Lines, JSON, CSV, TSV or Parquet, also packed; a path may be a folder or a pattern.
    """

    kind: Literal["file"] = "file"
    name: str
    train: str
    validation: str | None = None
    """None holds out a tenth of train, picked by the row's hash."""
    test: str
    prompt: str = "{prompt}"
    """A `str.format` template over the row's fields, such as "Review: {text}\\nSentiment:"."""
    completion: str = "{completion}"
    """Another one, such as " {sentiment}"."""
    label_field: str | None = "label"
    metric: Literal["auto", "accuracy", "exact_match"] = "auto"
    """auto: accuracy where most rows have a label (the others are left out) and each label has one
    text; else exact match. The result's notes say which."""


@config_class
class HubTask:
    """A Hugging Face dataset and templates that turn a row into prompt and completion."""

    kind: Literal["hub"] = "hub"
    name: str
    dataset: str
    config: str | None = None
    revision: str | None = None
    prompt: str
    """A `str.format` template over the row's fields, such as "Review: {text}\\nSentiment:"."""
    completion: str
    label_field: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    test_split: str = "test"
    metric: Literal["auto", "accuracy", "exact_match"] = "auto"


Task: TypeAlias = Annotated[BuiltinTask | FileTask | HubTask, Field(discriminator="kind")]
