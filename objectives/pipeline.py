"""A batch of requests, measured together.

1. Requests become trials; one that cannot be run (a warmup longer than its horizon, a model that
   does not fit into the memory) fails by itself.
2. Bases are pretrained, all that can share a program as its lanes.
3. Bases of one shape and seed are fine-tuned and scored together, and with them the control, the
   initial weights of that seed; where only the base was asked for it is scored alone.
4. What was measured of a base and its fine-tunes is a stage of the store.
5. Bases that have not failed are probed; each probe of a base is a stage too.
6. Each trial's record becomes its result (`objectives.results`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from objectives import failures, results
from objectives.config.execution import Execution
from objectives.config.recipe import Recipe
from objectives.data.tasks import Task
from objectives.finetuning import from_scratch, measured, model_check
from objectives.finetuning.base_losses import base_losses
from objectives.finetuning.lr_search import Finetuner
from objectives.finetuning.measured import Measures, measures_key
from objectives.finetuning.runs import num_steps, sizes, tuning_tokens
from objectives.finetuning.trainer import FinetuneTrainer
from objectives.models import causal_lm
from objectives.pretraining.data_cache import DataCache, data_key
from objectives.pretraining.job import PretrainJob, check_length, job_of
from objectives.pretraining.run import check_rows, pretrain
from objectives.probes import runner, types
from objectives.progress import Progress, Report
from objectives.store.store import Store, key_of
from objectives.training import device_memory, lr_schedule, out_of_memory
from objectives.training.runtime import Runtime
from objectives.trial import Data, Trial
from objectives.types import Request, Result


class Pipeline:
    """One call of `PlasticityObjective.evaluate`."""

    def __init__(
        self,
        *,
        recipe: Recipe,
        data: DataCache,
        requests: Sequence[Request],
        store: Store,
        execution: Execution,
        on_event: Report,
    ) -> None:
        self.data, self.store, self.on_event = data, store, on_event
        self.device, self.num_devices = execution.device_name, execution.devices
        self.trials = [
            Trial(job_of(recipe, request, execution), request.get("base_only", False))
            for request in requests
        ]
        if execution.devices > 1:
            for trial in self.trials:
                check_rows(trial.job)
        self.progress = Progress(on_event, 0)
        self.runtime = Runtime(
            store=store,
            report=self.progress,
            max_lanes=execution.lanes,
            compiling=execution.compiling,
        )
        self.started, self.peak = time.monotonic(), device_memory.Peak(self.device)
        self.controls: list[Trial] = []
        """Those that are not in the store."""

    def run(self) -> list[Result]:
        """All results, in the order of the requests."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials:
            try:
                _ = trial.job.merge, trial.job.lr
            except ValueError as error:
                trial.failure = str(error)
            else:
                groups.setdefault(data_key(trial.job.recipe), []).append(trial)
        for trials in groups.values():
            self._read(trials)
        for trials in groups.values():
            self._add_controls(_alive(trials))
        self.progress.expect(
            sum(map(_tokens, _alive(self.trials))) + sum(map(_tuning, self.controls))
        )
        for trials in groups.values():
            self._measure(_alive(trials))
        time_s = (time.monotonic() - self.started) / max(1, len(self.trials))
        peak, devices = self.peak.read(), self.num_devices
        return [results.result_of(trial, time_s, peak, devices) for trial in self.trials]

    def _read(self, trials: Sequence[Trial]) -> None:
        """The text and tasks of trials that have the same; a schedule that does not fit fails."""
        reading = (self.store, self.on_event)
        data = Data(*self.data.corpus_and_tasks(trials[0].job.recipe, *reading))
        for trial in trials:
            trial.data = data
            trial.job = self.data.with_second_text(trial.job, data.corpus, *reading)
            recipe = trial.job.recipe
            check_length(recipe, data.corpus.vocab_size)
            trial.notes = model_check.check_model(recipe, data.corpus.vocab_size)
            try:
                for task in data.tasks:
                    steps = num_steps(recipe.finetune, task)
                    lr_schedule.check_schedule(recipe.finetune.schedule, steps, "finetune.schedule")
            except ValueError as error:
                trial.failure = str(error)

    def _add_controls(self, trials: Sequence[Trial]) -> None:
        """Give trials with equal initial weights and fine-tuning one control."""
        sharing: dict[str, list[Trial]] = {}
        for trial in trials:
            if trial.job.recipe.finetune.from_scratch != "off" and not trial.base_only:
                job = from_scratch.control_job(trial.job)
                base_key = from_scratch.initial_key(job, trial.corpus)
                key = measures_key(job, base_key, trial.corpus, trial.tasks)
                sharing.setdefault(key, []).append(trial)
        for key, members in sharing.items():
            first = members[0]
            control = Trial(from_scratch.control_job(first.job), base_only=False, data=first.data)
            control.measures = self._stored(control, key)
            if control.measures is None:
                control.base = from_scratch.initial_base(control.job, first.corpus)
                self.controls.append(control)
            for trial in members:
                trial.control, trial.control_share = control, 1 / len(members)

    def _measure(self, trials: Sequence[Trial]) -> None:
        """Pretrain trials with the same data together, then fine-tune and probe."""
        out_of_memory.apart(trials, self._pretrain, _fail)
        trained = _alive(trials)
        self.progress.settle(*_pretrained(trained))
        self._finetune_missing(trained)
        self._probe([trial for trial in _alive(trained) if not trial.base_only])

    def _pretrain(self, trials: Sequence[Trial]) -> None:
        if trials:
            jobs = [trial.job for trial in trials]
            bases = pretrain(jobs, trials[0].corpus, self.runtime)
            for trial, base in zip(trials, bases, strict=True):
                trial.base = base

    def _finetune_missing(self, trials: Sequence[Trial]) -> None:
        """Take what is stored, fine-tune the rest; equal requests are fine-tuned once."""
        groups: dict[str, dict[str, Trial]] = {}
        twins: list[tuple[Trial, Trial]] = []
        controls = [each for each in self.controls if any(t.control is each for t in trials)]
        for number, trial in enumerate([*trials, *controls]):
            base = trial.model
            if base.diverged_at is not None:
                trial.failure = failures.divergence(
                    base.diverged_at, trial.job.steps, base.reference_lost
                )
                continue
            key = _key(trial)
            trial.measures = self._stored(trial, key)
            if trial.measures is None:
                group = groups.setdefault(_shape_key(trial.job, trial.base_only), {})
                first = group.setdefault(f"{number}" if trial.base_only else key, trial)
                if first is not trial:
                    twins.append((trial, first))
        for group in groups.values():
            self._finetune_together(list(group.values()))
        for trial, first in twins:
            trial.measures, trial.failure = first.measures, first.failure
        for trial in _alive([*trials, *controls]):
            trial.failure = failures.unfit_tunes(trial.tasks, trial.outcomes)

    def _stored(self, trial: Trial, key: str) -> Measures | None:
        assert trial.data is not None
        job, tasks = trial.job, len(trial.data.tasks)
        seeds, second = job.recipe.finetune.seeds, job.second is not None
        return measured.load_measures(self.store, key, tasks=tasks, seeds=seeds, second=second)

    def _finetune_together(self, group: list[Trial]) -> None:
        """Fine-tune and score bases of one shape and seed; they fail where one does not fit."""
        try:
            self._finetune(group)
        except MemoryError as error:
            for trial in group:
                if trial.measures is None:
                    trial.failure = trial.failure or str(error)

    def _finetune(self, group: list[Trial]) -> None:
        job, corpus = group[0].job, group[0].corpus
        recipe = job.recipe
        trainer = FinetuneTrainer(
            causal_lm.build_config(recipe.model, corpus.vocab_size),
            recipe.finetune,
            self.runtime,
            bf16=recipe.pretrain.precision == "bf16",
            device=self.device,
        )
        bases = [(trial.job, trial.model) for trial in group]
        sane: list[tuple[Trial, Measures]] = []
        for trial, (losses, by_sequence) in zip(
            group, base_losses(trainer.plain, bases, corpus, self.runtime), strict=True
        ):
            if trial not in self.controls:
                trial.failure = failures.unfit_base(losses, corpus.vocab_size)
            if trial.failure is None and trial.base_only:
                trial.measures = Measures(losses, rows=by_sequence)
            elif trial.failure is None:
                sane.append((trial, Measures(losses, rows=by_sequence)))
        if not sane:
            return
        tokens = recipe.probes.forgetting_tokens
        sample = corpus.sample("validation", tokens, recipe.pretrain.seq_len) if tokens else None
        finetuner, started = Finetuner(trainer, sane[0][0].tasks, job.seed), time.monotonic()
        outcomes = finetuner.run(
            [(trial.model.key, trial.model.params) for trial, _ in sane], sample
        )
        finetune_s = (time.monotonic() - started) / len(sane)
        for index, ((trial, base), tuned) in enumerate(zip(sane, outcomes, strict=True)):
            trial.finetune_s = finetune_s
            trial.measures = replace(base, tuning=trainer.total[index], outcomes=tuned)
            trial.work = trainer.now[index]
            if all(map(failures.is_finite, tuned)):
                measured.save_measures(self.store, _key(trial), trial.measures)

    def _probe(self, trials: Sequence[Trial]) -> None:
        """Measure what probes find on the bases."""
        if trials:
            subjects = [
                types.ProbedModel(trial.job, trial.model, trial.measured.losses["base_loss"])
                for trial in trials
            ]
            found = runner.run_probes(subjects, trials[0].corpus, trials[0].tasks, self.runtime)
            for trial, probes in zip(trials, found, strict=True):
                trial.probes = probes


def _alive(trials: Iterable[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.failure is None]


def _fail(trial: Trial, reason: str) -> None:
    trial.failure = reason


def _key(trial: Trial) -> str:
    """The stage of its measures; the same for a request of the base alone."""
    assert trial.data is not None
    return measures_key(trial.job, trial.model.key, trial.corpus, trial.data.tasks)


def _shape_key(job: PretrainJob, base_only: bool) -> str:
    """Equal for bases that can be fine-tuned and scored together."""
    data = job.recipe.to_dict()
    pre = job.recipe.pretrain
    forgetting = job.recipe.probes.forgetting_tokens
    shared = [pre.precision, pre.optimizer, pre.eval_tokens, pre.curve_tokens]
    fine = None if base_only else data["finetune"]
    return key_of(data["model"], forgetting, shared, job.seed, fine)


def _tokens(trial: Trial) -> float:
    """Tokens it will train on, its learning-rate grid without extensions; for progress only."""
    job = trial.job
    runs = 1 if job.reference is None else 2
    pre, steps = job.recipe.pretrain, runs * job.steps + runner.training_steps(job)
    return steps * pre.batch_size * pre.seq_len + _tuning(trial)


def _tuning(trial: Trial) -> float:
    """Tokens that its fine-tunes will train on."""
    return tuning_tokens(sizes(trial.job.recipe.finetune, list[Task](trial.tasks)))


def _pretrained(trials: Iterable[Trial]) -> tuple[float, float]:
    """Tokens of pretraining that were expected of these, and those that were trained on."""
    expected = trained = 0.0
    for trial in trials:
        job = trial.job
        a_step = job.recipe.pretrain.batch_size * job.recipe.pretrain.seq_len
        expected += job.steps * (1 if job.reference is None else 2) * a_step
        trained += trial.model.trained_steps * a_step
    return expected, trained
