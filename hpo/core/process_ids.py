"""What tells a process from a later one of its number, or from another machine's."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path

import psutil


def machine() -> str:
    """Equal in two processes only if each can see the other by its pid."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def born_at(pid: int) -> float | None:
    """When a process was started; None if it is not there or a zombie.

    Linux counts in ticks since the boot, which do not move when the clock is set.
    """
    try:
        if sys.platform == "linux":
            after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
            state, *fields = after_name.split()
            return None if state in "ZX" else float(fields[18])
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else float(found.create_time())
    except (OSError, psutil.NoSuchProcess):
        return None
