"""The corpus as tokens: split, tokenizer, memory-mapped token files, and batches.

1. Each document falls into train or validation by its hash, so no text is in both.
2. A byte-level BPE is trained on the training documents (or a Hugging Face tokenizer is used).
3. Tokens of all documents, each followed by the end mark, are written once to flat files.
4. The batch of a step is a pure function of (seed, step): nothing about the position needs saving.

N sequences, B batch, T tokens of a sequence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from objectives.config import data
from objectives.data import known_texts, sources, tokenize, trained_tokenizers
from objectives.data.bpe import END
from objectives.data.orders import Ids, Orders
from objectives.data.sources import Counts
from objectives.data.tokenize import VALIDATION, Split, dtype_of, load_tokenizer
from objectives.models import library_fingerprints
from objectives.progress import Report
from objectives.store import contents
from objectives.store.entries import DamagedError
from objectives.store.store import Store, key_of

TOKENS = "tokens"
"""The stage of a tokenized corpus; its key is the corpus's."""


@dataclass(frozen=True)
class TokenDataset:
    """Tokens ready to train on."""

    key: str
    """Identity of the tokens and the tokenizer."""
    tokenizer: PreTrainedTokenizerBase
    tokenizer_key: str
    train: tuple[NDArray[Any], ...]
    """One memory-mapped row of tokens a source."""
    weights: tuple[float, ...]
    validation: NDArray[Any]
    bytes_per_token: float
    """UTF-8 bytes a token of the validation text."""
    notes: tuple[str, ...] = ()
    """What was left out or changed in reading the text."""

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary."""
        return len(self.tokenizer)

    def batch(
        self,
        seed: int,
        step: int,
        batch_size: int,
        seq_len: int,
        *,
        phase: int = 0,
        orders: Orders | None = None,
    ) -> Ids:
        """The training batch of a step; [B, T + 1]. Each phase has an order of its own.

        Every source runs through its sequences in a new random order each epoch; which source a
        sequence comes from follows a pattern that meets the weights exactly every BLOCK sequences.
        """
        slots = range(step * batch_size, (step + 1) * batch_size)
        orders = orders or Orders()
        return np.stack([self._sequence(seed, slot, seq_len, phase, orders) for slot in slots])

    def epochs(self, tokens: int, seq_len: int) -> float:
        """How often a run over this many tokens sees the source it repeats most."""
        shares = np.array(self.weights) / sum(self.weights)
        held = [_count(row, seq_len) * seq_len for row in self.train]
        return float(max(tokens * share / size for share, size in zip(shares, held, strict=True)))

    def sample(self, split: Split, tokens: int, seq_len: int) -> Ids:
        """Fixed, evenly spaced sequences of about this many tokens, fewer if there are no more.

        [N, T + 1].
        """
        rows = (self.validation,) if split == "validation" else self.train
        each = math.ceil(tokens / seq_len / len(rows))
        picked = []
        for row in rows:
            count = _count(row, seq_len)
            for index in np.linspace(0, count - 1, min(each, count)).round().astype(int):
                picked.append(_window(row, int(index), seq_len))
        return np.stack(picked)

    def _sequence(self, seed: int, slot: int, seq_len: int, phase: int, orders: Orders) -> Ids:
        source, nth = orders.source_of(seed, slot, self.weights, phase)
        row = self.train[source]
        epoch, position = divmod(nth, _count(row, seq_len))
        order = orders.of(seed, source, epoch, _count(row, seq_len), phase)
        return _window(row, int(order[position]), seq_len)


def prepare(
    corpus: data.Corpus,
    seq_len: int,
    store: Store,
    report: Report = lambda event: None,
    *,
    first: TokenDataset | None = None,
) -> TokenDataset:
    """The recipe's corpus as tokens, from the store where it is there.

    `report` is told how far it is; an exception it raises stops the work. With `first`, the corpus
    of a first phase, this is the text of the second one and uses its tokenizer.

    Raises:
        ValueError: the corpus is empty or too small for one sequence, or cannot be read.
    """
    text = _Text.of(corpus, store)
    found = _prepared(text, seq_len, store, report, first)
    known_texts.remember(sources.all_of(corpus), text.prints, store)
    return found


def stored(
    corpus: data.Corpus, seq_len: int, store: Store, *, first: TokenDataset | None = None
) -> list[TokenDataset]:
    """What the store has of the recipe's corpus, without its text: one for each that it has been.

    In no order; the corpora give tokens and nothing else of the text is looked at.
    """
    found = []
    for prints in known_texts.known(sources.all_of(corpus), store):
        text = _Text(corpus, prints, [])
        reading = cast(Store, known_texts.Stored(store))
        with contextlib.suppress(known_texts.NotStoredError):
            found.append(_prepared(text, seq_len, reading, lambda event: None, first))
    return found


def _prepared(
    text: _Text, seq_len: int, store: Store, report: Report, first: TokenDataset | None
) -> TokenDataset:
    corpus = text.corpus
    if first is None:
        owner, (tokenizer, tokenizer_key) = "corpus", _tokenizer(text, store, report)
    else:
        owner, tokenizer, tokenizer_key = "pretrain.mid", first.tokenizer, first.tokenizer_key
    key = key_of("tokens-1", text.prints, tokenizer_key, _held_out(corpus))
    weights = tuple(source.weight for source in corpus.sources)

    def write(folder: Path) -> None:
        tokenize.write_tokens(text.corpus, owner, tokenizer, folder, report)
        _rows(folder, tokenizer, len(weights), seq_len, owner)  # too few tokens are not kept
        text.check_unchanged()

    return store.cached(
        TOKENS,
        key,
        write=write,
        read=lambda path: open_tokens(path, tokenizer, tokenizer_key, weights, seq_len, owner),
    )


@dataclass(frozen=True)
class _Text:
    """The text of a corpus, as it was when its identity was taken."""

    corpus: data.Corpus
    """Datasets on the hub at the commit that they have now."""
    prints: list[Any]
    """Identities of the sources, that of validation last."""
    state: list[list[Any]]
    """Of the sources' files, before their identity was taken."""

    @staticmethod
    def of(corpus: data.Corpus, store: Store) -> _Text:
        exact = tuple(sources.pinned(source, store) for source in corpus.sources)
        held = tuple(sources.pinned(source, store) for source in corpus.validation)
        corpus = dataclasses.replace(corpus, sources=exact, validation=held)
        state = [sources.state(source) for source in sources.all_of(corpus)]
        prints = [sources.fingerprint(source) for source in sources.all_of(corpus)]
        return _Text(corpus, prints, state)

    def check_unchanged(self) -> None:
        """Raise ValueError if it is not sure that what was read is this text."""
        sources.check_unchanged(self.state, sources.all_of(self.corpus))


def open_tokens(
    entry: Path,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_key: str,
    weights: tuple[float, ...],
    seq_len: int,
    owner: str = "corpus",
) -> TokenDataset:
    """The corpus of a stored stage, whose folder is named by its key.

    Raises:
        ValueError: it is too small for one sequence.
        DamagedError: it is not what this tokenizer makes.
    """
    info = contents.record(entry, "info.json", _Info)
    if info.dtype != dtype_of(tokenizer).name:
        raise DamagedError(f"info.json has dtype {info.dtype}")
    *train, validation = _rows(entry, tokenizer, len(weights), seq_len, owner, stored=True)
    notes = [
        note
        for index, counted in enumerate(info.counts)
        for note in Counts(*counted).notes(
            f"{owner}.sources.{index}"
            if index < len(weights)
            else f"{owner}.validation.{index - len(weights)}"
        )
    ]
    if info.in_validation:
        notes.append(
            f"{owner}: training documents left out as validation has them: {info.in_validation}"
        )
    return TokenDataset(
        key=entry.name,
        tokenizer=tokenizer,
        tokenizer_key=tokenizer_key,
        train=tuple(train),
        weights=weights,
        validation=validation,
        bytes_per_token=info.validation_bytes / validation.size,
        notes=tuple(notes),
    )


def _tokenizer(text: _Text, store: Store, report: Report) -> tuple[PreTrainedTokenizerBase, str]:
    """The corpus's tokenizer and its key."""
    corpus = text.corpus
    if corpus.tokenizer is not None:
        tokenizer = load_tokenizer(corpus.tokenizer)
        return tokenizer, _print_of(tokenizer)
    libraries = library_fingerprints.of_tokenizers()
    key = key_of("bpe-2", text.prints, corpus.vocab_size, _held_out(corpus), libraries)

    def write(folder: Path) -> None:
        tokenize.train_tokenizer(corpus, folder, report)
        text.check_unchanged()

    return store.cached(
        "tokenizer",
        key,
        write=write,
        read=lambda path: trained_tokenizers.read(path, corpus.vocab_size, END),
    ), key


def _held_out(corpus: data.Corpus) -> float | None:
    """The share of documents that is held out; None where validation has a text of its own."""
    return None if corpus.validation else corpus.validation_frac


def _print_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identity of a loaded tokenizer: all that turns text into ids, wherever it was read from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = str(tokenizer) if backend is None else backend.to_str()
    return key_of("loaded-1", rules, tokenizer.get_vocab(), tokenizer.eos_token_id)


@dataclass(frozen=True)
class _Info:
    """info.json of tokens."""

    dtype: Literal["uint16", "uint32"]
    validation_bytes: contents.Whole
    documents: list[contents.Whole] = dataclasses.field(default_factory=list)
    """In train of each source, and in validation."""
    counts: list[tuple[contents.Whole, contents.Whole]] = dataclasses.field(default_factory=list)
    """Fields of `Counts` of each source."""
    in_validation: contents.Whole = 0
    """Training documents left out since the text of validation has them."""


def _rows(
    entry: Path,
    tokenizer: PreTrainedTokenizerBase,
    num_sources: int,
    seq_len: int,
    owner: str,
    stored: bool = False,
) -> list[NDArray[Any]]:
    """The tokens of each source, and those of validation at the end."""
    documents = contents.record(entry, "info.json", _Info).documents
    rows = []
    names = [*(f"train-{index}" for index in range(num_sources)), VALIDATION]
    for place, name in enumerate(names):
        rows.append(contents.mapped(entry, f"{name}.bin", dtype_of(tokenizer), len(tokenizer)))
        if stored and not rows[-1].size:
            raise DamagedError(f"{name}.bin is empty")
        if _count(rows[-1], seq_len) < 1:
            counted = (documents[place], sum(documents)) if len(documents) == len(names) else (1,)
            raise ValueError(tokenize.too_little(name, owner, rows[-1].size, seq_len, *counted))
    return rows


def _count(row: NDArray[Any], seq_len: int) -> int:
    """Sequences of T tokens and their targets in a row."""
    return max(0, (row.size - 1) // seq_len)


def _window(row: NDArray[Any], index: int, seq_len: int) -> Ids:
    window: Ids = row[index * seq_len : (index + 1) * seq_len + 1].astype(np.int64)
    return window
