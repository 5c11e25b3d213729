"""Memory on a CPU: freed memory is used again, and a measured peak is that of the work alone."""

from __future__ import annotations

import ctypes
import math
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from objectives.training import device_memory

MIB = 2**20


PAGE = resource.getpagesize()


glibc_only = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="needs glibc",
)


def faults_of_another(size: int) -> int:
    """Pages the system had to give for one more block of `size` bytes, filled and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc_only
def test_freed_memory_is_used_again_until_it_is_handed_back() -> None:
    size = 64 * MIB
    device_memory.disable_malloc_trim()
    for _ in range(10):  # until a free block of this size and alignment is there
        faults_of_another(size)
    assert faults_of_another(size) < size // PAGE // 10
    device_memory.trim_malloc()
    assert faults_of_another(size) > size // PAGE // 2


@glibc_only
def test_a_peak_counts_memory_that_an_earlier_work_had_freed() -> None:
    size = 128 * MIB
    device_memory.disable_malloc_trim()
    torch.ones(size // 4)
    peak = device_memory.peak_bytes(lambda: torch.ones(size // 4), "cpu")
    assert 0.9 * size < peak < 1.5 * size


@glibc_only
def test_a_peak_begins_anew_and_outlasts_the_peaks_measured_within_it() -> None:
    size = 256 * MIB
    device_memory.disable_malloc_trim()
    whole = device_memory.Peak("cpu")
    torch.ones(size // 4)
    assert whole.read() > size
    later = device_memory.Peak("cpu")
    assert later.read() < whole.read() - 0.8 * size
    begun = later.read()
    torch.ones(size // 4)
    device_memory.peak_bytes(lambda: torch.ones(size // 16), "cpu")  # begins a peak of its own
    assert later.read() > begun + 0.8 * size
    assert whole.read() >= later.read()


def test_where_a_peak_cannot_begin_anew_it_is_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "write_text", refuse)
    before = device_memory.Peak("cpu").read()
    torch.ones(256 * MIB // 4)
    assert device_memory.Peak("cpu").read() >= before > 0
    assert device_memory.peak_bytes(lambda: None, "cpu") == 0


def test_lanes_that_fit_follow_from_steps_of_two_and_four(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {2: 250, 4: 450}
    monkeypatch.setattr(device_memory, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(device_memory, "peak_bytes", lambda work, device: peaks[work()])
    assert (
        device_memory.max_lanes_that_fit(lambda count: count, "cpu", most=32) == 7
    )  # 2 + (0.8 * 1000 - 250) / 100
    assert device_memory.max_lanes_that_fit(lambda count: count, "cpu", most=4) == 4
    peaks |= {2: 500, 4: 10**9}  # four would not fit and are not tried
    assert device_memory.max_lanes_that_fit(lambda count: count, "cpu", most=32) == 2
    peaks[2] = 5000
    assert device_memory.max_lanes_that_fit(lambda count: count, "cpu", most=32) == 1


def test_a_first_step_that_allocates_once_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def peak(work: Callable[[], int]) -> int:
        first = not taken
        return work() * 100 + 1000 * first

    def step(count: int) -> int:
        taken.append(count)
        return count

    monkeypatch.setattr(device_memory, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(device_memory, "peak_bytes", lambda work, device: peak(work))
    assert device_memory.max_lanes_that_fit(step, "cpu", most=32) == 8
    assert taken == [1, 2, 4]


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000", "memory.current": "400"}, 600),
        ({"memory.max": "1000", "memory.current": "1400"}, 0),
        ({"memory.max": "max", "memory.current": "400"}, math.inf),
        ({"memory/memory.limit_in_bytes": "50", "memory/memory.usage_in_bytes": "20"}, 30),
        ({}, math.inf),
    ],
)
def test_a_containers_limit_counts(files: dict[str, str], left: float, tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert device_memory._left_in_cgroup(tmp_path) == left
    assert device_memory._left_in_cgroup(tmp_path, used=False) >= left


def test_workers_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_bytes", lambda device: 1000 * MIB)
    monkeypatch.setattr(device_memory, "peak_bytes", lambda work, device: work())
    fit = {}
    for workers in ("", "1", "2", "4"):
        monkeypatch.setenv(device_memory.SHARERS, workers)
        fit[workers] = device_memory.max_lanes_that_fit(lambda k: 20 * MIB * k, "cpu", 64)
    assert fit == {"": 40, "1": 40, "2": 20, "4": 10}
