"""Where objectives compute and where they keep their stages."""

from __future__ import annotations

import dataclasses
import numbers
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import torch

from objectives.store.maintenance import GB
from objectives.store.remote import Mirror
from objectives.store.store import Store

DEFAULT_STORE = Path("runs") / "store"


Compiling = Literal["auto", "on", "off"]


Kind = Literal["replicate", "fsdp"]


class Compute(TypedDict, total=False):
    """Fields of `Execution` that a study sets; equal to `hpo.core.objective.Compute`."""

    device: str
    devices: int
    sharding: str
    lanes: int
    store: str
    store_gb: float
    share: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how to compute; nothing here is meant to change a result."""

    device: str | None = None
    """cpu, cuda or mps (Apple); None takes a CUDA GPU if there is one."""
    devices: int = 1
    """How many of them a trial is pretrained on, each by a process of its own. The batch must be
    divisible by it. Everything after pretraining is on one."""
    sharding: Kind = "replicate"
    """How a model is placed on several devices: whole on each (replicate), or each with a part of
    every parameter and of what the optimizer remembers (fsdp)."""
    lanes: int | None = None
    """Lanes of one program; None measures how many fit. With fsdp one lane is pretrained at a
    time."""
    compiling: Compiling = "auto"
    """Whether the pretraining step is compiled; auto does on a GPU where the run is long. Never
    together with pretrain.activation_checkpointing or dropout."""
    store: Path = DEFAULT_STORE
    store_gb: float | None = None
    """Size (1e9 bytes) within which the store keeps itself by dropping what costs least to compute
    again for its size; None is without limit."""
    share: str | None = None
    """A folder or fsspec URL such as s3://bucket/stages, where machines share finished stages."""
    folder: Path | None = None
    """Where relative paths of a recipe start; None is the current folder."""

    def __post_init__(self) -> None:
        self._take("devices", _count(self.devices, "devices", "at least 1"))
        if self.lanes is not None:
            self._take("lanes", _count(self.lanes, "lanes", "at least 1 or None"))
        _check_name(self.device)
        for name, kind in (("sharding", Kind), ("compiling", Compiling)):
            if getattr(self, name) not in get_args(kind):
                names, got = " or ".join(get_args(kind)), getattr(self, name)
                raise ValueError(f"{name} must be {names}, got {got!r}; choose one of these.")
        if not isinstance(self.store, str | os.PathLike):
            raise ValueError(f"store must be a folder, got {self.store!r}; give its path.")
        self._take("store", Path(self.store))
        if self.folder is not None:
            self._take("folder", Path(self.folder))
        if self.share is not None:
            if not isinstance(self.share, str | os.PathLike):
                raise ValueError(
                    f"share must be a folder or URL or None, got {self.share!r}; give its path."
                )
            self._take("share", os.fspath(self.share))
        size = self.store_gb
        if size is not None and not (isinstance(size, numbers.Real) and size > 0):
            raise ValueError(f"store_gb must be above 0 or None, got {size!r}; give GB.")
        if self.sharding != "replicate" and self.devices == 1:
            raise ValueError(f"sharding={self.sharding!r} requires devices >= 2, got 1.")

    def _take(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def device_name(self) -> str:
        """The device that is used."""
        if self.device is not None:
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def changed(self, compute: Compute) -> Execution:
        """A copy with what is given.

        Raises:
            ValueError: a device is not there, or there is no such kind of sharding or shared store.
        """
        if "device" in compute:
            check_device(compute["device"])
        if "share" in compute:
            Mirror(compute["share"])
        return dataclasses.replace(self, **compute)  # type: ignore[arg-type]

    def machine(self) -> dict[str, Any]:
        """Where it computes; JSON-able."""
        device = torch.device(self.device_name)
        cuda = device.type == "cuda"
        chip = f"{platform.machine()} (mps)" if device.type == "mps" else platform.machine()
        several = {"devices": self.devices, "sharding": self.sharding}
        return {
            "device": torch.cuda.get_device_name(device) if cuda else chip,
            **(several if self.devices > 1 else {}),
            "threads": torch.get_num_threads(),
            "lanes": self.lanes,
        }

    def open_store(self) -> Store:
        """The store; to be closed.

        Raises:
            StoreError: its folder cannot be made or written.
        """
        return Store(
            self.store,
            budget=None if self.store_gb is None else self.store_gb * GB,
            mirror=None if self.share is None else Mirror(self.share),
        )


def _count(value: object, name: str, rule: str) -> int:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and int(value) >= 1:  # type: ignore[call-overload]
        return int(value)  # type: ignore[call-overload,no-any-return]
    raise ValueError(f"{name} must be a whole number of {rule}, got {value!r}; change it.")


def _check_name(device: object) -> None:
    """Whether it is there is seen where it is used, which may be another machine."""
    if device is None or (isinstance(device, str) and re.fullmatch(r"cpu|mps|cuda(:\d+)?", device)):
        return
    raise ValueError(
        f"device must be cpu, cuda, cuda:N or mps, got {device!r}; or leave it out to take a GPU "
        "where there is one."
    )


def check_device(device: str) -> None:
    """Raise ValueError where nothing can be computed on this device."""
    _check_name(device)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {device!r} cannot be used ({reason}); use cpu, or leave it to the default."
        ) from None
