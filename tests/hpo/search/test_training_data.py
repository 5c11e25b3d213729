"""The model's share of a long record: a function of the record, small, and with the best in it."""

from __future__ import annotations

import dataclasses

import numpy as np

from hpo.core.goals import Limit
from hpo.core.history import History
from hpo.core.trial import Answer, Ask, Trial
from hpo.numerics import pareto
from hpo.search import training_data
from hpo.search.training_data import TrainingData
from tests.hpo.toy_objective import ToyObjective, spec


def long(count: int) -> History:
    """Random full trials of the toy study."""
    rng = np.random.default_rng(0)
    entries = []
    for number in range(count):
        params = {
            "pretrain.weight_decay": float(10 ** rng.uniform(-2, 0)),
            "pretrain.lr": float(10 ** rng.uniform(-3, -1)),
        }
        result = ToyObjective().evaluate([{"params": params, "fidelity": 1.0, "seed": 0}])[0]
        answer = Answer(1.0, number, result.metrics, result.cost)
        asks = (Ask(number, 0, 1.0, number),)
        entries.append(
            Trial(number=number, params=params, seed=0, asks=asks, answers=(answer,),
                  state="complete")
        )  # fmt: skip
    return History(entries)


def test_the_selection_is_the_same_whenever_it_is_made() -> None:
    record = long(700)
    at_once = TrainingData(spec())
    rows = at_once._results(record.trials)
    step_by_step = TrainingData(spec())
    for count in (10, 170, 333, 520, 699):
        step_by_step._selected(rows[:count])
    assert [row.order for row in step_by_step._selected(rows)] == [
        row.order for row in at_once._selected(rows)
    ]


def test_the_selection_is_small_and_keeps_the_front_and_the_latest() -> None:
    rows = TrainingData(spec())._results(long(700).trials)
    kept = {row.order for row in TrainingData(spec())._selected(rows)}
    assert len(kept) == training_data.MOST
    losses = np.stack([row.loss_G for row in rows])
    front = set(np.flatnonzero(pareto.non_dominated(losses)).tolist())
    assert len(front & kept) >= min(len(front), training_data.MOST // 2) * 0.9
    assert set(range(700 - training_data.MOST // 4, 700)) <= kept


def test_lengths_are_fitted_again_when_the_record_has_grown_by_a_tenth() -> None:
    assert [training_data.learnt_at(count) for count in (2, 3, 10, 11, 20, 21, 23, 24)] == [
        2, 3, 10, 11, 19, 21, 21, 24,
    ]  # fmt: skip
    assert all(training_data.learnt_at(count) <= count < 1.1 * training_data.learnt_at(count) + 1
               for count in range(2, 2000))  # fmt: skip


def test_a_failed_trial_is_not_shown_and_what_is_under_way_is_believed() -> None:
    record = long(20)
    study = spec()
    whole = TrainingData(study).fit(record)
    entries = [*record.trials]
    entries[3] = dataclasses.replace(entries[3], state="failed")
    without = TrainingData(study).fit(History(entries))
    entries[3] = dataclasses.replace(record.trials[3], answers=(), state="running")
    pending = TrainingData(study).fit(History(entries))
    assert whole is not None
    assert without is not None
    assert pending is not None
    sizes = [len(known.goals[0].y_N) for known in (whole, without, pending)]
    assert sizes == [20, 19, 20]
    x_D = TrainingData(study).coordinates.of(record.trials[3].params)
    assert (without.full_FD != x_D).any(axis=1).all()
    assert (pending.full_FD == x_D).all(axis=1).any()


def test_a_limit_that_nobody_measures_leaves_no_hope_and_no_error() -> None:
    study = spec(limits=(Limit(metric="absent", high=0.0),))
    known = TrainingData(study).fit(long(12))
    assert known is not None
    gain, chance = known.gain()(known.goals[0].points.X_ND)
    assert gain.max() == 0.0
    assert chance.max() == 0.0
