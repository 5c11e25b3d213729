"""From documents to token files: the split, the tokenizer, and what is written.

Each document falls into train or validation by its hash, or validation has a text of its own; a
byte-level BPE is trained on the training documents, or a Hugging Face tokenizer is used; each
document is written as its tokens and the end mark.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from objectives.config import data
from objectives.data import bpe, sources
from objectives.data.bpe import END
from objectives.data.sources import Counts
from objectives.models import hub, huggingface
from objectives.progress import Report
from objectives.store.entries import write_json
from objectives.waiting import in_thread

VALIDATION = "validation"


TOKENIZER_BYTES = 20_000_000
"""Training text that the BPE sees at most; assumed: merges hardly change beyond."""


ENDS = (END, "<eos>", "</s>", "<|end_of_text|>", "<|im_end|>")
"""Special tokens taken for the end of a text where a tokenizer does not name its own."""


CHUNK_DOCUMENTS, CHUNK_CHARS = 256, 2_000_000
"""A chunk of documents that are tokenized together ends at the first of these; assumed."""


REPORT_S = 0.5
"""Seconds between two reports of how far the tokenizer's text is read."""


Split = Literal["train", "validation"]


class _Splits:
    """Where each document of a corpus goes."""

    def __init__(self, corpus: data.Corpus) -> None:
        self.frac, self.left_out = corpus.validation_frac, 0
        self.held: set[bytes] | None = None
        if corpus.validation:
            self.held = {
                _digest(text) for each in corpus.validation for text in sources.documents(each)
            }

    def of(self, text: str) -> Split | None:
        """The split of a document of the sources; None where validation has it as its own."""
        if self.held is None:
            return _split_of(text, self.frac)
        if _digest(text) not in self.held:
            return "train"
        self.left_out += 1
        return None


LOOKED_AT = 20_000_000
"""Characters of a source after which `check_splits` gives up; assumed."""


def check_splits(corpus: data.Corpus, seq_len: int) -> None:
    """Raise ValueError where a split surely has too few tokens for a sequence.

    Documents are read until there is enough for one if each byte were a token, mostly a few dozen.
    That is of corpora of files; text given for validation is not split.
    """
    if corpus.validation or not all(isinstance(each, data.Files) for each in corpus.sources):
        return
    splits, validation, in_validation, every = _Splits(corpus), 0, 0, 0
    for index, source in enumerate(corpus.sources):
        train = in_train = read = 0
        for text in sources.documents(source):
            # Its bytes and the end mark; another tokenizer may add tokens of its own.
            most = len(text.encode()) + 1 if corpus.tokenizer is None else seq_len + 1
            every, read = every + 1, read + len(text)
            if splits.of(text) == "train":
                train, in_train = train + most, in_train + 1
            else:
                validation, in_validation = validation + most, in_validation + 1
            if min(train, validation) > seq_len:
                break
            if read > LOOKED_AT:
                return
        if train <= seq_len:
            name = f"train-{index}"
            raise ValueError(too_little(name, "corpus", train, seq_len, in_train, every))
    if validation <= seq_len:
        name = VALIDATION
        raise ValueError(too_little(name, "corpus", validation, seq_len, in_validation, every))


def too_little(
    split: str, owner: str, tokens: int, seq_len: int, documents: int, every: int = 0
) -> str:
    """What is wrong with a split of fewer tokens than a sequence, and how to fix it.

    `documents` of `every` one are in the split.
    """
    what = f"{split} of {owner} holds {tokens} tokens, fewer than one sequence of {seq_len}"
    if documents or not every:
        return f"{what}; give more text, or change corpus.validation_frac or pretrain.seq_len."
    return (
        f"{what}; none of the {every} documents, each of which is put whole into train or "
        "validation, fell into it: give more and shorter documents, or change "
        "corpus.validation_frac."
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _split_of(text: str, validation_frac: float) -> Split:
    # Salted: sources order documents by their plain hash, and a first part of that order must not
    # be one split.
    digest = hashlib.sha256(b"split" + text.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "validation" if share < validation_frac else "train"


def train_tokenizer(corpus: data.Corpus, folder: Path, report: Report) -> None:
    """Write a byte-level BPE of the training documents into the folder."""
    told_at = -math.inf

    def tell(chars: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= REPORT_S:
            stage = f"train the tokenizer, {chars / 1e6:.0f} MB read"
            report({"stage": stage, "step": 0, "steps": 1})
            told_at = time.monotonic()

    tokenizer = bpe.train(_training_text(corpus), corpus.vocab_size, tell)
    tokenizer.save(str(folder / "tokenizer.json"))


def _training_text(corpus: data.Corpus) -> Iterator[str]:
    """Training documents, the sources in turn, up to TOKENIZER_BYTES of each."""
    splits = _Splits(corpus)
    for source in corpus.sources:
        left = TOKENIZER_BYTES
        for text in sources.documents(source):
            if splits.of(text) == "train":
                yield text
                left -= len(text)
            if left <= 0:
                break


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A Hugging Face tokenizer by hub name, folder or tokenizer.json.

    Raises:
        ValueError: it cannot be read, or has no end-of-text token.
    """
    path = Path(name).expanduser()
    if path.is_file():
        tokenizer = _of_file(path, name)
    else:
        local = path.exists() or hub.why_unreachable(name) is not None
        place = str(path) if path.exists() else name
        tokenizer = huggingface.open_tokenizer(place, local=local)
    if tokenizer.eos_token_id is None:
        _name_end(tokenizer, name)
    return tokenizer


def _of_file(path: Path, name: str) -> PreTrainedTokenizerBase:
    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(path))
    except Exception as error:  # of whatever kind: tokenizers raise bare ones
        raise ValueError(
            f"corpus.tokenizer {name!r} cannot be read ({huggingface.reason(error)}); give a "
            "tokenizer.json, or None to train one."
        ) from None


def _name_end(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Take a usual end-of-text token for the tokenizer's own."""
    known = tokenizer.get_vocab()
    end = next((token for token in ENDS if token in known), None)
    if end is None:
        raise ValueError(
            f"tokenizer {name!r} has no end-of-text token; name one as eos_token in its "
            f"tokenizer_config.json, or choose one that has any of {', '.join(ENDS)}."
        )
    tokenizer.eos_token = end


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without marks."""
    if _is_plain(tokenizer):
        return _encode_plainly(tokenizer, texts)
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _is_plain(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer calls its `tokenizers.Tokenizer` and does nothing else to a text."""
    kind = type(tokenizer)
    return (
        getattr(kind, "_encode_plus", None) is PreTrainedTokenizerFast._encode_plus
        and kind.__call__ is PreTrainedTokenizerBase.__call__
        and not hasattr(tokenizer, "_switch_to_input_mode")
    )


def _encode_plainly(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids alone; transformers makes offsets, masks and dicts of each text too, half of the time."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    found = backend.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids for encoding in found]


def write_tokens(
    corpus: data.Corpus,
    owner: str,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    report: Report,
) -> None:
    """Write the tokens of each source and of validation, and what else there is to know of them."""
    counts = [Counts() for _ in sources.all_of(corpus)]
    splits = _Splits(corpus)
    documents = [0] * (len(corpus.sources) + 1)
    validation_bytes = 0
    with (folder / f"{VALIDATION}.bin").open("wb") as validation:
        for index, source in enumerate(corpus.sources):
            with (folder / f"train-{index}.bin").open("wb") as train:
                files: dict[Split, BinaryIO] = {"train": train, "validation": validation}
                found = sources.documents(source, counts[index])
                written, number = _write_source(found, splits.of, tokenizer, files, report)
            if not sum(written.values()):
                raise ValueError(
                    f"{owner}.sources.{index} ({source.kind}) holds no text; give documents that "
                    "are not empty."
                )
            documents[index] = number["train"]
            documents[-1] += number["validation"]
            validation_bytes += written["validation"]
        for index, source in enumerate(corpus.validation, len(corpus.sources)):
            found = sources.documents(source, counts[index])
            written, number = _write_source(
                found, lambda text: "validation", tokenizer, {"validation": validation}, report
            )
            documents[-1] += number["validation"]
            validation_bytes += written["validation"]
    info: dict[str, Any] = {
        "dtype": dtype_of(tokenizer).name,
        "validation_bytes": validation_bytes,
        "documents": documents,
        "counts": [dataclasses.astuple(each) for each in counts],
    }
    if corpus.validation:
        info["in_validation"] = splits.left_out
    write_json(folder / "info.json", info)


def _write_source(
    documents: Iterable[str],
    split_of: Callable[[str], Split | None],
    tokenizer: PreTrainedTokenizerBase,
    files: Mapping[Split, BinaryIO],
    report: Report,
) -> tuple[dict[Split, int], dict[Split, int]]:
    """Write documents as tokens; returns bytes of text and documents of each split."""
    written: dict[Split, int] = {"train": 0, "validation": 0}
    number: dict[Split, int] = {"train": 0, "validation": 0}

    def tell() -> None:
        megabytes = sum(written.values()) / 1e6
        report({"stage": f"tokenize, {megabytes:.0f} MB done", "step": 0, "steps": 1})

    for texts in _chunks(documents):
        for text, ids in zip(texts, _encode_chunk(tokenizer, texts, tell), strict=True):
            split = split_of(text)
            if split is None:
                continue
            np.array([*ids, tokenizer.eos_token_id], dtype_of(tokenizer)).tofile(files[split])
            written[split] += len(text.encode())
            number[split] += 1
        tell()
    return written, number


def _encode_chunk(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], tell: Callable[[], None]
) -> list[list[int]]:
    """As `encode`; what takes long is done beside this thread, so that signals are heard."""
    if sum(map(len, texts)) < CHUNK_CHARS:
        return encode(tokenizer, texts)
    return in_thread(lambda: encode(tokenizer, texts), tell)


def dtype_of(tokenizer: PreTrainedTokenizerBase) -> np.dtype[Any]:
    """What a token is stored as."""
    return np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in documents:
        chunk.append(text)
        size += len(text)
        if len(chunk) == CHUNK_DOCUMENTS or size >= CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
