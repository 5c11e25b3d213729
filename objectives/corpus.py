"""The corpus as tokens: split, tokenizer, memory-mapped token files, and batches.

1. Each document falls into train or validation by its hash, so no text is in both.
2. A byte-level BPE is trained on the training documents (or a Hugging Face tokenizer is used).
3. Tokens of all documents, each followed by the end mark, are written once to flat files.
4. The batch of a step is a pure function of (seed, step): nothing about the position needs saving.

N sequences, B batch, T tokens of a sequence.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from objectives import contents, library_prints, recipe, sources, trained_tokenizers
from objectives.entries import DamagedError
from objectives.orders import Orders
from objectives.store import Store, key_of, write_json

TOKENS = "tokens"
"""The stage of a tokenized corpus; its key is the corpus's."""
END = "<|endoftext|>"
TOKENIZER_BYTES = 20_000_000
"""Training text that the BPE sees at most; assumed: merges hardly change beyond."""

Split = Literal["train", "validation"]
Ids = NDArray[np.int64]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Corpus:
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
    corpus: recipe.Corpus,
    seq_len: int,
    store: Store,
    report: Report = lambda event: None,
    *,
    first: Corpus | None = None,
) -> Corpus:
    """The recipe's corpus as tokens, from the store where it is there.

    `report` is told how far it is; an exception it raises stops the work. With `first`, the corpus
    of a first phase, this is the text of the second one and uses its tokenizer.

    Raises:
        ValueError: the corpus is empty or too small for one sequence, or cannot be read.
    """
    prints = [sources.fingerprint(source) for source in corpus.sources]
    if first is None:
        owner, (tokenizer, tokenizer_key) = "corpus", _tokenizer(corpus, prints, store, report)
    else:
        owner, tokenizer, tokenizer_key = "pretrain.mid", first.tokenizer, first.tokenizer_key
    key = key_of("tokens-1", prints, tokenizer_key, corpus.validation_frac)
    weights = tuple(source.weight for source in corpus.sources)

    def write(folder: Path) -> None:
        _write_tokens(corpus, owner, tokenizer, folder, report)
        _rows(folder, tokenizer, len(weights), seq_len, owner)  # too few tokens are not kept

    return store.cached(
        TOKENS,
        key,
        write=write,
        read=lambda path: opened(path, tokenizer, tokenizer_key, weights, seq_len, owner),
    )


def opened(
    entry: Path,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_key: str,
    weights: tuple[float, ...],
    seq_len: int,
    owner: str = "corpus",
) -> Corpus:
    """The corpus of a stored stage, whose folder is named by its key.

    Raises:
        ValueError: it is too small for one sequence.
        DamagedError: it is not what this tokenizer makes.
    """
    info = contents.record(entry, "info.json", _Info)
    if info.dtype != _dtype(tokenizer).name:
        raise DamagedError(f"info.json has dtype {info.dtype}")
    rows = _rows(entry, tokenizer, len(weights), seq_len, owner, stored=True)
    *train, validation = rows
    return Corpus(
        key=entry.name,
        tokenizer=tokenizer,
        tokenizer_key=tokenizer_key,
        train=tuple(train),
        weights=weights,
        validation=validation,
        bytes_per_token=info.validation_bytes / validation.size,
    )


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without marks."""
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _tokenizer(
    corpus: recipe.Corpus, prints: list[Any], store: Store, report: Report
) -> tuple[PreTrainedTokenizerBase, str]:
    """The corpus's tokenizer and its key."""
    if corpus.tokenizer is not None:
        tokenizer = load_tokenizer(corpus.tokenizer)
        return tokenizer, _print_of(tokenizer)
    libraries = library_prints.of_tokenizers()
    key = key_of("bpe-2", prints, corpus.vocab_size, corpus.validation_frac, libraries)
    return store.cached(
        "tokenizer",
        key,
        write=lambda path: _train_tokenizer(corpus, path, report),
        read=lambda path: trained_tokenizers.read(path, corpus.vocab_size, END),
    ), key


@dataclass(frozen=True)
class _Info:
    """info.json of tokens."""

    dtype: Literal["uint16", "uint32"]
    validation_bytes: contents.Whole


def _rows(
    entry: Path,
    tokenizer: PreTrainedTokenizerBase,
    num_sources: int,
    seq_len: int,
    owner: str,
    stored: bool = False,
) -> list[NDArray[Any]]:
    """The tokens of each source, and those of validation at the end."""
    rows = []
    for name in [*(f"train-{index}" for index in range(num_sources)), "validation"]:
        rows.append(contents.mapped(entry, f"{name}.bin", _dtype(tokenizer), len(tokenizer)))
        if stored and not rows[-1].size:
            raise DamagedError(f"{name}.bin is empty")
        if _count(rows[-1], seq_len) < 1:
            raise ValueError(
                f"{name} of {owner} holds {rows[-1].size} tokens, fewer than one sequence of "
                f"{seq_len}; give more text, or change corpus.validation_frac or pretrain.seq_len."
            )
    return rows


def _split_of(text: str, validation_frac: float) -> Split:
    # Salted: sources order documents by their plain hash, and a first part of that order must not
    # be one split.
    digest = hashlib.sha256(b"split" + text.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "validation" if share < validation_frac else "train"


def _train_tokenizer(corpus: recipe.Corpus, folder: Path, report: Report) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=corpus.vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    report({"stage": "train the tokenizer", "step": 0, "steps": 1})
    tokenizer.train_from_iterator(_training_text(corpus), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def _training_text(corpus: recipe.Corpus) -> Iterator[str]:
    """Training documents, the sources in turn, up to TOKENIZER_BYTES of each."""
    for source in corpus.sources:
        left = TOKENIZER_BYTES
        for text in sources.documents(source):
            if _split_of(text, corpus.validation_frac) == "train":
                yield text
                left -= len(text)
            if left <= 0:
                break


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A Hugging Face tokenizer by hub name or folder.

    Raises:
        ValueError: it cannot be read, or has no end-of-text token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"corpus.tokenizer {name!r} cannot be read ({reason}); give a folder with "
            "tokenizer.json, or None to train one."
        ) from None
    if tokenizer.eos_token_id is None:
        raise ValueError(f"tokenizer {name!r} has no end-of-text token; choose one that has.")
    return tokenizer


def _print_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identity of a loaded tokenizer: all that turns text into ids, wherever it was read from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = str(tokenizer) if backend is None else backend.to_str()
    return key_of("loaded-1", rules, tokenizer.get_vocab(), tokenizer.eos_token_id)


def _write_tokens(
    corpus: recipe.Corpus,
    owner: str,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    report: Report,
) -> None:
    validation_bytes = 0
    with (folder / "validation.bin").open("wb") as validation:
        for index, source in enumerate(corpus.sources):
            with (folder / f"train-{index}.bin").open("wb") as train:
                files: dict[Split, BinaryIO] = {"train": train, "validation": validation}
                written = _write_source(source, corpus.validation_frac, tokenizer, files, report)
            if not sum(written.values()):
                raise ValueError(
                    f"{owner}.sources.{index} ({source.kind}) holds no text; give documents that "
                    "are not empty."
                )
            validation_bytes += written["validation"]
    info = {"dtype": _dtype(tokenizer).name, "validation_bytes": validation_bytes}
    write_json(folder / "info.json", info)


def _write_source(
    source: recipe.Source,
    validation_frac: float,
    tokenizer: PreTrainedTokenizerBase,
    files: Mapping[Split, BinaryIO],
    report: Report,
) -> dict[Split, int]:
    """Write a source's documents as tokens; returns the bytes of text in each split."""
    written: dict[Split, int] = {"train": 0, "validation": 0}
    for texts in _chunks(sources.documents(source), 256):
        for text, ids in zip(texts, encode(tokenizer, texts), strict=True):
            split = _split_of(text, validation_frac)
            np.array([*ids, tokenizer.eos_token_id], _dtype(tokenizer)).tofile(files[split])
            written[split] += len(text.encode())
        megabytes = sum(written.values()) / 1e6
        report({"stage": f"tokenize, {megabytes:.0f} MB done", "step": 0, "steps": 1})
    return written


def _dtype(tokenizer: PreTrainedTokenizerBase) -> np.dtype[Any]:
    return np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)


def _chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _count(row: NDArray[Any], seq_len: int) -> int:
    """Sequences of T tokens and their targets in a row."""
    return max(0, (row.size - 1) // seq_len)


def _window(row: NDArray[Any], index: int, seq_len: int) -> Ids:
    window: Ids = row[index * seq_len : (index + 1) * seq_len + 1].astype(np.int64)
    return window
