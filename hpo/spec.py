"""What a study is: a Python value that names the objective, the space and the goals.

A study file is complete and importable; variations are made with `dataclasses.replace`. Nothing
here knows how a trial is measured: the objective is anything with the methods of `Objective`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, Protocol, TypeAlias, TypedDict

from hpo.papers import Paper

Value: TypeAlias = float | int | str | bool | None
Params: TypeAlias = Mapping[str, Value]
Event: TypeAlias = dict[str, Any]


class Request(TypedDict):
    """One trial to measure."""

    params: dict[str, Value]
    fidelity: float
    """Share of the full pretraining horizon in (0, 1]."""
    seed: int
    base_only: NotRequired[bool]
    """Only the metrics of `Objective.early` are wanted."""


class Result(Protocol):
    """What came of one request; everything JSON-able."""

    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def curves(self) -> dict[str, list[list[float]]]: ...
    @property
    def cost(self) -> dict[str, float]: ...
    @property
    def failure(self) -> str | None: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def labels(self) -> list[str]:
        """Stand beside the trial's number wherever it is named."""


class Exported(Protocol):
    """What an objective wrote of one trial; everything JSON-able."""

    @property
    def files(self) -> dict[str, str]:
        """Path below the folder -> what lies there."""

    @property
    def result(self) -> Result:
        """What was measured for what was written, with the cost of having it again."""

    @property
    def lost(self) -> dict[str, list[str]]:
        """File -> what of the recipe it cannot express, a sentence each."""


class Objective(Protocol):
    """What a study needs of the thing it optimizes."""

    def check(self, params: Params) -> None:
        """Raise ValueError, in one sentence, if these params cannot be set."""

    def values(self) -> Mapping[str, Value]:
        """The value of every hyperparameter where a request does not set it."""

    def with_params(self, params: Params) -> Objective:
        """The same objective with these values as its fixed ones."""

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
    ) -> Objective:
        """The same objective told where to compute and where to keep its stages.

        A trial takes `devices` of the device, on which it lies by `sharding`; both are left out
        where they are not asked for. The stages in the folder `store` take at most `store_gb` (1e9
        bytes) while nobody uses them; `share` is a folder or URL where machines share them.
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

        `on_event` is told of progress; an exception it raises stops the work at a safe point.
        """

    def export(
        self, request: Request, folder: Path, on_event: Callable[[Event], None] | None = None
    ) -> Exported:
        """Write what came of one request, and its recipe, into an empty folder.

        What is not kept any more is made again, with progress as in `evaluate`.

        Raises:
            ValueError: the request fails, or there is nothing to write.
        """


@dataclass(frozen=True, kw_only=True)
class Float:
    """A real parameter in [low, high]."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"Float needs finite low <= high, got {self.low} and {self.high}.")
        if self.log and self.low <= 0:
            raise ValueError(f"Float with log=True needs low > 0, got {self.low}.")


@dataclass(frozen=True, kw_only=True)
class Int:
    """An integer parameter in [low, high]."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"Int needs low <= high, got {self.low} and {self.high}.")
        if self.log and self.low < 1:
            raise ValueError(f"Int with log=True needs low >= 1, got {self.low}.")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few JSON-able values."""

    options: tuple[float | int | str | bool, ...]

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) < len(self.options):
            raise ValueError(f"Choice needs different options, got {self.options}.")


Domain: TypeAlias = Float | Int | Choice


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A metric to make small or large."""

    metric: str
    direction: Literal["down", "up"]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A metric that a trial must keep within bounds to count for the front."""

    metric: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(
                f"Limit on {self.metric} needs low <= high, got {self.low} and {self.high}."
            )


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Where a parameter's good values are expected; the search starts there and may leave."""

    centre: float | int | str | bool
    width: float
    """Standard deviation in the parameter's unit, on a logarithmic domain in decades; of a choice
    the probability that it is another option."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.width) and self.width > 0):
            raise ValueError(f"Prior needs a finite width above 0, got {self.width}.")


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What a trial of an earlier study gave."""

    params: Params
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A named trial that runs before the search, to compare with."""

    name: str
    params: Params


@dataclass(frozen=True, kw_only=True)
class Point:
    """A named trial of a study's grid."""

    name: str
    params: Params


@dataclass(frozen=True)
class Planned:
    """A trial that a study names before it starts, at one of its seeds."""

    point: Baseline | Point
    replicate: int
    """Counts from 0; added to the study's seed."""


Sampler: TypeAlias = Literal["gp", "gp-optuna", "botorch", "tpe", "nsga2", "random"]
"""gp: our model over parameters and fidelity; gp-optuna, botorch, tpe, nsga2: Optuna's samplers."""

BASE_LOSS_DOWN = Goal(metric="base_loss", direction="down")
GAIN_UP = Goal(metric="gain", direction="up")


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A study, complete."""

    name: str
    objective: Objective
    space: Mapping[str, Domain]
    """Recipe path -> domain."""
    goals: tuple[Goal, ...] = (BASE_LOSS_DOWN, GAIN_UP)
    limits: tuple[Limit, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    grid: tuple[Point, ...] = ()
    """Measured after the baselines and before the search."""
    replicates: int = 1
    """Seeds at which baselines and grid are measured, from the study's seed on: other initial
    weights, another data order. All points at one seed before any at the next."""
    trials: int = 24
    """Trials in all, baselines and grid included."""
    budget_s: float | None = None
    """Seconds of measuring after which no new wave starts; None is without limit."""
    wave: int = 6
    """Trials proposed and measured together."""
    rungs: tuple[float, ...] = (1.0,)
    """Fidelities at which trials are compared and the better ones go on, such as (1/9, 1/3, 1).
    Baselines and grid are measured in full at once."""
    finetune_at_rungs: Literal["where it pays", "always"] = "where it pays"
    """Below full fidelity the sampler "gp" leaves fine-tuning out where it costs more than stopping
    trials by it would save."""
    sampler: Sampler = "gp"
    priors: Mapping[str, Prior] = field(default_factory=dict)
    """Path in the space -> where good values are expected."""
    warm: tuple[Earlier, ...] = ()
    """Trials of an earlier study, also of another model size, that the search starts from."""
    max_flops: float | None = None
    """Operations after which no new wave starts; None is without limit."""
    patience: int | None = None
    """The study ends when its last so many full trials gained no hypervolume beyond their standard
    errors; None goes on."""
    replicate_share: float = 0.0
    """Share of the training, in full trials, that may repeat others at another seed where the front
    is undecided."""
    confirm: int = 0
    """Fresh seeds at which the front is measured again at the end, on top of the trials."""
    seed: int = 0
    description: str = field(default="")
    paper: Paper | None = None
    """What a paper found, to stand beside the results; decides none of them."""

    def __post_init__(self) -> None:
        self._check_shape()
        self._check_search()
        self._check_params()

    @property
    def points(self) -> tuple[Baseline | Point, ...]:
        """Baselines and grid."""
        return (*self.baselines, *self.grid)

    @property
    def planned(self) -> tuple[Planned, ...]:
        """The trials that come before the search, in order."""
        seeds = range(self.replicates)
        return tuple(Planned(point, seed) for seed in seeds for point in self.points)

    def _check_shape(self) -> None:
        if self.name.strip(".") == "" or set(self.name) - set(_NAME_CHARACTERS):
            raise ValueError(
                "a study's name holds letters, digits, '-', '_' and '.', and not only dots; got "
                f"{self.name!r}."
            )
        if self.trials < 1 or self.wave < 1 or self.replicates < 1:
            raise ValueError(
                f"a study needs trials, wave and replicates of at least 1, got {self.trials}, "
                f"{self.wave} and {self.replicates}."
            )
        if self.budget_s is not None and not self.budget_s > 0:
            raise ValueError(f"a study needs a budget_s above 0 or None, got {self.budget_s}.")
        metrics = [goal.metric for goal in self.goals]
        if not metrics or len(set(metrics)) < len(metrics):
            raise ValueError(f"a study needs different goals, got {metrics}.")
        limited = [limit.metric for limit in self.limits]
        if len(set(limited)) < len(limited):
            raise ValueError(f"limits need different metrics, got {limited}; join their bounds.")
        names = [point.name for point in self.points]
        if len(set(names)) < len(names):
            raise ValueError(f"baselines and grid points need different names, got {names}.")
        unknown = sorted((self.paper.points if self.paper else set()) - set(names))
        if unknown:
            raise ValueError(
                f"the paper's tables name points that no baseline or grid point has: {unknown}; "
                f"there are {names}."
            )

    def _check_search(self) -> None:
        rising = all(low < high for low, high in zip(self.rungs, self.rungs[1:], strict=False))
        if not self.rungs or not rising or self.rungs[0] <= 0 or self.rungs[-1] != 1:
            raise ValueError(
                f"rungs need rising shares of the horizon up to 1, such as (1/9, 1/3, 1), got "
                f"{self.rungs}."
            )
        for path, prior in self.priors.items():
            if path not in self.space or not _is_prior(self.space[path], prior):
                raise ValueError(
                    f"the prior of {path} needs a parameter of the space, a centre in its domain "
                    f"and, for a choice, a width below 1; got {prior}."
                )
        if not 0 <= self.replicate_share < 1 or self.confirm < 0:
            raise ValueError(
                f"a study needs 0 <= replicate_share < 1 and confirm >= 0, got "
                f"{self.replicate_share} and {self.confirm}."
            )
        if self.max_flops is not None and not self.max_flops > 0:
            raise ValueError(f"a study needs max_flops above 0 or None, got {self.max_flops}.")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"a study needs a patience of at least 1 or None: {self.patience}.")

    def _check_params(self) -> None:
        for path, domain in self.space.items():
            for value in ends(domain):
                self.objective.check({path: value})
        defaults = self.objective.values()
        fixed = {path: defaults[path] for path in self.space if path in defaults}
        for point in self.points:
            self.objective.check({**fixed, **point.params})
        self.objective.check(fixed)


_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."


def _is_prior(domain: Domain, prior: Prior) -> bool:
    if isinstance(domain, Choice):
        return prior.centre in domain.options and prior.width < 1
    number = isinstance(prior.centre, int | float) and not isinstance(prior.centre, bool)
    return number and domain.low <= prior.centre <= domain.high  # type: ignore[operator]


def ends(domain: Domain) -> tuple[Value, ...]:
    """The values by which a domain can be checked: its bounds, or all options."""
    return domain.options if isinstance(domain, Choice) else (domain.low, domain.high)
