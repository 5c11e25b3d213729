"""Tokenizers that were trained here, as they are read from the store."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from objectives import entries
from objectives.entries import JSON_BYTES, DamagedError

FILE = "tokenizer.json"
SAMPLE = "Ab \u00e9\u4e2d\U0001f600\n\t  0"
"""Text that any byte-level tokenizer gives back unchanged."""


def read(folder: Path, vocab_size: int, end: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, with `end` as its mark of the end of a text.

    Raises:
        DamagedError: it is none of at most `vocab_size` tokens, or does not give text back.
    """
    content = entries.read_bytes(folder / FILE, JSON_BYTES)
    tokenizer = _parsed(content)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if sorted(vocabulary.values()) != list(range(len(vocabulary))) or len(vocabulary) > vocab_size:
        raise DamagedError(f"{FILE} has other tokens than it should")
    if end not in vocabulary or _given_back(tokenizer) != SAMPLE:
        raise DamagedError(f"{FILE} is of another kind")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)


def _parsed(content: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_str(content.decode("utf-8"))
    except BaseException as error:  # a panic of the library is no Exception
        _raise_unless_panic(error)
        raise DamagedError(f"{FILE} cannot be read ({type(error).__name__})") from None


def _given_back(tokenizer: Tokenizer) -> str | None:
    """The sample, encoded and decoded; None where that is not possible."""
    try:
        text: str = tokenizer.decode(tokenizer.encode(SAMPLE).ids, skip_special_tokens=False)
    except BaseException as error:
        _raise_unless_panic(error)
        return None
    return text


def _raise_unless_panic(error: BaseException) -> None:
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
