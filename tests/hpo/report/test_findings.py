"""How numbers and findings read."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hpo.core.format import bounds, number, percent, setting, title, with_sem
from hpo.core.goals import Limit
from hpo.core.metrics import param_names, task_names
from hpo.front.errors import Estimate
from hpo.front.front import front
from hpo.report.certainty import certainty, verdict
from hpo.report.findings import summary, work
from hpo.report.results import Results
from tests.hpo import noisy, toy

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (3.14159, "3.142"), (1e-5, "1e-5"), (1.5e9, "1.5e9"), (12.0, "12"),
     (math.inf, "∞"), (-math.inf, "-∞"), (NAN, "n/a"), (None, "n/a")],
)  # fmt: skip
def test_a_number_has_four_significant_digits(value: float | None, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [(3.48512, 0.0123, "3.485 ± 0.012"), (0.5, 0.0, "0.5000"), (3.5, NAN, "3.500"),
     (123.4, 20.0, "123 ± 20"), (1234567, 12345, "1235000 ± 12000"), (1.0, 0.0996, "1.00 ± 0.10"),
     (12345678, 123456, "(1.235 ± 0.012)e7"), (0.5, 3e-12, "0.5 ± 3e-12"),
     (1.2e-9, 3.4e-10, "(1.20 ± 0.34)e-9"), (3, 450, "0 ± 450"),
     (NAN, 0.1, "n/a"), (math.inf, 0.1, "∞"), (0.0, NAN, "0")],
)  # fmt: skip
def test_a_value_ends_where_its_standard_error_ends(
    value: float, error: float, expected: str
) -> None:
    assert with_sem(value, error) == expected


def test_settings_read_as_words() -> None:
    values = (None, True, False, 0.1, 8, "cosine")
    assert [setting(value) for value in values] == ["none", "yes", "no", "0.1", "8", "cosine"]


def test_parameters_are_named_by_their_shortest_unambiguous_ending() -> None:
    params = {"pretrain.lr": 0.1, "finetune.lr": 0.1, "lr": 0.1, "lora.rank": 8}
    run = toy.run([toy.trial(0, 3.5, 0.2, params=params)], space={})
    assert param_names(run, run.trials) == {
        "pretrain.lr": "pretrain.lr", "finetune.lr": "finetune.lr", "lr": "lr", "lora.rank": "rank",
    }  # fmt: skip


def test_a_parameter_called_value_is_named_with_what_it_is_a_value_of() -> None:
    params = {"pretrain.weight_decay.value": 0.1, "value": 2.0}
    run = toy.run([toy.trial(0, 3.5, 0.2, params=params)], space={})
    assert param_names(run, run.trials) == {
        "pretrain.weight_decay.value": "weight_decay.value", "value": "value",
    }  # fmt: skip


def test_a_tasks_name_may_hold_dots() -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2, metrics={"task.a.b.before": 0.1})])
    assert task_names(run) == ["a.b", "arithmetic", "grammar"]


@pytest.mark.parametrize(
    ("error", "significant", "expected"),
    [
        (0.1, True, "95 %: +0.06 to +0.54, significant"),
        (0.2, False, "95 %: -0.19 to +0.79, inconclusive"),
        (0.1, None, "95 %: +0.06 to +0.54, without pretraining seeds, so significance is unknown"),
        (NAN, None, "no standard error known"), (0.0, True, "exact"),
    ],
)  # fmt: skip
def test_a_difference_has_an_interval_and_is_significant_or_inconclusive(
    error: float, significant: bool | None, expected: str
) -> None:
    found = Estimate(
        value=0.3, error=error, freedom=6.0, pretraining_seeds=True, rows=False,
        significant=significant,
    )  # fmt: skip
    assert verdict(found) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(Limit(metric="m", low=1), "1 ≤ m"), (Limit(metric="m", high=2), "m ≤ 2"),
     (Limit(metric="m", low=1, high=2), "1 ≤ m ≤ 2"), (Limit(metric="m"), "m is measured")],
)  # fmt: skip
def test_a_limit_reads_as_an_inequality(limit: Limit, expected: str) -> None:
    assert bounds(limit) == expected


def test_summary_says_when_no_searched_trial_beats_the_baseline() -> None:
    run = toy.run([toy.trial(0, 3.4, 0.3, baseline="standard"), toy.trial(1, 3.5, 0.2)])
    lines = summary(Results(run))
    assert (
        "Best base_loss: the baseline #0 standard with 3.400; no searched trial is better." in lines
    )
    assert not [line for line in lines if "chosen after the fact" in line]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, "0 %"), (0.004, "< 1 %"), (0.5, "50 %"), (0.996, "> 99 %"), (1.0, "100 %"),
     (NAN, "n/a")],
)  # fmt: skip
def test_a_probability_is_round_only_where_it_is_sure(share: float, expected: str) -> None:
    assert percent(share) == expected


def test_a_front_whose_noise_is_unknown_says_so() -> None:
    (line,) = certainty(Results(toy.mixed()))
    assert line.startswith("Seed noise in ")
    assert line in summary(Results(toy.mixed()))
    assert certainty(Results(toy.run([]))) == []


def test_without_noise_all_differences_are_significant_and_nothing_is_open() -> None:
    run = noisy.curve(noise=0.0)
    lines = certainty(Results(run))
    assert lines == [
        "Probability of belonging to the front: #0 100 %, #2 100 %, #4 100 %, #6 100 %, "
        "#8 100 %, #10 100 %.",
        "All differences between points of the front are significant (95 %).",
    ]


def test_under_noise_the_front_is_described_by_its_expected_values() -> None:
    run = noisy.curve(noise=0.05)
    found = front(run)
    (line,) = [each for each in certainty(Results(run)) if each.startswith("Estimates corrected")]
    best = found.trials[0].number
    estimate = found.estimates[best]
    assert f"#{best} a {with_sem(estimate['a'], estimate['a_sem'])}, b " in line
    assert estimate["a"] != found.trials[0].metrics["a"]


def test_a_baseline_is_compared_with_a_correction_for_selection_bias() -> None:
    run = noisy.curve(noise=0.02)
    named = [3, 15]
    trials = [
        dataclasses.replace(t, baseline="standard") if t.number in named else t for t in run.trials
    ]
    some = dataclasses.replace(run, trials=trials)
    lines = [line for line in certainty(Results(some)) if line.startswith("Expected a")]
    assert len(lines) == 1
    assert "#0 against #3 standard, the best baseline" in lines[0]
    assert lines[0].endswith("; significance: significant.")


def test_a_confirmed_point_is_shown_with_its_fresh_seeds() -> None:
    run = noisy.curve(noise=0.0)
    fresh = noisy.trial(24, 0.0, 1.0, seed=9, replicate_of=0, confirms=True,
                        params=run.trials[0].params)  # fmt: skip
    some = dataclasses.replace(run, trials=[*run.trials, fresh])
    assert certainty(Results(some))[-1] == (
        "#0 again, at fresh seeds after it was chosen: a 0, b 1.000."
    )


def test_summary_says_when_there_is_no_baseline_to_compare_with() -> None:
    run = toy.run([toy.trial(0, 3.4, 0.3)])
    assert "No baseline has finished, so there is nothing to compare with." in summary(Results(run))


def test_one_reported_point_is_best_by_all_only_where_nothing_else_may_belong() -> None:
    alone = toy.run([toy.trial(0, 3.4, 0.3), toy.trial(1, 3.5, 0.2)])
    found = front(alone)
    assert "#0 is best by every goal, so there is nothing to trade." in summary(Results(alone))
    undecided = Results(alone)
    vars(undecided)["front"] = dataclasses.replace(found, undecided=(alone.trials[1],))
    assert (
        "#0 is the only point certain enough to report; whether it can be traded for another is "
        "undecided, and more seeds would decide it."
    ) in summary(undecided)


def test_what_was_shared_is_reported_with_its_share_of_all_tokens() -> None:
    cost = {"tokens": 3e6, "tokens_reused": 1e6, "device_s": 60.0, "device_s_saved": 20.0}
    done = toy.run([toy.trial(0, 3.0, 0.1, cost=cost), toy.trial(1, 3.1, 0.2, cost=cost)])
    assert work(done) == (
        "Trained 6M tokens in 120 s of the device; 2M more (25 %) were shared between trials or "
        "found in the store, which saved 40 s."
    )


def test_work_is_silent_where_nothing_was_shared_or_nothing_is_known() -> None:
    cost = {"tokens": 2e6, "tokens_reused": 0.0, "device_s": 60.0, "device_s_saved": 0.0}
    alone = toy.run([toy.trial(0, 3.0, 0.1, cost=cost)])
    assert work(alone) == "Trained 2M tokens in 60 s of the device."
    assert work(toy.run([toy.trial(0, 3.0, 0.1, cost={})])) is None
    tokens_alone = toy.trial(0, 3.0, 0.1, cost={"tokens": 2e6, "tokens_reused": 2e6})
    assert work(toy.run([tokens_alone])) == (
        "Trained 2M tokens; 2M more (50 %) were shared between trials or found in the store."
    )


def test_labels_stand_behind_the_name_wherever_a_trial_is_named() -> None:
    names = [
        title(toy.trial(3, 3.5, 0.2, **given))
        for given in ({}, {"labels": ["merged"]}, {"labels": ["merged", "x"], "baseline": "WSD"})
    ]
    assert names == ["#3", "#3 (merged)", "#3 WSD (merged, x)"]
    run = toy.run([toy.trial(0, 3.5, 0.2, baseline="WSD", labels=["merged"])])
    assert any("#0 WSD (merged)" in line for line in summary(Results(run)))
