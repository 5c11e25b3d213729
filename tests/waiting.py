"""How long tests wait for what comes by itself: no machine is as slow, only a broken program is."""

from __future__ import annotations

import time
from collections.abc import Callable

LONG_S = 600.0


def wait_for(ready: Callable[[], bool]) -> None:
    """Until it is ready."""
    deadline = time.monotonic() + LONG_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)
