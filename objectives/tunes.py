"""Fine-tunes in the store: finished ones, and those that were stopped on the way.

A stage is one base tuned on one task at one rate over consecutive seeds. What a stopped one needs
to go on is small (adapters, AdamW's memory of them) and dropped when the stage is finished.

S seeds, P trained parameters of a lane, T steps so far.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from objectives import train
from objectives.checkpoints import Parameters
from objectives.shelf import PASSING
from objectives.store import Store, read_json, write_json

STAGE, ON_THE_WAY = "tune", PASSING
ROWS = ("values", "first", "second", "lost_at", "losses")


@dataclass(frozen=True)
class Work:
    """What training took."""

    tokens: float = 0.0
    """Without padding; fine-tunes count the mean length of their task's rows."""
    seconds: float = 0.0
    """Of the device, a lane's share."""

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.seconds + other.seconds)

    def __sub__(self, other: Work) -> Work:
        return Work(self.tokens - other.tokens, self.seconds - other.seconds)


NOTHING = Work()


@dataclass(frozen=True)
class Tuned:
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

    def with_seeds(self, more: Tuned) -> Tuned:
        """The same with further seeds; the loss by which it was chosen stays."""
        return dataclasses.replace(
            self,
            params=self.params + more.params,
            losses=self.losses + more.losses,
            work=self.work + more.work,
            stages=self.stages + more.stages,
        )


@dataclass(frozen=True)
class Halfway:
    """The lanes of a stage where they were stopped; all that later steps depend on."""

    rows: dict[str, Tensor]
    """`values`, `first`, `second` [S, P], `lost_at` [S] as in `train.State`; `losses` [S, T]."""
    work: Work
    """What it took so far."""

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.rows["losses"].shape[1])

    @staticmethod
    def of(state: train.State, losses: Sequence[Tensor], some: slice, work: Work) -> Halfway:
        """Some lanes of a program; `losses` has [K] of each step."""
        lanes = (state.rows.values, state.moments.first, state.moments.second, state.lost_at,
                 torch.stack(list(losses), 1))  # fmt: skip
        rows = {name: each[some].cpu() for name, each in zip(ROWS, lanes, strict=True)}
        return Halfway(rows, work)


def go_on(
    stages: Sequence[Halfway], shapes: Mapping[str, torch.Size], device: str
) -> tuple[train.State, list[Tensor]]:
    """The lanes of stages that stand at the same step, and the losses of each step so far [K]."""
    rows = {name: torch.cat([each.rows[name] for each in stages]).to(device) for name in ROWS}
    state = train.State.fresh(shapes, rows["values"])
    state.moments = dataclasses.replace(state.moments, first=rows["first"], second=rows["second"])
    state.step, state.lost_at = stages[0].step, rows["lost_at"]
    return state, list(rows["losses"].unbind(1))


def load(store: Store, key: str, seeds: int) -> Tuned | None:
    """The finished stage with this key, None if it is not stored."""
    folder = store.get(STAGE, key)
    if folder is None:
        return None
    info = read_json(folder / "info.json")
    _drop(store, _on_the_way(store, key))  # a kill may have come before it
    params = [load_file(folder / f"adapter-{seed}.safetensors") for seed in range(seeds)]
    losses = load_file(folder / "losses.safetensors")["losses"].numpy()
    return Tuned(params, list(losses), info["validation_loss"], Work(**info["work"]), (key,))


def save(store: Store, tuned: Tuned) -> None:
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
    _drop(store, _on_the_way(store, key))


def save_halfway(store: Store, key: str, halfway: Halfway) -> None:
    """Store where a stage stands, in place of where it stood before."""

    def write(folder: Path) -> None:
        save_file(halfway.rows, folder / "rows.safetensors")
        write_json(folder / "info.json", {"work": dataclasses.asdict(halfway.work)})

    name = f"{halfway.step:09d}-{key}"
    store.put(ON_THE_WAY, name, write, seconds=halfway.work.seconds)
    _drop(store, [old for old in _on_the_way(store, key) if old < name])


def load_halfway(store: Store, key: str) -> Halfway | None:
    """Where a stage that is not finished stands, None if it has not begun."""
    for name in reversed(_on_the_way(store, key)):
        folder = store.get(ON_THE_WAY, name)
        with contextlib.suppress(FileNotFoundError):  # another process has just gone further
            if folder is not None:
                work = read_json(folder / "info.json")["work"]
                return Halfway(load_file(folder / "rows.safetensors"), Work(**work))
    return None


def _drop(store: Store, names: Sequence[str]) -> None:
    for name in names:
        store.supersede(ON_THE_WAY, name)


def _on_the_way(store: Store, key: str) -> list[str]:
    """Names of what is kept of the stage, by steps done."""
    return [name for name in store.keys(ON_THE_WAY) if name.endswith(f"-{key}")]
