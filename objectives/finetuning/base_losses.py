"""Losses of bases on the fixed samples, many bases as lanes of one program.

G bases, N sequences of T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from objectives import row_errors
from objectives.data import tokenize
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.training import batch, evaluation, out_of_memory
from objectives.training.lanes import LaneModel
from objectives.training.runtime import Runtime

Trained = tuple[PretrainJob, BaseModel]


BaseLosses = tuple[dict[str, float], dict[str, list[float]]]
"""Losses by their names, and of each sequence, or of groups of them."""


UNPAIRED = ("curve_loss",)
"""Losses that no metric is made of, so that their sequences are not kept."""


def base_losses(
    program: LaneModel, bases: Sequence[Trained], corpus: TokenDataset, runtime: Runtime
) -> list[BaseLosses]:
    """Nats a token by the names of `measured.LOSSES`, and the same by sequence; one a base.

    Raises:
        MemoryError: a single base does not fit.
    """
    recipe = bases[0][0].recipe
    pre, device = recipe.pretrain, bases[0][0].device
    sizes: dict[str, tuple[tokenize.Split, int]] = {
        "base_loss": ("validation", pre.eval_tokens),
        "curve_loss": ("validation", pre.curve_tokens),
        "train_loss": ("train", pre.eval_tokens),
        "sample_loss": ("validation", recipe.probes.forgetting_tokens),
    }
    samples = {
        name: corpus.sample(split, tokens, pre.seq_len)
        for name, (split, tokens) in sizes.items()
        if tokens
    }
    found: list[BaseLosses] = []

    def score(some: Sequence[Trained]) -> None:
        stacked = batch.stack([base.params for _, base in some])
        lanes = evaluation.Lanes(program, {name: p.to(device) for name, p in stacked.items()})
        scored = {name: evaluation.sequence_losses(lanes, ids) for name, ids in samples.items()}
        second = _second_losses(lanes, [job for job, _ in some])
        for lane in range(len(some)):
            own = {name: (loss_G[lane], y_GN[lane]) for name, (loss_G, y_GN) in scored.items()}
            own |= second[lane]
            losses = {name: float(loss) for name, (loss, _) in own.items()}
            rows = {n: row_errors.grouped(y_N) for n, (_, y_N) in own.items() if n not in UNPAIRED}
            found.append((losses, rows))

    out_of_memory.in_chunks(bases, runtime.most_lanes, score)
    return found


def _second_losses(
    lanes: evaluation.Lanes, jobs: Sequence[PretrainJob]
) -> list[dict[str, tuple[float, row_errors.Array]]]:
    """Loss of each lane on the validation text of its job's second phase, nats a token.

    Over all sequences and of each.
    """
    found: list[dict[str, tuple[float, row_errors.Array]]] = [{} for _ in jobs]
    for text in {job.second.key: job.second for job in jobs if job.second is not None}.values():
        pre = jobs[0].recipe.pretrain
        sample = text.sample("validation", pre.eval_tokens, pre.seq_len)
        loss_K, loss_KN = evaluation.sequence_losses(lanes, sample)
        for lane, job in enumerate(jobs):
            if job.second is not None and job.second.key == text.key:
                found[lane] = {"mid_loss": (float(loss_K[lane]), loss_KN[lane])}
    return found
