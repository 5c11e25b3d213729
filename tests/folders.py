"""Where files and databases of tests and benches are that need not outlive a power cut."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")


ROOM = 2e9
"""Bytes that have to be free: a container may have 64 MB there; a hundred databases take 1e9."""


def in_memory() -> str | None:
    """The folder that no disk is behind; None, which is the usual one, where there is no room."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        return str(MEMORY)
    return None
