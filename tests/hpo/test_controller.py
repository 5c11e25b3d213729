"""The controller: whatever stops it, the study that goes on is the study that was not stopped."""

from __future__ import annotations

import dataclasses
import errno
import io
import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from hpo.controller import Controller
from hpo.core.domains import Float
from hpo.core.failures import StorageError
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal, Limit
from hpo.core.spec import Baseline, GridPoint, StudySpec
from hpo.core.trial import Run
from hpo.front import losses
from hpo.front.front import front
from hpo.progress import Display
from hpo.search.stopping import StopReason
from hpo.storage.provenance import StudyChanged
from hpo.storage.record import database_of, load_study, read_run, url_of
from tests.hpo.cutting import counted, cut_off_after
from tests.hpo.toy_objective import SPACE, Once, Stumbles, ToyObjective, explode, interrupt, spec

NAMES = "study:metric_names"
"""Where Optuna keeps the names of values."""


TRIALS = 11


LIMITS = (Limit(metric="base_loss", high=4.5), Limit(metric="gain", low=0.0))


def study(**fields: Any) -> StudySpec:
    """Waves of 3 that Sobol points and the model share, the last one cut off by the trials."""
    return spec(**({"trials": TRIALS, "limits": LIMITS, "sampler": "tpe"} | fields))


@pytest.fixture(scope="module")
def undisturbed() -> Run:
    return Controller(study(), "sqlite://").run()


def assert_same(run: Run, other: Run) -> None:
    assert run.trials == other.trials
    assert front(run).standings == front(other).standings


def test_a_study_measures_its_trials_and_no_more(undisturbed: Run) -> None:
    assert [trial.number for trial in undisturbed.trials] == list(range(TRIALS))
    assert {trial.state for trial in undisturbed.trials} == {"complete"}
    assert len(front(undisturbed).trials) > 1


def test_the_same_study_gives_the_same_trials_and_another_seed_gives_others(
    undisturbed: Run,
) -> None:
    assert_same(Controller(study(), "sqlite://").run(), undisturbed)
    other = Controller(study(seed=1), "sqlite://").run()
    assert [t.params for t in other.trials[:2]] == [t.params for t in undisturbed.trials[:2]]
    assert all(
        mine.params != theirs.params
        for mine, theirs in zip(other.trials[2:], undisturbed.trials[2:], strict=True)
    )


@pytest.mark.parametrize("wave", range(4))
def test_a_study_resumed_after_an_exception_equals_the_undisturbed_one(
    wave: int, tmp_path: Path, undisturbed: Run
) -> None:
    url = url_of(tmp_path)
    broken = ToyObjective(before=Once(wave, tmp_path, explode))
    with pytest.raises(RuntimeError, match="caught fire"):
        Controller(study(objective=broken), url).run()
    left = read_run(load_study(url, "toy"))
    assert left.trials[: 3 * wave] == undisturbed.trials[: 3 * wave]
    assert {trial.state for trial in left.trials[3 * wave :]} == {"running"}
    assert_same(Controller(study(objective=broken), url).run(), undisturbed)


@pytest.mark.parametrize("writes", range(0, 240, 23))  # a trial has some 22: each time elsewhere
def test_a_study_stopped_at_a_write_of_its_record_equals_the_undisturbed_one(
    writes: int, tmp_path: Path, undisturbed: Run
) -> None:
    """Such as between a trial and its params, between two params, between params and value."""
    with cut_off_after(writes):
        Controller(study(), url_of(tmp_path)).run()
    assert_same(Controller(study(), url_of(tmp_path)).run(), undisturbed)


def test_a_trial_takes_two_transactions_its_question_and_its_answer(url: str) -> None:
    """However many attributes, params and constraints: else Optuna commits past `transaction`."""
    with counted() as writes:
        Controller(study(), url).run()
    assert writes.commits == 2 * TRIALS
    assert writes.statements > 10 * TRIALS


@pytest.mark.parametrize("state", [TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE])
def test_a_trial_that_another_program_has_added_is_refused_and_shown(
    state: TrialState, tmp_path: Path
) -> None:
    """With what to do: the search cannot say what was known when it was decided."""
    url = url_of(tmp_path)
    Controller(study(trials=6), url).run()
    values = [3.0, 0.1] if state == TrialState.COMPLETE else None
    added = optuna.trial.create_trial(state=state, values=values)
    optuna.load_study(study_name="toy", storage=url).add_trial(added)
    with pytest.raises(StorageError, match=r"trial 6 is not one that .* with --restart") as caught:
        Controller(study(), url).run()
    assert "\n" not in str(caught.value)
    assert len(read_run(load_study(url, "toy")).trials) == 7


def test_an_answer_that_the_record_has_in_part_is_recorded_again(
    tmp_path: Path, undisturbed: Run
) -> None:
    url = url_of(tmp_path)
    broken = ToyObjective(before=Once(2, tmp_path, explode))
    with pytest.raises(RuntimeError, match="caught fire"):
        Controller(study(objective=broken), url).run()
    found = load_study(url, "toy")
    half = optuna.Trial(found, found.trials[7]._trial_id)
    half.set_user_attr("metrics", undisturbed.trials[7].metrics)
    half.set_constraint("base_loss high", 7.0)
    assert_same(Controller(study(), url).run(), undisturbed)
    frozen = optuna.load_study(study_name="toy", storage=url).trials[7]
    assert frozen.constraints == losses.constraints(LIMITS, undisturbed.trials[7].metrics)


KILLED = """
import os, sys
from pathlib import Path
from hpo.storage.record import url_of
from hpo.controller import Controller
from tests.hpo.test_controller import study
from tests.hpo.toy_objective import Once, ToyObjective, kill
folder = Path(sys.argv[1])
Controller(study(objective=ToyObjective(before=Once(2, folder, kill))), url_of(folder)).run()
"""


def test_a_killed_process_loses_no_finished_trial(tmp_path: Path, undisturbed: Run) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    left = read_run(load_study(url_of(tmp_path), "toy"))
    assert left.trials[:6] == undisturbed.trials[:6]
    assert [trial.state for trial in left.trials[6:]] == ["running"] * 3
    assert_same(Controller(study(), url_of(tmp_path)).run(), undisturbed)


def test_an_interruption_keeps_what_was_recorded(tmp_path: Path, undisturbed: Run) -> None:
    objective = ToyObjective(before=Once(1, tmp_path, interrupt))
    with pytest.raises(KeyboardInterrupt):
        Controller(study(objective=objective), url_of(tmp_path)).run()
    assert_same(Controller(study(), url_of(tmp_path)).run(), undisturbed)


ERRORS = (ValueError("no such corpus"), TypeError("x"), KeyError("gain"), RuntimeError("a\nb"),
          ZeroDivisionError(), FileNotFoundError(2, "No such file", "a.jsonl"),
          SystemExit(5))  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_an_objective_raises_fails_the_trial_that_caused_it_and_no_other(
    error: BaseException, undisturbed: Run
) -> None:
    rate = undisturbed.trials[4].params["pretrain.lr"]
    assert isinstance(rate, float)
    traces: list[str] = []
    broken = ToyObjective(before=Stumbles(error, (rate,)))
    controller = Controller(study(objective=broken), "sqlite://")
    controller.log = traces.append
    run = controller.run()
    assert [t.number for t in run.trials if t.state == "failed"] == [4]
    said = " ".join(str(error).split()) or type(error).__name__
    assert run.trials[4].failure == f"the objective raised {type(error).__name__}: {said}"
    assert run.trials[:4] == undisturbed.trials[:4]
    assert (run.trials[3], run.trials[5]) == (undisturbed.trials[3], undisturbed.trials[5])
    assert len(run.trials) == TRIALS
    assert len(traces) == 2  # of the batch, and of the trial alone
    assert all("Traceback" in trace for trace in traces)


def test_an_error_that_does_not_come_again_fails_no_trial(tmp_path: Path, undisturbed: Run) -> None:
    def stumble() -> None:
        raise ValueError("once")

    broken = ToyObjective(before=Once(1, tmp_path, stumble))
    assert_same(Controller(study(objective=broken), "sqlite://").run(), undisturbed)


@pytest.mark.parametrize(
    "error",
    [MemoryError("full"), OSError(errno.ENOSPC, "No space left on device"), ConnectionError("x"),
     RuntimeError("writing failed: No space left on device (os error 28)")],
)  # fmt: skip
def test_what_is_no_trials_fault_ends_the_study_and_the_same_command_goes_on(
    error: Exception, tmp_path: Path, undisturbed: Run
) -> None:
    def act() -> None:
        raise error

    broken = ToyObjective(before=Once(1, tmp_path, act))
    with pytest.raises(type(error)):
        Controller(study(objective=broken), url_of(tmp_path)).run()
    left = read_run(load_study(url_of(tmp_path), "toy"))
    assert {trial.state for trial in left.trials[3:]} == {"running"}
    assert_same(Controller(study(objective=broken), url_of(tmp_path)).run(), undisturbed)


def test_what_the_receiver_of_events_raises_is_no_fault_of_a_trial(tmp_path: Path) -> None:
    def tell(event: dict[str, Any]) -> None:
        if "stage" in event:
            raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        Controller(study(), url_of(tmp_path)).run(tell)
    left = read_run(load_study(url_of(tmp_path), "toy"))
    assert {trial.state for trial in left.trials} == {"running"}


@pytest.mark.parametrize("wave", [1, 3])
@pytest.mark.parametrize(
    "fields",
    [{"before": Stumbles(ValueError("no such corpus"))}, {"extra": {"gain": None}}],
)
def test_a_study_in_which_all_fails_for_one_reason_stops_after_the_first_trials(
    fields: dict[str, Any], wave: int, tmp_path: Path
) -> None:
    broken = study(objective=ToyObjective(**fields), wave=wave)
    controller = Controller(broken, url_of(tmp_path))
    run = controller.run()
    assert len(run.trials) == max(2, wave)
    assert controller.stop_reason == StopReason(str(run.trials[0].failure), None)
    whole = Controller(study(wave=wave), url_of(tmp_path)).run()
    assert len(whole.trials) == TRIALS
    assert {trial.state for trial in whole.trials[len(run.trials) :]} == {"complete"}


def test_a_study_stops_where_a_whole_wave_raises_the_same_later_on(tmp_path: Path) -> None:
    def later(requests: object) -> None:
        if (tmp_path / "broken").exists():
            raise ValueError("the network is gone")

    def look(event: dict[str, Any]) -> None:
        if event.get("finished") == 6:
            (tmp_path / "broken").touch()

    controller = Controller(study(objective=ToyObjective(before=later)), url_of(tmp_path))
    run = controller.run(look)
    assert [trial.state for trial in run.trials] == ["complete"] * 6 + ["failed"] * 3
    assert controller.stop_reason is not None
    assert controller.stop_reason.text == "the objective raised ValueError: the network is gone"


@pytest.mark.parametrize(
    "event",
    [{"stage": "x"}, {"stage": 3, "steps": None, "step": "a"}, {"idle": True}, {"wave": 1},
     {"stage": "x", "loss": "low", "done_frac": math.nan, "steps": 10**400}, {}],
)  # fmt: skip
def test_an_event_may_have_any_keys_and_types(event: dict[str, Any]) -> None:
    class Tells(ToyObjective):
        def evaluate(self, requests: Any, on_event: Any = None) -> Any:
            on_event(dict(event))
            return super().evaluate(requests, on_event)

    display = Display(Console(file=io.StringIO()), 3, 0)
    with display:
        run = Controller(study(objective=Tells(), trials=3), "sqlite://").run(display)
    assert [trial.state for trial in run.trials] == ["complete"] * 3


def test_a_failed_trial_keeps_its_reason_and_the_study_goes_on() -> None:
    run = Controller(study(objective=ToyObjective(fails_above_lr=0.03)), "sqlite://").run()
    failed = [trial for trial in run.trials if trial.state == "failed"]
    assert len(run.trials) == TRIALS
    assert 0 < len(failed) < TRIALS
    for trial in failed:
        assert trial.failure == f"diverged at lr {trial.params['pretrain.lr']:.3g}"
        assert trial.metrics == {}
        assert front(run).standings[trial.number] == "failed"


def test_a_study_in_which_everything_fails_ends() -> None:
    run = Controller(study(objective=ToyObjective(fails_above_lr=0.0)), "sqlite://").run()
    assert [trial.state for trial in run.trials] == ["failed"] * TRIALS


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"gain": None}, "no number for gain; it gave base_loss, finetuned, gain_sem"),
        ({"gain": math.nan}, "no number for gain; it gave base_loss, finetuned, gain_sem"),
        (
            dict.fromkeys(["base_loss", "gain", "finetuned", "gain_sem"]),
            "no number for base_loss and gain; it gave nothing",
        ),
    ],
)
def test_a_goal_without_a_number_fails_and_names_what_there_is(
    extra: dict[str, float | None], said: str
) -> None:
    run = Controller(study(objective=ToyObjective(extra=extra), trials=2), "sqlite://").run()
    assert [trial.failure for trial in run.trials] == [f"the objective gave {said}"] * 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"wave": 4}, "wave: 3 -> 4"),
        ({"sampler": "gp"}, "sampler: 'tpe' -> 'gp'"),
        (
            {"space": SPACE | {"pretrain.lr": Float(low=1e-3, high=0.2, log=True)}},
            "space.pretrain.lr.high: 0.1 -> 0.2",
        ),
        ({"goals": (BASE_LOSS_DOWN, Goal(metric="finetuned", direction="up"))},
         "goals.1.0: 'gain' -> 'finetuned'"),
        ({"limits": ()}, "limits.0.0: 'base_loss' -> 'absent'"),
        ({"baselines": (Baseline(name="standard", params={"pretrain.lr": 0.02}),)},
         "baselines.0.1.pretrain.lr: 'absent' -> 0.02"),
        ({"objective": ToyObjective().with_params({"model.layers": 3})},
         "objective.fixed.model.layers: 2 -> 3"),
    ],
)  # fmt: skip
def test_a_changed_study_is_refused_with_the_change(
    fields: dict[str, Any], said: str, tmp_path: Path
) -> None:
    Controller(study(), url_of(tmp_path))
    with pytest.raises(StudyChanged) as caught:
        Controller(study(**fields), url_of(tmp_path))
    assert said in str(caught.value)
    assert "--fork" in str(caught.value)


def test_many_changes_are_counted(tmp_path: Path) -> None:
    Controller(study(), url_of(tmp_path))
    with pytest.raises(StudyChanged, match=r"; and [0-9]+ more"):
        Controller(study(space={}, limits=(), baselines=(), seed=5), url_of(tmp_path))


def test_more_trials_and_another_description_are_no_change(tmp_path: Path) -> None:
    Controller(study(trials=6), url_of(tmp_path)).run()
    run = Controller(study(description="said better"), url_of(tmp_path)).run()
    assert (len(run.trials), run.planned) == (TRIALS, TRIALS)


def test_added_trials_come_after_the_finished_ones(tmp_path: Path, undisturbed: Run) -> None:
    """At the end of a wave; within one, the added trials know more than they would have."""
    Controller(study(trials=6), url_of(tmp_path)).run()
    assert_same(
        dataclasses.replace(Controller(study(), url_of(tmp_path)).run(), planned=TRIALS),
        undisturbed,
    )


def test_a_run_keeps_the_prices_that_it_was_started_with(tmp_path: Path) -> None:
    """The trials are decided the same whether a budget is added later or not."""
    url = url_of(tmp_path)
    Controller(study(trials=3), url).run()
    later = Controller(study(budget_s=100.0), url)
    assert later.spec.currency == "tokens"
    assert Controller(study(budget_s=100.0), "sqlite://").spec.currency == "seconds"
    with pytest.raises(StudyChanged, match="prices: 'tokens' -> 'seconds'"):
        Controller(study(prices="seconds"), url)


def test_a_record_from_before_prices_goes_on_in_tokens(tmp_path: Path) -> None:
    url = url_of(tmp_path)
    Controller(study(trials=3), url).run()
    with sqlite3.connect(tmp_path / "study.db") as made:
        made.execute("DELETE FROM study_user_attributes WHERE key = 'prices'")
    made.close()
    again = Controller(study(budget_s=100.0), url)
    again.run()
    assert again.spec.currency == "tokens"


@pytest.mark.parametrize(("budget_s", "measured"), [(0.5, 3), (3.0, 3), (3.5, 6), (100.0, TRIALS)])
def test_no_wave_starts_once_the_budget_is_spent(budget_s: float, measured: int) -> None:
    run = Controller(study(budget_s=budget_s), "sqlite://").run()
    assert len(run.trials) == measured
    assert run.planned == TRIALS


def test_baselines_and_grid_run_at_every_seed_before_the_search(tmp_path: Path) -> None:
    grid = tuple(
        GridPoint(name=f"decay {decay}", params={"pretrain.weight_decay": decay})
        for decay in (0.02, 0.5)
    )
    run = Controller(study(grid=grid, replicates=2, seed=5), url_of(tmp_path)).run()
    names = ["standard", "no decay", "decay 0.02", "decay 0.5"]
    assert [trial.name for trial in run.trials] == [*names, *names, None, None, None]
    assert [trial.baseline for trial in run.trials[:3]] == ["standard", "no decay", None]
    assert [trial.point for trial in run.trials[1:4]] == [None, *names[2:]]
    assert [trial.seed for trial in run.trials] == [5] * 4 + [6] * 4 + [5] * 3
    assert [trial.params["pretrain.weight_decay"] for trial in run.trials[:8]] == [
        0.1,
        0,
        0.02,
        0.5,
    ] * 2
    assert_same(run, Controller(study(grid=grid, replicates=2, seed=5), "sqlite://").run())


def test_limits_become_constraints_of_every_complete_trial(tmp_path: Path) -> None:
    objective = ToyObjective(fails_above_lr=0.03)
    limits = (Limit(metric="gain", low=0.3, high=0.4), Limit(metric="absent", high=0))
    run = Controller(study(objective=objective, limits=limits), url_of(tmp_path)).run()
    frozen = optuna.load_study(study_name="toy", storage=url_of(tmp_path)).trials
    for trial, kept in zip(run.trials, frozen, strict=True):
        expected = losses.constraints(limits, trial.metrics) if trial.state == "complete" else {}
        assert kept.constraints == expected
    assert "front" not in front(run).standings.values()


def test_events_tell_the_waves_and_what_was_recorded() -> None:
    events: list[dict[str, Any]] = []
    Controller(study(trials=5), "sqlite://").run(events.append)
    assert [event for event in events if "stage" not in event] == [
        {"wave": [0, 1, 2], "trials": 5, "finished": 0},
        {"recorded": [0, 1, 2], "finished": 3},
        {"wave": [3, 4], "trials": 5, "finished": 3},
        {"recorded": [3, 4], "finished": 5},
    ]
    told = [(event["stage"], event["numbers"]) for event in events if "stage" in event]
    assert told == [("measure", [0, 1, 2])] * 3 + [("measure", [3, 4])] * 2


def test_one_goal_and_three_goals_run() -> None:
    third = Goal(metric="finetuned", direction="up")
    for goals in ((GAIN_UP,), (BASE_LOSS_DOWN, GAIN_UP, third)):
        run = Controller(study(goals=goals, trials=8), "sqlite://").run()
        assert [trial.state for trial in run.trials] == ["complete"] * 8


def test_values_are_named_for_optunas_tools_also_in_a_study_from_before(tmp_path: Path) -> None:
    url = url_of(tmp_path)
    Controller(spec(trials=2), url).run()
    found = load_study(url, "toy")
    assert found.metric_names == ["base_loss", "gain"]
    database_of(found).set_study_system_attr(found._study_id, NAMES, None)
    Controller(spec(trials=3), url).run()
    assert load_study(url, "toy").metric_names == ["base_loss", "gain"]
