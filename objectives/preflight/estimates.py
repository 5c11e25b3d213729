"""What requests would cost: tokens, disk, and time by a measured step; nothing is kept.

1. A base is taken to train what no earlier request and no stage of the store has done.
2. Where the corpus has been tokenized before, rows of tasks are counted in its tokens, and stages
   are looked up by their keys. Else nothing that depends on it can be stored, and a token is taken
   to be `BYTES_PER_TOKEN` long.
3. The step is a real one: the model of the first request, as many lanes as a wave trains together,
   on random tokens. A fine-tuning token is taken to cost as much as one of pretraining.

What is not counted: evaluation, probes, and learning rates beyond the grid.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from objectives.config.data import Task
from objectives.config.execution import Execution
from objectives.config.recipe import Model, Recipe
from objectives.config.training import Finetune, Schedule, of_task
from objectives.config.weight_decay import EffectiveLrOf
from objectives.data import tasks
from objectives.data.known_texts import NotStoredError
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning import from_scratch, lora, measured, runs
from objectives.models import causal_lm
from objectives.preflight.checks import vocab_size
from objectives.pretraining.checkpoints import MERGED
from objectives.pretraining.data_cache import DataCache, data_key
from objectives.pretraining.job import PretrainJob, job_of
from objectives.pretraining.reuse import reused
from objectives.pretraining.run import pretrain
from objectives.store.entries import MANIFEST, DamagedError
from objectives.store.maintenance import IN_PROGRESS, MOMENTS, PRETRAIN
from objectives.store.store import Store
from objectives.training.runtime import MOST_LANES, Runtime
from objectives.types import Request

BYTES_PER_TOKEN = 3.0
"""Of text whose tokenizer is not known yet; assumed, for small vocabularies."""


MOMENTS_PER_WEIGHT = 2
"""Of AdamW, each as large as the weights."""


STEPS, LONGEST_S = 6, 8.0
"""Steps that are timed, fewer where they take longer than this."""


USUAL_ROW_TOKENS = 32
"""Tokens of a task's row that is not read; assumed: builtin tasks have 10 to 50."""


COMPARED = 64
"""Earlier requests that one is compared with; assumed: beyond, little is shared."""


T = TypeVar("T")


def estimate(
    recipe: Recipe,
    asked: Sequence[Request],
    execution: Execution,
    *,
    together: int = 1,
    timed: bool = True,
) -> dict[str, Any]:
    """What the requests would cost; JSON-able.

    `tokens` of pretraining and fine-tuning in all, and those of them that are `stored`; `seconds`
    of training on one worker that trains `together` at once, None where not `timed`; `disk_bytes`
    of new stages; `parameters` of the first request's model; `notes` in sentences.
    """
    jobs = [job_of(recipe, each, execution) for each in asked]
    found = _Found(execution.store.absolute())
    pretraining = stored = tuning = tuned = disk = 0.0
    for index, job in enumerate(jobs):
        tokens = job.steps * job.recipe.pretrain.batch_size * job.recipe.pretrain.seq_len
        tokens *= 1 if job.reference is None else 2
        shared, kept = _shared(jobs, index), found.trained(job)
        pretraining += tokens * (1 - shared)
        stored += tokens * max(0.0, kept - shared)
        new, old = (0.0, 0.0) if asked[index].get("base_only") else found.tuning(job)
        tuning, tuned = tuning + new, tuned + old
        disk += _base_bytes(job) * (1 - max(shared, kept))
        disk += 0.0 if old else _tuned_bytes(job)
    rate = tokens_per_second(jobs[0], min(together, len(jobs)), execution) if timed else None
    left = pretraining - stored + tuning - tuned
    return {
        "parameters": _num_params(jobs[0]),
        "device": execution.device_name,
        "tokens": {"pretraining": pretraining, "finetuning": tuning},
        "stored": {"pretraining": stored, "finetuning": tuned},
        "tokens_per_second": rate,
        "seconds": None if rate is None else left / rate,
        "disk_bytes": disk,
        "notes": found.notes(),
    }


def cpu_operations(recipe: Recipe, asked: Sequence[Request], execution: Execution) -> float:
    """Roughly what training these requests takes on CPU cores, at once; 0 on another device.

    6 operations a parameter and token; the rows of tasks are not read.
    """
    if torch.device(execution.device_name).type != "cpu":
        return 0.0
    total = 0.0
    for job in (job_of(recipe, each, execution) for each in asked):
        pre, fine = job.recipe.pretrain, job.recipe.finetune
        tokens = job.steps * pre.batch_size * pre.seq_len * (1 if job.reference is None else 2)
        each = [of_task(fine, task.override) for task in fine.tasks]
        sizes = [(one, _unread_steps(one), min(one.max_length, USUAL_ROW_TOKENS)) for one in each]
        total += 6 * _num_params(job) * (tokens + runs.tuning_tokens(sizes))
    return total


def _unread_steps(fine: Finetune) -> int:
    """Steps of a fine-tune on rows that are not read yet."""
    if fine.steps is not None:
        return fine.steps
    return round((fine.epochs or 0) * (fine.train_rows or 0) / fine.batch_size)


def tokens_per_second(job: PretrainJob, count: int, execution: Execution) -> float:
    """Of real training steps of this job's model with `count` lanes on random tokens."""
    pre = job.recipe.pretrain
    plain = dataclasses.replace(
        pre,
        schedule=Schedule(),
        effective_lr_of=EffectiveLrOf(),
        mid=None,
        keep_trunk=False,
    )
    lanes = [
        dataclasses.replace(
            job,
            recipe=dataclasses.replace(
                job.recipe, pretrain=dataclasses.replace(plain, lr=pre.lr * (1 + lane / 1000))
            ),
            steps=STEPS,
        )
        for lane in range(min(count, execution.lanes or MOST_LANES))
    ]
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="hpo-check-") as folder:
        store = Store(Path(folder))
        try:
            runtime = Runtime(store=store, report=clock, max_lanes=execution.lanes, compiling="off")
            pretrain(lanes, _random_corpus(job), runtime)
        except _EnoughError:
            pass
        finally:
            store.close()
    return clock.tokens_per_second()


class _EnoughError(Exception):
    """Ends the timing."""


class _Clock:
    """Told of progress, it times the steps after the first, which warms up."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["stage"].startswith("pretrain"):
            self.seen.append((time.monotonic(), event["tokens"]))
            if len(self.seen) > 1 and self.seen[-1][0] - self.seen[0][0] > LONGEST_S:
                raise _EnoughError

    def tokens_per_second(self) -> float:
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return statistics.median(tokens / (now - before) for (before, _), (now, tokens) in pairs)


def _random_corpus(job: PretrainJob) -> TokenDataset:
    """As many random tokens as one step takes."""
    pre, vocab = job.recipe.pretrain, vocab_size(job.recipe.corpus)
    size = max(pre.batch_size, -(-pre.curve_tokens // pre.seq_len)) * pre.seq_len + 1
    tokens = np.random.default_rng(0).integers(0, vocab, size).astype(np.uint32)
    return TokenDataset(
        key="random",
        tokenizer=cast(Any, range(vocab)),  # only its length is asked for
        tokenizer_key="random",
        train=(tokens,),
        weights=(1.0,),
        validation=tokens,
        bytes_per_token=1.0,
    )


class _Looking:
    """A store that is only looked at: no folder, lease or file is made, no content is checked."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder."""
        entry = self.root / stage / key
        return entry if (entry / MANIFEST).is_file() else None

    def read(self, stage: str, key: str, reader: Callable[[Path], T]) -> T | None:
        """What is read from the entry's folder."""
        entry = self.get(stage, key)
        return None if entry is None else reader(entry)

    def put(self, stage: str, key: str, write: Callable[[Path], None]) -> None:
        """Nothing is kept."""

    def keys(self, stage: str) -> Iterator[str]:
        """Keys of a stage's entries."""
        yield from sorted(path.parent.name for path in (self.root / stage).glob(f"*/{MANIFEST}"))

    def cached(
        self, stage: str, key: str, write: Callable[[Path], None], read: Callable[[Path], T]
    ) -> T:
        """What is read from an entry that is there."""
        found = self.read(stage, key, read)
        if found is None:
            raise NotStoredError
        return found


class _Found:
    """What a store holds of jobs, and what their fine-tunes take."""

    def __init__(self, root: Path) -> None:
        self.looking = _Looking(root)
        self.prepared = DataCache()
        self.texts: dict[str, tuple[TokenDataset, list[tasks.Task]] | None] = {}
        self.controls: set[tuple[Model, Finetune, int]] = set()
        """Counted once."""
        self.kept = {stage: set(self.looking.keys(stage)) for stage in (PRETRAIN, MERGED)}
        able = set(self.looking.keys(MOMENTS)) & self.kept[PRETRAIN]
        self.startable = able | set(self.looking.keys(IN_PROGRESS))
        steps = {key.split("-")[0] for key in self.startable}
        self.steps = sorted((int(each) for each in steps if each.isdecimal()), reverse=True)

    def notes(self) -> list[str]:
        """What was not found."""
        if all(text is not None for text in self.texts.values()):
            return []
        return [
            "The corpus is not tokenized in this store yet: a token is taken to be "
            f"{BYTES_PER_TOKEN:g} bytes of a task's text, and nothing of the study is stored."
        ]

    def trained(self, job: PretrainJob) -> float:
        """Share of the job's steps that is stored."""
        text = self._text(job)
        if text is None:
            return 0.0
        corpus, job = text[0], self._with_second(job, text[0])
        if job.base_key(corpus) in self.kept[PRETRAIN if job.merge is None else MERGED]:
            return 1.0
        there = (s for s in self.steps if s <= job.steps and job.key(corpus, s) in self.startable)
        return next(there, 0) / job.steps

    def tuning(self, job: PretrainJob) -> tuple[float, float]:
        """Tokens of the job's fine-tunes, and those of them that are stored."""
        fine, text = job.recipe.finetune, self._text(job)
        model = job.recipe.model
        with_control = fine.from_scratch != "off" and (model, fine, job.seed) not in self.controls
        self.controls.add((model, fine, job.seed))
        if text is None:
            each = [of_task(fine, task.override) for task in fine.tasks]
            guessed = [
                (own, *_guessed(task, own)) for task, own in zip(fine.tasks, each, strict=True)
            ]
            return runs.tuning_tokens(guessed) * (2 if with_control else 1), 0.0
        corpus, loaded = text
        job = self._with_second(job, corpus)
        tokens = runs.tuning_tokens(runs.sizes(fine, loaded))
        keys = [measured.measures_key(job, job.base_key(corpus), corpus, loaded)]
        if with_control:
            control = from_scratch.control_job(job)
            initial = from_scratch.initial_key(control, corpus)
            keys.append(measured.measures_key(control, initial, corpus, loaded))
        there = sum(self.looking.get("finetune", key) is not None for key in keys)
        return tokens * len(keys), tokens * there

    def _text(self, job: PretrainJob) -> tuple[TokenDataset, list[tasks.Task]] | None:
        """The corpus and the tasks in its tokens; None where it is not tokenized."""
        key = data_key(job.recipe)
        if key not in self.texts:
            try:
                text = self.prepared.corpus_and_tasks(
                    job.recipe, cast(Store, self.looking), lambda event: None
                )
                self._with_second(job, text[0])
                self.texts[key] = text
            except (NotStoredError, DamagedError):  # what is damaged is computed again
                self.texts[key] = None
        return self.texts[key]

    def _with_second(self, job: PretrainJob, corpus: TokenDataset) -> PretrainJob:
        looking = cast(Store, self.looking)
        return self.prepared.with_second_text(job, corpus, looking, lambda event: None)


@functools.lru_cache(maxsize=256)
def _guessed(task: Task, fine: Finetune) -> tuple[int, float]:
    """Steps of a fine-tune, and tokens of a training row by its bytes."""
    rows = tasks.read_rows(task)["train"][: fine.train_rows]
    sizes = [len((row.prompt + row.completion).encode()) / BYTES_PER_TOKEN for row in rows]
    steps = fine.steps or max(1, round((fine.epochs or 0) * len(rows) / fine.batch_size))
    return steps, statistics.fmean(min(size, fine.max_length) for size in sizes)


def _shared(jobs: Sequence[PretrainJob], index: int) -> float:
    """Share of a job's training that an earlier one of these does too."""
    earlier = jobs[max(0, index - COMPARED) : index]
    return max((reused(jobs[index], each) for each in earlier), default=0.0)


def _num_params(job: PretrainJob) -> int:
    """Parameters of the model, tied ones once."""
    return _sizes(job.recipe.model, job.recipe.finetune, vocab_size(job.recipe.corpus))[0]


def _base_bytes(job: PretrainJob) -> float:
    """Stages of a base: weights at its end and wherever they are kept, AdamW's memory with some."""
    weights = len(job.checkpoint_steps() | {job.steps})
    return 4.0 * _num_params(job) * (weights + MOMENTS_PER_WEIGHT * len(job.resumable_steps()))


def _tuned_bytes(job: PretrainJob) -> float:
    """Stages of a base's fine-tunes: adapters, or all weights."""
    fine = job.recipe.finetune
    size = _sizes(job.recipe.model, fine, vocab_size(job.recipe.corpus))[1]
    tunes = sum(runs.num_tunes(of_task(fine, task.override)) for task in fine.tasks)
    return 4.0 * size * tunes


@functools.lru_cache(maxsize=64)
def _sizes(model: Model, fine: Finetune, vocab: int) -> tuple[int, int]:
    """Parameters of a model, and those that fine-tuning trains."""
    config = causal_lm.build_config(model, vocab)
    with torch.device("meta"):  # nothing is drawn
        size = causal_lm.num_parameters(causal_lm.build_module(config, "meta"))
        if fine.method == "full":
            return size, size
        adapted = lora.Adapted(config, fine.lora, "meta")
    return size, sum(math.prod(shape) for shape in adapted.shapes.values())
