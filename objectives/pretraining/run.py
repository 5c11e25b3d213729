"""Pretraining on several devices of one machine, with a process for each.

1. What the store holds is taken from there. For the rest one rank a device is started
   (`objectives.pretraining.worker`); the first one writes the store, and its progress is told here.
2. Where memory runs out, ranks are started again with half as many lanes at once.
3. Everything after pretraining goes on in this process, on one device.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from objectives.config.execution import Compiling
from objectives.data.token_dataset import TOKENS, TokenDataset
from objectives.pretraining import checkpoints, effective_lr
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.launcher import Message, Processes
from objectives.pretraining.sweep import MOST_LANES, VANISHED, Report
from objectives.store.store import Store
from objectives.training import loop


def check_rows(job: PretrainJob) -> None:
    """Raise ValueError where a batch cannot be shared by the devices."""
    pre = job.recipe.pretrain
    if pre.batch_size % (job.devices * pre.accumulation):
        of = "devices" if pre.accumulation == 1 else "devices times pretrain.accumulation"
        raise ValueError(
            f"pretrain.batch_size must be a multiple of {of}, so that each device takes as many "
            f"rows; got {pre.batch_size} and {job.devices * pre.accumulation}."
        )


def pretrain(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    store: Store,
    report: Report,
    *,
    max_lanes: int | None = None,
    compiling: Compiling = "auto",
) -> list[BaseModel]:
    """`objectives.pretraining.effective_lr.pretrain` on as many devices as all jobs name; a base a
    job, in order.

    Raises:
        ValueError, StoreError, MemoryError: as there.
        RanksError: a rank failed or was lost.
    """
    assert len({job.devices for job in jobs}) == 1
    if jobs[0].devices == 1:
        return effective_lr.pretrain(
            jobs, corpus, store, report, max_lanes=max_lanes, compiling=compiling
        )
    bases: dict[int, BaseModel] = {}
    for index, job in enumerate(jobs):
        base = checkpoints.finished(store, corpus, job)
        if base is not None:
            bases[index] = base
    missing = [index for index in range(len(jobs)) if index not in bases]
    if missing:
        check_devices(jobs[0].device, jobs[0].devices)
        asked = [jobs[index] for index in missing]
        with tempfile.TemporaryDirectory(prefix="hpo-ranks-") as folder:
            lost = Path(folder)
            records = _trained(asked, corpus, store, report, max_lanes, compiling, lost)
            for index, record in zip(missing, records, strict=True):
                bases[index] = _base(store, corpus, jobs[index], record, lost)
    return [bases[index] for index in range(len(jobs))]


def check_devices(device: str, count: int) -> None:
    """Raise ValueError where there are not so many devices of this kind."""
    if count == 1:
        return
    if torch.device(device).index is not None:
        raise ValueError(
            f"several devices are taken from the first on, got device {device!r}; use cuda."
        )
    there = torch.cuda.device_count()
    if torch.device(device).type == "cuda" and count > there:
        raise ValueError(f"devices is {count} but there are {there} GPUs here; lower it.")


def _base(
    store: Store, corpus: TokenDataset, job: PretrainJob, record: Message, lost: Path
) -> BaseModel:
    """A base that the ranks have trained, with what that took."""
    if record["lost_at"] == loop.NEVER:
        base = checkpoints.finished(store, corpus, job)
        if base is None:
            raise RuntimeError(VANISHED)
    else:
        base = checkpoints.read(lost / record["key"], record["key"])
    return dataclasses.replace(base, **record)


def _trained(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    store: Store,
    report: Report,
    max_lanes: int | None,
    compiling: Compiling,
    folder: Path,
) -> list[Message]:
    """What came of each job, with fewer lanes at once where memory runs out."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # the first rank shares this process's device
    sharded = all(job.sharding == "fsdp" for job in jobs)
    most = 1 if sharded else min(max_lanes or MOST_LANES, len(jobs))
    while True:
        asked = _asked(jobs, corpus, store, max_lanes, compiling, folder)
        ranks = Processes(asked, jobs[0].devices, str(folder))
        try:
            return ranks.run(report)
        except MemoryError:
            if most == 1:
                raise MemoryError(
                    "one lane does not fit into the memory of the devices; use sharding fsdp or "
                    "more devices, set pretrain.activation_checkpointing, or take a smaller batch "
                    "or model."
                ) from None
            max_lanes = most = most // 2
        finally:
            ranks.kill()


def _asked(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    store: Store,
    max_lanes: int | None,
    compiling: Compiling,
    folder: Path,
) -> Message:
    """What the ranks are told; JSON-able."""
    texts = {id(job.second): job.second for job in jobs if job.second is not None}
    places = {name: place for place, name in enumerate(texts)}
    seq_len = jobs[0].recipe.pretrain.seq_len
    return {
        "device": torch.device(jobs[0].device).type,
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "lost": str(folder),
        "store": {
            "root": str(store.root),
            "budget": store.budget,
            "share": None if store.mirror is None else store.mirror.url,
        },
        "corpora": [_text(each, store, seq_len, folder) for each in (corpus, *texts.values())],
        "jobs": [
            {
                "recipe": job.recipe.to_dict(),
                "seed": job.seed,
                "steps": job.steps,
                "sharding": job.sharding,
                "second": None if job.second is None else places[id(job.second)],
            }
            for job in jobs
        ],
        "max_lanes": max_lanes,
        "compiling": compiling,
    }


def _text(corpus: TokenDataset, store: Store, seq_len: int, folder: Path) -> Message:
    """A corpus by its stage, which this process has in use, and its tokenizer."""
    entry = store.get(TOKENS, corpus.key)
    if entry is None:
        raise RuntimeError(VANISHED)
    tokenizer = folder / "tokenizer"
    corpus.tokenizer.save_pretrained(tokenizer)
    return {
        "entry": str(entry),
        "tokenizer": str(tokenizer),
        "tokenizer_key": corpus.tokenizer_key,
        "vocab_size": corpus.vocab_size,
        "weights": corpus.weights,
        "seq_len": seq_len,
    }
