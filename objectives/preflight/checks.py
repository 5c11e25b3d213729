"""What can be checked of requests before the first token is read: all that needs no training.

In the order in which the answers are cheap: devices, store and disk; schedules and batches of every
request; model, tokenizer and adapters; corpus and tasks, from their first documents and all their
rows. What many requests have in common is checked once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import torch

from objectives.config import data as recipe
from objectives.config import recipe as config_recipe
from objectives.config.execution import Execution, check_device
from objectives.config.training import longest_row, of_task
from objectives.data import sources, tasks, token_dataset, tokenize
from objectives.finetuning import model_check
from objectives.models import causal_lm, double_precision
from objectives.pretraining import run as parallel
from objectives.pretraining.job import PretrainJob, check_length, job_of
from objectives.store.remote import Mirror, Unreachable
from objectives.store.store import StoreError, key_of
from objectives.training import lr_schedule
from objectives.training.weight_decay_schedule import SCORED_POLICIES
from objectives.types import Request

LEAST_FREE = 50e6
"""Bytes without which no stage is begun; assumed."""


T = TypeVar("T")


def check_requests(
    changed: config_recipe.Recipe, requests: Sequence[Request], execution: Execution
) -> None:
    """Check everything; the same again in no time.

    Raises:
        ValueError: something is not there, or does not go together; with the params that are asked
            for where it is they that do not fit.
    """
    check_execution(execution)
    done = Done()
    for request in requests:
        problem = _problem(changed, request, execution, done)
        if problem is not None:
            plain = Request(params={}, fidelity=1.0, seed=request["seed"])
            alone = problem == _problem(changed, plain, execution, done)
            raise ValueError(problem if alone else _with(problem, request))


def _problem(
    changed: config_recipe.Recipe, request: Request, execution: Execution, done: Done
) -> str | None:
    """What is wrong with a request, None if nothing."""
    try:
        job = job_of(changed, request, execution)
        check_job(job)
        check_precision(job, execution.device_name)
        _check_parts(job, execution, done)
    except ValueError as error:
        return str(error)
    return None


def check_precision(job: PretrainJob, device: str) -> None:
    """Raise ValueError where a policy needs float64 and the device has none."""
    policy = job.recipe.pretrain.weight_decay.policy
    if torch.device(device).type in double_precision.WITHOUT and policy in SCORED_POLICIES:
        raise ValueError(
            f"pretrain.weight_decay.policy {policy!r} computes in float64, which {device} does not "
            "have; use another policy, or another device."
        )


def _with(problem: str, request: Request) -> str:
    """The sentence with the params and the share of the horizon that it is about."""
    about = [f"{path}={value!r}" for path, value in request["params"].items()]
    if request["fidelity"] < 1:
        about.append(f"a rung at {request['fidelity']:.3g} of the steps")
    return f"{problem.rstrip('.')} (with {', '.join(about)})." if about else problem


class Done:
    """Checks that were made, by what they depend on."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def once(self, run: Callable[[], T], *on: object) -> T:
        """What a check gives; it is run unless that was done for equal data."""
        key = key_of(*on)
        if key not in self.found:
            self.found[key] = run()
        found: T = self.found[key]
        return found


def check_execution(execution: Execution) -> None:
    """Devices, the store's folder and the shared one.

    Raises:
        ValueError: one cannot be used.
    """
    check_device(execution.device_name)
    parallel.check_devices(execution.device_name, execution.devices)
    root = execution.store.absolute()
    there = next(path for path in (root, *root.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        raise ValueError(
            f"cannot write to the store {root} ({error.strerror}); choose another folder with "
            "--out."
        ) from None
    if free < LEAST_FREE:
        raise StoreError(
            f"the disk of {there} has {free / 1e6:.0f} MB left, and stages need more; free some "
            "space or choose another folder with --out, then run the same command to go on."
        )
    if execution.share is not None:
        try:
            Mirror(execution.share).keys(token_dataset.TOKENS)
        except Unreachable as error:
            raise ValueError(f"{error}: is it reachable, and may it be read?") from None


def check_job(job: PretrainJob) -> None:
    """The course of a request's training.

    Raises:
        ValueError: a warmup or a batch that does not fit.
    """
    _ = job.merge, job.lr, job.decay
    if job.devices > 1:
        parallel.check_rows(job)
    fine = job.recipe.finetune
    for steps in {of_task(fine, task.override).steps for task in fine.tasks}:
        if steps is not None:
            lr_schedule.check_schedule(fine.schedule, steps, "finetune.schedule")


def _check_parts(job: PretrainJob, execution: Execution, done: Done) -> None:
    """Model, text and tasks."""
    data, changed = job.recipe.to_dict(), job.recipe
    pre, fine = data["pretrain"], data["finetune"]
    vocab = done.once(lambda: vocab_size(changed.corpus), "tokenizer", data["corpus"])
    shape = [
        data["model"],
        vocab,
        pre["seq_len"],
        longest_row(changed.finetune),
        fine["method"],
        fine["lora"],
    ]
    done.once(lambda: check_model_of(changed, vocab), "model", shape)
    mid = changed.pretrain.mid
    for source in (*sources.all_of(changed.corpus), *(mid.sources if mid is not None else ())):
        done.once(
            lambda source=source: check_source(source, execution),  # type: ignore[misc]
            *("source", asdict(source)),
        )
    done.once(
        lambda: tokenize.check_splits(changed.corpus, changed.pretrain.seq_len),
        *("splits", data["corpus"], pre["seq_len"]),
    )
    for task, on in zip(changed.finetune.tasks, fine["tasks"], strict=True):
        done.once(lambda task=task: check_task(task), "task", on)  # type: ignore[misc]


def vocab_size(corpus: recipe.Corpus) -> int:
    """Of the given tokenizer, or what is asked of the one that is trained; read once a name.

    Raises:
        ValueError: the tokenizer cannot be read.
    """
    if corpus.tokenizer is None:
        return corpus.vocab_size
    return len(tokenize.load_tokenizer(corpus.tokenizer))


def check_model_of(changed: config_recipe.Recipe, vocab: int) -> None:
    """Shape, lengths, adapters and the weights to start from.

    Raises:
        ValueError: an unknown preset, a config or weights that cannot be read or do not fit,
            adapters that match no layer.
    """
    config = causal_lm.build_config(changed.model, vocab)
    check_length(changed, vocab)
    model_check.check_model(changed, vocab)
    if changed.model.weights is not None:
        causal_lm.initial_parameters(changed.model, config, 0)


def check_source(source: recipe.Source, execution: Execution) -> None:
    """That the files are there, and the first document of each can be read.

    Without a network a dataset of the hub passes if the store knows it.

    Raises:
        ValueError: no file, dataset or text.
    """
    store = None
    if isinstance(source, recipe.HubDataset) and execution.store.exists():
        store = execution.open_store()
    try:
        sources.check(source, store)
    finally:
        if store is not None:
            store.close()


def check_task(task: recipe.Task) -> None:
    """That all rows of a task can be read, and every split has some.

    Raises:
        ValueError: an unknown or unreadable task, a row without its fields, an empty split, labels
            that cannot be distinguished.
    """
    tasks.check(task)
