"""The findings at a glance, by equality."""

from __future__ import annotations

import pytest

from hpo.analysis.headline import headline
from hpo.core.goals import BASE_LOSS_DOWN
from hpo.core.trial import Run
from hpo.front.front import front
from hpo.report.findings import price
from hpo.report.results import Results
from tests.hpo import toy


def named(run: Run) -> list[tuple[int, tuple[str, ...]]]:
    return [(line.trial.number, line.roles) for line in headline(run, front(run))]


def test_the_standard_recipe_is_beside_the_best_and_the_knee() -> None:
    run = toy.mixed()
    assert named(run) == [
        (0, ("standard recipe",)),
        (2, ("best base_loss",)),
        (4, ("best gain",)),
        (3, ("knee",)),
    ]
    standard, _, gain, _ = headline(run, front(run))
    assert standard.differences == {}
    assert gain.differences["gain"].value == pytest.approx(0.13)
    assert gain.differences["gain"].error == pytest.approx(0.01 * 2**0.5)
    assert gain.differences["gain"].significant is None  # fine-tuning seeds alone
    assert gain.differences["base_loss"].value == pytest.approx(0.3)


def test_one_trial_may_have_several_roles_and_there_may_be_no_standard() -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2), toy.trial(1, 3.4, 0.3)])
    assert named(run) == [(1, ("best base_loss", "best gain", "knee"))]
    assert headline(run, front(run))[0].differences == {}
    assert named(toy.run([])) == []


def test_the_price_is_paid_from_one_end_of_the_front_to_the_other() -> None:
    run = toy.mixed()
    assert price(Results(run)) == (
        "From one end of the front, #2, to the other, #4: gain is better by 0.180 ± 0.014 (95 %: "
        "+0.150 to +0.210, without pretraining seeds, so significance is unknown) for "
        "0.35 of base_loss, which is 0.019 nats/token for each 0.01 of gain."
    )
    alone = toy.run([toy.trial(0, 3.5, 0.2)])
    assert price(Results(alone)) is None
    single = toy.run(run.trials, goals=(BASE_LOSS_DOWN,))
    assert price(Results(single)) is None
