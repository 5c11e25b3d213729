"""Fine-tunes in the store: finished ones, and those that were stopped on the way.

A stage is one base tuned on one task at one rate over consecutive seeds. What a stopped one needs
to go on is small (adapters, AdamW's memory of them) and dropped when the stage is finished.

S seeds, P trained parameters of a lane, T steps so far.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from objectives.pretraining.checkpoints import Parameters
from objectives.store import contents
from objectives.store.contents import FLOATS, Array
from objectives.store.entries import DamagedError, write_json
from objectives.store.maintenance import IN_PROGRESS
from objectives.store.stages import Stages
from objectives.training import loop

STAGE = "tune"


ROWS = ("values", "first", "second", "lost_at", "losses")


@dataclass(frozen=True)
class Work:
    """What training took."""

    tokens: contents.Count = 0.0
    """Without padding; fine-tunes count the mean length of their task's rows."""
    seconds: contents.Seconds = 0.0
    """Of the device, a lane's share."""

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.seconds + other.seconds)

    def __sub__(self, other: Work) -> Work:
        return Work(self.tokens - other.tokens, self.seconds - other.seconds)

    def share(self, part: float) -> Work:
        """A part of it."""
        return Work(self.tokens * part, self.seconds * part)


NOTHING = Work()


@dataclass(frozen=True)
class FinetuneResult:
    """One base fine-tuned on one task at one rate, over some seeds."""

    params: list[Parameters]
    """Trained parameters on the CPU; one a seed."""
    losses: list[NDArray[np.float64]]
    """Training loss of each step; one a seed."""
    validation_loss: float
    """Mean over seeds; inf where one diverged."""
    work: Work
    stages: tuple[str, ...]
    """Keys in the store."""

    def with_seeds(self, more: FinetuneResult) -> FinetuneResult:
        """The result with further seeds; the loss by which it was chosen stays."""
        return dataclasses.replace(
            self,
            params=self.params + more.params,
            losses=self.losses + more.losses,
            work=self.work + more.work,
            stages=self.stages + more.stages,
        )


@dataclass(frozen=True)
class PartialFinetune:
    """The lanes of a stage where they were stopped; all that later steps depend on."""

    rows: dict[str, Tensor]
    """`values`, `first`, `second` [S, P]; `lost_at` [S], when each diverged; `losses` [S, T]."""
    work: Work
    """What it took so far."""

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.rows["losses"].shape[1])

    @staticmethod
    def of(state: loop.State, losses: Sequence[Tensor], some: slice, work: Work) -> PartialFinetune:
        """Some lanes of a program; `losses` has [K] of each step."""
        lanes = (state.rows.values, state.moments.first, state.moments.second, state.diverged_at,
                 torch.stack(list(losses), 1))  # fmt: skip
        rows = {name: each[some].cpu() for name, each in zip(ROWS, lanes, strict=True)}
        return PartialFinetune(rows, work)


def resume(
    stages: Sequence[PartialFinetune], shapes: Mapping[str, torch.Size], device: str
) -> tuple[loop.State, list[Tensor]]:
    """The lanes of stages that are at the same step, and the losses of each step so far [K]."""
    rows = {name: torch.cat([each.rows[name] for each in stages]).to(device) for name in ROWS}
    state = loop.State.fresh(shapes, rows["values"])
    state.moments = dataclasses.replace(state.moments, first=rows["first"], second=rows["second"])
    state.step, state.diverged_at = stages[0].step, rows["lost_at"]
    return state, list(rows["losses"].unbind(1))


def _no_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("not a number")
    return value


@dataclass(frozen=True)
class _Info:
    """info.json of a finished stage."""

    validation_loss: Annotated[float, pydantic.AfterValidator(_no_nan)]
    work: Work


@dataclass(frozen=True)
class _InfoPartial:
    """info.json of one on the way."""

    work: Work


def load_tuned(
    store: Stages, key: str, seeds: int, shapes: Mapping[str, torch.Size], steps: int
) -> FinetuneResult | None:
    """The finished stage with this key, None if it is not stored."""
    dtype = (torch.get_default_dtype(),)
    trained = {name: Array(tuple(shape), dtype) for name, shape in shapes.items()}

    def read(folder: Path) -> FinetuneResult:
        info = contents.record(folder, "info.json", _Info)
        params = [
            contents.tensors(folder, f"adapter-{seed}.safetensors", trained)
            for seed in range(seeds)
        ]
        wanted = {"losses": Array((seeds, steps), FLOATS)}
        losses = contents.tensors(folder, "losses.safetensors", wanted)["losses"].numpy()
        return FinetuneResult(params, list(losses), info.validation_loss, info.work, (key,))

    tuned = store.read(STAGE, key, read)
    if tuned is not None:
        _drop(store, _in_progress(store, key))  # a kill may have come before it
    return tuned


def save_tuned(store: Stages, tuned: FinetuneResult) -> None:
    """Store a finished stage under its key, and drop what was kept of it on the way."""

    def write(folder: Path) -> None:
        for seed, params in enumerate(tuned.params):
            save_file(params, folder / f"adapter-{seed}.safetensors")
        losses = torch.from_numpy(np.stack(tuned.losses))
        save_file({"losses": losses}, folder / "losses.safetensors")
        work = dataclasses.asdict(tuned.work)
        write_json(folder / "info.json", {"validation_loss": tuned.validation_loss, "work": work})

    (key,) = tuned.stages
    store.put(STAGE, key, write, seconds=tuned.work.seconds)
    _drop(store, _in_progress(store, key))


def save_partial(store: Stages, key: str, partial: PartialFinetune) -> None:
    """Store the state of a stage, in place of an earlier one."""

    def write(folder: Path) -> None:
        save_file(partial.rows, folder / "rows.safetensors")
        write_json(folder / "info.json", {"work": dataclasses.asdict(partial.work)})

    name = f"{partial.step:09d}-{key}"
    store.put(IN_PROGRESS, name, write, seconds=partial.work.seconds)
    _drop(store, [old for old in _in_progress(store, key) if old < name])


def load_partial(
    store: Stages, key: str, seeds: int, shapes: Mapping[str, torch.Size], steps: int
) -> PartialFinetune | None:
    """Where a stage that is not finished is, None if it has not begun."""
    for name in reversed(_in_progress(store, key)):
        partial = store.read(
            IN_PROGRESS, name, functools.partial(_read_partial, name, seeds, shapes, steps)
        )
        if partial is not None:  # else another process has just gone further
            return partial
    return None


def _read_partial(
    name: str, seeds: int, shapes: Mapping[str, torch.Size], most: int, folder: Path
) -> PartialFinetune:
    dtype = (torch.get_default_dtype(),)
    row = Array((seeds, sum(shape.numel() for shape in shapes.values())), dtype)
    steps = int(name.split("-")[0])
    if steps > most:
        raise DamagedError(f"it has {steps} steps of {most}")
    wanted = {
        **dict.fromkeys(("values", "first", "second"), row),
        "lost_at": Array((seeds,), (torch.int64,)),
        "losses": Array((seeds, steps), FLOATS),
    }
    rows = contents.tensors(folder, "rows.safetensors", wanted)
    if not ((rows["lost_at"] >= loop.NEVER) & (rows["lost_at"] <= steps)).all():
        raise DamagedError("lost_at is no step")
    return PartialFinetune(rows, contents.record(folder, "info.json", _InfoPartial).work)


def _drop(store: Stages, names: Sequence[str]) -> None:
    for name in names:
        store.supersede(IN_PROGRESS, name)


def _in_progress(store: Stages, key: str) -> list[str]:
    """Names of what is kept of the stage, by steps done."""
    form = re.compile(rf"[0-9]{{9}}-{key}")
    return [name for name in store.keys(IN_PROGRESS) if form.fullmatch(name)]
