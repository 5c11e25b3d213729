"""What each step of a run of lanes trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from objectives.data.orders import Orders
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm, draws
from objectives.pretraining.job import PretrainJob
from objectives.training import batch
from objectives.training.process_group import ALONE, ProcessGroup


def batches(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    device: str,
    starts: Sequence[int] | None = None,
    ranks: ProcessGroup = ALONE,
) -> Callable[[int], batch.TokenBatch]:
    """Shared rows where all lanes have one seed, text and position, else each lane's own.

    `starts`: the step of its own run at which each lane is at step 0; 0 without. Of several ranks
    each takes its share of the rows, and draws its own dropout where the model has it.
    """
    pre = jobs[0].recipe.pretrain
    drops = causal_lm.has_dropout(causal_lm.build_config(jobs[0].recipe.model, corpus.vocab_size))
    orders = Orders()

    def batch_at(step: int) -> batch.TokenBatch:
        # the same whatever was drawn before, and whichever lanes run together
        draw = draws.generator(step * ranks.count + ranks.rank, device) if drops else None
        rows: dict[Any, NDArray[np.int64]] = {}
        wanted = []
        for job, start in zip(jobs, starts or [0] * len(jobs), strict=True):
            text, at, phase = job.text_at(corpus, start + step)
            wanted.append((text.key, text.weights, job.seed, at, phase))
            if wanted[-1] not in rows:
                rows[wanted[-1]] = text.batch(
                    job.seed, at, pre.batch_size, pre.seq_len, phase=phase, orders=orders
                )
        ids = rows[wanted[0]] if len(rows) == 1 else np.stack([rows[each] for each in wanted])
        whole = batch.TokenBatch(torch.from_numpy(ids).to(device), draw=draw)
        return whole.split(ranks.count)[ranks.rank]

    return batch_at
