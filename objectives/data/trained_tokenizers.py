"""Tokenizers that were trained here, as they are read from the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from objectives.store import entries
from objectives.store.entries import JSON_BYTES, DamagedError

FILE = "tokenizer.json"


LEARNED = ("vocab", "merges")


def read(folder: Path, vocab_size: int, end: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, with `end` as its mark of the end of a text.

    Raises:
        DamagedError: it is none of at most `vocab_size` tokens, or not byte-level BPE.
    """
    content = entries.read_bytes(folder / FILE, JSON_BYTES)
    tokenizer = _parsed(content)
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if sorted(vocabulary.values()) != list(range(len(vocabulary))) or len(vocabulary) > vocab_size:
        raise DamagedError(f"{FILE} has other tokens than it should")
    if not {end, *alphabet} <= set(vocabulary):  # then any text can be written in tokens
        raise DamagedError(f"{FILE} lacks tokens")
    if _settings(tokenizer) != _settings(_untrained(end)):
        raise DamagedError(f"{FILE} has other settings than it should")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)


def _parsed(content: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_str(content.decode("utf-8"))
    except BaseException as error:  # a panic of the library is no Exception
        _raise_unless_panic(error)
        raise DamagedError(f"{FILE} cannot be read ({type(error).__name__})") from None


def _untrained(end: str) -> Tokenizer:
    """A tokenizer as training leaves it, but for vocabulary and merges."""
    tokenizer = Tokenizer(models.BPE(vocab={end: 0}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([end])
    return tokenizer


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """All but vocabulary and merges."""
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    return data | {
        "model": {k: v for k, v in data["model"].items() if k not in ("vocab", "merges")}
    }


def _raise_unless_panic(error: BaseException) -> None:
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
