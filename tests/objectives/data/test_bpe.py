"""The trained tokenizer: the library's own on ordinary text, and linear where a word is long."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from objectives.data import bpe
from objectives.waiting import in_thread
from tests.objectives import toy


def plain(texts: list[str], vocab_size: int) -> Tokenizer:
    """What the library trains on the texts as they are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[bpe.END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return tokenizer


def dna(letters: int) -> str:
    return "".join(random.Random(0).choice("ACGT") for _ in range(letters))


ORDINARY = [
    *toy.text(200),
    "Grüße, 世界 don't  \n\n\t x=[1,2]",
    dna(bpe.CUT),
    " " * bpe.CUT,
    '{"a":1,"b":[2,3]},' * 200,
]


def test_ordinary_text_gives_the_merges_of_the_library() -> None:
    assert all(list(bpe.parts(text)) == [text] for text in ORDINARY)
    found, its = bpe.train(ORDINARY, 400, lambda read: None), plain(ORDINARY, 400)
    assert found.get_vocab() == its.get_vocab()
    assert [found.encode(t).ids for t in ORDINARY] == [its.encode(t).ids for t in ORDINARY]


@pytest.mark.parametrize(
    "text",
    [
        dna(10_000),
        "before " + dna(5_000) + "\n\n after, " + dna(3_001) + "!",
        "日本" * 3_000,
        "\t" * 5_000 + "x",
        "-" * 5_000,
        base64.b64encode(random.Random(0).randbytes(5_000)).decode(),
    ],
)
def test_long_words_are_cut_and_nothing_is_lost(text: str) -> None:
    parts = list(bpe.parts(text))
    assert "".join(parts) == text
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for part in parts:
        for _, (start, end) in words.pre_tokenize_str(part):
            assert end - start <= bpe.CUT
    tokenizer = bpe.train([text], 300, lambda read: None)
    assert tokenizer.get_vocab_size() <= 300
    assert bpe.train([text], 300, lambda read: None).to_str() == tokenizer.to_str()


def test_what_report_raises_ends_the_training() -> None:
    ended = threading.Event()

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "the cat sat on the mat"
        finally:
            ended.set()

    def report(read: int) -> None:
        if read:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bpe.train(endless(), 300, report)
    assert ended.wait(60)


def test_what_reading_raises_is_raised_to_the_caller() -> None:
    def broken() -> Iterator[str]:
        yield "some text"
        raise ValueError("a.jsonl line 2 is not JSON")

    with pytest.raises(ValueError, match=r"a\.jsonl line 2 is not JSON"):
        bpe.train(broken(), 300, lambda read: None)


def test_waiting_ends_at_its_limit() -> None:
    assert in_thread(lambda: 3) == 3
    gate = threading.Event()
    with pytest.raises(TimeoutError, match="no answer in 0 s"):
        in_thread(gate.wait, limit_s=0.2)
    gate.set()
