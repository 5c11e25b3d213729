"""One rank: a process that pretrains together with others, for the process that started it.

In, JSON lines: what to train, then {"stop": true} to have it stop after the step that is under way.
The end of the input ends the process at once, so none outlives the one that started it.

Out, JSON lines, of the first rank: {"event": {...}} any number of times, then {"done": [...]} if
it was not stopped; of any rank {"error": {"kind", "text", "trace"}} before it leaves.

Ranks find each other by a file and talk over the loopback interface, which their environment names.
Only the first rank has a store; what it finds there and when it stops the others hear from it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from objectives.config.recipe import Recipe
from objectives.data import token_dataset
from objectives.data.token_dataset import TokenDataset
from objectives.models import huggingface
from objectives.pretraining import checkpoints
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.run import pretrain
from objectives.progress import Report
from objectives.store.remote import Mirror
from objectives.store.store import Store
from objectives.training import out_of_memory
from objectives.training.process_group import OutOfMemory, ProcessGroup
from objectives.training.runtime import Runtime

Message = dict[str, Any]


Send = Callable[[Message], None]


TELL_S = 0.1
"""Seconds between two events."""


RESULT_FIELDS = (
    "key", "diverged_at", "device_s", "trained_steps", "trained_s", "reference_steps",
    "reference_lost",
)  # fmt: skip
"""What is reported of a base; the rest is in its stage."""


EXIT_STOPPED = 130


T = TypeVar("T")


PR_SET_PDEATHSIG = 1
"""Linux, <linux/prctl.h>."""


class Stopped(BaseException):
    """All ranks were asked to stop after this step."""


class BroadcastStore:
    """The first rank's store as all ranks see it: it looks and writes, the others hear of it."""

    def __init__(self, store: Store | None, ranks: ProcessGroup) -> None:
        self.store, self.ranks = store, ranks

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder if it exists and is whole."""
        found = None if self.store is None else self.store.get(stage, key)
        path = self.ranks.broadcast_str("" if found is None else str(found))
        return Path(path) if path else None

    def read(self, stage: str, key: str, reader: Callable[[Path], T]) -> T | None:
        """What a reader gives of an entry, or None.

        The first rank decides whether the entry is whole.
        """
        if self.store is None:
            path = self.ranks.broadcast_str("")
            return reader(Path(path)) if path else None
        found = self.store.read(stage, key, lambda folder: (folder, reader(folder)))
        self.ranks.broadcast_str("" if found is None else str(found[0]))
        return None if found is None else found[1]

    def keys(self, stage: str) -> Iterator[str]:
        """Keys of the entries of a stage."""
        found = [] if self.store is None else list(self.store.keys(stage))
        yield from json.loads(self.ranks.broadcast_str(json.dumps(found)))

    def put(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], None],
        *,
        seconds: float | None = None,
    ) -> None:
        """Write an entry."""
        if self.store is not None:
            self.store.put(stage, key, write, seconds=seconds)

    def supersede(self, stage: str, key: str) -> None:
        """Delete an entry that this process no longer needs."""
        if self.store is not None:
            self.store.supersede(stage, key)


def main() -> int:
    """Train with the other ranks; returns the exit code."""
    _die_with_parent()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # for the one who started this
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    asked = json.loads(sys.stdin.readline())
    stop = threading.Event()
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()

    def send(message: Message) -> None:
        wire.write(json.dumps(message) + "\n")
        wire.flush()

    try:
        _work(asked, send, stop)
    except Exception as error:
        send({"error": _error_message(error)})
        return 1
    return 0


def _work(asked: Mapping[str, Any], send: Send, stop: threading.Event) -> None:
    ranks = ProcessGroup(asked["rank"], asked["count"])
    torch.set_default_dtype(getattr(torch, asked["dtype"]))
    device = asked["device"]
    backend = "gloo"
    if device == "cuda":
        device, backend = f"cuda:{ranks.rank}", "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    meeting = f"file://{asked['meeting']}"
    dist.init_process_group(backend, init_method=meeting, rank=ranks.rank, world_size=ranks.count)
    store = _open_store(asked["store"]) if ranks.first else None
    try:
        corpus, *seconds = (_corpus(each) for each in asked["corpora"])
        jobs = [_job(each, device, ranks, seconds) for each in asked["jobs"]]
        runtime = Runtime(
            store=BroadcastStore(store, ranks),
            report=_reporting(ranks, send, stop),
            max_lanes=asked["max_lanes"],
            compiling=asked["compiling"],
            ranks=ranks,
        )
        bases = pretrain(jobs, corpus, runtime)
        if ranks.first:
            send({"done": [_record(base, Path(asked["lost"])) for base in bases]})
    except Stopped:
        pass
    finally:
        if store is not None:
            store.close()
    ranks.broadcast_int(0)  # none leaves while another one needs it
    dist.destroy_process_group()


def _open_store(asked: Mapping[str, Any]) -> Store:
    url = asked["share"]
    mirror = None if url is None else Mirror(url)
    return Store(Path(asked["root"]), budget=asked["budget"], mirror=mirror)


def _corpus(asked: Mapping[str, Any]) -> TokenDataset:
    tokenizer = huggingface.open_tokenizer(asked["tokenizer"], local=True)
    if len(tokenizer) != asked["vocab_size"]:
        raise RuntimeError(
            f"the tokenizer has {len(tokenizer)} tokens where it is read again, not "
            f"{asked['vocab_size']}; train on one device."
        )
    return token_dataset.open_tokens(
        Path(asked["entry"]),
        tokenizer,
        asked["tokenizer_key"],
        tuple(asked["weights"]),
        asked["seq_len"],
    )


def _job(
    asked: Mapping[str, Any], device: str, ranks: ProcessGroup, seconds: list[TokenDataset]
) -> PretrainJob:
    second = asked["second"]
    return PretrainJob(
        Recipe.from_dict(asked["recipe"]),
        asked["seed"],
        asked["steps"],
        device,
        ranks.count,
        asked["sharding"],
        None if second is None else seconds[second],
    )


def _record(base: BaseModel, lost: Path) -> Message:
    """What came of a job; weights that no stage holds are written beside it."""
    if base.diverged_at is not None:
        folder = lost / base.key
        folder.mkdir(exist_ok=True)
        checkpoints.write_base(base, folder)
    return {name: getattr(base, name) for name in RESULT_FIELDS}


def _reporting(ranks: ProcessGroup, send: Send, stop: threading.Event) -> Report:
    """Tells of steps, a few a second, and raises `Stopped` in all ranks after the same one."""
    tokens, sent_at = 0, time.monotonic()

    def report(event: Message) -> None:
        nonlocal tokens, sent_at
        tokens += event["tokens"]
        due = time.monotonic() - sent_at > TELL_S or event["step"] == event["steps"]
        if ranks.first and due:
            losses = event["loss"].tolist()
            send({"event": {**event, "tokens": tokens, "loss": losses}})
            tokens, sent_at = 0, time.monotonic()
        if ranks.broadcast_int(int(stop.is_set())):
            raise Stopped

    return report


def _error_message(error: Exception) -> dict[str, str]:
    """An exception as JSON-able data."""
    short = isinstance(error, OutOfMemory) or out_of_memory.is_out_of_memory(error)
    kind = "MemoryError" if short else type(error).__name__
    text = " ".join(str(error).split()) or kind
    return {"kind": kind, "text": text, "trace": "".join(traceback.format_exception(error))}


def _listen(stop: threading.Event) -> None:
    """Hear that this should stop; at the end of the input leave at once."""
    for _ in sys.stdin:
        stop.set()
    os._exit(EXIT_STOPPED)


def _die_with_parent() -> None:
    """Have Linux end this process when the one that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    # Threads of libraries may hold up the interpreter's end; all that matters is on disk.
    code = main()
    sys.stderr.flush()
    os._exit(code)
