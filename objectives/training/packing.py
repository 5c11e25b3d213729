"""Rows of different length in one line of tokens, without padding.

Rows of a fine-tuning batch differ much in length; padded to the longest, a third of the work is
done for nothing. Here the rows of a batch are one behind the other, and everything in the model
that treats tokens one by one sees no padding. Attention takes the line apart into rows and puts it
together again (`objectives.models.attention`). Rows that begin alike, as the labels of one question
do, share their beginning: it is computed once.

1. `pack` lays rows out. A token's place is its position in its own row, for position embeddings.
2. Every line ends with one token that belongs to no row, and every row in the taken-apart form has
   at least one place that no token needs. Each represents padding in the other form. Nothing that
   counts depends on them, so no gradient flows through them, and each form's gradient is the
   other's taken at the same places.

R rows, T places of the longest row and one more, L tokens of the line, C counted targets of a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from objectives.data.tasks import Encoded, num_tokens
from objectives.models import causal_lm
from objectives.training import out_of_memory
from objectives.training.batch import Layout, TokenBatch
from objectives.training.lanes import LaneModel

Ints = NDArray[np.int64]


TRIED_ROWS, SHORT = 8, (4, 1, 6, 2, 3)


ALIKE = 1e-3
"""Nats by which a packed row's loss may differ from its own; assumed. Rounding gives 1e-6, a model
that lets rows see each other 1e-2 and more."""


def batch_of(
    rows: Encoded,
    picked: Ints,
    device: str | torch.device,
    *,
    packed: bool,
    prefix_group_size: int = 1,
) -> TokenBatch:
    """These rows [R], or each lane's own [A, R], as a batch: packed, or padded to the longest."""
    if packed:
        return pack(rows, picked, device, prefix_group_size=prefix_group_size)
    width = rows.width(picked.ravel())
    parts = (rows.ids[picked][..., : width + 1], rows.positions[picked], rows.weights[picked])
    ids, positions, weights = (torch.from_numpy(part).to(device) for part in parts)
    return TokenBatch(ids, positions, weights)


def works(module: nn.Module, params: Mapping[str, Tensor], rows: Encoded) -> bool:
    """Whether rows in a line leave each other alone in this model; `params` [K, ...] by name.

    Tried, as no list of models tells: some take no positions, some mix tokens elsewhere than in
    attention. At weights as they are, and on short rows at uneven ones with every token counted: a
    fresh model's convolutions and states carry too little from row to row to be seen, and do not
    reach far.
    """
    if "position_ids" not in inspect.signature(module.forward).parameters:
        return False
    one = {name: p[:1] for name, p in params.items()}
    picked = np.arange(min(TRIED_ROWS, len(rows.ids)))
    short = _short_rows(int(rows.ids.max()))
    return _packs(module, one, rows, picked) and _packs(
        module, causal_lm.spread(one, 0), short, np.arange(len(short.ids))
    )


def _packs(module: nn.Module, one: Mapping[str, Tensor], rows: Encoded, picked: Ints) -> bool:
    """Whether each of these rows scores in a line as it does alone."""
    program = LaneModel(module)
    device = next(iter(one.values())).device
    try:
        padded, line = (
            program.scores(one, None, batch_of(rows, picked, device, packed=packed))[0]
            for packed in (False, True)
        )
    except Exception as error:  # of a model's own code, on what it does not expect
        if out_of_memory.is_out_of_memory(error):
            raise
        return False
    return bool(torch.allclose(padded, line, rtol=ALIKE / 10, atol=ALIKE))


def _short_rows(largest: int) -> Encoded:
    """Rows of random tokens, all of which count."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, largest + 1, (len(SHORT), max(SHORT) + 1))
    positions = np.broadcast_to(np.arange(max(SHORT)), (len(SHORT), max(SHORT)))
    counted = positions < np.array(SHORT)[:, None]
    return Encoded(ids, np.where(counted, positions, 0), counted.astype(np.float32))


def pack(
    rows: Encoded, picked: Ints, device: str | torch.device, *, prefix_group_size: int = 1
) -> TokenBatch:
    """These rows as a packed batch; `picked` [R], or [A, R] for A lanes with rows of their own.

    `prefix_group_size`: so many consecutive rows at a time begin alike. They share that beginning,
    which is for scoring only: no gradient is right through a shared one.
    """
    each = [_Line.of(rows, some, prefix_group_size) for some in np.atleast_2d(picked)]
    width = max(line.mask.shape[1] for line in each)
    length = max(len(line.back) for line in each) + 1
    parts = [line.arrays(width, length) for line in each]
    shape = (len(each),) if picked.ndim == 2 else ()
    ids, places, back, forth, positions, targets, weights = (
        torch.from_numpy(np.stack(part).reshape(*shape, *part[0].shape)).to(device)
        for part in zip(*parts, strict=True)
    )
    return TokenBatch(ids, positions, weights, targets, Layout(places, forth, back))


class _Line:
    """One line, before it is filled up to the longest of the lanes."""

    def __init__(self, rows: Encoded, picked: Ints, shared_R: Ints, first_R: Ints) -> None:
        self.rows, self.picked = rows, picked
        lengths_R = num_tokens(rows, picked)
        place_T = np.arange(lengths_R.max() + 1)
        self.mask = place_T < lengths_R[:, None]
        first = first_R == np.arange(len(picked))
        own_RT = self.mask & (first[:, None] | (place_T >= shared_R[:, None]))
        # where each row's tokens are in the line; those of a shared beginning with the first row
        index_RT = own_RT.reshape(-1).cumsum().reshape(own_RT.shape) - 1
        self.index = np.where(own_RT, index_RT, index_RT[first_R])
        self.back = np.argwhere(own_RT)

    @staticmethod
    def of(rows: Encoded, picked: Ints, prefix_group_size: int) -> _Line:
        first_R = np.arange(len(picked)) // prefix_group_size * prefix_group_size
        if prefix_group_size == 1:
            return _Line(rows, picked, np.zeros(len(picked), np.int64), first_R)
        ids = rows.ids[picked]
        same_RT = np.logical_and.accumulate(ids == ids[first_R], axis=1).sum(1)
        least = np.minimum.reduceat(same_RT, np.arange(0, len(picked), prefix_group_size))
        shared = np.minimum(least[first_R // prefix_group_size], num_tokens(rows, picked))
        return _Line(rows, picked, shared, first_R)

    def arrays(self, width: int, length: int) -> tuple[NDArray[np.generic], ...]:
        """Ids, places, back, forth, positions, targets, weights for this width and length."""
        rows, picked, line = self.rows, self.picked, len(self.back)
        nothing = length - 1
        row, place = self.back.T
        fill = np.zeros(length - line, np.int64)
        ids = np.concatenate([rows.ids[picked][row, place], fill])
        # every row has room behind its tokens; what belongs to no row is there in the first
        spare = int(self.mask[0].sum())
        back = np.concatenate([row * width + place, fill + spare])
        forth = np.full((len(picked), width), nothing)
        forth[:, : self.mask.shape[1]] = np.where(self.mask, self.index, nothing)
        positions = np.take_along_axis(forth, rows.positions[picked], axis=1)
        targets = np.take_along_axis(rows.ids[picked], rows.positions[picked] + 1, axis=1)
        places = np.concatenate([place, fill])
        return ids[None], places[None], back[None], forth, positions, targets, rows.weights[picked]
