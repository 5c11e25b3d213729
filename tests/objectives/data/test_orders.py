"""Orders of texts and rows: each is drawn once an epoch, for any number of seeds and sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from objectives.data import orders
from objectives.data.orders import Orders, pattern, shuffled
from objectives.data.token_dataset import TokenDataset
from tests.objectives import toy


def test_orders_kept_are_those_drawn() -> None:
    kept = Orders()
    for epoch in (0, 0, 1, 0, 2):
        for seed, source, phase in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
            found = kept.of(seed, source, epoch, 20, phase)
            assert (found == shuffled(seed, source, epoch, 20, phase)).all()
            assert sorted(found) == list(range(20))


def test_seeds_sources_epochs_and_phases_have_orders_of_their_own() -> None:
    drawn = [
        shuffled(seed, source, epoch, 50, phase).tolist()
        for seed in range(2) for source in range(2) for epoch in range(2) for phase in range(2)
    ]  # fmt: skip
    assert len({tuple(each) for each in drawn}) == len(drawn)


def test_the_source_of_each_slot_follows_the_pattern_and_counts_on() -> None:
    kept, weights = Orders(), (3.0, 1.0)
    found = [kept.source_of(5, slot, weights, 1) for slot in range(2 * orders.BLOCK)]
    both = np.concatenate([pattern(5, block, weights, 1) for block in range(2)])
    assert [source for source, _ in found] == both.tolist()
    for source in range(2):
        nth = [index for which, index in found if which == source]
        assert nth == list(range(len(nth)))


def test_many_seeds_and_sources_draw_each_order_once(
    toy_corpus: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, ...]] = []
    patterns: list[int] = []

    def counted(*given: int) -> orders.Ids:
        drawn.append(given)
        return shuffled(*given)

    def counted_pattern(
        seed: int, block: int, weights: tuple[float, ...], phase: int
    ) -> orders.Ids:
        patterns.append(seed)
        return pattern(seed, block, weights, phase)

    monkeypatch.setattr(orders, "shuffled", counted)
    monkeypatch.setattr(orders, "pattern", counted_pattern)
    text = replace(toy_corpus, train=toy_corpus.train * 2, weights=(1.0, 1.0))
    kept, seeds = Orders(), range(100)
    for step in range(3):
        for seed in seeds:
            text.batch(seed, step, 4, toy.SEQ_LEN, orders=kept)
    assert len(drawn) == len(set(drawn)) <= 2 * len(seeds)
    assert sorted(patterns) == list(seeds)
