"""The contract between a study and the thing it optimizes.

Anything with the methods of `Objective` can be studied; nothing here knows how a trial is measured.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypeAlias, TypedDict, runtime_checkable

from hpo.core.checks import shown

Value: TypeAlias = float | int | str | bool | None


Params: TypeAlias = Mapping[str, Value]


Event: TypeAlias = dict[str, Any]
"""What an objective tells of its progress: any of the keys of `Progress`."""


class Progress(TypedDict, total=False):
    """The keys of an event that are shown; every one may be left out."""

    stage: str
    """What is done now, such as "pretrain"; an event without a stage is not shown."""
    step: int
    steps: int
    """Of how many; 1 if not given."""
    done_frac: float
    """Share of the whole batch that is done, in [0, 1]; the time left is estimated by it."""
    lanes: int
    """Trials that are trained as one program."""
    loss: float
    """Training loss."""
    tokens_per_s: float
    images_per_s: float
    preparing: bool
    """Whether data is prepared, which has no steps; for workers that are taken to hang."""


class Request(TypedDict):
    """One trial to measure."""

    params: dict[str, Value]
    fidelity: float
    """Share of the full pretraining horizon in (0, 1]."""
    seed: int
    base_only: NotRequired[bool]
    """Only the metrics of `Objective.early` are wanted."""


class Compute(TypedDict, total=False):
    """Where an objective computes and keeps its stages; what is left out stays as it is."""

    device: str
    """Such as cpu or cuda."""
    devices: int
    """How many of them a trial takes."""
    sharding: str
    """How a trial is distributed over several devices."""
    lanes: int
    """Trials that are trained as one program."""
    store: str
    """Folder of finished stages."""
    store_gb: float
    """Size (1e9 bytes) within which stages that nobody uses are kept."""
    share: str
    """Folder or URL where machines share stages."""
    folder: str
    """Where relative paths start: those that the objective was given, and those of requests. Given
    for every study; an objective without paths ignores it."""


class Result(Protocol):
    """What came of one request; everything JSON-able."""

    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def curves(self) -> dict[str, list[list[float]]]: ...
    @property
    def cost(self) -> dict[str, float]:
        """What it took: `time_s`, and whatever else is counted, such as `tokens` that were trained
        on and `tokens_reused` that were found done.

        The search learns what a trial costs from `pretrain_tokens` and `pretrain_tokens_reused`,
        those of both that are of pretraining, and from `pretrain_s` and `finetune_s`, the seconds
        that this request took for pretraining and for all that comes after it.
        """

    @property
    def failure(self) -> str | None: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def labels(self) -> list[str]:
        """Stand beside the trial's number wherever it is named."""

    # Further, where an objective has them: `row_scores: dict[str, list[list[float]]]`, metric -> a
    # list a task of a value a test row. Rows are the same, in the same order, in all trials; the
    # metric is the mean over tasks of the means over rows. Differences are then paired over rows.


class Exported(Protocol):
    """What an objective wrote of one trial; everything JSON-able."""

    @property
    def files(self) -> dict[str, str]:
        """Path below the folder -> what is there."""

    @property
    def result(self) -> Result:
        """What was measured for what was written, with the cost of having it again."""

    @property
    def unsupported(self) -> dict[str, list[str]]:
        """File -> what of the recipe it cannot express, a sentence each."""

    # Further, where it is so: `base_model: str`, the name on the hub of the weights it began with.


class Objective(Protocol):
    """What a study needs of the thing it optimizes."""

    def check(self, params: Params) -> None:
        """Raise ValueError, in one sentence, if these params cannot be set."""

    def values(self) -> Mapping[str, Value]:
        """The value of every hyperparameter where a request does not set it."""

    def with_params(self, params: Params) -> Objective:
        """The same objective with these values as its fixed ones."""

    def configure(self, compute: Compute) -> Objective:
        """A copy that computes and keeps its stages as `compute` says.

        Raises:
            ValueError: it cannot do that, such as train one trial on several devices.
        """

    def early(self) -> frozenset[str]:
        """Metrics that a request with `base_only` gives; none where it makes no difference.

        What a whole request costs beyond such a one shows in the `tokens` and `tokens_reused` of
        results; an objective with early metrics gives them.
        """

    def reused(self, request: Request, done: Request) -> float:
        """Share of the request's training, in [0, 1], that is done once `done` is measured.

        A function of the two alone, so that decisions can be made again.
        """

    def describe(self) -> dict[str, Any]:
        """JSON-able: all that decides the results."""

    def machine(self) -> dict[str, Any]:
        """JSON-able: where it computes, for the record."""

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> Sequence[Result]:
        """Measure a batch; one result a request, in order.

        `on_event` receives progress events; an exception it raises stops the work at a safe point.
        """

    def export(
        self, request: Request, folder: Path, on_event: Callable[[Event], None] | None = None
    ) -> Exported:
        """Write what came of one request, and its recipe, into an empty folder.

        What is not kept any more is made again, with progress as in `evaluate`.

        Raises:
            ValueError: the request fails, or there is nothing to write.
        """


@runtime_checkable
class NamesMetrics(Protocol):
    """An objective that knows before a trial what will be measured; `Objective` need not."""

    def metrics(self) -> frozenset[str] | None:
        """All metrics that a whole request at full fidelity may give; None if it cannot tell.

        Goals and limits of a study are checked against them before anything is measured.
        """


@runtime_checkable
class ExplainsMetrics(Protocol):
    """An objective that says what its metrics are; `Objective` need not."""

    def meanings(self) -> Mapping[str, str]:
        """Metric -> what it is, in a few words, for whoever reads a report."""


@runtime_checkable
class StatesConditions(Protocol):
    """An objective that knows what its results depend on besides settings; it need not."""

    def conditions(self) -> Mapping[str, str]:
        """Name of each corpus, task or library -> a short text, equal exactly when the thing is.

        Trials are compared only with those that were measured under equal conditions.
        """


@runtime_checkable
class EstimatesWork(Protocol):
    """An objective that knows roughly how much it computes; `Objective` need not."""

    def cpu_operations(self, requests: Sequence[Request]) -> float:
        """Floating-point operations that these requests take on CPU cores; 0 on another device.

        Told at once, without reading data: `hpo run` asks whether worker processes pay.
        """


class Parameter(TypedDict):
    """One hyperparameter, as `hpo params` lists it."""

    path: str
    owner: str
    """The class that has it; may be empty."""
    type: str
    unit: str
    """Empty for a plain number."""
    default: Any
    """Its value where a request does not set it; "required" where there is none."""
    allowed: str
    """Values or range in words; empty where the type says all."""
    meaning: str


@runtime_checkable
class ListsParameters(Protocol):
    """An objective that can describe its hyperparameters; `Objective` need not."""

    def parameters(self) -> Sequence[Parameter]:
        """Every hyperparameter, also those that only a whole subtree or list can set."""


METHODS = (
    "check",
    "values",
    "with_params",
    "configure",
    "early",
    "reused",
    "describe",
    "machine",
    "evaluate",
)
"""Without these of `Objective` no study runs."""


def check_objective(given: object) -> None:
    """Raise ValueError if this is no objective."""
    if inspect.isclass(given):
        raise ValueError(
            f"objective must be an object, got the class {given.__name__}; write "
            f"objective={given.__name__}(...)."
        )
    missing = [name for name in METHODS if not callable(getattr(given, name, None))]
    if missing:
        raise ValueError(
            f"objective must have the methods of hpo.core.spec.Objective, got {shown(given)} "
            f"without "
            f"{', '.join(missing)}; a recipe becomes one by PlasticityObjective(recipe)."
        )
