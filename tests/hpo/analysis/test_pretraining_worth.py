"""What pretraining is worth on a task, from scores beside the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hpo.core.trial import Trial
from hpo.report import pretraining_worth
from hpo.report.html import page
from hpo.report.results import Results
from hpo.report.terminal_tables import run_json
from tests.hpo import toy


def trial(
    number: int, worth: Mapping[str, tuple[float, float]], rows: float = 0.02, **fields: Any
) -> Trial:
    """A trial with its score above the control and its loss below it, a pair a task."""
    metrics: dict[str, float] = {}
    for task, (score, nats) in worth.items():
        metrics |= {
            f"task.{task}.after": 0.5 + score,
            f"task.{task}.scratch": 0.5,
            f"task.{task}.scratch_loss_nats": 2.0,
            f"task.{task}.over_scratch": score,
            f"task.{task}.over_scratch_sem": 0.01,
            f"task.{task}.over_scratch_rows_sem": rows,
            f"task.{task}.over_scratch_nats": nats,
            f"task.{task}.over_scratch_nats_sem": 0.01,
        }
    return toy.trial(number, 3.0 - 0.1 * number, 0.1 * number, metrics=metrics, **fields)


def results(trials: Sequence[Trial]) -> Results:
    return Results(toy.run(list(trials)))


def test_without_a_control_no_task_is_judged() -> None:
    found = results([toy.trial(0, 3.0, 0.1), toy.trial(1, 2.9, 0.2)])
    assert found.pretraining_worth == ()
    assert pretraining_worth.warning(found.pretraining_worth) == ""
    assert run_json(found)["pretraining_worth"] == []


def test_a_task_that_a_base_helps_by_score_or_by_loss_needs_pretraining() -> None:
    worths = {"score": (0.3, -0.2), "loss": (0.0, 0.4), "neither": (-0.2, -0.1), "open": (0.02, 0)}
    found = results([trial(n, worths, seed=n) for n in range(3)]).pretraining_worth
    needs = {each.task: each.needs_pretraining for each in found}
    assert needs == {"score": True, "loss": True, "neither": False, "open": False}
    (score,) = [each for each in found if each.task == "score"]
    assert score.score.value == pytest.approx(0.3)
    assert score.score.error >= 0.02  # the finite test set stays, whatever the number of seeds
    assert score.scratch == 0.5


def test_the_setting_that_is_named_is_the_furthest_above_the_control() -> None:
    trials = [trial(n, {"t": (score, 0.1)}) for n, score in enumerate((0.1, 0.3, 0.2))]
    (found,) = results(trials).pretraining_worth
    assert found.best.number == 1


def test_a_task_without_a_worth_is_named_first_and_a_study_of_such_tasks_says_so() -> None:
    some = results([trial(n, {"a": (0.3, 0.2), "b": (-0.2, -0.1)}) for n in range(2)])
    text = pretraining_worth.warning(some.pretraining_worth)
    assert text.startswith("Pretraining is worth nothing on b: ")
    assert "this front" not in text
    every = results([trial(n, {"a": (-0.3, 0.0), "b": (-0.2, -0.1)}) for n in range(2)])
    text = pretraining_worth.warning(every.pretraining_worth)
    assert text.startswith("Pretraining is worth nothing on a, b: ")
    assert text.endswith("so this front does not show plasticity.")
    assert text in page.render(every)
    assert run_json(every)["pretraining_worth"][0]["needs_pretraining"] is False


def test_noise_around_the_control_passes_as_a_worth_in_few_studies() -> None:
    """One setting, no true worth, errors as stated: the lower end is above 0 in 2.5 % of cases."""
    rng, passed, studies = np.random.default_rng(0), 0, 400
    for _ in range(studies):
        noise = [float(0.03 * rng.standard_normal()) for _ in range(6)]
        trials = [
            trial(n, {"t": (x, -1.0)}, 0.0, seed=n, **({"replicate_of": 0} if n else {}))
            for n, x in enumerate(noise)
        ]
        (found,) = results(trials).pretraining_worth
        passed += found.needs_pretraining
    assert 0 < passed <= 0.05 * studies
