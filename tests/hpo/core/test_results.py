"""What an objective gives: every number becomes a float, anything else fails its trial alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo.controller import Controller
from hpo.core.results import ResultsError, TrialResult, number, result, results, text
from hpo.core.rows import DamagedRow
from hpo.core.trial import Run
from hpo.front.front import front
from hpo.report import terminal_tables
from hpo.report.html.page import render
from hpo.report.plots import registry
from hpo.report.results import Results
from hpo.storage.record import load_study, read_run, url_of
from hpo.storage.trials import read_history
from tests.hpo.toy_objective import ToyObjective, ToyResult, spec

GOOD = {"base_loss": 3.0, "gain": 0.2}


NUMBERS: list[tuple[Any, float]] = [
    (1.5, 1.5), (2, 2.0), (True, 1.0), (np.float32(1.5), 1.5), (np.int64(3), 3.0),
    (np.float64(math.inf), math.inf), (np.array(1.5), 1.5), (np.bool_(True), 1.0),
    (np.float16(0.5), 0.5), (np.longdouble(0.25), 0.25), (Decimal("1.5"), 1.5),
    (Decimal("-Infinity"), -math.inf), (Fraction(1, 4), 0.25), (torch.tensor(1.5), 1.5),
    (torch.tensor(2.0, requires_grad=True), 2.0), (torch.tensor(3, dtype=torch.bfloat16), 3.0),
    (10**300, 1e300), (-0.0, 0.0),
]  # fmt: skip


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__

    def __float__(self) -> float:
        raise RuntimeError("no")


OTHERS: list[Any] = [
    None, "1.5", b"1", [1.0], (1.0,), {"a": 1}, {1.0}, 10**400, Decimal("1e400"), Decimal("sNaN"),
    Fraction(10**400, 3), 1j, np.complex64(1), np.array([1.5]), np.array([1, 2]), np.str_("1"),
    np.datetime64("2020"), np.longdouble("1e4000"), torch.tensor([1.5]), torch.tensor(1j),
    torch.empty((), device="meta"), object(), float, lambda: 1.0, Hostile(),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), NUMBERS)
def test_every_single_number_is_a_float(value: Any, expected: float) -> None:
    found = number(value)
    assert type(found) is float
    assert found == expected


def test_nan_stays() -> None:
    for value in (math.nan, np.float32("nan"), Decimal("NaN"), torch.tensor(math.nan)):
        assert math.isnan(number(value))


@pytest.mark.parametrize("place", range(len(OTHERS)))
def test_anything_else_fails_the_trial_and_names_the_metric(place: int) -> None:
    value = OTHERS[place]
    with pytest.raises(ValueError, match="no number within the range of floats"):
        number(value)
    found = result(ToyResult(metrics={**GOOD, "extra": value}))
    assert found.metrics == GOOD
    assert found.failure is not None
    assert "for 'extra'; a metric must be one number" in found.failure
    assert "\n" not in found.failure
    assert len(found.failure) < 300


def test_a_reason_that_the_objective_gives_comes_before_metrics_that_are_none() -> None:
    found = result(ToyResult(metrics={"gain": None}, failure="diverged"))  # type: ignore[dict-item]
    assert found.failure == "diverged"
    assert found.notes == ["left out of the metrics, as not numbers: None for 'gain'"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "gave None instead of a list of results"),
        (3, "gave 3 instead of a list"),
        ("ab", "gave 'ab' instead of a list"),
        ({"gain": 1.0}, "instead of a list of results"),
        ([], "gave 0 results for 2 requests"),
        ([ToyResult()] * 3, "gave 3 results for 2 requests"),
    ],
)
def test_another_number_of_results_is_reported(given: Any, said: str) -> None:
    with pytest.raises(ResultsError, match=said):
        results(given, 2)


def test_what_is_no_result_fails_its_trial_alone() -> None:
    for each in (None, 3, [], {"metrics": {}}, "ok", object(), Hostile()):
        first, second = results(iter([ToyResult(metrics=GOOD), each]), 2)
        assert (first.failure, first.metrics) == (None, GOOD)
        assert second.failure is not None


def test_a_result_may_leave_out_all_but_its_metrics() -> None:
    @dataclasses.dataclass
    class Bare:
        metrics: dict[str, float]

    assert result(Bare(GOOD)) == TrialResult(metrics=GOOD)


def test_curves_costs_and_texts_of_other_types_are_turned_or_left_out_with_a_note() -> None:
    given: Any = ToyResult(
        metrics=GOOD,
        curves={"a": np.array([[1, 2.5]]), "b": [[1]], "c": None, "d": [("x", 1)]},  # type: ignore[dict-item]
        cost={"time_s": np.float32(2), "tokens": None, "flops": math.nan, "steps": -1},  # type: ignore[dict-item]
        notes="one",  # type: ignore[arg-type]
        labels=(1, "half \ud83d"),  # type: ignore[arg-type]
    )
    found = result(given)
    assert (found.failure, found.metrics) == (None, GOOD)
    assert (found.curves, found.cost) == ({"a": [[1.0, 2.5]]}, {"time_s": 2.0})
    assert found.labels == ["1", "half \\ud83d"]
    assert found.notes[0] == "one"
    assert all(f"'{name}'" in found.notes[1] for name in "bcd")
    assert all(f"'{name}'" in found.notes[2] for name in ("tokens", "flops", "steps"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (False, None),
        (True, "no reason given"),
        ("", "no reason given"),
        (ValueError("a\nb"), "a b"),
    ],
)
def test_a_failure_is_a_sentence_or_none(given: Any, expected: str | None) -> None:
    assert result(ToyResult(metrics=GOOD, failure=given)).failure == expected


def test_a_long_text_is_cut() -> None:
    assert len(text("x" * 10**6)) < 3000


@dataclasses.dataclass(frozen=True)
class Gives:
    """Turns the results of the toy into others."""

    change: Callable[[dict[str, Any], int], Any]

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        found = ToyObjective().evaluate(requests)
        return [self.change(dataclasses.asdict(each), place) for place, each in enumerate(found)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Odd(ToyObjective):
    """Gives other types than it should."""

    gives: Callable[[Sequence[Any]], Any] = lambda requests: None

    def evaluate(self, requests: Any, on_event: Any = None) -> Any:
        return self.gives(requests)


def shown(run: Run) -> None:
    """All that reads a record."""
    terminal_tables.run_json(Results(run))
    render(Results(run))
    for exhibit in registry.exhibits(Results(run)).values():
        exhibit.draw()


FLOATS = st.floats() | st.sampled_from([1e200, -1e200, 1.7e308, 5e-324, 0.0, math.inf, math.nan])


VALUES = (
    FLOATS
    | st.integers()
    | st.booleans()
    | st.none()
    | st.text(max_size=5)
    | st.decimals()
    | st.fractions()
    | st.complex_numbers()
    | st.lists(st.floats(), max_size=2)
    | st.sampled_from([*(value for value, _ in NUMBERS), *OTHERS])
)


NAMES = st.sampled_from(
    ["base_loss", "gain", "gain_sem", "base_loss_sem", "finetuned", "finetuned_sem", "tau_frac",
     "forgetting_nats", "task.a.after", "task.a.before", "task.a.after_sem", "task.a.chance",
     "task.a.gain", "task.", "probe.x", "probe.", "", "probe.alphas.mean", "\ud83d",
     "a|b\x00\x1b[31m"]
)  # fmt: skip


METRICS = st.dictionaries(NAMES, VALUES, max_size=8)


CURVES = st.dictionaries(
    st.sampled_from(["train_loss", "val_loss", "probe.x_by_layer", "finetune.a", "x"]),
    st.lists(st.tuples(FLOATS, FLOATS), max_size=4) | VALUES,
    max_size=3,
)


def test_a_metric_that_is_too_large_to_compute_with_counts_as_infinite() -> None:
    found = result(ToyResult(metrics={"a": 1e200, "b": -1.7e308, "c": 1e99}))
    assert found.metrics == {"a": math.inf, "b": -math.inf, "c": 1e99}


@pytest.fixture(scope="module")
def before() -> optuna.Study:
    """Six trials, as many as come before the model of the search."""
    controller = Controller(spec(trials=6), "sqlite://")
    controller.run()
    return controller.record.study


def recorded(before: optuna.Study, trials: list[optuna.trial.FrozenTrial], url: str) -> None:
    """Record the same study with other trials."""
    again = optuna.create_study(study_name="toy", storage=url, directions=["minimize", "maximize"])
    for key, kept in before.user_attrs.items():
        again.set_user_attr(key, kept)
    again.add_trials(trials)


@pytest.mark.parametrize("value", [None, "1.5", 10**400, -math.inf, math.nan, 1e200])
@pytest.mark.parametrize("name", ["base_loss", "gain_sem"])
def test_an_old_record_with_any_value_can_be_shown_and_gone_on_with(
    name: str, value: Any, before: optuna.Study, tmp_path: Path
) -> None:
    url, old = url_of(tmp_path), before.get_trials()
    for each in (1, 4):
        old[each].user_attrs["metrics"] = old[each].user_attrs["metrics"] | {name: value}
    recorded(before, old, url)
    terminal_tables.run_json(Results(read_run(load_study(url, "toy"))))
    run = Controller(spec(trials=9), url).run()
    shown(run)
    assert [trial.state for trial in run.trials] == ["complete"] * 9
    front_numbers = {trial.number for trial in front(run).trials}
    if name == "base_loss" and (value is None or isinstance(value, float)):
        assert 4 not in front_numbers
    if value is None:
        assert f"left out of the metrics, as not numbers: None for {name!r}" in run.trials[4].notes


@pytest.mark.parametrize("row", ["asked", "metrics", "rungs", "order", "seed", "step_cost"])
def test_a_row_of_another_form_is_damage_also_to_the_controller(
    row: str, before: optuna.Study, tmp_path: Path
) -> None:
    trials = before.get_trials()
    trials[1].user_attrs[row] = [["nonsense"]]
    recorded(before, trials, url_of(tmp_path))
    with pytest.raises(DamagedRow, match=f"its row '{row}' has another form"):
        read_history(load_study(url_of(tmp_path), "toy").get_trials(), spec(trials=8))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(METRICS, CURVES, METRICS, VALUES), min_size=6, max_size=6))
def test_whatever_an_objective_gives_is_a_float_or_a_failed_trial_and_all_is_shown(
    odd: list[Any],
) -> None:
    def change(found: dict[str, Any], place: int) -> ToyResult:
        metrics, curves, cost, note = odd[place]
        return ToyResult(
            metrics={**found["metrics"], **metrics}, curves={**found["curves"], **curves},
            cost=cost, notes=note, labels=[note],
        )  # fmt: skip

    run = Controller(spec(objective=Odd(gives=Gives(change)), trials=6, wave=6), "sqlite://").run()
    for trial in run.trials:
        assert all(type(value) is float for value in trial.metrics.values())
        complete = all(math.isfinite(trial.metrics.get(name, math.nan)) for name in GOOD)
        assert trial.state == ("complete" if trial.failure is None else "failed")
        assert trial.failure is not None or complete
        assert all(0 <= value < math.inf for value in trial.cost.values())
    shown(run)
