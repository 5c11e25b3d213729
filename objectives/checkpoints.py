"""Pretrained models in the store: weights with what was seen on the way, and AdamW's memory apart.

The memory is twice the size of the weights and only worth keeping where training may go on. A state
on the way, stored lest it be lost, is an entry of its own, which goes when a later one is there.
Means of checkpoints are a stage of their own, which nothing goes on from.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from objectives import adamw, models, train
from objectives.corpus import Corpus
from objectives.jobs import Job
from objectives.shelf import MEMORY, PASSING, WEIGHTS
from objectives.store import Stages, read_json, write_json

MERGED = "merged"
MOMENTS_FILE = "m.safetensors"
MOMENTS = ("first", "second", "policy")
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
    """[step, nats a token] on the way, wherever jobs that trained it asked for a point; the
    horizon's own is a matter of the one who scores it."""
    curve_tokens: int
    """Tokens of the sample that `validation` was measured on."""
    lost_at: int
    """The step at which it diverged, train.NEVER if it did not."""
    device_s: float
    """Seconds the device spent on all of its steps, whenever that was; a lane's share of each."""
    trained_steps: float = 0.0
    """Steps trained for this job now, shared ones split among the jobs that share them."""
    trained_s: float = 0.0
    """Seconds of these."""
    norms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Norm of all weights after each step; [S], NaN in a stretch that was stored without them."""
    rates: NDArray[np.float64] | None = None
    """The rate of each step where it was not known before; [S]."""
    reference_steps: float = 0.0
    """Of `trained_steps`, those of the run whose effective rate this one follows."""
    reference_lost: bool = False
    """Whether that run diverged, at `lost_at`, and this one was not trained for it."""

    def validation_of(self, job: Job) -> list[list[float]]:
        """The points that the job asks for and that were measured, on its sample.

        A base is the same whichever points are measured on the way, so its key does not know them,
        and one that was trained before may lack some.
        """
        if self.curve_tokens != job.recipe.pretrain.curve_tokens:
            return []
        wanted = set(job.eval_steps())
        return [point for point in self.validation if point[0] in wanted]

    def norms_of(self, job: Job) -> list[list[float]]:
        """[step, norm] at the points that the job asks for and that were measured."""
        wanted = [step for step in job.eval_steps() if step <= len(self.norms)]
        points = [[float(step), float(self.norms[step - 1])] for step in wanted]
        return [point for point in points if math.isfinite(point[1])]

    def rates_of(self, job: Job) -> NDArray[np.float64]:
        """The rate of each step that was taken; [S]."""
        return job.lr if self.rates is None else self.rates


def load(store: Stages, key: str, stage: str = WEIGHTS) -> Base | None:
    """The model with this key, None if it is not stored."""
    folder = store.get(stage, key)
    return None if folder is None else read(folder, key)


def read(folder: Path, key: str) -> Base:
    """The model that `write` has put into the folder."""
    info = read_json(folder / "info.json")
    seen = {name: x.numpy() for name, x in load_file(folder / "losses.safetensors").items()}
    return Base(
        key=key,
        params=load_file(folder / "params.safetensors"),
        losses=seen["losses"],
        validation=info["validation"],
        curve_tokens=info["curve_tokens"],
        lost_at=train.NEVER,
        device_s=info["device_s"],
        norms=seen.get("norms", np.full(len(seen["losses"]), np.nan)),
        rates=seen.get("rates"),
    )


def save(
    store: Stages, base: Base, memory: adamw.Moments | None = None, stage: str = WEIGHTS
) -> None:
    """Store a model under its key, with AdamW's memory where it may go on."""
    seconds = base.device_s
    store.put(stage, base.key, functools.partial(write, base), seconds=seconds)
    if memory is not None:
        write_memory = functools.partial(_write_memory, memory)
        store.put(MEMORY, base.key, write_memory, seconds=seconds)


def save_passing(store: Stages, base: Base, memory: adamw.Moments) -> None:
    """Store a model on its way, with AdamW's memory."""

    def write_both(folder: Path) -> None:
        write(base, folder)
        _write_memory(memory, folder)

    store.put(PASSING, base.key, write_both, seconds=base.device_s)


def load_start(store: Stages, key: str) -> tuple[Base, adamw.Moments, str] | None:
    """A model that can go on, AdamW's memory, and the stage that they were stored as."""
    for stage, of_memory in ((WEIGHTS, MEMORY), (PASSING, PASSING)):
        base, folder = load(store, key, stage), store.get(of_memory, key)
        if base is not None and folder is not None:
            parts = load_file(folder / MOMENTS_FILE)
            return base, adamw.Moments(*(parts[name] for name in MOMENTS)), stage
    return None


def startable(store: Stages) -> set[str]:
    """Keys from which training can go on."""
    return set(store.keys(MEMORY)) & set(store.keys(WEIGHTS)) | set(store.keys(PASSING))


def finished(store: Stages, corpus: Corpus, job: Job) -> Base | None:
    """The job's base if it can be had without training: stored, or merged of what is stored."""
    if job.merge is None:
        return load(store, job.base_key(corpus))
    return load(store, job.base_key(corpus), MERGED) or merge(store, corpus, job)


def merge(store: Stages, corpus: Corpus, job: Job) -> Base | None:
    """The weighted mean of the job's checkpoints, stored; None where one is missing.

    It is summed in double precision, in the order of the steps.
    """
    assert job.merge is not None
    trained = load(store, job.key(corpus, job.steps))
    if trained is None:
        return None
    total: dict[str, Tensor] = {}
    for step, weight in zip(job.merge.steps, job.merge.weights, strict=True):
        params = _checkpoint(store, corpus, job, step)
        if params is None:
            return None
        for name, p in params.items():
            part = weight * p.double()
            total[name] = total[name] + part if name in total else part
    params = {name: p.to(trained.params[name].dtype) for name, p in total.items()}
    base = dataclasses.replace(trained, key=job.base_key(corpus), params=params)
    save(store, base, stage=MERGED)
    return base


def _checkpoint(store: Stages, corpus: Corpus, job: Job, step: int) -> Parameters | None:
    """The job's weights at a step, None if they are not stored; those at 0 follow from its seed."""
    if step == 0:
        model = job.recipe.model
        config = models.build_config(model, corpus.vocab_size)
        return models.initial_parameters(model, config, job.seed)
    stored = load(store, job.key(corpus, step))
    return None if stored is None else stored.params


def latest_start(store: Stages, stored: set[str], corpus: Corpus, job: Job) -> int:
    """The last of the stored steps from which the job can go on; 0 if there is none.

    A job that merges starts before the first of its checkpoints that is missing.
    """
    needed = () if job.merge is None else job.merge.steps
    missing = (s for s in needed if s and store.get(WEIGHTS, job.key(corpus, s)) is None)
    end = min(missing, default=job.steps)
    steps = {key.split("-")[0] for key in stored}
    for step in sorted((int(step) for step in steps if step.isdigit()), reverse=True):
        key = job.key(corpus, step) if step < end else ""
        if key in stored and (
            store.get(PASSING, key) or (store.get(WEIGHTS, key) and store.get(MEMORY, key))
        ):
            return step
    return 0


def write(base: Base, folder: Path) -> None:
    """Write weights and what was seen of them into a folder."""
    save_file(base.params, folder / "params.safetensors")
    seen = {"losses": base.losses, "norms": base.norms, "rates": base.rates}
    kept = {name: torch.from_numpy(x) for name, x in seen.items() if x is not None}
    save_file(kept, folder / "losses.safetensors")
    info = {
        "validation": base.validation,
        "curve_tokens": base.curve_tokens,
        "device_s": base.device_s,
    }
    write_json(folder / "info.json", info)


def _write_memory(memory: adamw.Moments, folder: Path) -> None:
    parts = zip(MOMENTS, memory.parts, strict=True)
    save_file({name: part.cpu() for name, part in parts}, folder / MOMENTS_FILE)
