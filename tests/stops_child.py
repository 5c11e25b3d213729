"""What a child process of the tests of stops does: a real `hpo run`, stopped at a real place.

Children are forked from a server that has imported everything, so that each starts at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hpo.cli import main
from objectives import progress
from objectives.store import store
from objectives.store.maintenance import IN_PROGRESS
from objectives.training import setup

Where = tuple[str, int]
"""Start of a stage's name, and its step; 0 for any."""


def run(
    words: Sequence[str],
    log: Path,
    *,
    signals: int | None = None,
    at: Where | None = None,
    entries: int | None = None,
) -> None:
    """`hpo WORDS`; a signal comes at that place, or the disk is full after some finished stages."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    torch.set_num_threads(1)
    progress.TELL_S = 0.0
    setup.CHECKPOINT_S = 0.03
    if signals is not None and at is not None:
        _signal_at(signals, at)
    if entries is not None:
        _fill_after(entries)
    sys.exit(main.main(words))


def _signal_at(number: int, at: Where) -> None:
    told = progress.Progress.__call__

    def tell(self: progress.Progress, event: dict[str, Any]) -> None:
        if event["stage"].startswith(at[0]) and at[1] in (0, event["step"]):
            os.kill(os.getpid(), number)
        told(self, event)

    progress.Progress.__call__ = tell  # type: ignore[method-assign]


def _fill_after(entries: int) -> None:
    put = store.Store.put
    left = entries

    def putting(
        self: store.Store, stage: str, key: str, write: Callable[[Path], None], **given: Any
    ) -> Path:
        nonlocal left
        left -= stage != IN_PROGRESS
        return put(self, stage, key, write if left >= 0 else _full, **given)

    store.Store.put = putting  # type: ignore[method-assign]


def _full(folder: Path) -> None:
    (folder / "half").write_text("half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


KILLED = -signal.SIGKILL
