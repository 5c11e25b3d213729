"""What objectives have in common: a recipe, where it is computed, and one trial or many."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from objectives import conditions, metric_names, results, turns
from objectives.config import reference
from objectives.config.execution import Compute, Execution, check_device
from objectives.config.locations import located
from objectives.config.paths import Value
from objectives.config.recipe import Recipe
from objectives.config.training import of_task
from objectives.config.tree import SHORT_FORMS, RecipeTree
from objectives.export import bundle
from objectives.export.bundle import ExportSummary, TrialArtifacts
from objectives.pipeline import Pipeline
from objectives.preflight import checks, estimates
from objectives.pretraining.data_cache import DataCache
from objectives.pretraining.job import job_of
from objectives.pretraining.reuse import reused
from objectives.progress import Report
from objectives.results import TrialFailed
from objectives.training import device_memory, lr_schedule
from objectives.types import Request, Result

T = TypeVar("T", bound=RecipeTree)


class Objective(ABC, Generic[T]):
    """Measures recipes of one kind."""

    kind: ClassVar[str]
    recipe_kind: ClassVar[type[Any]]

    def __init__(self, recipe: T, execution: Execution | None = None) -> None:
        if not isinstance(recipe, self.recipe_kind):
            raise ValueError(
                f"{type(self).__name__} needs a {self.recipe_kind.__name__}, got {recipe!r:.80}; "
                f"make one, such as {self.recipe_kind.__name__}()."
            )
        self.recipe = recipe
        self.execution = execution or Execution()
        self.located: T = located(recipe, self.execution.folder)
        """The recipe that is read: its relative paths start where they were given."""

    def __call__(
        self, params: Mapping[str, Value], *, fidelity: float = 1.0, seed: int = 0
    ) -> Result:
        """Measure one trial.

        Raises:
            TrialFailed: it has no metrics, such as where training diverged; `evaluate` returns such
                a result instead.
            ValueError: params that cannot be set, or what `evaluate` raises.
        """
        (result,) = self.evaluate([Request(params=dict(params), fidelity=fidelity, seed=seed)])
        if result.failure is not None:
            raise TrialFailed(result)
        return result

    @abstractmethod
    def evaluate(self, requests: Sequence[Request], on_event: Report | None = None) -> list[Result]:
        """Measure a batch; one result a request, in order."""

    @abstractmethod
    def early(self) -> frozenset[str]:
        """Metrics that a request with `base_only` gives; none where it makes no difference."""

    @abstractmethod
    def reused(self, request: Request, done: Request) -> float:
        """Share of the request's training that is done once `done` is, if nothing is dropped."""

    def check(self, params: Mapping[str, Value]) -> None:
        """Raise ValueError, in one sentence, if these params cannot be set."""
        self.recipe.with_params(params)

    def with_params(self, params: Mapping[str, Value]) -> Self:
        """A copy with these values as its fixed ones."""
        return self._changed(
            self.recipe.with_params(params), self.located.with_params(params), self.execution
        )

    def configure(self, compute: Compute) -> Self:
        """A copy that computes and keeps its stages as `compute` says; the rest stays as it is.

        Relative paths that were given so far start from `folder`, and so do those of requests.

        Raises:
            ValueError: a device is not there, or there is no such kind of sharding or shared store.
        """
        execution = self.execution.changed(compute)
        return self._changed(self.recipe, located(self.located, execution.folder), execution)

    def _changed(self, recipe: T, read: T, execution: Execution) -> Self:
        changed = type(self)(recipe, execution)
        changed.located = read
        return changed

    def values(self) -> dict[str, Value]:
        """The value of every hyperparameter where a request does not set it, short forms too."""
        paths = self.recipe.paths()
        return paths | {short: paths[full] for short, full in SHORT_FORMS.items()}

    def parameters(self) -> list[dict[str, Any]]:
        """Every hyperparameter as JSON-able data, in the form of `objectives.config.reference`."""
        return reference.as_json(reference.parameters(self.recipe, SHORT_FORMS))

    def machine(self) -> dict[str, Any]:
        """Where it computes."""
        return self.execution.machine()

    def describe(self) -> dict[str, Any]:
        """All that decides the results, JSON-able."""
        return {"objective": self.kind, "recipe": _as_recorded(self.recipe.to_dict())}


def _as_recorded(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what is at its default and was not there in earlier records."""
    if not recipe.get("corpus", {}).get("validation", True):
        del recipe["corpus"]["validation"]
    return recipe


class PlasticityObjective(Objective[Recipe]):
    """Measures recipes: base loss, and what fine-tuning makes of the base."""

    kind = "plasticity"
    recipe_kind = Recipe

    def __init__(self, recipe: Recipe, execution: Execution | None = None) -> None:
        super().__init__(recipe, execution)
        _check_schedules(recipe)
        self._data = DataCache()

    def evaluate(self, requests: Sequence[Request], on_event: Report | None = None) -> list[Result]:
        """Measure a batch; one result a request, in order.

        `on_event` receives progress events after every step; an exception it raises stops the work
        there, with all that is finished kept in the store. Threads of one process take turns
        (`objectives.turns`), so each gets what it would get alone.

        Raises:
            ValueError: a request that cannot be understood, or a corpus, task or model that cannot
                be loaded.
            StoreError: the store cannot be written.
        """
        with turns.turn(on_event) as tell:
            tell({"stage": "open the store", "step": 0, "steps": 1, "preparing": True})
            return self._evaluate(requests, tell)

    def preflight(self, requests: Sequence[Request]) -> None:
        """Check all that can be checked of these requests before a token is read.

        Raises:
            ValueError: something is not there or does not go together.
        """
        with turns.turn(None):
            checks.check_requests(self.located, requests, self.execution)

    def estimate(
        self, requests: Sequence[Request], *, together: int = 1, timed: bool = True
    ) -> dict[str, Any]:
        """What these requests would cost; see `objectives.preflight.estimates`.

        `together`: how many are measured at once; `timed`: measure a training step.

        Raises:
            ValueError: a request that cannot be understood, or data that cannot be read.
        """
        with turns.turn(None):
            return estimates.estimate(
                self.located, requests, self.execution, together=together, timed=timed
            )

    def cpu_operations(self, requests: Sequence[Request]) -> float:
        """Floating-point operations of these requests on CPU cores; 0 on another device.

        Raises:
            ValueError: a request that cannot be understood.
        """
        return estimates.cpu_operations(self.located, requests, self.execution)

    def early(self) -> frozenset[str]:
        """Metrics that a request with `base_only` gives."""
        return results.EARLY

    def metrics(self) -> frozenset[str]:
        """All metrics that a whole request may give."""
        return metric_names.plasticity_metrics(self.recipe)

    def meanings(self) -> dict[str, str]:
        """What each metric is, in a few words."""
        return metric_names.meanings(self.recipe)

    def conditions(self) -> dict[str, str]:
        """What results depend on beyond the recipe; see `objectives.conditions`.

        Raises:
            ValueError: data that cannot be read.
        """
        with turns.turn(None):
            if not conditions.asks_hub(self.located):
                return conditions.of_recipe(self.located)
            store = self.execution.open_store()
            try:
                return conditions.of_recipe(self.located, store)
            finally:
                store.close()

    def reused(self, request: Request, done: Request) -> float:
        """Share of the request's pretraining that is done once `done` is, if nothing is dropped."""
        try:
            return reused(*(job_of(self.located, each, self.execution) for each in (request, done)))
        except ValueError:  # such as a warmup longer than the horizon: it fails without training
            return 0.0

    def export(
        self, request: Request, folder: Path, on_event: Report | None = None
    ) -> ExportSummary:
        """Write a request's weights and recipe into the folder; see `objectives.export.bundle`.

        What the store does not hold any more is trained again, with the progress of `evaluate`. The
        text of the corpus is not needed where its tokens and the weights are stored.

        Raises:
            ValueError: the request failed, or cannot be understood.
            StoreError: the store cannot be written.
        """
        no_probes: dict[str, Any] = {"probes.run": []}
        bare = self.with_params(no_probes)
        asked = Request(
            params={k: v for k, v in request["params"].items() if k != "probes.run"},
            fidelity=request["fidelity"],
            seed=request["seed"],
        )
        job = job_of(bare.located, asked, bare.execution)
        bare._data = DataCache(weights_of=lambda text: job.key(text, job.first_steps))
        with turns.turn(on_event) as tell:
            return bare._export(asked, folder, tell)

    def _evaluate(self, requests: Sequence[Request], on_event: Report) -> list[Result]:
        with self._pipeline(requests, on_event) as pipeline:
            return pipeline.run()

    def _export(self, request: Request, folder: Path, on_event: Report) -> ExportSummary:
        with self._pipeline([request], on_event) as pipeline:
            (result,) = pipeline.run()
            if result.failure is not None:
                raise ValueError(f"the trial has no weights to export: {result.failure}.")
            (trial,) = pipeline.trials
            return bundle.write_bundle(folder, TrialArtifacts.of(trial), result, pipeline.runtime)

    @contextlib.contextmanager
    def _pipeline(self, requests: Sequence[Request], on_event: Report) -> Iterator[Pipeline]:
        """A pipeline with its store, which is closed at the end."""
        check_device(self.execution.device_name)
        store = self.execution.open_store()
        try:
            for stage, key in self._data.stages():
                store.use(stage, key)
            yield Pipeline(
                recipe=self.located,
                data=self._data,
                requests=requests,
                store=store,
                execution=self.execution,
                on_event=on_event,
            )
        finally:
            store.close(keep=self._data.stages())
            device_memory.trim_malloc()


def _check_schedules(recipe: Recipe) -> None:
    """Raise ValueError if a warmup is longer than the whole run, so that it fits no shorter one."""
    pre, fine = recipe.pretrain, recipe.finetune
    lr_schedule.check_schedule(pre.schedule, pre.steps, "pretrain.schedule")
    if pre.mid is not None:
        lr_schedule.check_schedule(pre.mid.schedule, pre.mid.steps, "pretrain.mid.schedule")
    for steps in {of_task(fine, task.override).steps for task in fine.tasks}:
        if steps is not None:
            lr_schedule.check_schedule(fine.schedule, steps, "finetune.schedule")
