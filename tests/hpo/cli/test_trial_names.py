"""Trials by the words a person names them with."""

from __future__ import annotations

import re

import pytest

from hpo.cli import trial_names
from hpo.report.results import Results
from tests.hpo import toy


@pytest.mark.parametrize(
    ("word", "number"), [("knee", 3), ("5", 5), ("best:base_loss", 2), ("best:gain", 4), ("8", 8)]
)
def test_a_trial_is_picked_by_number_knee_or_goal(word: str, number: int) -> None:
    assert trial_names.pick(Results(toy.mixed()), word).number == number


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("99", "run 'toy' has no trial 99; its trials are 0 to 9."),
        ("6", "trial 6 failed (loss is not finite at step 40)"),
        ("7", "trial 7 is running, not measured to its end"),
        ("best:beauty", "has no goal 'beauty'; its goals are base_loss, gain."),
        ("-1", "--trial is a trial's number, knee, best:base_loss or best:gain; got '-1'"),
        ("<b>", "got '<b>'"),
        ("", "got ''"),
    ],
)
def test_what_is_not_there_is_reported(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        trial_names.pick(Results(toy.mixed()), word)


@pytest.mark.parametrize("word", ["knee", "0", "front", "best:gain"])
def test_an_empty_run_has_nothing_to_pick(word: str) -> None:
    with pytest.raises(ValueError, match=r"none yet|counts for the front yet"):
        trial_names.picks(Results(toy.run([])), word)


def test_front_is_all_of_it_in_its_order() -> None:
    assert [trial.number for trial in trial_names.picks(Results(toy.mixed()), "front")] == [
        2,
        0,
        3,
        4,
    ]
    assert [trial.number for trial in trial_names.picks(Results(toy.mixed()), "knee")] == [3]
