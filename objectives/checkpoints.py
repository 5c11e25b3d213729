"""Pretrained models in the store: weights with what was seen on the way, and AdamW's memory apart.

The memory is twice the size of the weights and only worth keeping where training may go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from objectives import adamw, train
from objectives.corpus import Corpus
from objectives.jobs import Job
from objectives.store import Store, read_json, write_json

WEIGHTS, MEMORY = "pretrain", "moments"
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Base:
    """A pretrained model."""

    key: str
    params: Parameters
    """On the CPU."""
    losses: NDArray[np.float64]
    """Training loss of each step, nats a token; [S]."""
    validation: list[list[float]]
    """[step, nats a token] on the way; the horizon's own is a matter of the one who scores it."""
    lost_at: int
    """The step at which it diverged, train.NEVER if it did not."""
    device_s: float
    """Seconds the device spent on all of its steps, whenever that was; a lane's share of each."""
    trained_steps: float = 0.0
    """Steps trained for this job now, shared ones split among the jobs that share them."""
    trained_s: float = 0.0
    """Seconds of these."""


def load(store: Store, key: str) -> Base | None:
    """The model with this key, None if it is not stored."""
    folder = store.get(WEIGHTS, key)
    if folder is None:
        return None
    info = read_json(folder / "info.json")
    return Base(
        key=key,
        params=load_file(folder / "params.safetensors"),
        losses=load_file(folder / "losses.safetensors")["losses"].numpy(),
        validation=info["validation"],
        lost_at=train.NEVER,
        device_s=info["device_s"],
    )


def save(store: Store, base: Base, memory: adamw.Moments | None) -> None:
    """Store a model under its key, with AdamW's memory [P] where it may go on."""

    def write_weights(folder: Path) -> None:
        save_file(base.params, folder / "params.safetensors")
        save_file({"losses": torch.from_numpy(base.losses)}, folder / "losses.safetensors")
        info = {"validation": base.validation, "device_s": base.device_s}
        write_json(folder / "info.json", info)

    store.put(WEIGHTS, base.key, write_weights)
    if memory is not None:
        moments = {"first": memory.first.cpu(), "second": memory.second.cpu()}
        store.put(MEMORY, base.key, lambda folder: save_file(moments, folder / "m.safetensors"))


def load_memory(store: Store, key: str) -> adamw.Moments | None:
    """AdamW's memory at this key; [P] each."""
    folder = store.get(MEMORY, key)
    if folder is None:
        return None
    parts = load_file(folder / "m.safetensors")
    return adamw.Moments(parts["first"], parts["second"])


def latest_start(store: Store, corpus: Corpus, job: Job) -> int:
    """The last stored step from which the job can go on; 0 if there is none."""
    stored = set(store.keys(MEMORY)) & set(store.keys(WEIGHTS))
    for step in sorted({int(key.split("-")[0]) for key in stored}, reverse=True):
        key = job.key(corpus, step) if step < job.steps else ""
        if key in stored and store.get(WEIGHTS, key) and store.get(MEMORY, key):
            return step
    return 0
