"""Training classifiers: many trials as lanes of one program, with what is measured along the way.

At the points of the curves a lane's losses, errors and norm are noted. At the points of the
sharpness probe a copy of each lane first follows the gradient for some steps at a small rate
without decay, as arXiv 2310.04415 does before it measures: the noise of a large rate hides how far
training has come. Then the trace of the Hessian of the training loss is taken, in two forms:

    trace          mean_z z' H z,  z of random signs
    trace_relative the same with z scaled by each tensor's root mean square

A weight before a normalisation may be scaled without changing the loss, and the trace falls with
the square of its size; the second form does not see that. It is not from a paper. Losses are those
that training sees, normalised by the batch; in which mode the paper's networks were is not known.

K lanes, S steps, P parameters of a lane, N random vectors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from objectives.config.vision import VisionRecipe
from objectives.models import library_fingerprints
from objectives.models.double_precision import in_double
from objectives.probes import norms, sharpness
from objectives.progress import Report
from objectives.store.store import key_of
from objectives.training import (
    batch,
    loop,
    lr_schedule,
    weight_decay_schedule,
)
from objectives.training.setup import fresh_state, plan_of
from objectives.types import Curve
from objectives.vision import resnet
from objectives.vision.data import ImageBatch, Images
from objectives.vision.resnet import Classifier


@dataclass(frozen=True, eq=False)
class Job:
    """One classifier to train."""

    recipe: VisionRecipe
    seed: int
    steps: int
    device: str

    @functools.cached_property
    def lr(self) -> NDArray[np.float64]:
        """Learning rate of each step; [S].

        Raises:
            ValueError: the warmup does not fit.
        """
        pre = self.recipe.pretrain
        return pre.lr * lr_schedule.multipliers(pre.schedule, self.steps, "pretrain.schedule")

    @functools.cached_property
    def decay(self) -> NDArray[np.float64]:
        """Weight decay of each step, before the rate multiplies it; [S]."""
        return weight_decay_schedule.strengths(self.recipe.pretrain, self.lr)

    def key(self, images: Images) -> str:
        """The stage of its measures."""
        data = self.recipe.to_dict()
        data.pop("images")
        data["pretrain"]["schedule"] = lr_schedule.as_trained(
            self.recipe.pretrain.schedule, self.steps
        )
        own = [images.key, self.seed, self.steps, self._device_kind]
        return key_of("vision-4", data, own, library_fingerprints.of_classifiers())

    def program_key(self) -> str:
        """Equal for jobs on the same images that can be lanes of one program."""
        data, pre = self.recipe.to_dict(), self.recipe.pretrain
        for name in ("lr", "weight_decay", "schedule", "beta1", "beta2", "eps", "clip_norm"):
            data["pretrain"].pop(name)
        shared = weight_decay_schedule.program_fingerprint(pre)
        return key_of(data["model"], data["pretrain"], data["probes"], shared, self.steps)

    def points(self, count: int) -> set[int]:
        """So many evenly spaced steps, the last one among them; fewer in a shorter run."""
        every = max(1, self.recipe.pretrain.steps // count)
        return {*range(every, self.steps, every), self.steps}

    @property
    def _device_kind(self) -> str:
        return self.device.split(":")[0]


@dataclass
class Measured:
    """What was seen of one lane."""

    diverged_at: int | None = None
    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Training loss of each step, nats an image; [S]."""
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    rows: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Metric -> its value for each image, at the end; [N]."""

    def note(self, name: str, step: int, value: float) -> None:
        """A point of a curve, and the metric of that name, of which the last one stays.

        What is not finite is no point, and leaves no metric.
        """
        self.metrics.pop(name, None)
        if math.isfinite(value):
            self.metrics[name] = value
            self.curves.setdefault(name, []).append([float(step), value])


class Run:
    """Jobs of one program, trained together."""

    def __init__(self, jobs: Sequence[Job], images: Images, report: Report) -> None:
        self.jobs, self.images, self.report = list(jobs), images, report
        self.recipe, self.device, self.steps = jobs[0].recipe, jobs[0].device, jobs[0].steps
        config = resnet.build_resnet_config(self.recipe.model, images.shape, images.classes)
        self.program = Classifier(config, images.shape, self.device)
        rows = [resnet.initial_resnet_parameters(config, job.seed) for job in self.jobs]
        self.state = self._fresh(batch.join_rows(rows, self.program.shapes).to(self.device))
        self.found = [Measured() for _ in self.jobs]

    def measure(self) -> list[Measured]:
        """Train to the end; what was seen of each job, in order."""
        pre, probes = self.recipe.pretrain, self.recipe.probes
        curve = self.jobs[0].points(pre.evals)
        sharp = self.jobs[0].points(probes.points) if "sharpness" in probes.run else set[int]()
        plan = self._plan([job.lr for job in self.jobs], [job.decay for job in self.jobs])
        losses: list[Tensor] = []
        for stop in sorted(curve | sharp):
            loop.train(
                self.program,
                self.state,
                plan,
                self._batch_at,
                until=stop,
                after_step=lambda step, loss_K: self._after(losses, step, loss_K),
            )
            if stop in curve:
                self._evaluate(stop)
            if stop in sharp:
                self._trace(stop)
        for lane, (measured, column) in enumerate(
            zip(self.found, torch.stack(losses, 1).cpu(), strict=True)
        ):
            measured.losses = in_double(column).numpy()
            measured.diverged_at = self.state.diverged_step(lane)
        return self.found

    def take_step(self) -> None:
        """One step, to see what it needs."""
        plan = self._plan([job.lr for job in self.jobs], [job.decay for job in self.jobs])
        loop.train(self.program, self.state, plan, self._batch_at, until=1)

    def _fresh(self, values_KP: Tensor) -> loop.State:
        program = self.program
        return fresh_state(values_KP, program.module, self.recipe.pretrain, program.shapes)

    def _plan(
        self, lr: Sequence[NDArray[np.float64]], decay: Sequence[NDArray[np.float64]]
    ) -> loop.Plan:
        pres = [job.recipe.pretrain for job in self.jobs]
        return plan_of(pres, self.program.module, self.device, lr=lr, decay=decay)

    def _batch_at(self, step: int) -> ImageBatch:
        seeds = [job.seed for job in self.jobs]
        return self.images.batch(seeds, step, self.recipe.pretrain.batch_size)

    def _after(self, losses: list[Tensor], step: int, loss_K: Tensor) -> None:
        losses.append(loss_K)
        self._tell("train", step, self.steps, loss_K)

    def _tell(self, stage: str, step: int, steps: int, loss_K: Tensor | None = None) -> None:
        images = len(self.jobs) * self.recipe.pretrain.batch_size
        event = {"stage": stage, "step": step, "steps": steps, "lanes": len(self.jobs)}
        if loss_K is not None:
            event |= {"loss": loss_K, "images": images}
        self.report(event)

    def _evaluate(self, step: int) -> None:
        """Losses and errors on the fixed samples, and norms."""
        pre, values_KP = self.recipe.pretrain, self.state.rows.values
        params = batch.split_rows(self.program.shapes, values_KP)
        statistics = self.program.statistics(params, self.images.train.sample(pre.statistics_rows))
        parts = {"training": self.images.train, "validation": self.images.validation}
        for name, rows in parts.items():
            scored = self.program.scores(params, statistics, rows.sample(pre.eval_rows))
            for kind, values_KN in zip(("loss", "error"), scored, strict=True):
                self._note(f"{name}_{kind}", step, values_KN.mean(1))
                for measured, values_N in zip(self.found, values_KN.cpu().numpy(), strict=True):
                    measured.rows[f"{name}_{kind}"] = values_N
        if "norms" in self.recipe.probes.run:
            for job, measured, values_P in zip(self.jobs, self.found, values_KP, strict=True):
                norm = float(torch.linalg.vector_norm(values_P))
                measured.note("probe.norms.weight_norm", step, norm)
                effective = norms.effective_lr(job.lr[step - 1], norm)
                measured.note("probe.norms.effective_lr", step, effective)

    def _trace(self, step: int) -> None:
        """The Hessian's trace where the gradient leads from here, with its error over the signs."""
        probes = self.recipe.probes
        values_KP = self._flowed()
        sample = self.images.train.sample(probes.rows)
        forms = {
            "trace": torch.ones_like(values_KP),
            "trace_relative": sharpness.tensor_scales(self.program.shapes, values_KP),
        }
        pieces = sample.pieces(probes.batch_size)
        for name, scale_KP in forms.items():
            total_KN = torch.zeros(len(values_KP), probes.vectors, device=values_KP.device)
            for place, rows in enumerate(pieces):
                vectors = (
                    sign_P * scale_KP for sign_P in sharpness.signs(probes.vectors, values_KP[0])
                )
                part_KN = sharpness.curvatures(self._losses(rows), values_KP, vectors)
                total_KN += part_KN * (len(rows) / len(sample))
                self._tell(f"probe sharpness at step {step}", place + 1, len(pieces))
            for measured, total_N in zip(self.found, total_KN, strict=True):
                for metric, value in sharpness.with_error(name, total_N).items():
                    measured.note(f"probe.sharpness.{metric}", step, value)

    def _losses(self, rows: ImageBatch) -> sharpness.Losses:
        shapes = self.program.shapes
        return lambda values_KP: self.program.losses(
            batch.split_rows(shapes, values_KP), None, rows
        )

    def _flowed(self) -> Tensor:
        """The weights after the flow, of a copy that begins with an empty memory.

        The batches are those that training has next.
        """
        probes, here = self.recipe.probes, self.state.step
        state = self._fresh(self.state.rows.values.clone())
        many = probes.flow_steps
        rates = [np.full(many, probes.flow_rate) for _ in self.jobs]
        if many:
            loop.train(
                self.program,
                state,
                self._plan(rates, [np.zeros(many) for _ in self.jobs]),
                lambda step: self._batch_at(here + step),
                until=many,
                after_step=lambda step, loss_K: self._tell("gradient flow", step, many),
            )
        return state.rows.values

    def _note(self, name: str, step: int, values_K: Tensor) -> None:
        for measured, value in zip(self.found, values_K.tolist(), strict=True):
            measured.note(name, step, value)
