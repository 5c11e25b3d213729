"""What objectives have in common: a recipe, where it is computed, and one trial or many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from objectives.execution import Execution
from objectives.field_types import Value
from objectives.locations import located
from objectives.measures import Request, Result, TrialFailed
from objectives.progress import Event
from objectives.recipe import SHORT_FORMS


class Tree(Protocol):
    """A tree of hyperparameters."""

    def with_params(self, params: Mapping[str, Value]) -> Self:
        """A copy with these paths set."""

    def paths(self) -> dict[str, Value]:
        """Every path and its value."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""


T = TypeVar("T", bound=Tree)


class Measuring(ABC, Generic[T]):
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
    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[Result]:
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
        """The same objective with these values as its fixed ones."""
        return self._changed(
            self.recipe.with_params(params), self.located.with_params(params), self.execution
        )

    def configure(
        self,
        *,
        device: str | None = None,
        devices: int | None = None,
        sharding: str | None = None,
        lanes: int | None = None,
        store: str | None = None,
        store_gb: float | None = None,
        share: str | None = None,
        folder: str | None = None,
    ) -> Self:
        """The same objective told where to compute and where to keep its stages.

        Relative paths that were given so far start from `folder`, and so do those of requests.

        Raises:
            ValueError: a device is not there, or there is no such kind of sharding or shared store.
        """
        execution = self.execution.changed(
            device=device,
            devices=devices,
            sharding=sharding,
            lanes=lanes,
            store=store,
            store_gb=store_gb,
            share=share,
            folder=folder,
        )
        return self._changed(self.recipe, located(self.located, execution.folder), execution)

    def _changed(self, recipe: T, read: T, execution: Execution) -> Self:
        changed = type(self)(recipe, execution)
        changed.located = read
        return changed

    def values(self) -> dict[str, Value]:
        """The value of every hyperparameter where a request does not set it, short forms too."""
        paths = self.recipe.paths()
        return paths | {short: paths[full] for short, full in SHORT_FORMS.items()}

    def machine(self) -> dict[str, Any]:
        """Where it computes."""
        return self.execution.machine()

    def describe(self) -> dict[str, Any]:
        """All that decides the results, JSON-able."""
        return {"objective": self.kind, "recipe": self.recipe.to_dict()}
