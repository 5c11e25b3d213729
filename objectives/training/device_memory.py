"""Memory of a GPU or of this machine: free bytes, peaks, lanes that fit by a measured step."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import resource
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from objectives.training.out_of_memory import is_out_of_memory

USED_FRAC = 0.8
"""Share of the free memory that lanes may fill; assumed: the rest is for evaluation and others."""


SHARERS = "HPO_SHARERS"
"""Environment variable of worker processes, see `workers_here`."""


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt(3)."""


def max_lanes_that_fit(
    step: Callable[[int], object], device: str, most: int, *, sharers: int = 1
) -> int:
    """How many lanes fit, by the peak memory of a step with two lanes and of one with four.

    `step(k)` makes k lanes, takes a training step and lets go of them. A first step is not
    measured: what it allocates once would be taken for that of the lanes. Memory is taken to grow
    by the same amount with each further lane. Where a step does not fit, one lane is to be tried.
    `sharers`: processes that look for as much at once, each on a GPU of its own or all of them on
    the CPU.
    """
    if most <= 2:
        return most
    free = free_bytes(device) // workers_here()
    if torch.device(device).type == "cpu":
        free //= sharers
    room, few, many = USED_FRAC * free, 2, min(4, most)
    try:
        step(1)
        less = peak_bytes(functools.partial(step, few), device)
        if sharers == 1 and less * many / few > room:  # do not try what would not fit
            return few if less <= room else 1
        more = peak_bytes(functools.partial(step, many), device)
    except Exception as error:
        if sharers > 1 or not is_out_of_memory(error):  # the others wait within the same step
            raise
        return 1
    a_lane = max((more - less) / (many - few), 1)
    return int(max(1, min(most, few + (room - less) // a_lane)))


def workers_here() -> int:
    """Worker processes that look for memory of the same device, as their controller says."""
    given = os.environ.get(SHARERS, "")
    return max(1, int(given)) if given.isascii() and given.isdigit() else 1


@functools.cache
def disable_malloc_trim() -> None:
    """Let a CPU's freed memory be used again at once; for the whole process, its results the same.

    glibc asks the system for every large block and hands it back when it is freed, so that each
    activation of each step is paged in again: a fifth to a third of a step of 6 to 32 lanes
    (measured, 0.2M and 1M parameters, two cores). Nothing is done where there is no glibc.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, -1)  # never by itself
        libc.mallopt(_TOP_PAD, 2**26)


def trim_malloc() -> None:
    """Give the memory that was kept after freeing back to the system."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def free_bytes(device: str) -> int:
    """Memory that could still be taken."""
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    trim_malloc()
    return int(min(psutil.virtual_memory().available, _left_in_cgroup()))


def total_bytes() -> int:
    """Memory of this machine, or of the container where that has less."""
    return int(min(psutil.virtual_memory().total, _left_in_cgroup(used=False)))


def _left_in_cgroup(folder: Path = Path("/sys/fs/cgroup"), *, used: bool = True) -> float:
    """What a container's limit leaves, or the limit itself where what is `used` does not count.

    inf where there is none (cgroup v2, then v1).
    """
    for most, taken in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = int((folder / most).read_text())
            return max(0, limit - int((folder / taken).read_text()) * used)
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return math.inf


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Most memory that `work` has in use, beyond what was in use before; 0 where none can tell."""
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        _reset_peak(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    trim_malloc()  # what is reused would not count
    before = psutil.Process().memory_info().rss
    if not _reset_peak(device):
        return 0
    work()
    return max(0, _peak(device) - int(before))


class Peak:
    """Most memory in use since this was made: a GPU's by torch, or on a CPU the whole process's.

    Where a process cannot reset its peak (not Linux, or no right to), it is that of its whole life.
    """

    def __init__(self, device: str) -> None:
        self._device, self._before = device, 0
        if torch.device(device).type == "cpu":
            trim_malloc()  # what was freed is not in use
        _reset_peak(device)
        _PEAKS.add(self)

    def read(self) -> int:
        """Bytes until now."""
        return max(self._before, _peak(self._device))

    def keep(self) -> None:
        """Remember the peak, as it is about to be reset."""
        self._before = self.read()


_PEAKS: weakref.WeakSet[Peak] = weakref.WeakSet()
"""Those that are being measured: evaluations of several threads, or a step within one."""


def _reset_peak(device: str) -> bool:
    """Begin a new peak at what is in use now; False where that is not possible."""
    for each in list(_PEAKS):
        each.keep()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak(device: str) -> int:
    """Bytes, since the last reset."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
