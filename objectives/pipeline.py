"""A batch of requests, measured together.

1. Requests become jobs; one that cannot be run (a warmup longer than its horizon, a model that does
   not fit into the memory) fails by itself.
2. Bases are pretrained, all that can share a program as its lanes; those that follow the effective
   rate of another run after that run.
3. Bases of one shape and seed are fine-tuned and scored together; where only the base was asked
   for it is scored alone.
4. Each base with its fine-tunes is a stage of the store, from which its result is made.
5. Bases that have a result are probed; each probe of a base is a stage too.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from objectives import results
from objectives.config.execution import Execution
from objectives.config.recipe import Recipe
from objectives.config.training import Finetune as FinetuneRecipe
from objectives.data import tokenize
from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.export.bundle import TrialArtifacts
from objectives.finetuning import measured as stages
from objectives.finetuning import model_check
from objectives.finetuning.checkpoints import NOTHING, Work
from objectives.finetuning.lr_search import Finetuner, Outcome, curve
from objectives.finetuning.trainer import FinetuneTrainer, num_steps
from objectives.models import causal_lm, library_fingerprints
from objectives.pretraining import run
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.data_cache import DataCache, data_key
from objectives.pretraining.job import PretrainJob, check_length, job_of
from objectives.pretraining.run import pretrain
from objectives.pretraining.sweep import MOST_LANES
from objectives.probes import runner, types
from objectives.progress import Event, Progress
from objectives.store.store import Store, key_of
from objectives.training import batch, device_memory, evaluation, lr_schedule
from objectives.training.loop import NEVER
from objectives.types import Request, Result

CURVE_POINTS = 64


@dataclass(frozen=True, eq=False)
class _Measured:
    """A request whose base is there."""

    index: int
    job: PretrainJob
    base: BaseModel
    key: str
    """The stage of its measures."""
    base_only: bool
    flops_per_token: float

    @property
    def num_params(self) -> int:
        """Parameters of the base, tied ones once."""
        return sum(p.numel() for p in self.base.params.values())


@dataclass(frozen=True, eq=False)
class _Read:
    """Requests with the same corpus and tasks, by index."""

    jobs: dict[int, PretrainJob]
    corpus: TokenDataset
    tasks: list[Task]

    def tokens(self, base_only: Sequence[bool]) -> float:
        """That they will train on, for progress."""
        return sum(
            _tokens(job, [] if base_only[index] else self.tasks) for index, job in self.jobs.items()
        )


class Pipeline:
    """One call of `PlasticityObjective.evaluate`."""

    def __init__(
        self,
        *,
        recipe: Recipe,
        prepared: DataCache,
        requests: Sequence[Request],
        store: Store,
        execution: Execution,
        on_event: Callable[[Event], None],
    ) -> None:
        self.prepared, self.store, self.on_event = prepared, store, on_event
        self.device, self.max_lanes = execution.device_name, execution.lanes
        self.compiling = execution.compiling
        self.jobs = [job_of(recipe, request, execution) for request in requests]
        self.base_only = [request.get("base_only", False) for request in requests]
        if execution.devices > 1:
            for job in self.jobs:
                run.check_rows(job)
        self.results: dict[int, Result] = {}
        self.notes: dict[int, list[str]] = {}
        """Of a request's model."""
        self.started, self.peak = time.monotonic(), device_memory.Peak(self.device)

    def run(self) -> list[Result]:
        """All results, in the order of the requests."""
        groups: dict[str, list[int]] = {}
        for index, job in enumerate(self.jobs):
            try:
                _ = job.merge, job.lr
            except ValueError as error:
                self.results[index] = Result(failure=str(error))
                continue
            groups.setdefault(data_key(job.recipe), []).append(index)
        read = [self._read(members) for members in groups.values()]
        progress = Progress(self.on_event, sum(each.tokens(self.base_only) for each in read))
        for each in read:
            self._measure(each, progress)
        return [self.results[index] for index in range(len(self.jobs))]

    def trained(self, report: Progress) -> TrialArtifacts:
        """The only request's weights, after `run` has measured it in this store."""
        (job,) = self.jobs
        reading = (self.store, self.on_event)
        corpus, tasks = self.prepared.of(job.recipe, *reading)
        job = self.prepared.with_second(job, corpus, *reading)
        (base,) = pretrain([job], corpus, self.store, report, max_lanes=self.max_lanes,
                           compiling=self.compiling)  # fmt: skip
        found = self._stored(measures_key(job, base.key, corpus, tasks), job, tasks)
        if found is None:
            raise RuntimeError("the store lost a stage while it was exported; run again.")
        outcomes = [Outcome.from_dict(data) for data in found["outcomes"]]
        return TrialArtifacts(job=job, corpus=corpus, tasks=tasks, base=base, outcomes=outcomes)

    def _read(self, members: list[int]) -> _Read:
        """Requests with the same corpus and tasks, but for those that cannot be fine-tuned."""
        reading = (self.store, self.on_event)
        corpus, tasks = self.prepared.of(self.jobs[members[0]].recipe, *reading)
        jobs = {}
        for index in members:
            job = self.prepared.with_second(self.jobs[index], corpus, *reading)
            check_length(job.recipe, corpus.vocab_size)
            self.notes[index] = model_check.check_model(job.recipe, corpus.vocab_size)
            fine = job.recipe.finetune
            try:
                for task in tasks:
                    lr_schedule.check(fine.schedule, num_steps(fine, task), "finetune.schedule")
            except ValueError as error:
                self.results[index] = Result(failure=str(error))
            else:
                jobs[index] = job
        return _Read(jobs, corpus, tasks)

    def _measure(self, read: _Read, progress: Progress) -> None:
        """Pretrain together, then fine-tune what has one recipe of that together."""
        if not read.jobs:
            return
        corpus, tasks = read.corpus, read.tasks
        bases = self._bases(read.jobs, corpus, progress)
        progress.settle(*_pretrained(bases))
        measured = []
        for index, (job, base) in bases.items():
            key = measures_key(job, base.key, corpus, tasks)
            flops = _flops_per_token(job, base, corpus)
            measured.append(_Measured(index, job, base, key, self.base_only[index], flops))
        self._finetune_missing(measured, corpus, tasks, progress)
        self._probe([one for one in measured if not one.base_only], corpus, tasks, progress)

    def _bases(
        self, jobs: dict[int, PretrainJob], corpus: TokenDataset, progress: Progress
    ) -> dict[int, tuple[PretrainJob, BaseModel]]:
        """Each job with its base; those that do not fit into the memory alone fail, one by one."""
        try:
            bases = pretrain(
                list(jobs.values()), corpus, self.store, progress, max_lanes=self.max_lanes,
                compiling=self.compiling,
            )  # fmt: skip
        except MemoryError as error:
            if len(jobs) == 1:
                self.results |= {index: Result(failure=str(error)) for index in jobs}
                return {}
            some = list(jobs)[: len(jobs) // 2]  # what is finished is in the store
            found = self._bases({i: jobs[i] for i in some}, corpus, progress)
            others = {i: job for i, job in jobs.items() if i not in some}
            return found | self._bases(others, corpus, progress)
        return {i: (job, base) for (i, job), base in zip(jobs.items(), bases, strict=True)}

    def _finetune_missing(
        self, measured: list[_Measured], corpus: TokenDataset, tasks: list[Task], progress: Progress
    ) -> None:
        """Finish what is stored, fine-tune the rest; equal requests are fine-tuned once."""
        groups: dict[str, dict[str, _Measured]] = {}
        later = []
        for one in measured:
            if one.base.lost_at != NEVER:
                self._fail(one, self._divergence(one))
                continue
            group = groups.setdefault(_shape_key(one.job, one.base_only), {})
            stored = self._stored(one.key, one.job, tasks) is not None
            if one.base_only and not stored:
                group[f"{one.index}"] = one
            elif stored or group.setdefault(one.key, one) is not one:
                later.append(one)
        for some in filter(None, groups.values()):
            try:
                self._finetune(list(some.values()), corpus, tasks, progress)
            except MemoryError as error:
                for one in some.values():
                    self.results.setdefault(one.index, self._failed(one, str(error)))
        for one in later:
            found = self._stored(one.key, one.job, tasks)
            if found is not None:
                self._finish(one, found, corpus, tasks)
            else:
                twin = next(each for each in measured if each.key == one.key)
                self._fail(
                    one,
                    self.results[twin.index].failure
                    or "a cached result was deleted while in use; rerun the command",
                )

    def _stored(self, key: str, job: PretrainJob, tasks: list[Task]) -> dict[str, Any] | None:
        """What was measured of a base, None if it is not stored."""
        seeds, second = job.recipe.finetune.seeds, job.second is not None
        return stages.read(self.store, key, tasks=len(tasks), seeds=seeds, second=second)

    def _finetune(
        self, group: list[_Measured], corpus: TokenDataset, tasks: list[Task], progress: Progress
    ) -> None:
        """Bases of one shape and seed."""
        recipe = group[0].job.recipe
        arms = FinetuneTrainer(
            causal_lm.build_config(recipe.model, corpus.vocab_size),
            recipe.finetune,
            bf16=recipe.pretrain.precision == "bf16",
            device=self.device,
            store=self.store,
            report=progress,
            max_lanes=self.max_lanes,
        )
        finetuner = Finetuner(arms, tasks, group[0].job.seed)
        losses = self._base_losses(arms, group, corpus)
        sane: list[tuple[_Measured, dict[str, float]]] = []
        for one, loss in zip(group, losses, strict=True):
            problem = results.unfit_base(loss, corpus.vocab_size)
            if problem is not None:
                self._fail(one, problem)
            elif one.base_only:
                self._finish(one, loss, corpus, tasks)
            else:
                sane.append((one, loss))
        if not sane:
            return
        tokens = recipe.probes.forgetting_tokens
        sample = corpus.sample("validation", tokens, recipe.pretrain.seq_len) if tokens else None
        outcomes = finetuner.run([(one.base.key, one.base.params) for one, _ in sane], sample)
        for place, ((one, loss), tuned) in enumerate(zip(sane, outcomes, strict=True)):
            total, now = arms.total[place], arms.now[place]
            measured = {
                **loss,
                "tuning": dataclasses.asdict(total),
                "outcomes": [outcome.to_dict() for outcome in tuned],
            }
            if all(map(results.is_finite, tuned)):
                stages.write(self.store, one.key, measured, total.seconds)
            self._finish(one, measured, corpus, tasks, now)

    def _probe(
        self, measured: list[_Measured], corpus: TokenDataset, tasks: list[Task], progress: Progress
    ) -> None:
        """Add to results what probes find on their bases."""
        alive = [one for one in measured if self.results[one.index].failure is None]
        subjects = [
            types.ProbedModel(one.job, one.base, self.results[one.index].metrics["base_loss"])
            for one in alive
        ]
        found = runner.measure(subjects, corpus, tasks, self.store, progress, self.max_lanes)
        for one, probed in zip(alive, found, strict=True):
            time_s = (time.monotonic() - self.started) / len(self.jobs)
            self.results[one.index] = runner.merged(
                self.results[one.index], probed, one.flops_per_token, time_s
            )

    def _base_losses(
        self, arms: FinetuneTrainer, group: list[_Measured], corpus: TokenDataset
    ) -> list[dict[str, float]]:
        """Losses of the bases on the fixed samples, nats a token."""
        pre = group[0].job.recipe.pretrain
        sizes: dict[str, tuple[tokenize.Split, int]] = {
            "base_loss": ("validation", pre.eval_tokens),
            "curve_loss": ("validation", pre.curve_tokens),
            "train_loss": ("train", pre.eval_tokens),
            "sample_loss": ("validation", group[0].job.recipe.probes.forgetting_tokens),
        }
        samples = {
            name: corpus.sample(split, tokens, pre.seq_len)
            for name, (split, tokens) in sizes.items()
            if tokens
        }
        found: list[dict[str, float]] = []

        def score(some: Sequence[_Measured]) -> None:
            stacked = batch.stack([one.base.params for one in some])
            scored = evaluation.Lanes(
                arms.plain, {name: p.to(self.device) for name, p in stacked.items()}
            )
            losses = {name: evaluation.mean_loss(scored, ids) for name, ids in samples.items()}
            seconds = _second_losses(scored, [one.job for one in some])
            found.extend(
                {name: float(loss_G[place]) for name, loss_G in losses.items()} | seconds[place]
                for place in range(len(some))
            )

        device_memory.in_chunks(group, self.max_lanes or MOST_LANES, score)
        return found

    def _finish(
        self,
        one: _Measured,
        measured: dict[str, Any],
        corpus: TokenDataset,
        tasks: list[Task],
        now: Work = NOTHING,
    ) -> None:
        """The result of a request from what was measured.

        Where only the base was asked for there is nothing else in it, whatever the store holds.
        """
        tasks = [] if one.base_only else tasks
        outcomes = [] if one.base_only else [Outcome.from_dict(d) for d in measured["outcomes"]]
        tuning = NOTHING if one.base_only else Work(**measured["tuning"])
        pairs = list(zip(tasks, outcomes, strict=True))
        problem = results.unfit_tunes(tasks, outcomes)
        if problem is not None:
            self._fail(one, problem)
            return
        job = one.job
        validation = one.base.validation_of(job)
        metrics = results.base_metrics(
            job.recipe,
            job.steps,
            base_loss=measured["base_loss"],
            train_loss=measured["train_loss"],
            bytes_per_token=corpus.bytes_per_token,
            num_params=one.num_params,
        )
        if outcomes:
            sample_loss = measured.get("sample_loss", math.nan)
            metrics |= results.task_metrics(tasks, outcomes, sample_loss)
        if job.second is not None:
            metrics["mid_loss"] = measured["mid_loss"]
        self.results[one.index] = Result(
            metrics=metrics,
            labels=results.labels(job),
            curves={
                **self._base_curves(one),
                "val_loss": [*validation, [float(job.steps), measured["curve_loss"]]],
                **{f"finetune.{task.name}": outcome.curve for task, outcome in pairs},
            },
            cost=self._cost(one, tuning, now),
            notes=[
                *(self.notes[one.index] if outcomes else []),
                *results.notes(
                    job,
                    corpus,
                    tasks,
                    outcomes,
                    unmeasured=len(job.eval_steps()) - len(validation),
                ),
            ],
        )

    def _divergence(self, one: _Measured) -> str:
        base = one.base
        return results.divergence(base.lost_at, one.job.steps, base.reference_lost)

    def _fail(self, one: _Measured, reason: str) -> None:
        self.results[one.index] = self._failed(one, reason)

    def _failed(self, one: _Measured, reason: str) -> Result:
        return Result(
            failure=reason,
            curves=self._base_curves(one),
            cost=self._cost(one),
            labels=results.labels(one.job),
        )

    def _base_curves(self, one: _Measured) -> dict[str, list[list[float]]]:
        steps = np.arange(1, one.job.steps + 1)
        picked = np.unique(np.linspace(0, len(steps) - 1, CURVE_POINTS).round().astype(int))
        rates = one.base.rates_of(one.job)
        lr = [[float(steps[place]), float(rates[place])] for place in picked if place < len(rates)]
        losses = curve(one.base.losses, CURVE_POINTS)
        curves = {
            "train_loss": [point for point in losses if math.isfinite(point[1])],
            "lr": [point for point in lr if math.isfinite(point[1])],
        }
        if one.job.merge is not None:
            weights = zip(one.job.merge.steps, one.job.merge.weights, strict=True)
            curves["merge_weight"] = [[float(step), weight] for step, weight in weights]
        return curves

    def _cost(
        self, one: _Measured, tuning: Work = NOTHING, now: Work = NOTHING
    ) -> dict[str, float]:
        """What this request took now, and what it found done; shared work is split evenly.

        `flops` counts training only: 6 N + attention for each pretraining token, the same for each
        fine-tuning token (an upper bound for adapters). `device_s` are seconds of training,
        `time_s` the wall time of the batch over its requests, `peak_memory_gib` the most that was
        in use during the batch (see `memory.Peak`).
        """
        base, pre = one.base, one.job.recipe.pretrain
        a_step = pre.batch_size * pre.seq_len
        tokens = base.trained_steps * a_step + now.tokens
        steps = len(base.losses) + base.reference_steps
        return {
            "tokens": tokens,
            "tokens_reused": steps * a_step + tuning.tokens - tokens,
            "device_s": base.trained_s + now.seconds,
            # In pairs: equal sums of equal parts leave exactly nothing.
            "device_s_saved": (base.device_s - base.trained_s) + (tuning.seconds - now.seconds),
            "flops": one.flops_per_token * tokens,
            "time_s": (time.monotonic() - self.started) / len(self.jobs),
            "peak_memory_gib": self.peak.read() / 2**30,
        }


def _second_losses(scored: evaluation.Lanes, jobs: Sequence[PretrainJob]) -> list[dict[str, float]]:
    """Loss of each lane on the validation text of its job's second phase, nats a token."""
    found: list[dict[str, float]] = [{} for _ in jobs]
    for text in {job.second.key: job.second for job in jobs if job.second is not None}.values():
        pre = jobs[0].recipe.pretrain
        loss_K = evaluation.mean_loss(
            scored, text.sample("validation", pre.eval_tokens, pre.seq_len)
        )
        for place, job in enumerate(jobs):
            if job.second is not None and job.second.key == text.key:
                found[place] = {"mid_loss": float(loss_K[place])}
    return found


def _flops_per_token(job: PretrainJob, base: BaseModel, corpus: TokenDataset) -> float:
    config = causal_lm.build_config(job.recipe.model, corpus.vocab_size)
    num_params = sum(p.numel() for p in base.params.values())
    return causal_lm.flops_per_token(config, num_params, job.recipe.pretrain.seq_len)


def _pretrained(bases: Mapping[int, tuple[PretrainJob, BaseModel]]) -> tuple[float, float]:
    """Tokens of pretraining that were expected of these jobs, and those that were trained on."""
    expected = trained = 0.0
    for job, base in bases.values():
        a_step = job.recipe.pretrain.batch_size * job.recipe.pretrain.seq_len
        expected += job.steps * (1 if job.reference is None else 2) * a_step
        trained += base.trained_steps * a_step
    return expected, trained


def _shape_key(job: PretrainJob, base_only: bool) -> str:
    """Equal for bases that can be fine-tuned and scored together."""
    data = job.recipe.to_dict()
    pre = job.recipe.pretrain
    forgetting = job.recipe.probes.forgetting_tokens
    course = [pre.precision, pre.optimizer, pre.eval_tokens, pre.curve_tokens]
    fine = None if base_only else data["finetune"]
    return key_of(data["model"], forgetting, course, job.seed, fine)


def measures_key(job: PretrainJob, base_key: str, corpus: TokenDataset, tasks: list[Task]) -> str:
    """The stage of a base's measures and fine-tunes."""
    data = job.recipe.to_dict()
    fine = job.recipe.finetune
    data["finetune"].pop("tasks")
    data["finetune"]["schedule"] = lr_schedule.as_trained(fine.schedule, fine.steps)
    forgetting, pre = job.recipe.probes.forgetting_tokens, job.recipe.pretrain
    samples = [forgetting, pre.eval_tokens, pre.curve_tokens]
    return key_of(
        "finetune-3", base_key, data["finetune"], samples, job.seed,
        [[task.name, task.key] for task in tasks], corpus.key,
        library_fingerprints.of_finetuning(fine.method),
    )  # fmt: skip


def _tokens(job: PretrainJob, tasks: list[Task]) -> float:
    """Tokens a job will train on, its learning-rate grid without extensions; for progress only."""
    pre = job.recipe.pretrain
    tuned = tuning_tokens(
        job.recipe.finetune,
        [(num_steps(job.recipe.finetune, task), task.mean_tokens) for task in tasks],
    )
    runs = 1 if job.reference is None else 2
    steps = runs * job.steps + runner.training_steps(job)
    return steps * pre.batch_size * pre.seq_len + tuned


def tuning_tokens(fine: FinetuneRecipe, tasks: Sequence[tuple[int, float]]) -> float:
    """Tokens that the fine-tunes of one base train on; steps and tokens of a row, a task each."""
    steps = sum(steps * tokens for steps, tokens in tasks)
    return steps * fine.batch_size * num_tunes(fine)


def num_tunes(fine: FinetuneRecipe) -> int:
    """Fine-tunes of a base on a task, without extensions of the grid."""
    return len(fine.lrs) * fine.selection_seeds + fine.seeds - fine.selection_seeds
