"""From a study's history to the model: which results it is fitted to, and how they are scaled.

A Gaussian process takes cubic time, so beyond MOST results it sees a selection: half by rank of
non-domination, a quarter the latest, the rest spread over the record. The selection is made block
by block, and lengths and variances are fitted again when the record has grown by a tenth: all is a
function of the history alone, and what is remembered only saves time.

An earlier study's results are taken as if from the lowest rung: shifted and stretched to this
study's mean and spread, since another model size has other losses, and with an error of half a
spread on top, so that they guide where little is known and yield where there are results. How much
that rung says of full fidelity is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpo.core.domains import inside
from hpo.core.history import History
from hpo.core.objective import Value
from hpo.core.spec import StudySpec
from hpo.core.trial import Answer, Trial
from hpo.front.losses import MISSING, constraints
from hpo.numerics import pareto
from hpo.numerics.gaussian_process import Points
from hpo.search import model
from hpo.search.model import Results, SurrogateModel
from hpo.search.unit_cube import Array, Coordinates

MOST = 160
"""Results in the model; 160 keep an ask under half a second on one core (measured)."""


BLOCK = 160
"""Results by which the selection goes on."""


WARM_MOST = 40
"""Trials of an earlier study, the latest ones."""


WARM_ERROR = 0.5
"""Standard error of an earlier study's result in spreads of this one's; assumed."""


GROWTH = 1.1


class TrainingData:
    """A study's results in the model's terms."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.coordinates = Coordinates(spec.space)
        self.rows: dict[tuple[int, int], Row] = {}
        self.kept: dict[int, list[Row]] = {}
        self.thetas: dict[int, list[list[Array]]] = {}

    def fit(self, history: History) -> SurrogateModel | None:
        """The model of all results; None with fewer than two whole ones.

        A base alone is asked for only when there are two, so the first rows are always whole.
        """
        rows = self._results(history.trials)
        if sum(row.whole for row in rows) < 2:
            return None
        milestone = learnt_at(len(rows))
        if milestone not in self.thetas:
            early = self._shown(rows[:milestone])
            self.thetas[milestone] = model.fit_hyperparameters(early, self.coordinates)
        known = model.fit(self._shown(rows), self.coordinates, self.thetas[milestone])
        pending = [
            (self.coordinates.of(trial.params), self.u(trial.asks[-1].fidelity))
            for trial in history.trials
            if trial.in_flight and inside(self.spec.space, trial.params)
        ]
        if not pending:
            return known
        return known.fantasize(np.stack([x for x, _ in pending]), np.array([u for _, u in pending]))

    def estimated(self, trials: Sequence[Trial], known: SurrogateModel) -> list[Trial]:
        """The trials with what bases alone do not tell at its expected value.

        A limit on such a metric counts as kept.
        """
        alone = [(each, answer) for each in trials for answer in each.answers if answer.base_only]
        if not alone:
            return list(trials)
        here = Points(
            np.stack([self.coordinates.of(each.params) for each, _ in alone]),
            np.array([self.u(answer.fidelity) for _, answer in alone]),
        )
        kept = {limit.metric: limit.high for limit in self.spec.limits}
        kept |= {limit.metric: limit.low for limit in self.spec.limits if limit.low > -math.inf}
        columns = {
            goal.metric: goal.sign * surface.at(here)[0]
            for goal, surface in zip(self.spec.goals, known.goals, strict=True)
        }
        metrics = {
            answer.order: kept
            | {name: float(values[index]) for name, values in columns.items()}
            | dict(answer.metrics)
            for index, (_, answer) in enumerate(alone)
        }
        return [
            replace(each, answers=tuple(
                replace(answer, metrics=metrics[answer.order]) if answer.base_only else answer
                for answer in each.answers
            ))
            for each in trials
        ]  # fmt: skip

    def _results(self, trials: Sequence[Trial]) -> list[Row]:
        """All that can be shown, in order of coming.

        What a trial gave before it failed at a higher rung stays: that no row ever goes is what
        makes a selection of the first rows the same later.
        """
        found = []
        for trial in trials:
            for answer in trial.results:
                key = (trial.number, answer.order)
                if key not in self.rows:
                    self.rows[key] = self._row(trial.params, answer)
                if self.rows[key].shown:
                    found.append(self.rows[key])
        return sorted(found, key=lambda row: row.order)

    def _row(self, params: Mapping[str, Value], answer: Answer) -> Row:
        spec, metrics = self.spec, answer.metrics
        values = {path: params.get(path) for path in spec.space}
        loss = [goal.sign * metrics.get(goal.metric, math.nan) for goal in spec.goals]
        limits = constraints(spec.limits, metrics)
        if answer.base_only:
            early = spec.objective.early()
            wanted = np.array([goal.metric in early for goal in spec.goals])
            limits = {n: v if n.rsplit(" ", 1)[0] in early else math.nan for n, v in limits.items()}
        else:
            wanted = np.ones(len(loss), dtype=bool)
        loss_G = np.where(wanted, loss, math.nan)
        shown = inside(spec.space, values) and bool(np.isfinite(loss_G[wanted]).all())
        sems = [metrics.get(f"{goal.metric}_sem", 0.0) for goal in spec.goals]
        return Row(
            order=answer.order,
            shown=shown,
            whole=not answer.base_only,
            x_D=self.coordinates.of(values) if shown else np.empty(0),
            u=self.u(answer.fidelity),
            loss_G=loss_G,
            sem_G=np.array([sem if math.isfinite(sem) else 0.0 for sem in sems]),
            limit_L=np.array([*limits.values()]),
        )

    def u(self, fidelity: float) -> float:
        """Of a fidelity: 0 in full, 1 at the lowest rung."""
        lowest = self.spec.fidelities[0]
        return math.log(fidelity) / math.log(lowest) if lowest < 1 else 0.0

    def _shown(self, rows: list[Row]) -> Results:
        """The selection, with the earlier study's results."""
        kept = self._selected(rows)
        earlier = self._earlier()
        results = model.compress_bad_outliers(_joined(kept))
        return _with_earlier(
            results, model.compress_bad_outliers(_joined(earlier)) if earlier else None
        )

    def _selected(self, rows: list[Row]) -> list[Row]:
        full = (len(rows) - 1) // BLOCK * BLOCK
        if full <= 0:
            return rows
        done = max((at for at in self.kept if at <= full), default=0)
        kept = self.kept.get(done, [])
        for at in range(done, full, BLOCK):
            kept = selection([*kept, *rows[at : at + BLOCK]])
            self.kept[at + BLOCK] = kept
        return selection([*kept, *rows[full:]])

    def _earlier(self) -> list[Row]:
        """An earlier study's trials within this space, in its own units."""
        trials = self.spec.warm[-WARM_MOST:]
        lowest = self.spec.fidelities[0]
        rows = [
            replace(self._row(each.params, Answer(lowest, index, dict(each.metrics), {})), u=1.0)
            for index, each in enumerate(trials)
        ]
        return [row for row in rows if row.shown]


@dataclass(frozen=True)
class Row:
    """A result in the model's terms."""

    order: int
    shown: bool
    """Whether it is in the space and every goal that was asked for has a finite number."""
    whole: bool
    """Whether every goal was asked for."""
    x_D: Array
    u: float
    loss_G: Array
    sem_G: Array
    limit_L: Array


def learnt_at(count: int) -> int:
    """The last milestone within this many results, each a tenth beyond the one before."""
    at = 2
    while (after := max(at + 1, math.ceil(at * GROWTH))) <= count:
        at = after
    return at


def selection(rows: list[Row]) -> list[Row]:
    """At most MOST of the rows, in order: the best ranks, the latest, and some of all.

    Among the best, what was asked for whole comes before bases alone, so that the late goals are
    never without results.
    """
    if len(rows) <= MOST:
        return rows
    losses = np.stack([row.loss_G for row in rows])
    # A result of the base alone has the middle value of the goals that it lacks.
    rank = pareto.ranks(np.where(np.isnan(losses), np.nanmedian(losses, axis=0), losses))
    partly = np.array([not row.whole for row in rows])
    best = np.lexsort((rank, partly))[: MOST // 2]
    latest = np.arange(len(rows) - MOST // 4, len(rows))
    kept = set(best.tolist()) | set(latest.tolist())
    rest = [index for index in range(len(rows)) if index not in kept]
    spread = np.linspace(0, len(rest) - 1, MOST - len(kept)).round().astype(int)
    kept |= {rest[index] for index in np.unique(spread)}
    return [rows[index] for index in sorted(kept)]


def _joined(rows: Sequence[Row]) -> Results:
    limits = np.stack([row.limit_L for row in rows])
    missing = np.abs(limits) >= MISSING
    if missing.any() and not (missing | np.isnan(limits)).all():
        far = 2 * max(float(np.nanmax(np.abs(limits[~missing]))), 1e-9)
        limits = np.where(missing, np.sign(limits) * far, limits)
    return Results(
        X_ND=np.stack([row.x_D for row in rows]),
        u_N=np.array([row.u for row in rows]),
        loss_NG=np.stack([row.loss_G for row in rows]),
        loss_sem_NG=np.stack([row.sem_G for row in rows]),
        limit_NL=limits,
    )


def _with_earlier(results: Results, earlier: Results | None) -> Results:
    """The results, then the earlier study's at their mean and spread and with a wide error."""
    if earlier is None:
        return results

    def fitted(theirs: Array, own: Array) -> Array:
        spread = np.maximum(theirs.std(axis=0), 1e-12)
        scores = (theirs - theirs.mean(axis=0)) / spread
        return np.asarray(scores * np.nanstd(own, axis=0) + np.nanmean(own, axis=0))

    loss = fitted(earlier.loss_NG, results.loss_NG)
    error = np.broadcast_to(WARM_ERROR * np.nanstd(results.loss_NG, axis=0), loss.shape)
    return Results(
        X_ND=np.vstack([results.X_ND, earlier.X_ND]),
        u_N=np.concatenate([results.u_N, earlier.u_N]),
        loss_NG=np.vstack([results.loss_NG, loss]),
        loss_sem_NG=np.vstack([results.loss_sem_NG, error]),
        limit_NL=np.vstack([results.limit_NL, earlier.limit_NL]),
    )
