"""The objective: pretrain, fine-tune, measure; many requests as one batch.

    objective = PlasticityObjective(Recipe())
    objective({"pretrain.weight_decay": 0.3}).metrics["gain"]

It is stateless but for the store's folder: the same request gives the same result, and stages that
were done before are not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from objectives import (
    conditions,
    estimates,
    handover,
    measures,
    memory,
    metric_names,
    preflight,
    schedules,
    turns,
)
from objectives.batch import Batch
from objectives.execution import Execution, check_device
from objectives.handover import Exported
from objectives.measures import Request, Result
from objectives.measuring import Measuring
from objectives.prepared import Prepared
from objectives.progress import Event, Progress
from objectives.recipe import Recipe
from objectives.requests import job_of, reused
from objectives.store import Store


class PlasticityObjective(Measuring[Recipe]):
    """Measures recipes: base loss, and what fine-tuning makes of the base."""

    kind = "plasticity"
    recipe_kind = Recipe

    def __init__(self, recipe: Recipe, execution: Execution | None = None) -> None:
        super().__init__(recipe, execution)
        _check_schedules(recipe)
        self._prepared = Prepared()

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[Result]:
        """Measure a batch; one result a request, in order.

        `on_event` is told of progress after every step; an exception it raises stops the work
        there, with all that is finished kept in the store. Threads of one process take turns
        (`objectives.turns`), so each gets what it would get alone.

        Raises:
            ValueError: a request that cannot be understood, or a corpus, task or model that cannot
                be had.
            StoreError: the store cannot be written.
        """
        with turns.turn(on_event) as tell:
            return self._evaluate(requests, tell)

    def preflight(self, requests: Sequence[Request]) -> None:
        """Check all that can be checked of these requests before a token is read.

        Raises:
            ValueError: something is not there or does not go together.
        """
        with turns.turn(None):
            preflight.check(self.located, requests, self.execution)

    def estimate(
        self, requests: Sequence[Request], *, together: int = 1, timed: bool = True
    ) -> dict[str, Any]:
        """What these requests would cost; see `objectives.estimates`.

        `together`: how many are measured at once; `timed`: measure a training step.

        Raises:
            ValueError: a request that cannot be understood, or data that cannot be read.
        """
        with turns.turn(None):
            return estimates.estimate(
                self.located, requests, self.execution, together=together, timed=timed
            )

    def early(self) -> frozenset[str]:
        """Metrics that a request with `base_only` gives."""
        return measures.EARLY

    def metrics(self) -> frozenset[str]:
        """All metrics that a whole request may give."""
        return metric_names.of_recipe(self.recipe)

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
        self, request: Request, folder: Path, on_event: Callable[[Event], None] | None = None
    ) -> Exported:
        """Write a request's weights and recipe into the folder; see `objectives.handover`.

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
        bare._prepared = Prepared(weights_of=lambda text: job.key(text, job.first_steps))
        with turns.turn(on_event) as tell:
            return bare._export(asked, folder, tell)

    def _evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None]
    ) -> list[Result]:
        check_device(self.execution.device_name)
        store = self.execution.open_store()
        try:
            for stage, key in self._prepared.stages():
                store.use(stage, key)
            return self._batch(requests, store, on_event).run()
        finally:
            store.close(keep=self._prepared.stages())
            memory.hand_back()

    def _export(
        self, request: Request, folder: Path, on_event: Callable[[Event], None]
    ) -> Exported:
        (result,) = self._evaluate([request], on_event)
        if result.failure is not None:
            raise ValueError(f"the trial has no weights to export: {result.failure}.")
        store = self.execution.open_store()
        try:
            batch = self._batch([request], store, on_event)
            report, lanes = Progress(on_event, 0), self.execution.lanes
            return handover.write(folder, batch.trained(report), result, store, lanes, report)
        finally:
            store.close(keep=self._prepared.stages())
            memory.hand_back()

    def _batch(
        self, requests: Sequence[Request], store: Store, on_event: Callable[[Event], None]
    ) -> Batch:
        return Batch(
            recipe=self.located,
            prepared=self._prepared,
            requests=requests,
            store=store,
            execution=self.execution,
            on_event=on_event,
        )


def _check_schedules(recipe: Recipe) -> None:
    """Raise ValueError if a warmup is longer than the whole run, so that it fits no shorter one."""
    pre, fine = recipe.pretrain, recipe.finetune
    schedules.check(pre.schedule, pre.steps, "pretrain.schedule")
    if pre.mid is not None:
        schedules.check(pre.mid.schedule, pre.mid.steps, "pretrain.mid.schedule")
    if fine.steps is not None:
        schedules.check(fine.schedule, fine.steps, "finetune.schedule")
