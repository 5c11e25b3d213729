"""Pretrained models in the store: weights with what was seen on the way, and the moments apart.

They are twice the size of the weights and only worth keeping where training may go on. A state
on the way, stored in case the run is interrupted, is an entry of its own, which goes when a later
one is there. Means of checkpoints are a stage of their own, which nothing goes on from.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from objectives.config import recipe
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm
from objectives.pretraining.job import PretrainJob
from objectives.store import contents
from objectives.store.contents import FLOATS, Array
from objectives.store.entries import read_json, write_json
from objectives.store.maintenance import IN_PROGRESS, MOMENTS, PRETRAIN
from objectives.store.stages import Stages
from objectives.training import optimizers, weight_decay_policies

MERGED = "merged"


INFO_FILE, PARAMS_FILE, LOSSES_FILE = "info.json", "params.safetensors", "losses.safetensors"


MOMENTS_FILE = "m.safetensors"


OPTIMIZER_STATE = ("first", "second", "policy")


Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class BaseModel:
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
    diverged_at: int | None
    """The step (from 0) at which it diverged, None if it did not."""
    device_s: float
    """Seconds the device spent on all of its steps, whenever that was; a lane's share of each."""
    trained_steps: float = 0.0
    """Steps trained for this job now, shared ones split among the jobs that share them."""
    trained_s: float = 0.0
    """Seconds of these."""
    norms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Norm of all weights after each step; [S]."""
    rates: NDArray[np.float64] | None = None
    """The rate of each step where it was not known before; [S]."""
    reference_steps: float = 0.0
    """Of `trained_steps`, those of the run whose effective rate this one follows."""
    reference_lost: bool = False
    """Whether that run diverged, at `diverged_at`, and this one was not trained for it."""

    def validation_of(self, job: PretrainJob) -> list[list[float]]:
        """The points that the job asks for and that were measured, on its sample.

        A base is the same whichever points are measured on the way, so its key does not know them,
        and one that was trained before may lack some.
        """
        if self.curve_tokens != job.recipe.pretrain.curve_tokens:
            return []
        wanted = set(job.eval_steps())
        return [point for point in self.validation if point[0] in wanted]

    def norms_of(self, job: PretrainJob) -> list[list[float]]:
        """[step, norm] at the points that the job asks for and that were measured."""
        wanted = [step for step in job.eval_steps() if step <= len(self.norms)]
        points = [[float(step), float(self.norms[step - 1])] for step in wanted]
        return [point for point in points if math.isfinite(point[1])]

    def rates_of(self, job: PretrainJob) -> NDArray[np.float64]:
        """The rate of each step that was taken; [S]."""
        return job.lr if self.rates is None else self.rates


@dataclass(frozen=True)
class _Info:
    """info.json of a base."""

    validation: list[contents.Point]
    curve_tokens: contents.Whole
    device_s: contents.Seconds


def load_base(
    store: Stages, job: PretrainJob, corpus: TokenDataset, step: int, stage: str = PRETRAIN
) -> BaseModel | None:
    """The job's model at a step, or at its end the mean of its checkpoints; None if not stored."""
    key = job.base_key(corpus) if stage == MERGED else job.key(corpus, step)
    shapes = _shapes(job, corpus)
    return store.read(stage, key, lambda folder: _read(folder, key, shapes, step))


def _read(folder: Path, key: str, shapes: Mapping[str, torch.Size], step: int) -> BaseModel:
    """The model that `write` has put into the folder.

    Raises:
        DamagedError: it is not that of a run of `step` steps, with parameters of these shapes.
    """
    of_steps = Array((step,), FLOATS)
    rates = dataclasses.replace(of_steps, needed=False)
    wanted = {"losses": of_steps, "norms": of_steps, "rates": rates}
    weights = {
        name: Array(tuple(shape), (torch.get_default_dtype(),), finite=True)
        for name, shape in shapes.items()
    }
    info = contents.record(folder, INFO_FILE, _Info)
    seen = contents.tensors(folder, LOSSES_FILE, wanted)
    return _base(key, contents.tensors(folder, PARAMS_FILE, weights), seen, info)


def read_base(folder: Path, key: str) -> BaseModel:
    """The model that `write` has put into a folder of this process, which nobody else writes."""
    info = _Info(**read_json(folder / INFO_FILE))
    return _base(key, load_file(folder / PARAMS_FILE), load_file(folder / LOSSES_FILE), info)


def _base(key: str, params: Parameters, seen: Mapping[str, Tensor], info: _Info) -> BaseModel:
    rows = {name: x.numpy() for name, x in seen.items()}
    return BaseModel(
        key=key,
        params=params,
        losses=rows["losses"],
        validation=info.validation,
        curve_tokens=info.curve_tokens,
        diverged_at=None,
        device_s=info.device_s,
        norms=rows["norms"],
        rates=rows.get("rates"),
    )


def _module(job: PretrainJob, corpus: TokenDataset) -> nn.Module:
    """The model without parameters."""
    model = job.recipe.model
    config = causal_lm.build_config(model, corpus.vocab_size).to_json_string()
    return _built(model, corpus.vocab_size, config)


@functools.lru_cache(maxsize=8)
def _built(model: recipe.Model, vocab_size: int, config: str) -> nn.Module:
    """Built once; `config` is what the recipe's model comes to, as its folder may change."""
    return causal_lm.build_module(causal_lm.build_config(model, vocab_size), "meta")


def _shapes(job: PretrainJob, corpus: TokenDataset) -> dict[str, torch.Size]:
    """Of the model's parameters, by name."""
    return {name: p.shape for name, p in _module(job, corpus).named_parameters()}


def save_base(
    store: Stages, base: BaseModel, memory: optimizers.Moments | None = None, stage: str = PRETRAIN
) -> None:
    """Store a model under its key, with AdamW's memory where it may go on."""
    seconds = base.device_s
    store.put(stage, base.key, functools.partial(write_base, base), seconds=seconds)
    if memory is not None:
        write_memory = functools.partial(_write_memory, memory)
        store.put(MOMENTS, base.key, write_memory, seconds=seconds)


def save_in_progress(store: Stages, base: BaseModel, memory: optimizers.Moments) -> None:
    """Store a model on its way, with AdamW's memory."""

    def write_both(folder: Path) -> None:
        write_base(base, folder)
        _write_memory(memory, folder)

    store.put(IN_PROGRESS, base.key, write_both, seconds=base.device_s)


def load_start(
    store: Stages, job: PretrainJob, corpus: TokenDataset, step: int
) -> tuple[BaseModel, optimizers.Moments, str] | None:
    """The job at a step if it can go on from there, AdamW's memory, and the stage of the weights.

    None if either is not stored.
    """
    key, wanted = job.key(corpus, step), _moments(job, corpus)
    for stage, of_memory in ((PRETRAIN, MOMENTS), (IN_PROGRESS, IN_PROGRESS)):
        base = load_base(store, job, corpus, step, stage)
        parts = store.read(
            of_memory, key, lambda folder: contents.tensors(folder, MOMENTS_FILE, wanted)
        )
        if base is not None and parts is not None:
            return base, optimizers.Moments(*(parts[name] for name in OPTIMIZER_STATE)), stage
    return None


def _moments(job: PretrainJob, corpus: TokenDataset) -> dict[str, Array]:
    """What AdamW's memory must be."""
    module, pre = _module(job, corpus), job.recipe.pretrain
    count = causal_lm.num_parameters(module)
    sizes = (
        count,
        0 if pre.optimizer == "sgd" else count,
        weight_decay_policies.policy_state_size(module, pre),
    )
    dtype = torch.get_default_dtype()
    return {
        name: Array((size,), (dtype,)) for name, size in zip(OPTIMIZER_STATE, sizes, strict=True)
    }


def startable(store: Stages) -> set[str]:
    """Keys from which training can go on."""
    return set(store.keys(MOMENTS)) & set(store.keys(PRETRAIN)) | set(store.keys(IN_PROGRESS))


def finished(store: Stages, corpus: TokenDataset, job: PretrainJob) -> BaseModel | None:
    """The job's base if it is available without training: stored, or merged of what is stored."""
    if job.merge is None:
        return load_base(store, job, corpus, job.steps)
    return load_base(store, job, corpus, job.steps, MERGED) or merge(store, corpus, job)


def merge(store: Stages, corpus: TokenDataset, job: PretrainJob) -> BaseModel | None:
    """The weighted mean of the job's checkpoints, stored; None where one is missing.

    It is summed in double precision, in the order of the steps.
    """
    assert job.merge is not None
    trained = load_base(store, job, corpus, job.steps)
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
    save_base(store, base, stage=MERGED)
    return base


def _checkpoint(
    store: Stages, corpus: TokenDataset, job: PretrainJob, step: int
) -> Parameters | None:
    """The job's weights at a step, None if they are not stored; those at 0 follow from its seed."""
    if step == 0:
        model = job.recipe.model
        config = causal_lm.build_config(model, corpus.vocab_size)
        return causal_lm.initial_parameters(model, config, job.seed)
    stored = load_base(store, job, corpus, step)
    return None if stored is None else stored.params


def latest_start(store: Stages, stored: set[str], corpus: TokenDataset, job: PretrainJob) -> int:
    """The last of the stored steps from which the job can go on; 0 if there is none.

    A job that merges starts before the first of its checkpoints that is missing.
    """
    needed = () if job.merge is None else job.merge.steps
    missing = (s for s in needed if s and load_base(store, job, corpus, s) is None)
    end = min(missing, default=job.steps)
    steps = {key.split("-")[0] for key in stored}
    for step in sorted((int(step) for step in steps if step.isdigit()), reverse=True):
        key = job.key(corpus, step) if step < end else ""
        if key in stored and load_start(store, job, corpus, step) is not None:
            return step
    return 0


def write_base(base: BaseModel, folder: Path) -> None:
    """Write weights and what was seen of them into a folder."""
    save_file(base.params, folder / PARAMS_FILE)
    seen = {"losses": base.losses, "norms": base.norms, "rates": base.rates}
    kept = {name: torch.from_numpy(x) for name, x in seen.items() if x is not None}
    save_file(kept, folder / LOSSES_FILE)
    info = {
        "validation": base.validation,
        "curve_tokens": base.curve_tokens,
        "device_s": base.device_s,
    }
    write_json(folder / INFO_FILE, info)


def _write_memory(memory: optimizers.Moments, folder: Path) -> None:
    parts = zip(OPTIMIZER_STATE, memory.parts, strict=True)
    save_file({name: part.cpu() for name, part in parts}, folder / MOMENTS_FILE)
