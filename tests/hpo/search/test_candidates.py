"""Goals that come late and cost much: asked for where they pay; and branches at what they cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.controller import Controller
from hpo.core.domains import Float
from hpo.core.goals import Limit
from hpo.core.history import History
from hpo.core.objective import Request
from hpo.core.spec import StudySpec
from hpo.core.trial import Answer, Ask, Trial
from hpo.front.front import front
from hpo.numerics import gaussian_process
from hpo.search import candidates, rungs, strategy, training_data
from hpo.search.candidates import Ranking
from hpo.search.cost_model import CostModel
from hpo.storage.record import load_study, read_run, url_of
from hpo.storage.trials import read_history
from tests.bench.search_problems import Analytic, Measured
from tests.hpo.search.test_successive_halving import RUNGS, Breaks, _decisions, study

DEAR = Analytic(name="branin-currin", finetuning=0.5)


def dear(**fields: Any) -> StudySpec:
    return study(**({"objective": DEAR, "trials": 16} | fields))


@pytest.fixture(scope="module")
def decoupled() -> Controller:
    controller = Controller(dear(objective=dataclasses.replace(DEAR, reached={})), "sqlite://")
    controller.run()
    return controller


def asks(entries: list[Trial]) -> list[Ask]:
    return [ask for entry in entries for ask in entry.asks]


def test_low_rungs_are_asked_for_the_base_alone_where_fine_tuning_would_not_pay(
    decoupled: Controller,
) -> None:
    found = asks(decoupled.record.history.trials)
    assert any(ask.base_only for ask in found)
    assert not any(ask.base_only for ask in found if ask.fidelity == 1)
    for entry in decoupled.record.history.trials:
        for answer in entry.answers:
            assert ("second" in answer.metrics) is not answer.base_only
        if entry.state == "complete":
            assert set(entry.answers[-1].metrics) == {"first", "second"}


def test_the_record_and_the_front_hold_what_was_measured(decoupled: Controller) -> None:
    run = read_run(decoupled.record.study)
    partly = [trial for trial in run.trials if "second" not in trial.metrics]
    assert partly
    assert {trial.state for trial in partly} == {"pruned"}
    again = read_history(decoupled.record.study.get_trials(), decoupled.spec).trials
    assert [entry.answers for entry in again] == [
        e.answers for e in decoupled.record.history.trials
    ]
    assert [entry.asks for entry in again] == [e.asks for e in decoupled.record.history.trials]
    assert front(run).trials


@pytest.mark.parametrize(
    "fields",
    [
        {"finetune_at_rungs": "always"},
        {"objective": Analytic(name="branin-currin")},
        {"sampler": "tpe"},
    ],
)
def test_elsewhere_every_rung_is_asked_for_all(fields: dict[str, Any]) -> None:
    controller = Controller(dear(**fields), "sqlite://")
    controller.run()
    assert not any(ask.base_only for ask in asks(controller.record.history.trials))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DearBreaks(Breaks):
    """Breaks down in its n-th batch that goes on with a trial."""

    finetuning: float = 0.5


@pytest.mark.parametrize("at", [1, 3])
def test_a_study_of_late_goals_resumes_to_the_same_trials(
    at: int, decoupled: Controller, tmp_path: Path
) -> None:
    broken = dear(objective=DearBreaks(name="branin-currin", at=at))
    with pytest.raises(RuntimeError, match="caught fire"):
        Controller(broken, url_of(tmp_path)).run()
    assert _decisions(Controller(broken, url_of(tmp_path)).run()) == _decisions(
        read_run(decoupled.record.study)
    )


def test_every_question_can_be_decided_again(decoupled: Controller) -> None:
    spec, whole = decoupled.spec, decoupled.record.history
    for entry in whole.trials:
        for ask in entry.asks:
            again = strategy.propose_again(spec, whole, ask, lambda run: None)
            assert again is not None
            assert (again.number, again.fidelity, again.base_only) == (
                entry.number, ask.fidelity, ask.base_only,
            )  # fmt: skip


def test_what_was_asked_of_a_record_is_in_it(tmp_path: Path) -> None:
    Controller(dear(trials=10), url_of(tmp_path)).run()
    asked = [t.user_attrs["asked"] for t in load_study(url_of(tmp_path), "toy").get_trials()]
    assert {len(each) for trial in asked for each in trial} == {4, 5}
    assert {each[4] for trial in asked for each in trial if len(each) == 5} == {1}


def test_a_goal_that_never_comes_fails_the_trial() -> None:
    objective = NoSecond(name="branin-currin", finetuning=0.5)
    run = Controller(dear(objective=objective, trials=4), "sqlite://").run()
    assert {trial.failure for trial in run.trials} == {
        "the objective gave no number for second; it gave first"
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoSecond(Analytic):
    """Never gives its second goal."""

    def measure(self, *args: Any, **given: Any) -> Measured:
        return super().measure(*args, **(given | {"base_only": True}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diverges(Analytic):
    """Every base that is asked for alone fails."""

    def measure(self, *args: Any, **given: Any) -> Measured:
        failure = "diverged" if given.get("base_only") else None
        return dataclasses.replace(super().measure(*args, **given), failure=failure)


def test_a_base_that_failed_alone_is_read_again_as_that() -> None:
    spec = dear(objective=Diverges(name="branin-currin", finetuning=0.5), trials=14)
    controller = Controller(spec, "sqlite://")
    controller.run()
    entries = controller.record.history.trials
    assert any(e.state == "failed" and e.answers[-1].base_only for e in entries)
    again = read_history(controller.record.study.get_trials(), spec).trials
    assert [entry.answers for entry in again] == [entry.answers for entry in entries]


@pytest.mark.parametrize("limit", [Limit(metric="none", high=1.0), Limit(metric="none", low=0.0)])
def test_a_limit_on_what_nothing_gives_ends_no_study(limit: Limit) -> None:
    spec = dear(limits=(limit,))
    known = training_data.TrainingData(spec).fit(rows(spec, partly=True))
    assert known is not None
    assert [len(surface.y_N) for surface in known.limits] == [7]
    assert (known.chance(known.seen_ND) < 0.5).all()


def rows(spec: StudySpec, partly: bool) -> History:
    """Six whole trials at the lowest rung and one in full; with `partly` four bases more."""
    entries = []
    for number, (x, y) in enumerate(np.random.default_rng(0).random((11, 2)).tolist()):
        base_only = number > 6
        if base_only and not partly:
            break
        at = 1.0 if number == 6 else RUNGS[0]
        params = {"x0": x, "x1": y}
        result = DEAR.measure(params, at, 0, base_only=base_only)
        entries.append(
            Trial(
                number=number, params=params, seed=0, asks=(Ask(number, 0, at, number, base_only),),
                answers=(Answer(at, number, result.metrics, result.cost, base_only),),
                state="complete" if at == 1 else "running",
            )
        )  # fmt: skip
    return History(entries)


def test_a_base_alone_teaches_only_the_early_goal() -> None:
    spec = dear()
    without = training_data.TrainingData(spec).fit(rows(spec, partly=False))
    with_bases = training_data.TrainingData(spec).fit(rows(spec, partly=True))
    assert without is not None
    assert with_bases is not None
    assert [len(s.y_N) for s in without.goals] == [7, 7]
    assert [len(s.y_N) for s in with_bases.goals] == [11, 7]
    assert len(with_bases.seen_ND) == 11
    assert all(np.isfinite(s.y_N).all() for s in with_bases.goals)


def low_asks(finetuning: float) -> list[Ask]:
    """First questions below the end, of a study that asks one at a time."""
    objective = Analytic(name="branin-currin", finetuning=finetuning)
    controller = Controller(dear(objective=objective, trials=18, wave=1), "sqlite://")
    controller.run()
    return [e.asks[0] for e in controller.record.history.trials if e.asks[0].fidelity < 1]


def test_a_third_of_the_lowest_rung_is_whole_where_that_is_less_than_half_a_trial() -> None:
    low = [ask.base_only for ask in low_asks(0.5)]
    for count in range(1, len(low) + 1):
        assert low[:count].count(False) >= math.floor(count / 3)


def test_no_rung_is_asked_whole_where_that_is_most_of_a_trial() -> None:
    """But for the one that tells pretraining and fine-tuning apart: the costs are fitted here."""
    low = [ask.base_only for ask in low_asks(100.0)]
    assert low.count(True) >= 6
    assert low.count(False) == 1


def staged(pretrain_s: float, finetune_s: float) -> History:
    """A history of one whole trial in full with these costs."""
    cost = {
        "tokens": 2.0, "tokens_reused": 0.0, "pretrain_tokens": 1.0, "pretrain_tokens_reused": 0.0,
        "pretrain_s": pretrain_s, "finetune_s": finetune_s,
    }  # fmt: skip
    whole = Trial.measured(0, {"x0": 0.5, "x1": 0.5}, {"first": 0.0, "second": 0.0}, cost=cost)
    return History([dataclasses.replace(whole, state="complete")])


@pytest.mark.parametrize(
    ("finetune_s", "rung"), [(0.1, 1 / 9), (0.77, 1 / 9), (0.78, 1.0), (3.0, 1.0)]
)
def test_start_up_points_are_measured_at_the_lowest_rung_that_is_less_than_half_a_trial(
    finetune_s: float, rung: float
) -> None:
    """r p + f <= (p + f) / 2 with p = 1 and r = 1/9: f <= 7/9."""
    seen = staged(1.0, finetune_s)
    for fields in ({}, {"rungs": "auto"}):
        spec = dear(prices="seconds", **fields)
        found = strategy.Searcher(spec, lambda run: None).decide(seen)
        assert found is not None
        assert found.fidelity == rung


def test_start_up_points_are_in_full_before_any_cost_is_known() -> None:
    for spec, rung in ((dear(), 1.0), (study(), 1 / 9), (study(rungs="auto"), 1.0)):
        found = strategy.Searcher(spec, lambda run: None).decide(History())
        assert found is not None
        assert found.fidelity == rung


def test_rungs_that_the_objective_cannot_be_measured_at_are_left_out() -> None:
    cheap = CostModel(1.0, 0.1, by_stage=True)
    spec = dear(rungs="auto", prices="seconds")
    assert rungs.rungs_in_use(spec, cheap, lambda rung: True) == (1 / 9, 1 / 3, 1.0)
    assert rungs.rungs_in_use(spec, cheap, lambda rung: rung > 0.2) == (1 / 3, 1.0)
    fitted = dataclasses.replace(cheap, by_stage=False)
    assert rungs.rungs_in_use(spec, fitted, lambda rung: True) == (1.0,)
    in_tokens = dear(rungs="auto", prices="tokens")
    assert rungs.rungs_in_use(in_tokens, cheap, lambda rung: True) == (1.0,)


def test_told_is_the_uncertainty_that_a_result_takes_away() -> None:
    spec = dear()
    known = training_data.TrainingData(spec).fit(rows(spec, partly=True))
    assert known is not None
    for surface in known.goals:
        for u in (0.0, 0.5, 1.0):
            x_D = np.array([0.37, 0.61])
            at_full = gaussian_process.Points(x_D[None], np.zeros(1))
            before = float(surface.at(at_full)[1][0])
            noisy = dataclasses.replace(surface)
            asked = gaussian_process.Points(x_D[None], np.array([u]))
            after = float(noisy.fantasize(asked).at(at_full)[1][0])
            told = surface.expected_sd_reduction(x_D, u)
            assert 0 <= told <= before
            # the believer's result has the fitted noise, told's the middle one of the results
            if math.isclose(float(np.median(surface.noise_N)), float(surface.noise_N.min())):
                assert told == pytest.approx(before - after, abs=1e-4 * before)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Branching(Analytic):
    """Of two points with one x0, nine tenths of the training is shared."""

    def reused(self, request: Request, done: Request) -> float:
        if request["params"] == done["params"]:
            return super().reused(request, done)
        return 0.9 if _head(request["params"]) == _head(done["params"]) else 0.0


def _head(params: Mapping[str, Any]) -> Any:
    return params["x0"]


def test_parameters_of_branches_are_found_by_what_is_shared() -> None:
    assert candidates.branch_params(dear(objective=Branching(name="branin-currin"))) == [1]
    assert candidates.branch_params(dear()) == []


def test_branches_are_weighed_by_what_they_cost_and_asked_for() -> None:
    def branches(objective: Analytic) -> int:
        controller = Controller(study(objective=objective, trials=18, wave=1), "sqlite://")
        controller.run()
        inner = [e.params["x0"] for e in controller.record.history.trials if 0 < e.params["x0"] < 1]
        return len(inner) - len(set(inner))

    assert branches(Analytic(name="branin-currin")) == 0
    assert branches(Branching(name="branin-currin")) > 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned(Analytic):
    """The base depends on x0 alone, as where x1 is of fine-tuning."""

    def measure(self, *args: Any, **given: Any) -> Measured:
        found, x, y = super().measure(*args, **given), given["params"]["x0"], given["params"]["x1"]
        values = {"first": (x - 0.3) ** 2, "second": 1 - x + (y - 0.2 - 0.5 * x) ** 2}
        return dataclasses.replace(found, metrics={name: values[name] for name in found.metrics})

    def reused(self, request: Request, done: Request) -> float:
        same = _head(request["params"]) == _head(done["params"])
        return min(1.0, done["fidelity"] / request["fidelity"]) if same else 0.0


def test_a_branch_whose_base_is_known_is_not_begun_with_that_alone() -> None:
    objective = Tuned(name="branin-currin", finetuning=0.5)
    controller = Controller(dear(objective=objective, trials=18, wave=1), "sqlite://")
    controller.run()
    entries = controller.record.history.trials
    branches = [
        entry for entry in entries
        if 0 < entry.params["x0"] < 1  # at a bound it may be a new point
        and entry.params["x0"] in {before.params["x0"] for before in entries[: entry.number]}
    ]  # fmt: skip
    assert len(branches) > 3
    assert not any(entry.asks[0].base_only for entry in branches)


def test_a_branch_is_never_a_point_that_was_asked_for() -> None:
    objective = Branching(name="branin-currin")
    spec = study(
        objective=objective,
        space={"x0": Float(low=0.0, high=1.0), "x1": Float(low=0.5, high=0.5)},
    )
    found = rows(spec, partly=False)
    flat = [dataclasses.replace(e, params={**e.params, "x1": 0.5}) for e in found.trials]
    kept = training_data.TrainingData(spec)
    known = kept.fit(History(flat))
    assert known is not None
    ranking = Ranking(spec, kept, known, History(flat))
    assert ranking._branches([1], np.random.default_rng(0)) == []


def test_a_long_record_of_bases_keeps_the_whole_results_in_the_model() -> None:
    def row(order: int, *, whole: bool) -> training_data.Row:
        losses = np.array([10.0 if whole else 0.0, 1.0 if whole else math.nan])
        return training_data.Row(
            order=order, shown=True, whole=whole, x_D=np.zeros(2), u=1.0, loss_G=losses,
            sem_G=np.zeros(2), limit_L=np.empty(0),
        )  # fmt: skip

    rows = [row(order, whole=order % 50 == 0) for order in range(2000)]
    kept = training_data.selection(rows)
    assert len(kept) <= training_data.MOST
    assert sum(each.whole for each in kept) == 40
    assert [each.order for each in kept] == sorted(each.order for each in kept)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alike(Analytic):
    """Tells next to nothing apart at low rungs, which cost almost as much as full trials."""

    def measure(
        self, params: Mapping[str, Any], fidelity: float, seed: int, *, base_only: bool = False
    ) -> Measured:
        found = super().measure(params, fidelity, seed, base_only=base_only)
        if fidelity == 1:
            return found
        return dataclasses.replace(found, metrics={n: 1e-3 * v for n, v in found.metrics.items()})


def test_one_trial_is_sent_to_the_end_before_the_model_is_trusted() -> None:
    objective = Alike(name="branin-currin", finetuning=5.0)
    controller = Controller(dear(objective=objective, trials=30, wave=1), "sqlite://")
    controller.run()
    order = sorted(
        (answer.order, answer.fidelity)
        for entry in controller.record.history.trials
        for answer in entry.answers
    )
    assert 1.0 in [fidelity for _, fidelity in order[: candidates.FIRST_FULL_AFTER + 2]]
