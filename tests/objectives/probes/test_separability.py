"""A linear classifier finds what is there and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from objectives.probes import separability
from objectives.probes.types import NotApplicableError
from tests.objectives import toy
from tests.objectives.probes.subjects import group

RNG = np.random.default_rng(0)


LABELS = [str(each) for each in RNG.integers(0, 2, 400)]


def test_states_that_are_apart_are_separable() -> None:
    centres = np.array([[float(label) * 4 - 2, 0.0, 1.0] for label in LABELS])
    states = (centres + 0.1 * RNG.standard_normal((400, 3))).astype(np.float32)
    assert separability.accuracy(states[:200], LABELS[:200], states[200:], LABELS[200:]) == 1.0


def test_random_states_give_chance_and_the_same_again() -> None:
    states = RNG.standard_normal((400, 8)).astype(np.float32)
    found = [
        separability.accuracy(states[:200], LABELS[:200], states[200:], LABELS[200:])
        for _ in range(2)
    ]
    # 200 throws of a coin: four standard deviations are 0.14.
    assert found[0] == pytest.approx(0.5, abs=0.14)
    assert found[0] == found[1]


def test_states_are_those_of_the_plain_model_at_the_prompts_last_token(toy_folder: Path) -> None:
    one = group(toy_folder, ["separability"], 2)
    task = one.tasks[0]
    states_KNLD = separability._states(one, task.train, 5)
    for lane, subject in enumerate(one.subjects):
        module = toy.plain(one.config, subject.base.params)
        for row in range(5):
            last = int(task.train.positions[row, 0])
            ids = torch.from_numpy(task.train.ids[row : row + 1, : last + 1])
            with torch.no_grad():
                layers = module(ids, output_hidden_states=True).hidden_states
            expected = torch.stack([layer[0, last] for layer in layers])
            np.testing.assert_allclose(states_KNLD[lane, row], expected, rtol=1e-4, atol=1e-5)


def test_labels_are_the_completions(toy_folder: Path) -> None:
    task = group(toy_folder, ["separability"], 1).tasks[0]
    labels = separability._labels(task.test)
    by_answer = dict(zip(task.answers.tolist(), labels, strict=True))
    assert len(set(by_answer.values())) == len(by_answer)
    assert labels == [by_answer[answer] for answer in task.answers.tolist()]


def test_tasks_without_labels_are_left_out_and_alone_are_not_applicable(toy_folder: Path) -> None:
    one = group(toy_folder, ["separability"], 1)
    assert [task.choices is None for task in one.tasks] == [False, True]
    (found,) = separability.measure_separability(one)
    assert set(found.metrics) == {"token_kind.last", "token_kind.mean", "last", "mean"}
    assert len(found.curves["token_kind_by_layer"]) == 3
    unlabelled = type(one)(one.subjects, one.corpus, one.tasks[1:], one.report)
    with pytest.raises(NotApplicableError, match="no task has labels"):
        separability.measure_separability(unlabelled)
