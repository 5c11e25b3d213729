"""The objective for images: train a small ResNet, measure loss, error, norms and sharpness.

    objective = VisionObjective(VisionRecipe())
    objective({"pretrain.weight_decay": 0.01}).metrics["validation_error"]

Each trial is one stage of the store: what came of a trial is kept, its weights are not. A trial
that is interrupted, or asked for another probe, is trained again. Nothing is compiled here,
whatever `Execution.compiling` says.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from objectives import conditions, metric_names, turns
from objectives.config.execution import Execution, check_device
from objectives.config.locations import located
from objectives.config.vision import VisionRecipe
from objectives.objective import Objective
from objectives.probes import norms
from objectives.progress import Progress, Report
from objectives.results import listed_rows, rows_errors
from objectives.row_errors import Array
from objectives.store import contents
from objectives.store.entries import DamagedError, write_json
from objectives.store.store import key_of
from objectives.training import device_memory, lr_schedule, out_of_memory, weight_decay_schedule
from objectives.training.runtime import Runtime
from objectives.types import Request, Result, curve, finite_points
from objectives.vision import data as images
from objectives.vision import resnet
from objectives.vision.data import Images
from objectives.vision.trainer import Job, Measured, Run

STAGE = "vision"


CURVE_POINTS = 64


DIVERGED_LOSS_RATIO = 2.0
"""A classifier whose training loss ends above this many times ln(classes) has diverged; assumed."""


class VisionObjective(Objective[VisionRecipe]):
    """Measures recipes of image classifiers."""

    kind = "vision"
    recipe_kind = VisionRecipe

    def __init__(self, recipe: VisionRecipe, execution: Execution | None = None) -> None:
        super().__init__(recipe, execution)
        if self.execution.devices > 1:
            raise ValueError(
                f"images are trained on one device, got devices {self.execution.devices}; leave it "
                "out, and measure several trials side by side with an executor."
            )
        pre = recipe.pretrain
        lr_schedule.check_schedule(pre.schedule, pre.steps, "pretrain.schedule")
        self._images: dict[str, Images] = {}

    def evaluate(self, requests: Sequence[Request], on_event: Report | None = None) -> list[Result]:
        """Measure a batch; one result a request, in order.

        `on_event` receives progress events; an exception it raises stops the work, with all that is
        finished kept in the store.

        Raises:
            ValueError: a request that cannot be understood, or images that cannot be loaded.
            StoreError: the store cannot be written.
        """
        with turns.turn(on_event) as tell:
            tell({"stage": "open the store", "step": 0, "steps": 1, "preparing": True})
            return self._evaluate(requests, tell)

    def _evaluate(self, requests: Sequence[Request], on_event: Report) -> list[Result]:
        started = time.monotonic()
        check_device(self.execution.device_name)
        jobs = [_job(self.located, request, self.execution) for request in requests]
        total = sum(job.steps * job.recipe.pretrain.batch_size for job in jobs)
        store = self.execution.open_store()
        try:
            runtime = Runtime(
                store=store,
                report=Progress(on_event, total, "images"),
                max_lanes=self.execution.lanes,
            )
            trials = self._measured(jobs, runtime)
        finally:
            store.close()
            device_memory.trim_malloc()
        time_s = (time.monotonic() - started) / max(1, len(jobs))
        return [trial.result(time_s) for trial in trials]

    def early(self) -> frozenset[str]:
        """None: there is no fine-tuning to leave out."""
        return frozenset()

    def metrics(self) -> frozenset[str]:
        """All metrics that a request may give."""
        return metric_names.vision_metrics(self.recipe)

    def meanings(self) -> dict[str, str]:
        """What each metric is, in a few words."""
        return metric_names.VISION_MEANINGS

    def preflight(self, requests: Sequence[Request]) -> None:
        """Check these requests before anything is trained: images, labels, batch, model, schedule.

        The images are read, and kept for the trials that this process measures.

        Raises:
            ValueError: a value that cannot be set, or images or labels that cannot be used.
        """
        check_device(self.execution.device_name)
        for request in requests:
            job = _job(self.located, request, self.execution)
            _ = job.lr, job.decay
            data = self._prepared(job)
            resnet.build_resnet_config(job.recipe.model, data.shape, data.classes)

    def conditions(self) -> dict[str, str]:
        """What results depend on beyond the recipe; see `objectives.conditions`."""
        return conditions.of_vision(self.located)

    def reused(self, request: Request, done: Request) -> float:
        """Training does not go on from other runs; equal ones are the same stage."""
        try:
            jobs = [_job(self.located, each, self.execution) for each in (request, done)]
        except ValueError:  # params that do not go together
            return 0.0
        one, other = ((job.recipe, job.seed, job.steps) for job in jobs)
        return float(one == other)

    def export(self, request: Request, folder: Path, on_event: Report | None = None) -> NoReturn:
        """Refuse: no weights of an image classifier are kept.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "an image classifier is not exported: its study keeps what came of a trial, not the "
            "weights."
        )

    def _measured(self, jobs: Sequence[Job], runtime: Runtime) -> list[_Trial]:
        """Each job with its measures, from the store or trained; equal ones are trained once."""
        trials = [_Trial(job) for job in jobs]
        programs: dict[str, dict[str, _Trial]] = {}
        twins: list[tuple[_Trial, _Trial]] = []
        for trial in trials:
            job = trial.job
            try:
                _ = job.lr
            except ValueError as error:
                trial.failure = str(error)
                continue
            data = self._prepared(job)
            key = job.key(data)
            trial.measures = runtime.store.read(STAGE, key, _read)
            if trial.measures is None:
                program = programs.setdefault(key_of(job.program_key(), data.key), {})
                first = program.setdefault(key, trial)
                if first is not trial:
                    twins.append((trial, first))
        for group in programs.values():
            self._train(list(group.values()), runtime)
        for trial, first in twins:
            trial.measures, trial.failure = first.measures, first.failure
        return trials

    def _train(self, trials: list[_Trial], runtime: Runtime) -> None:
        """Train the trials of one program; they fail where one alone does not fit."""
        data = self._prepared(trials[0].job)
        jobs = [trial.job for trial in trials]
        train = functools.partial(_train_together, data=data, runtime=runtime)
        try:
            out_of_memory.in_chunks(trials, self._lanes(jobs, data, runtime), train)
        except MemoryError as error:
            for trial in trials:
                if trial.measures is None:
                    trial.failure = str(error)

    def _prepared(self, job: Job) -> Images:
        """The job's images.

        Raises:
            ValueError: they cannot be loaded, or are fewer than a batch.
        """
        source, size = job.recipe.images, job.recipe.pretrain.batch_size
        name = key_of(job.recipe.to_dict()["images"], job.device)
        if name not in self._images:
            self._images[name] = images.prepare_images(source, job.device)
        data = self._images[name]
        if size > len(data.train):
            raise ValueError(
                f"pretrain.batch_size is {size} but there are {len(data.train)} training images; "
                "lower it."
            )
        return data

    def _lanes(self, jobs: Sequence[Job], data: Images, runtime: Runtime) -> int:
        """How many of these jobs train at once."""

        def step(count: int) -> None:
            some = [jobs[lane % len(jobs)] for lane in range(count)]
            Run(some, data, lambda event: None).take_step()

        return runtime.lanes_that_fit(step, self.execution.device_name, len(jobs))


def _job(recipe: VisionRecipe, request: Request, execution: Execution) -> Job:
    fidelity = request["fidelity"]
    if not 0 < fidelity <= 1:
        raise ValueError(f"fidelity must be in (0, 1], got {fidelity}.")
    changed = located(recipe.with_params(request["params"]), execution.folder)
    steps = max(1, round(changed.pretrain.steps * fidelity))
    return Job(changed, request["seed"], steps, execution.device_name)


@dataclass(frozen=True)
class _Measures:
    """What is kept of a trial, as measures.json."""

    metrics: dict[contents.Name, float]
    curves: dict[contents.Name, list[contents.Point]]
    images: contents.Count
    device_s: contents.Seconds
    failure: contents.Text | None
    rows: dict[contents.Name, list[list[contents.Finite]]] = field(default_factory=dict)
    """`Result.row_scores`."""


@dataclass(eq=False)
class _Trial:
    """One request, from its job to its result."""

    job: Job
    measures: _Measures | None = None
    trained: bool = False
    """Whether it was trained in this call."""
    failure: str | None = None
    """Why nothing was measured."""

    def result(self, time_s: float) -> Result:
        """As everywhere, what was found done counts as saved."""
        found = self.measures or _Measures({}, {}, 0.0, 0.0, self.failure)
        images, seconds = found.images, found.device_s
        now = self.trained or self.measures is None
        cost = {
            "images": images if now else 0.0,
            "images_reused": 0.0 if now else images,
            "device_s": seconds if now else 0.0,
            "device_s_saved": 0.0 if now else seconds,
            "time_s": time_s,
        }
        return Result(
            metrics=found.metrics,
            curves=found.curves,
            failure=found.failure,
            cost=cost,
            row_scores=found.rows,
        )


def _train_together(trials: Sequence[_Trial], *, data: Images, runtime: Runtime) -> None:
    """Train these trials as lanes, and keep what came of each."""
    started = time.monotonic()
    seen = Run([trial.job for trial in trials], data, runtime.report).measure()
    seconds = (time.monotonic() - started) / len(trials)
    for trial, measured in zip(trials, seen, strict=True):
        trial.measures, trial.trained = _measures(trial.job, measured, data.classes, seconds), True
        write = functools.partial(_write, trial.measures)
        runtime.store.put(STAGE, trial.job.key(data), write, seconds=seconds)


def _read(folder: Path) -> _Measures:
    found = contents.record(folder, "measures.json", _Measures)
    if bool(found.metrics) == (found.failure is not None):
        raise DamagedError("measures.json has both metrics and a failure, or neither")
    return found


def _write(measures: _Measures, folder: Path) -> None:
    write_json(folder / "measures.json", asdict(measures))


def _measures(job: Job, measured: Measured, classes: int, seconds: float) -> _Measures:
    """What is kept of a trial."""
    losses = curve(measured.losses, CURVE_POINTS)
    curves = {
        "batch_loss": finite_points(losses),
        "lr": [[float(step), float(job.lr[int(step) - 1])] for step, _ in losses],
        **measured.curves,
    }
    images_seen = float(job.steps * job.recipe.pretrain.batch_size)
    problem = _divergence(measured.diverged_at, job.steps, measured.metrics, classes)
    if problem is not None:
        return _Measures({}, curves, images_seen, seconds, problem)
    rows = _rows(measured)
    metrics = _metrics(job, measured.metrics) | rows_errors(rows)
    return _Measures(metrics, curves, images_seen, seconds, None, listed_rows(rows))


def _rows(measured: Measured) -> dict[str, list[Array]]:
    """Metric -> an array 1 x images for each sample of them.

    The gap is the mean over two samples, of twice the one and minus twice the other.
    """
    found = {name: [y_N[None]] for name, y_N in measured.rows.items()}
    (validation,), (training,) = found["validation_loss"], found["training_loss"]
    return found | {"generalisation_gap": [2 * validation, -2 * training]}


def _divergence(
    diverged_at: int | None, steps: int, final: Mapping[str, float], classes: int
) -> str | None:
    """Why a classifier counts as diverged; metrics that were not finite are not in `final`."""
    if diverged_at is not None and diverged_at >= steps:
        return f"training diverged: weights are not finite after step {steps}; lower pretrain.lr"
    if diverged_at is not None:
        return f"training diverged: loss not finite at step {diverged_at + 1}; lower pretrain.lr"
    for name in ("training_loss", "validation_loss"):
        if name not in final:
            return f"training diverged: {name} is not finite; lower pretrain.lr"
    loss = final["training_loss"]
    if not loss <= DIVERGED_LOSS_RATIO * math.log(classes):
        return (
            f"training diverged: training loss {loss:.3g} nats, more than "
            f"{DIVERGED_LOSS_RATIO:g} times that "
            "of guessing; lower pretrain.lr"
        )
    return None


def _metrics(job: Job, final: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a trained classifier; the curves' last points and what follows from them."""
    metrics = dict(final)
    metrics["generalisation_gap"] = metrics["validation_loss"] - metrics["training_loss"]
    norm = metrics.get("probe.norms.weight_norm")
    if norm is not None:
        peak = norms.effective_lr(float(np.max(job.lr)), norm)
        metrics["probe.norms.effective_lr_end"] = metrics.pop("probe.norms.effective_lr")
        metrics["probe.norms.effective_lr_peak"] = peak
    tau_frac = weight_decay_schedule.tau_frac(job.recipe.pretrain, job.steps)
    return metrics if tau_frac is None else metrics | {"tau_frac": tau_frac}
