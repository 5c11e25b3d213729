"""The corpus: split, tokens kept once, batches as a pure function of seed and step."""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from objectives.config.data import Corpus as Recipe
from objectives.config.data import Files
from objectives.data import bpe, sources, token_dataset, tokenize
from objectives.data.orders import BLOCK
from objectives.data.token_dataset import TokenDataset
from objectives.store.store import Store
from tests.objectives import toy

T = toy.SEQ_LEN


def of_files(*paths: Path, **given: object) -> Recipe:
    found = tuple(Files(paths=(str(path),)) for path in paths)
    return Recipe(
        **{"sources": found, "vocab_size": toy.VOCAB, "validation_frac": 0.2, **given}  # type: ignore[arg-type]
    )


def text_of(corpus: TokenDataset, row: np.ndarray) -> list[str]:
    """The documents of a row of tokens."""
    whole = corpus.tokenizer.decode(row.tolist())
    return [document for document in whole.split(bpe.END) if document]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return toy.write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in toy.text(60)])


def test_every_document_is_in_exactly_one_split(file: Path, tmp_path: Path) -> None:
    found = token_dataset.prepare(of_files(file), T, Store(tmp_path / "store"))
    train, validation = text_of(found, found.train[0]), text_of(found, found.validation)
    assert sorted(train + validation) == sorted(toy.text(60))
    assert not set(train) & set(validation)
    assert 4 < len(validation) < 24
    assert found.bytes_per_token == pytest.approx(
        sum(len(text.encode()) for text in validation) / len(found.validation)
    )


def test_the_same_document_in_two_sources_falls_into_one_split(file: Path, tmp_path: Path) -> None:
    other = toy.write_jsonl(tmp_path / "b.jsonl", [{"text": t} for t in toy.text(60)[::-1]])
    found = token_dataset.prepare(of_files(file, other), T, Store(tmp_path / "store"))
    train = {text for row in found.train for text in text_of(found, row)}
    assert not train & set(text_of(found, found.validation))


def test_a_validation_text_is_validated_on_whole_and_trained_on_nowhere(
    file: Path, tmp_path: Path
) -> None:
    own, shared = ["another text to validate on"] * 5, toy.text(60)[:10]
    held = toy.write_jsonl(tmp_path / "held.jsonl", [{"text": each} for each in own + shared])
    recipe = of_files(file, validation=Files(paths=(str(held),)), validation_frac=0.9)
    store = Store(tmp_path / "store")
    found = token_dataset.prepare(recipe, T, store)
    assert text_of(found, found.validation) == own + shared
    assert sorted(text_of(found, found.train[0])) == sorted(toy.text(60)[10:])
    (note,) = found.notes
    assert note.endswith("left out as validation has them: 10")
    same = replace(recipe, validation_frac=0.1)  # not used then
    assert token_dataset.prepare(same, T, store).key == found.key
    assert [each.key for each in token_dataset.stored(recipe, T, store)] == [found.key]
    toy.write_jsonl(held, [{"text": each} for each in own])
    assert token_dataset.prepare(recipe, T, store).key != found.key


def test_the_split_does_not_depend_on_the_rest_of_the_corpus(file: Path, tmp_path: Path) -> None:
    whole = token_dataset.prepare(of_files(file), T, Store(tmp_path / "store"))
    fewer = toy.write_jsonl(tmp_path / "b.jsonl", [{"text": t} for t in toy.text(60)[20:]])
    some = token_dataset.prepare(of_files(fewer), T, Store(tmp_path / "store"))
    assert set(text_of(some, some.validation)) <= set(text_of(whole, whole.validation))
    assert set(text_of(some, some.train[0])) <= set(text_of(whole, whole.train[0]))


def test_the_tokenizer_gives_any_text_back(toy_corpus: TokenDataset) -> None:
    assert toy_corpus.vocab_size == toy.VOCAB
    for text in ("the cat sat", "Grüße, 世界 \t\n", "x = {'a': [1, 2]}", " "):
        (ids,) = tokenize.encode(toy_corpus.tokenizer, [text])
        assert toy_corpus.tokenizer.decode(ids) == text


def test_a_batch_is_a_pure_function_of_seed_and_step(toy_corpus: TokenDataset) -> None:
    steps = [toy_corpus.batch(3, step, 4, T) for step in range(30)]
    for step in (29, 0, 7, 7):
        assert (toy_corpus.batch(3, step, 4, T) == steps[step]).all()
    assert steps[0].shape == (4, T + 1)
    assert steps[0].dtype == np.int64
    assert any((toy_corpus.batch(4, step, 4, T) != steps[step]).any() for step in range(3))


def test_batches_of_another_size_walk_the_same_sequences(toy_corpus: TokenDataset) -> None:
    small = np.concatenate([toy_corpus.batch(0, step, 3, T) for step in range(8)])
    large = np.concatenate([toy_corpus.batch(0, step, 12, T) for step in range(2)])
    assert (small == large).all()


def test_an_epoch_holds_every_sequence_once_in_an_order_of_its_own(
    toy_corpus: TokenDataset,
) -> None:
    row = toy_corpus.train[0]
    count = (row.size - 1) // T
    expected = Counter(tuple(row[i * T : (i + 1) * T + 1].tolist()) for i in range(count))
    sequences = [tuple(toy_corpus.batch(1, slot, 1, T)[0].tolist()) for slot in range(2 * count)]
    first, second = sequences[:count], sequences[count:]
    assert Counter(first) == Counter(second) == expected
    assert first != second
    assert toy_corpus.epochs(2 * count * T, T) == pytest.approx(2.0)


def with_weights(rows: list[int], weights: tuple[float, ...]) -> TokenDataset:
    """A corpus whose source s holds only the token s."""
    train = tuple(np.full(size * T + 1, s, np.uint16) for s, size in enumerate(rows))
    return TokenDataset(
        key="k",
        tokenizer=None,  # type: ignore[arg-type]
        tokenizer_key="t",
        train=train,
        weights=weights,
        validation=np.zeros(T + 1, np.uint16),
        bytes_per_token=1.0,
    )


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ((1.0, 1.0), [500, 500]),
        ((3.0, 1.0), [750, 250]),
        ((0.7, 0.2, 0.1), [700, 200, 100]),
        ((2.0, 2.0, 2.0), [333, 334, 333]),
        ((1e-9, 1.0), [0, 1000]),
    ],
)
def test_weights_are_met_exactly_in_every_block(
    weights: tuple[float, ...], counts: list[int]
) -> None:
    found = with_weights([5] * len(weights), weights)
    for block in range(2):
        drawn = found.batch(0, block, BLOCK, T)[:, 0]
        assert np.bincount(drawn, minlength=len(weights)).tolist() == counts


def test_a_mixture_walks_through_each_source_before_it_repeats() -> None:
    found = with_weights([40, 1000], (1.0, 3.0))
    rows = tuple(
        np.arange(size * T + 1, dtype=np.uint32) + 100_000 * s for s, size in enumerate([40, 1000])
    )
    found = replace(found, train=rows)
    drawn = found.batch(5, 0, 1200, T)[:, 0]
    first = [int(x) for x in drawn if x < 100_000]
    assert len(first) > 200
    for epoch in (first[at : at + 40] for at in range(0, len(first), 40)):
        assert len(set(epoch)) == len(epoch)
    assert found.epochs(160 * T, T) == pytest.approx(1.0)


def test_samples_are_fixed_evenly_spread_and_of_their_split(toy_corpus: TokenDataset) -> None:
    for split, row in (("train", toy_corpus.train[0]), ("validation", toy_corpus.validation)):
        sample = toy_corpus.sample(split, 5 * T, T)  # type: ignore[arg-type]
        assert sample.shape == (5, T + 1)
        assert (sample == toy_corpus.sample(split, 5 * T, T)).all()  # type: ignore[arg-type]
        windows = np.lib.stride_tricks.sliding_window_view(row, T + 1)[::T]
        places = [int(np.flatnonzero((windows == one).all(1))[0]) for one in sample]
        assert places == sorted(set(places))
        assert places[0] == 0
        assert places[-1] == len(windows) - 1
    everything = toy_corpus.sample("validation", 10**9, T)
    assert len(everything) == (toy_corpus.validation.size - 1) // T


def test_tokens_come_from_the_store_the_second_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    first = token_dataset.prepare(of_files(file), T, store)

    def no_reading(source: object) -> Iterator[str]:
        raise AssertionError("the text was read again")

    monkeypatch.setattr(sources, "documents", no_reading)
    second = token_dataset.prepare(of_files(file), T, store)
    assert second.key == first.key
    assert (second.train[0] == first.train[0]).all()
    assert second.bytes_per_token == first.bytes_per_token


def test_the_key_follows_content_split_and_vocabulary(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    key = token_dataset.prepare(of_files(file), T, store).key
    renamed = shutil.copy(file, tmp_path / "other.jsonl")
    assert token_dataset.prepare(of_files(Path(renamed)), T, store).key == key
    assert token_dataset.prepare(of_files(file), T // 2, store).key == key
    assert token_dataset.prepare(of_files(file, vocab_size=299), T, store).key != key
    assert token_dataset.prepare(of_files(file, validation_frac=0.3), T, store).key != key
    with file.open("a") as lines:
        lines.write('{"text": "one more"}\n')
    assert token_dataset.prepare(of_files(file), T, store).key != key


def test_a_damaged_token_file_is_made_again(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = token_dataset.prepare(of_files(file), T, store)
    expected = np.array(first.train[0])
    (entry,) = (tmp_path / "store" / "tokens").iterdir()
    content = bytearray((entry / "train-0.bin").read_bytes())
    content[3] ^= 1
    (entry / "train-0.bin").write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="damaged"):
        again = token_dataset.prepare(of_files(file), T, store)
    assert (again.train[0] == expected).all()


def test_a_tokenizer_folder_is_used_as_it_is(
    toy_corpus: TokenDataset, file: Path, tmp_path: Path
) -> None:
    toy_corpus.tokenizer.save_pretrained(tmp_path / "tokenizer")
    store = Store(tmp_path / "store")
    given = of_files(file, tokenizer=str(tmp_path / "tokenizer"))
    found = token_dataset.prepare(given, T, store)
    assert found.tokenizer.get_vocab() == toy_corpus.tokenizer.get_vocab()
    assert not (tmp_path / "store" / "tokenizer").exists()
    with pytest.raises(ValueError, match=r"^corpus\.tokenizer '.*' cannot be read[^\n]*$"):
        token_dataset.prepare(of_files(file, tokenizer=str(tmp_path / "none")), T, store)


def test_a_corpus_without_text_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = toy.write_jsonl(tmp_path / "a.jsonl", [{"text": " "}, {"text": ""}])
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError, match=r"^corpus\.sources\.0 \(files\) holds no text"):
        token_dataset.prepare(of_files(path), T, store)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"holds no text"):
        token_dataset.prepare(of_files(tmp_path / "empty.jsonl"), T, store)
    assert list((tmp_path / "store" / "partial").iterdir()) == []


def test_a_second_source_without_text_is_named(file: Path, tmp_path: Path) -> None:
    empty = toy.write_jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(ValueError, match=r"^corpus\.sources\.1 \(files\) holds no text"):
        token_dataset.prepare(of_files(file, empty), T, Store(tmp_path / "store"))


def test_a_split_smaller_than_a_sequence_says_what_to_change(tmp_path: Path) -> None:
    path = toy.write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in toy.text(3)])
    with pytest.raises(ValueError, match=r"fewer than one sequence of 5000; give more text"):
        token_dataset.prepare(of_files(path), 5000, Store(tmp_path / "store"))
    with pytest.raises(ValueError, match=r"^validation of corpus holds 0 tokens"):
        token_dataset.prepare(of_files(path, validation_frac=1e-9), T, Store(tmp_path / "store"))


def test_text_that_changes_while_it_is_read_is_not_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is as before in the end: what was read between is not what the key says."""
    store = Store(tmp_path / "store")
    content, times = file.read_bytes(), file.stat()
    other = content.replace(b"cat", b"cow")
    fingerprint = sources.fingerprint

    def and_then_changed(source: Files) -> list[object]:
        found = fingerprint(source)
        file.write_bytes(other)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        return found

    def changing_back(source: Files, *counts: object) -> Iterator[str]:
        yield from documents(source, *counts)  # type: ignore[arg-type]
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    documents = sources.documents
    for named, tokenizer in (("trained", None), ("given", str(tmp_path / "tokenizer"))):
        given = of_files(file, tokenizer=tokenizer)
        if named == "trained":
            first = token_dataset.prepare(given, T, Store(tmp_path / "first"))
            first.tokenizer.save_pretrained(tmp_path / "tokenizer")
        with monkeypatch.context() as patched:
            patched.setattr(sources, "fingerprint", and_then_changed)
            patched.setattr(sources, "documents", changing_back)
            with pytest.raises(ValueError, match=r"a\.jsonl was changed while it was read"):
                token_dataset.prepare(given, T, store)
    again = token_dataset.prepare(of_files(file), T, store)
    assert (again.train[0] == first.train[0]).all()


def test_notes_on_the_text_are_kept_with_its_tokens(tmp_path: Path) -> None:
    rows = [{"text": text} for text in toy.text(60)] + [{"text": None}, {"text": "x \ud83d"}]
    path = toy.write_jsonl(tmp_path / "a.jsonl", rows)
    store = Store(tmp_path / "store")
    for _ in range(2):
        assert token_dataset.prepare(of_files(path), T, store).notes == (
            "corpus.sources.0: rows left out as they have no text: 1",
            "corpus.sources.0: documents with half a surrogate pair, read as U+FFFD: 1",
        )


def test_a_corpus_of_one_document_says_that_it_cannot_be_split(tmp_path: Path) -> None:
    path = toy.write_jsonl(tmp_path / "a.jsonl", [{"text": " ".join(toy.text(60))}])
    with pytest.raises(
        ValueError, match=r"none of the 1 documents, each .*: give more and shorter"
    ):
        token_dataset.prepare(of_files(path), T, Store(tmp_path / "store"))


def test_what_cannot_be_split_is_refused_before_it_is_tokenized_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Of corpora of a few documents; where tokens are enough, their bytes are."""
    outcomes = Counter[tuple[bool, bool]]()
    for count, words, share in itertools.product((1, 2, 6, 30), (2, 40), (0.05, 0.5)):
        rows = [{"text": " ".join([str(n), *toy.WORDS * 3][:words])} for n in range(count)]
        path = toy.write_jsonl(tmp_path / f"{count}-{words}.jsonl", rows)
        corpus, problems = of_files(path, validation_frac=share), []
        for attempt in (
            lambda c=corpus: tokenize.check_splits(c, T),
            lambda c=corpus: token_dataset.prepare(c, T, Store(tmp_path / "store")),
        ):
            try:
                attempt()
                problems.append("")
            except ValueError as error:
                problems.append(str(error))
        before, after = problems
        outcomes[bool(before), bool(after)] += 1
        if "none of the" in after:
            assert before == after
    assert not outcomes[True, False]
    assert outcomes[True, True] >= 4
    assert outcomes[False, False] >= 4


@pytest.mark.parametrize("end", ["<eos>", "</s>", "<|im_end|>", "<end>"])
def test_a_tokenizer_json_alone_ends_texts_with_a_usual_token(
    end: str, file: Path, tmp_path: Path
) -> None:
    """Whether the file itself is named or its folder."""
    trained = token_dataset.prepare(of_files(file), T, Store(tmp_path / "store")).tokenizer
    (tmp_path / "t").mkdir()
    rules = trained.backend_tokenizer.to_str().replace(bpe.END, end)
    (tmp_path / "t" / "tokenizer.json").write_text(rules)
    for name in ("t", "t/tokenizer.json"):
        if end == "<end>":
            with pytest.raises(ValueError, match="has no end-of-text token; name one as eos_token"):
                tokenize.load_tokenizer(str(tmp_path / name))
        else:
            assert tokenize.load_tokenizer(str(tmp_path / name)).eos_token == end


@pytest.mark.parametrize("split", [False, True])
def test_ids_alone_are_those_that_transformers_gives(
    split: bool, file: Path, tmp_path: Path
) -> None:
    tokenizer = token_dataset.prepare(of_files(file), T, Store(tmp_path / "store")).tokenizer
    tokenizer.split_special_tokens = split
    texts = [*toy.text(5), "", f"a{bpe.END}b", "\u00e4\U0001f600 \n\t x", "one"]
    expected = tokenizer(texts, add_special_tokens=False)["input_ids"]
    tokenizer.backend_tokenizer.enable_truncation(3)  # as its file may say
    tokenizer.backend_tokenizer.enable_padding()
    assert tokenize._is_plain(tokenizer)
    assert tokenize.encode(tokenizer, texts) == expected
    assert tokenize.encode(tokenizer, []) == []


def test_a_tokenizer_with_code_of_its_own_is_called(file: Path, tmp_path: Path) -> None:
    class Shouting(PreTrainedTokenizerFast):
        def _encode_plus(self, text: list[str], **given: Any) -> Any:  # type: ignore[override]
            return super()._encode_plus([each.upper() for each in text], **given)

    trained = token_dataset.prepare(of_files(file), T, Store(tmp_path / "store")).tokenizer
    shouting = Shouting(tokenizer_object=trained.backend_tokenizer)
    assert tokenize.encode(shouting, ["a cat"]) == tokenize.encode(trained, ["A CAT"])
