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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from objectives import conditions, metric_names, turns
from objectives.config.execution import Execution, check_device
from objectives.config.locations import located
from objectives.config.vision import VisionRecipe
from objectives.finetuning.lr_search import curve
from objectives.objective import Objective
from objectives.pretraining.sweep import MOST_LANES
from objectives.probes import norms
from objectives.progress import Event, Progress
from objectives.store import contents
from objectives.store.entries import DamagedError, write_json
from objectives.store.store import Store, key_of
from objectives.training import device_memory, lr_schedule, weight_decay_schedule
from objectives.training.loop import NEVER
from objectives.types import Request, Result
from objectives.vision import data as images
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
        lr_schedule.check(pre.schedule, pre.steps, "pretrain.schedule")
        self._images: dict[str, Images] = {}

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[Result]:
        """Measure a batch; one result a request, in order.

        `on_event` receives progress events; an exception it raises stops the work, with all that is
        finished kept in the store.

        Raises:
            ValueError: a request that cannot be understood, or images that cannot be loaded.
            StoreError: the store cannot be written.
        """
        with turns.turn(on_event) as tell:
            return self._evaluate(requests, tell)

    def _evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> list[Result]:
        started = time.monotonic()
        check_device(self.execution.device_name)
        jobs = [_job(self.located, request, self.execution) for request in requests]
        store = self.execution.open_store()
        try:
            total = sum(job.steps * job.recipe.pretrain.batch_size for job in jobs)
            progress = Progress(on_event, total, "images")
            found = self._measured(jobs, store, progress)
        finally:
            store.close()
            device_memory.trim_malloc()
        time_s = (time.monotonic() - started) / max(1, len(jobs))
        return [_timed(data, time_s) for data in found]

    def early(self) -> frozenset[str]:
        """None: there is no fine-tuning to leave out."""
        return frozenset()

    def metrics(self) -> frozenset[str]:
        """All metrics that a request may give."""
        return metric_names.of_vision(self.recipe)

    def meanings(self) -> dict[str, str]:
        """What each metric is, in a few words."""
        return metric_names.VISION_MEANINGS

    def preflight(self, requests: Sequence[Request]) -> None:
        """Check what can be checked of these requests before anything is trained.

        Raises:
            ValueError: a value that cannot be set, or images that are not there.
        """
        check_device(self.execution.device_name)
        for request in requests:
            images.check(_job(self.located, request, self.execution).recipe.images)

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

    def export(
        self, request: Request, folder: Path, on_event: Callable[[Event], None] | None = None
    ) -> NoReturn:
        """Refuse: no weights of an image classifier are kept.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "an image classifier is not exported: its study keeps what came of a trial, not the "
            "weights."
        )

    def _measured(
        self, jobs: Sequence[Job], store: Store, progress: Progress
    ) -> list[dict[str, Any]]:
        """The measures of each job, from the store where they are there."""
        found: dict[int, dict[str, Any]] = {}
        programs: dict[str, list[int]] = {}
        for index, job in enumerate(jobs):
            try:
                _ = job.lr
            except ValueError as error:
                found[index] = {"failure": str(error)}
                continue
            data = self._prepared(job)
            stored = store.read(STAGE, job.key(data), _read)
            if stored is not None:
                found[index] = stored | {"now": False}
            else:
                programs.setdefault(key_of(job.program_key(), data.key), []).append(index)
        for members in programs.values():
            data = self._prepared(jobs[members[0]])
            one_each = {jobs[index].key(data): index for index in reversed(members)}
            train = functools.partial(_train, jobs, data, store, progress, found)
            some = sorted(one_each.values())
            try:
                device_memory.in_chunks(some, self._lanes(jobs, members, data), train)
            except MemoryError as error:
                for index in some:
                    found.setdefault(index, {"failure": str(error)})
            for index in members:
                twin = found[one_each[jobs[index].key(data)]]
                found.setdefault(index, twin | {"now": False})
        return [found[index] for index in range(len(jobs))]

    def _prepared(self, job: Job) -> Images:
        """The job's images.

        Raises:
            ValueError: they cannot be loaded, or are fewer than a batch.
        """
        source, size = job.recipe.images, job.recipe.pretrain.batch_size
        name = key_of(job.recipe.to_dict()["images"], job.device)
        if name not in self._images:
            self._images[name] = images.prepare(source, job.device)
        data = self._images[name]
        if size > len(data.train):
            raise ValueError(
                f"pretrain.batch_size is {size} but there are {len(data.train)} training images; "
                "lower it."
            )
        return data

    def _lanes(self, jobs: Sequence[Job], members: Sequence[int], data: Images) -> int:
        """How many of these jobs train at once."""
        if self.execution.lanes is not None:
            return self.execution.lanes

        def step(count: int) -> None:
            some = [jobs[members[place % len(members)]] for place in range(count)]
            Run(some, data, lambda event: None).take_step()

        return device_memory.max_lanes_that_fit(
            step, self.execution.device_name, min(len(members), MOST_LANES)
        )


def _job(recipe: VisionRecipe, request: Request, execution: Execution) -> Job:
    fidelity = request["fidelity"]
    if not 0 < fidelity <= 1:
        raise ValueError(f"fidelity must be in (0, 1], got {fidelity}.")
    changed = located(recipe.with_params(request["params"]), execution.folder)
    steps = max(1, round(changed.pretrain.steps * fidelity))
    return Job(changed, request["seed"], steps, execution.device_name)


def _train(
    jobs: Sequence[Job],
    data: Images,
    store: Store,
    progress: Progress,
    found: dict[int, dict[str, Any]],
    members: Sequence[int],
) -> None:
    """Train these jobs as lanes, keep what came of each, and add it to what is found."""
    started = time.monotonic()
    measured = Run([jobs[index] for index in members], data, progress).measure()
    seconds = (time.monotonic() - started) / len(members)
    for index, one in zip(members, measured, strict=True):
        job = jobs[index]
        measures = _measures(job, one, data.classes) | {"device_s": seconds}
        write = functools.partial(_write, measures)
        store.put(STAGE, job.key(data), write, seconds=seconds)
        found[index] = measures | {"now": True}


@dataclass(frozen=True)
class _Stored:
    """measures.json, as `_measures` makes it."""

    metrics: dict[contents.Name, float]
    curves: dict[contents.Name, list[contents.Point]]
    images: contents.Count
    device_s: contents.Seconds
    failure: contents.Text | None


def _read(folder: Path) -> dict[str, Any]:
    found = contents.record(folder, "measures.json", _Stored)
    if bool(found.metrics) == (found.failure is not None):
        raise DamagedError("measures.json has both metrics and a failure, or neither")
    return asdict(found)


def _write(measures: dict[str, Any], folder: Path) -> None:
    write_json(folder / "measures.json", measures)


def _measures(job: Job, measured: Measured, classes: int) -> dict[str, Any]:
    """What is kept of a trial; JSON-able."""
    losses = curve(measured.losses, CURVE_POINTS)
    curves = {
        "batch_loss": [point for point in losses if math.isfinite(point[1])],
        "lr": [[float(step), float(job.lr[int(step) - 1])] for step, _ in losses],
        **measured.curves,
    }
    images_seen = float(job.steps * job.recipe.pretrain.batch_size)
    found = {"curves": curves, "images": images_seen, "metrics": {}, "failure": None}
    final = measured.metrics
    problem = _divergence(measured.lost_at, job.steps, final, classes)
    return found | ({"metrics": _metrics(job, final)} if problem is None else {"failure": problem})


def _divergence(lost_at: int, steps: int, final: Mapping[str, float], classes: int) -> str | None:
    """Why a classifier counts as diverged; metrics that were not finite are not in `final`."""
    if lost_at >= steps:
        return f"training diverged: weights are not finite after step {steps}; lower pretrain.lr"
    if lost_at != NEVER:
        return f"training diverged: loss not finite at step {lost_at + 1}; lower pretrain.lr"
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


def _timed(data: dict[str, Any], time_s: float) -> Result:
    """The result of a trial; as everywhere, what was found done counts as saved."""
    seconds, now = data.get("device_s", 0.0), data.get("now", True)
    seen = data.get("images", 0.0)
    return Result(
        metrics=data.get("metrics", {}),
        curves=data.get("curves", {}),
        failure=data["failure"],
        cost={
            "images": seen if now else 0.0,
            "images_reused": 0.0 if now else seen,
            "device_s": seconds if now else 0.0,
            "device_s_saved": 0.0 if now else seconds,
            "time_s": time_s,
        },
    )
