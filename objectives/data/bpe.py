"""A byte-level BPE trained on text, in time that grows with the text, whatever is in it.

Training merges within words, as the byte-level rule cuts them, and its time grows with the square
of the longest one. Text without spaces (DNA, base64, some scripts, packed code) can be one word of
a megabyte, so a word is trained on in parts of CUT characters. No word of ordinary text is as long
(of the standard library's 8 MB the longest has 93 bytes), and such text gives the same merges as
without. Encoding needs no cut: its time grows with n log n.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from objectives.waiting import in_thread

END = "<|endoftext|>"


CUT = 1000
"""Characters of a word that are trained on together. Measured on 400,000 letters in one word, one
thread: 0.2 s at 1,000, 0.7 s at 4,000; uncut, 50,000 letters take 1 s and 100,000 four times it."""


_MAYBE_LONG = re.compile(rf"\S{{{CUT}}}|\s{{{CUT}}}")


def train(texts: Iterable[str], vocab_size: int, report: Callable[[int], None]) -> Tokenizer:
    """A tokenizer of the texts; `report` is told how many characters were read.

    Signals are heard meanwhile, and an exception that `report` raises ends the work.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _words()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    read, stopped = 0, False

    def fed() -> Iterator[str]:
        nonlocal read
        for text in texts:
            if stopped:
                return
            read += len(text)
            yield from parts(text)

    try:
        in_thread(lambda: tokenizer.train_from_iterator(fed(), trainer), lambda: report(read))
    finally:
        stopped = True
    return tokenizer


def parts(text: str) -> Iterator[str]:
    """The text, cut within words of more than CUT characters and nowhere else."""
    start = 0
    if _MAYBE_LONG.search(text):
        for _, (first, last) in _words().pre_tokenize_str(text):
            for cut in range(first + CUT, last, CUT):
                yield text[start:cut]
                start = cut
    yield text[start:]


def _words() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)
