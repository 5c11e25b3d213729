"""Pretraining: what is finished, references first, one process or several, then the sweep.

1. What the store holds is taken from there.
2. On one device the rest is trained in this process: runs whose effective rate others follow first,
   with all that follow none, then their followers.
3. On several devices one process a device is started (`objectives.pretraining.worker`), and each of
   them comes here with the same jobs; the first one writes the store, and its progress is reported
   here. Where memory runs out they are started again with half as many lanes at once.

Everything after pretraining goes on in this process, on one device.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from objectives.data.token_dataset import TOKENS, TokenDataset
from objectives.pretraining import checkpoints, effective_lr
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.lane_checkpoints import DELETED
from objectives.pretraining.launcher import Message, Processes
from objectives.pretraining.sweep import train_bases
from objectives.store.store import Store
from objectives.training import out_of_memory
from objectives.training.runtime import Runtime

ONE_LANE = (
    "one lane does not fit into the memory of the devices; use sharding fsdp or more devices, set "
    "pretrain.activation_checkpointing, or take a smaller batch or model."
)


def pretrain(
    jobs: Sequence[PretrainJob], corpus: TokenDataset, runtime: Runtime
) -> list[BaseModel]:
    """Pretrain jobs of one corpus, all on as many devices; one base a job, in order.

    An exception that `runtime.report` raises stops the work at the end of a step, with all lanes
    stored. When memory runs out, lanes are stored and go on with half as many at once; of several
    ranks the one without memory leaves. What training a reference took counts for its follower,
    split with a request for the same run.

    Raises:
        ValueError: a schedule that does not fit its horizon, an unknown model.
        StoreError: the store cannot be written.
        MemoryError: even one lane does not fit.
        RanksError: one of several processes failed or was lost.
    """
    bases: dict[int, BaseModel] = {}
    for index, job in enumerate(jobs):
        base = checkpoints.finished(runtime.store, corpus, job)
        if base is not None:
            bases[index] = base
    missing = [index for index in range(len(jobs)) if index not in bases]
    if missing:
        elsewhere = jobs[missing[0]].devices > runtime.ranks.count
        train = _train_in_processes if elsewhere else _train_here
        trained = train([jobs[index] for index in missing], corpus, runtime)
        bases |= zip(missing, trained, strict=True)
    return [bases[index] for index in range(len(jobs))]


def _train_here(
    jobs: Sequence[PretrainJob], corpus: TokenDataset, runtime: Runtime
) -> list[BaseModel]:
    """Train references and runs that follow none, then the followers."""
    waiting = {i: job.reference for i, job in enumerate(jobs) if job.reference is not None}
    first = [index for index in range(len(jobs)) if index not in waiting]
    trained = train_bases([*(jobs[i] for i in first), *waiting.values()], corpus, runtime)
    bases = dict(zip(first, trained, strict=False))
    references = dict(zip(waiting, trained[len(first) :], strict=True))
    for index, reference in references.items():
        if reference.diverged_at is not None:
            key = jobs[index].base_key(corpus)
            bases[index] = effective_lr.diverged_reference(reference, key)
    ready = [index for index in waiting if index not in bases]
    followers = [effective_lr.with_reference_norms(jobs[i], references[i]) for i in ready]
    for index, base in zip(ready, train_bases(followers, corpus, runtime), strict=True):
        bases[index] = effective_lr.with_reference_cost(base, references[index])
    return [bases[index] for index in range(len(jobs))]


def _train_in_processes(
    jobs: Sequence[PretrainJob], corpus: TokenDataset, runtime: Runtime
) -> list[BaseModel]:
    """Train with one process a device, fewer lanes at once where memory runs out."""
    assert len({job.devices for job in jobs}) == 1
    assert isinstance(runtime.store, Store)
    check_devices(jobs[0].device, jobs[0].devices)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # the first rank shares this process's device
    sharded = all(job.sharding == "fsdp" for job in jobs)
    most = 1 if sharded else min(runtime.most_lanes, len(jobs))
    with tempfile.TemporaryDirectory(prefix="hpo-ranks-") as name:
        folder = Path(name)

        def run(lanes: int) -> list[Message]:
            max_lanes = runtime.max_lanes if lanes == most else lanes
            message = _message(jobs, corpus, runtime, max_lanes, folder)
            ranks = Processes(message, jobs[0].devices, name)
            try:
                return ranks.run(runtime.report)
            finally:
                ranks.kill()

        records, _ = out_of_memory.with_fewer(most, run, ONE_LANE)
        return [
            _base(runtime.store, corpus, job, record, folder)
            for job, record in zip(jobs, records, strict=True)
        ]


def _base(
    store: Store, corpus: TokenDataset, job: PretrainJob, record: Message, lost: Path
) -> BaseModel:
    """A base that the ranks have trained, with what that took."""
    if record["diverged_at"] is None:
        base = checkpoints.finished(store, corpus, job)
        if base is None:
            raise RuntimeError(DELETED)
    else:
        base = checkpoints.read_base(lost / record["key"], record["key"])
    return dataclasses.replace(base, **record)


def _message(
    jobs: Sequence[PretrainJob],
    corpus: TokenDataset,
    runtime: Runtime,
    max_lanes: int | None,
    folder: Path,
) -> Message:
    """What the ranks are to train; JSON-able."""
    assert isinstance(runtime.store, Store)
    store = runtime.store
    texts = {id(job.second): job.second for job in jobs if job.second is not None}
    numbers = {name: number for number, name in enumerate(texts)}
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
                "second": None if job.second is None else numbers[id(job.second)],
            }
            for job in jobs
        ],
        "max_lanes": max_lanes,
        "compiling": runtime.compiling,
    }


def _text(corpus: TokenDataset, store: Store, seq_len: int, folder: Path) -> Message:
    """A corpus by its stage, which this process has in use, and its tokenizer."""
    entry = store.get(TOKENS, corpus.key)
    if entry is None:
        raise RuntimeError(DELETED)
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


def check_rows(job: PretrainJob) -> None:
    """Raise ValueError where a batch cannot be shared by the devices."""
    pre = job.recipe.pretrain
    if pre.batch_size % (job.devices * pre.accumulation):
        of = "devices" if pre.accumulation == 1 else "devices times pretrain.accumulation"
        raise ValueError(
            f"pretrain.batch_size must be a multiple of {of}, so that each device takes as many "
            f"rows; got {pre.batch_size} and {job.devices * pre.accumulation}."
        )


def check_devices(device: str, count: int) -> None:
    """Raise ValueError where there are not so many devices of this kind."""
    if count == 1:
        return
    if torch.device(device).index is not None:
        raise ValueError(
            f"several devices are taken from the first on, got device {device!r}; use cuda."
        )
    if torch.device(device).type == "mps":
        raise ValueError(f"devices is {count} but mps is one device; set it to 1.")
    there = torch.cuda.device_count()
    if torch.device(device).type == "cuda" and count > there:
        raise ValueError(f"devices is {count} but there are {there} GPUs here; lower it.")
