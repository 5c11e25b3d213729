"""Memory on a CPU: freed memory is used again, and a measured peak is that of the work alone."""

from __future__ import annotations

import ctypes
import resource
import sys

import pytest
import torch

from objectives import memory

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
    memory.keep_freed()
    for _ in range(10):  # until a free block of this size and alignment lies there
        faults_of_another(size)
    assert faults_of_another(size) < size // PAGE // 10
    memory.hand_back()
    assert faults_of_another(size) > size // PAGE // 2


@glibc_only
def test_a_peak_counts_memory_that_an_earlier_work_had_freed() -> None:
    size = 128 * MIB
    memory.keep_freed()
    torch.ones(size // 4)
    peak = memory.peak_bytes(lambda: torch.ones(size // 4), "cpu")
    assert 0.9 * size < peak < 1.5 * size


def test_lanes_that_fit_follow_from_steps_of_one_and_two(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {1: 300, 2: 400}
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(memory, "peak_bytes", lambda work, device: peaks[work()])
    assert memory.fitting(lambda count: count, "cpu", most=32) == 6  # (0.8 * 1000 - 300) / 100 + 1
    assert memory.fitting(lambda count: count, "cpu", most=4) == 4
    peaks[1] = peaks[2] = 5000
    assert memory.fitting(lambda count: count, "cpu", most=32) == 1
