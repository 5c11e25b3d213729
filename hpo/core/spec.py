"""What a study is: a Python value that names the objective, the space and the goals.

A study file is complete and importable; variations are made with `dataclasses.replace`. Every field
is checked when the value is made (see `hpo.core.checks`), so that a study which exists can be run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from hpo.core import checks
from hpo.core.checks import shown
from hpo.core.contrasts import PlannedContrasts
from hpo.core.domains import Domain, as_domain
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal, Limit
from hpo.core.objective import NamesMetrics, Objective, Params, check_objective
from hpo.core.paper import Paper

"""What NumPy's and Optuna's generators take."""


@checks.explained
@dataclass(frozen=True)
class Prior:
    """Where a parameter's good values are expected; the search starts there and may leave."""

    centre: float | int | str | bool
    width: float
    """Standard deviation in the parameter's unit, on a logarithmic domain in decades; of a choice
    the probability that it is another option."""

    def __post_init__(self) -> None:
        width = checks.number("width of Prior", self.width, "a finite width above 0")
        if not (math.isfinite(width) and width > 0):
            raise ValueError(f"Prior needs a finite width above 0, got {width}.")
        checks.put(self, centre=checks.data("centre of Prior", self.centre), width=width)


@checks.explained
@dataclass(frozen=True, kw_only=True)
class WarmStartTrial:
    """What a trial of an earlier study gave."""

    params: Params
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, example in (("params", '{"pretrain.lr": 0.01}'), ("metrics", '{"gain": 0.1}')):
            checks.mapping(f"{name} of Earlier", getattr(self, name), example)


@checks.explained
@dataclass(frozen=True)
class Baseline:
    """A named trial that runs before the search, to compare with."""

    name: str
    params: Params

    def __post_init__(self) -> None:
        _check_point(self)


@checks.explained
@dataclass(frozen=True)
class GridPoint:
    """A named trial of a study's grid."""

    name: str
    params: Params

    def __post_init__(self) -> None:
        _check_point(self)


def _check_point(point: Baseline | GridPoint) -> None:
    kind = type(point).__name__
    name = checks.text(f"name of {kind}", point.name)
    rule = f"params of {kind} {name!r}"
    params = checks.mapping(rule, point.params, '{"pretrain.lr": 0.01}')
    checks.put(point, name=name, params={k: checks.data(k, v) for k, v in params.items()})


@dataclass(frozen=True)
class Planned:
    """A trial that a study names before it starts, at one of its seeds."""

    point: Baseline | GridPoint
    replicate: int
    """Counts from 0; added to the study's seed."""


Sampler: TypeAlias = Literal["gp", "gp-optuna", "botorch", "tpe", "nsga2", "random"]
"""gp: our model over parameters and fidelity; gp-optuna, botorch, tpe, nsga2: Optuna's samplers."""


FinetuneAtRungs: TypeAlias = Literal["where it pays", "always"]


Prices: TypeAlias = Literal["auto", "seconds", "tokens"]


AUTO_RUNGS = (1 / 9, 1 / 3, 1.0)
"""Thirds of thirds, as in successive halving (arXiv 1810.05934); assumed."""


@checks.explained
@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A study, complete."""

    name: str
    objective: Objective
    space: Mapping[str, Domain]
    """Recipe path -> domain; Optuna's distributions without a step are taken for theirs."""
    goals: tuple[Goal, ...] = (BASE_LOSS_DOWN, GAIN_UP)
    limits: tuple[Limit, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    grid: tuple[GridPoint, ...] = ()
    """Measured after the baselines and before the search."""
    replicates: int = 1
    """Seeds at which baselines and grid are measured, from the study's seed on: other initial
    weights, another data order. All points at one seed before any at the next."""
    trials: int = 24
    """Trials in all, baselines and grid included. With nothing in the space to search these are the
    named ones, or a single one, however many are asked for."""
    budget_s: float | None = None
    """Seconds of measuring after which no new wave starts; None is without limit."""
    wave: int = 6
    """Trials proposed and measured together."""
    rungs: tuple[float, ...] | Literal["auto"] = "auto"
    """Fidelities at which trials are compared and the better ones go on, such as (1/9, 1/3, 1);
    (1,) measures each in full. "auto" chooses from these three by what the stages of trials cost,
    in a study with the sampler "gp" that is priced in seconds, and else is (1,). Baselines and grid
    are measured in full at once."""
    finetune_at_rungs: FinetuneAtRungs = "where it pays"
    """Below full fidelity the sampler "gp" leaves fine-tuning out where it costs more than stopping
    trials by it would save."""
    prices: Prices = "auto"
    """What the sampler "gp" weighs gains by: "seconds" that the stages of trials were measured to
    take, or "tokens", which are the same in every run. "auto" is seconds where the study starts
    with a `budget_s`, else tokens. A run keeps what it was started with."""
    sampler: Sampler = "gp"
    priors: Mapping[str, Prior] = field(default_factory=dict)
    """Path in the space -> where good values are expected."""
    warm: tuple[WarmStartTrial, ...] = ()
    """Trials of an earlier study, also of another model size, that the search starts from."""
    max_flops: float | None = None
    """Operations after which no new wave starts; None is without limit."""
    patience: int | None = None
    """The study ends when its last so many full trials gained no hypervolume beyond their standard
    errors; None goes on."""
    replicate_share: float = 0.2
    """Share of the training, in full trials, that may repeat others at another seed where the front
    is undecided: without repetitions it is unknown how certain the front is. 0 is for an objective
    without noise."""
    confirm: int = 0
    """Fresh seeds at which the front is measured again at the end, on top of the trials."""
    seed: int = 0
    """From 0 to 2^32 - 1."""
    description: str = field(default="")
    paper: Paper | None = None
    """What a paper found, to show beside the results; decides none of them."""
    contrasts: PlannedContrasts | None = None
    """Differences between baselines and grid points that are named before the run; decide none."""

    def __post_init__(self) -> None:
        self._check_values()
        self._check_lists()
        self._check_search()
        self._check_names()
        self._check_params()
        self._check_metrics()
        if not self.space:
            checks.put(self, trials=min(self.trials, max(1, len(self.planned))))

    @property
    def currency(self) -> Literal["seconds", "tokens"]:
        """`prices`, decided."""
        if self.prices == "auto":
            return "tokens" if self.budget_s is None else "seconds"
        return self.prices

    @property
    def fidelities(self) -> tuple[float, ...]:
        """Those that trials may be measured at, rising to 1."""
        if self.rungs != "auto":
            return self.rungs
        return AUTO_RUNGS if self.sampler == "gp" and self.currency == "seconds" else (1.0,)

    @property
    def points(self) -> tuple[Baseline | GridPoint, ...]:
        """Baselines and grid."""
        return (*self.baselines, *self.grid)

    @property
    def planned(self) -> tuple[Planned, ...]:
        """The trials that come before the search, in order."""
        seeds = range(self.replicates)
        return tuple(Planned(point, seed) for seed in seeds for point in self.points)

    def _check_values(self) -> None:
        """Fields of one value."""
        name = plain_name(self.name)
        check_objective(self.objective)
        for field_name in ("trials", "wave", "replicates"):
            rule, value = f"a study's {field_name}", getattr(self, field_name)
            checks.put(self, **{field_name: checks.whole(rule, value, least=1)})
        for field_name in ("budget_s", "max_flops"):
            value = getattr(self, field_name)
            if value is not None:
                value = checks.positive(f"a study's {field_name}", value, "None is without limit")
            checks.put(self, **{field_name: value})
        if self.patience is not None:
            checks.put(self, patience=checks.whole("a study's patience", self.patience, least=1))
        share = checks.number("a study's replicate_share", self.replicate_share)
        if not 0 <= share < 1:
            raise ValueError(f"a study needs 0 <= replicate_share < 1, got {shown(share)}.")
        if not isinstance(self.description, str):
            raise ValueError(f"description must be a text, got {shown(self.description)}.")
        checks.put(
            self,
            name=name,
            replicate_share=share,
            confirm=checks.whole("a study's confirm", self.confirm),
            seed=checks.whole("a study's seed", self.seed, most=checks.MOST_SEED),
            sampler=checks.one_of("sampler", self.sampler, get_args(Sampler)),
            prices=checks.one_of("prices", self.prices, get_args(Prices)),
            finetune_at_rungs=checks.one_of(
                "finetune_at_rungs", self.finetune_at_rungs, get_args(FinetuneAtRungs)
            ),
        )

    def _check_lists(self) -> None:
        """Fields of several values."""
        checks.put(
            self,
            goals=checks.items(
                "goals", self.goals, Goal, 'Goal(metric="base_loss", direction="down")'
            ),
            limits=checks.items("limits", self.limits, Limit, 'Limit(metric="gain", low=0.1)'),
            baselines=checks.items(
                "baselines", self.baselines, Baseline, 'Baseline(name="standard", params={})'
            ),
            grid=checks.items("grid", self.grid, GridPoint, 'Point(name="a", params={})'),
            warm=checks.items(
                "warm", self.warm, WarmStartTrial, "Earlier(params={...}, metrics={...})"
            ),
        )
        if self.paper is not None and not isinstance(self.paper, Paper):
            raise ValueError(
                f"paper must be a hpo.core.paper.Paper or None, got {shown(self.paper)}."
            )
        if self.contrasts is not None and not isinstance(self.contrasts, PlannedContrasts):
            raise ValueError(
                "contrasts must be a PlannedContrasts(contrasts=(...,)) or None, got "
                f"{shown(self.contrasts)}."
            )
        metrics = [goal.metric for goal in self.goals]
        if not metrics or len(set(metrics)) < len(metrics):
            raise ValueError(f"a study needs different goals, got {metrics}.")
        limited = [limit.metric for limit in self.limits]
        if len(set(limited)) < len(limited):
            raise ValueError(f"limits need different metrics, got {limited}; join their bounds.")

    def _check_search(self) -> None:
        """The space, and where and how it is searched."""
        space = checks.mapping("space", self.space, '{"pretrain.lr": Float(low=0.001, high=0.1)}')
        checks.put(self, space={path: as_domain(path, each) for path, each in space.items()})
        checks.put(self, rungs=checks.rungs(self.rungs), priors=self._checked_priors())

    def _checked_priors(self) -> dict[str, Prior]:
        priors = checks.mapping("priors", self.priors, '{"pretrain.lr": Prior(...)}')
        for path, prior in priors.items():
            if path not in self.space:
                raise ValueError(
                    f"the prior of {path!r} needs a parameter of the space; "
                    f"{checks.near(path, self.space)}"
                )
            if not isinstance(prior, Prior) or not _is_prior(self.space[path], prior):
                raise ValueError(
                    f"the prior of {path} needs a centre in its domain and, for a choice, a width "
                    f"below 1, as Prior(centre=..., width=...); got {shown(prior)}."
                )
        return priors

    def _check_names(self) -> None:
        names = [point.name for point in self.points]
        if len(set(names)) < len(names):
            raise ValueError(f"baselines and grid points need different names, got {names}.")
        unknown = sorted((self.paper.points if self.paper else set()) - set(names))
        if unknown:
            raise ValueError(
                f"the paper's tables name points that no baseline or grid point has: {unknown}; "
                f"there are {names}."
            )
        unknown = sorted((self.contrasts.arms if self.contrasts else set()) - set(names))
        if unknown:
            raise ValueError(
                f"the planned contrasts name arms that no baseline or grid point has: {unknown}; "
                f"there are {names}."
            )

    def _check_params(self) -> None:
        for path, domain in self.space.items():
            for value in domain.ends:
                self.objective.check({path: value})
        defaults = self.objective.values()
        fixed = {path: defaults[path] for path in self.space if path in defaults}
        for point in self.points:
            self.objective.check({**fixed, **point.params})
            self._check_kinds(point, {**fixed, **point.params})
        self.objective.check(fixed)

    def _check_kinds(self, point: Baseline | GridPoint, params: Params) -> None:
        """Where the space has a number, a named trial has one too, in the range or outside."""
        for path, domain in self.space.items():
            if not domain.fits(params.get(path)):
                raise ValueError(
                    f"{type(point).__name__} {point.name!r} needs "
                    f"{'a number' if domain.is_real else 'an integer'} for {path}, "
                    f"which the space searches as {type(domain).__name__}; got "
                    f"{shown(params[path])}."
                )

    def _check_metrics(self) -> None:
        """Goals and limits name what will be measured, where the objective can tell."""
        wanted = [("goal", goal.metric) for goal in self.goals]
        wanted += [("limit", limit.metric) for limit in self.limits]
        planned = self.contrasts.contrasts if self.contrasts else ()
        wanted += [("planned contrast's metric", each.metric) for each in planned]
        message = ""
        for known in self._known_metrics():
            wanted = [(kind, metric) for kind, metric in wanted if metric not in known]
            if not wanted:
                return
            kind, metric = wanted[0]
            hint = checks.near(metric, sorted(each for each in known if "_sem" not in each))
            message = f"the {kind} {metric!r} is no metric of the study's trials; {hint}"
        if message:
            raise ValueError(message)

    def _known_metrics(self) -> Iterator[frozenset[str]]:
        """Metrics of the objective as it is, then as each setting of the study makes it."""
        settings: list[Params] = [{}, *(point.params for point in self.points)]
        settings += [{path: value} for path, each in self.space.items() for value in each.ends]
        for params in settings:
            changed = self.objective.with_params(params) if params else self.objective
            known = changed.metrics() if isinstance(changed, NamesMetrics) else None
            if known is None:
                return
            yield known


def plain_name(name: object) -> str:
    """A study's name, which is also that of its run's folder.

    Raises:
        ValueError: it could not be one.
    """
    if not isinstance(name, str) or name.strip(".") == "" or set(name) - set(_NAME_CHARACTERS):
        raise ValueError(
            "a study's name holds letters, digits, '-', '_' and '.', and not only dots; got "
            f"{shown(name)}."
        )
    return checks.text("a study's name", name)


_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."


def _is_prior(domain: Domain, prior: Prior) -> bool:
    if domain.is_choice:
        return domain.contains(prior.centre) and prior.width < 1
    number = isinstance(prior.centre, int | float) and not isinstance(prior.centre, bool)
    return number and domain.ends[0] <= prior.centre <= domain.ends[1]  # type: ignore[operator]
