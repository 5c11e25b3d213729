"""In which order a run reads its texts and rows: pure functions of seed, epoch and slot.

Which source a slot reads follows a pattern that meets the sources' weights exactly every BLOCK
slots; each source is read in a new random order each epoch. `Orders` keeps what one program is
reading, so that an order is drawn once an epoch however many seeds and sources there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 1000
"""Slots over which the sources' weights are met exactly."""


Ids = NDArray[np.int64]


def shuffled(seed: int, source: int, epoch: int, count: int, phase: int = 0) -> Ids:
    """The order of a source's `count` items in an epoch; each phase of a run has its own."""
    return _generator(seed, source, epoch, phase=phase).permutation(count)


def pattern(seed: int, block: int, weights: tuple[float, ...], phase: int = 0) -> Ids:
    """The source of each slot of a block; [BLOCK]."""
    ends = np.round(np.cumsum(weights) / sum(weights) * BLOCK).astype(int)
    counts = np.diff(ends, prepend=0)
    sources = np.repeat(np.arange(len(weights)), counts)
    return _generator(seed, block, phase=phase).permutation(sources)


class Orders:
    """The orders that a program reads by, the latest epoch and block of each seed and source.

    What it gives must not be changed in place.
    """

    def __init__(self) -> None:
        self._epochs: dict[tuple[int, int, int, int], tuple[int, Ids]] = {}
        self._blocks: dict[tuple[int, tuple[float, ...], int], tuple[int, Ids]] = {}

    def of(self, seed: int, source: int, epoch: int, count: int, phase: int = 0) -> Ids:
        """As `shuffled`."""
        key = seed, source, count, phase
        known = self._epochs.get(key)
        if known is None or known[0] != epoch:
            known = epoch, shuffled(seed, source, epoch, count, phase)
            self._epochs[key] = known
        return known[1]

    def source_of(
        self, seed: int, slot: int, weights: tuple[float, ...], phase: int = 0
    ) -> tuple[int, int]:
        """Which source the slot-th sequence comes from, and its index within that source."""
        if len(weights) == 1:
            return 0, slot
        block, place = divmod(slot, BLOCK)
        sources = self._pattern(seed, block, weights, phase)
        source = int(sources[place])
        a_block = int((sources == source).sum())
        return source, block * a_block + int((sources[:place] == source).sum())

    def _pattern(self, seed: int, block: int, weights: tuple[float, ...], phase: int) -> Ids:
        key = seed, weights, phase
        known = self._blocks.get(key)
        if known is None or known[0] != block:
            known = block, pattern(seed, block, weights, phase)
            self._blocks[key] = known
        return known[1]


def _generator(*parts: int, phase: int) -> np.random.Generator:
    """The first phase's is that of runs with one phase."""
    return np.random.default_rng([*parts, phase] if phase else [*parts])
