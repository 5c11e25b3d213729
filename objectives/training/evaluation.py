"""Scores of K lanes: loss on token sequences, and a task's loss and metric.

Exact match of the greedy answer needs no generation: the greedy answer equals the reference exactly
when, given the reference up to each point, the next reference token is the argmax. If that holds
everywhere, greedy decoding walks along the reference by induction; at the first place where it does
not, greedy decoding leaves it. So one teacher-forced pass decides it.

K lanes, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from objectives.data.tasks import Encoded, Task, num_tokens
from objectives.models.double_precision import in_double
from objectives.training import packing
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel

ROWS, TASK_ROWS = 32, 64
"""Rows of an evaluation batch, of text and of a task, where only completions need logits. Fixed, so
that a score does not depend on the number of lanes."""


@dataclass(frozen=True)
class Lanes:
    """Lanes to be scored: a program and its parameters."""

    program: LaneModel
    params: Mapping[str, Tensor]
    frozen: Mapping[str, Tensor] | None = None
    packed: bool = False
    """Whether a task's rows go through in lines; see `objectives.training.packing`."""

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(iter(self.params.values())).device


@dataclass(frozen=True)
class TaskScores:
    """A task's scores on its test rows."""

    score_K: NDArray[np.float64]
    """The task's metric in [0, 1]."""
    loss_K: NDArray[np.float64]
    """Nats a completion token."""
    right_KN: NDArray[np.bool_]
    """Whether each row is right; `score_K` is its mean."""
    loss_KN: NDArray[np.float64]
    """What each row adds to `loss_K`, its mean: a ratio of sums, linearised in its rows."""


def mean_loss(lanes: Lanes, ids_NT1: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nats a token over the sequences; [K]."""
    return sequence_losses(lanes, ids_NT1)[0]


def sequence_losses(
    lanes: Lanes, ids_NT1: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nats a token over all sequences, [K], and over each, [K, N]."""
    nats = [
        lanes.program.scores(
            lanes.params, lanes.frozen, TokenBatch(torch.from_numpy(rows).to(lanes.device))
        )[0]
        for rows in (ids_NT1[start : start + ROWS] for start in range(0, len(ids_NT1), ROWS))
    ]
    nats_KN = in_double(torch.cat(nats, 1))
    total_K: NDArray[np.float64] = nats_KN.sum(1).cpu().numpy()
    each_KN: NDArray[np.float64] = nats_KN.cpu().numpy() / (ids_NT1.shape[1] - 1)
    return total_K / ids_NT1[:, 1:].size, each_KN


def completion_loss(lanes: Lanes, rows: Encoded) -> NDArray[np.float64]:
    """Nats a completion token over the rows; [K]."""
    nats_KN, _ = _scores(lanes, rows)
    loss_K: NDArray[np.float64] = nats_KN.sum(1) / rows.weights.sum()
    return loss_K


def task_scores(lanes: Lanes, task: Task) -> TaskScores:
    """The task's metric and completion loss on its test rows."""
    if task.choices is None:
        nats_KN, hits_KN = _scores(lanes, task.test)
        loss_K = nats_KN.sum(1) / task.test.weights.sum()
        return TaskScores(hits_KN.mean(1), loss_K, hits_KN, _by_row(nats_KN, loss_K, task.test))
    labels = len(task.choices.ids) // len(task.answers)
    nats_KNL = _scores(lanes, task.choices, prefix_group_size=labels)[0]
    nats_KNL = nats_KNL.reshape(len(nats_KNL), len(task.answers), labels)
    right = nats_KNL.argmin(2) == task.answers
    own = np.take_along_axis(nats_KNL, task.answers[None, :, None], axis=2)
    loss_K = own.sum((1, 2)) / task.test.weights.sum()
    return TaskScores(right.mean(1), loss_K, right, _by_row(own[:, :, 0], loss_K, task.test))


def _by_row(
    nats_KN: NDArray[np.float64], loss_K: NDArray[np.float64], rows: Encoded
) -> NDArray[np.float64]:
    """What each row adds to the loss a completion token, [K, N].

    With n_r nats and w_r tokens of row r the loss is L = sum n / sum w, and its error over rows is
    that of the mean of L + (n_r - L w_r) N / sum w.
    """
    weight_N = rows.weights.sum(1)
    apart_KN = nats_KN - loss_K[:, None] * weight_N
    return np.asarray(loss_K[:, None] + apart_KN * (len(weight_N) / weight_N.sum()))


def _scores(
    lanes: Lanes, rows: Encoded, *, prefix_group_size: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Each row's summed nats and whether all its counted targets are the argmax; [K, N] each.

    Rows of like length go through together, `prefix_group_size` consecutive ones with one beginning
    at a time.
    """
    longest = num_tokens(rows, np.arange(len(rows.ids))).reshape(-1, prefix_group_size).max(1)
    groups = np.argsort(longest, kind="stable")
    order = (groups[:, None] * prefix_group_size + np.arange(prefix_group_size)).ravel()
    size = max(1, TASK_ROWS // prefix_group_size) * prefix_group_size
    nats, hits = [], []
    for start in range(0, len(order), size):
        picked = order[start : start + size]
        batch = packing.batch_of(
            rows, picked, lanes.device, packed=lanes.packed, prefix_group_size=prefix_group_size
        )
        some_nats, some_hits = lanes.program.scores(lanes.params, lanes.frozen, batch)
        nats.append(some_nats)
        hits.append(some_hits)
    back = np.argsort(order, kind="stable")
    nats_KN = in_double(torch.cat(nats, 1)).cpu().numpy()[:, back]
    return nats_KN, torch.cat(hits, 1).cpu().numpy()[:, back]
