"""Fronts of several runs: volumes by hand, what is significant, and `hpo compare`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from hpo.analysis import run_comparison
from hpo.cli import main
from hpo.core.goals import BASE_LOSS_DOWN, Goal
from hpo.core.trial import Run
from hpo.front import front
from hpo.storage import run_folder
from tests.hpo import noisy, toy
from tests.hpo.cli.test_main import complaint


def quiet(number: int, base_loss: float, gain: float, **fields: Any) -> Any:
    """A trial without any standard error."""
    return toy.trial(number, base_loss, gain, metrics={"gain_sem": math.nan}, **fields)


def sure(number: int, base_loss: float, gain: float, error: float) -> Any:
    """A trial with a standard error of both goals."""
    return toy.trial(number, base_loss, gain, metrics={"base_loss_sem": error, "gain_sem": error})


def two(shift: float, error: float = 1e-3) -> dict[str, Run]:
    """Two runs, the first ahead of the second by `shift` in both goals."""

    def one(name: str, by: float) -> Run:
        trials = [sure(0, 3.4 - by, 0.2 + by, error), sure(1, 3.6 - by, 0.3 + by, error),
                  sure(2, 4.0, 0.1, error)]  # fmt: skip
        return toy.run(trials, name=name)

    return {"a": one("a", shift), "b": one("b", 0.0)}


def test_volumes_stand_under_one_reference() -> None:
    first = toy.run([quiet(0, 3.0, 0.4), quiet(1, 3.5, 0.1)], name="first")
    second = toy.run([quiet(0, 3.2, 0.5), quiet(1, 4.0, 0.2)], name="second")
    found = run_comparison.compare_runs({"first": first, "second": second})
    assert found.reference == pytest.approx((4.0, 0.1))
    volumes = [side.volume for side in found.sides]
    assert volumes == pytest.approx([(4 - 3.0) * (0.4 - 0.1), (4 - 3.2) * (0.5 - 0.1)])
    (pair,) = found.pairs
    assert pair.difference.mean == pytest.approx(volumes[0] - volumes[1])
    assert pair.difference.reference == pytest.approx(found.reference)


def test_the_joint_front_is_that_of_all_trials_together() -> None:
    first = toy.run([quiet(0, 3.0, 0.2), quiet(1, 3.5, 0.3)])
    second = toy.run([quiet(0, 3.4, 0.4), quiet(1, 3.6, 0.5)])
    found = run_comparison.compare_runs({"first": first, "second": second})
    assert [sorted(side.joint) for side in found.sides] == [[0], [0, 1]]


def test_a_clear_lead_is_significant_and_a_small_one_is_not() -> None:
    (clear,) = run_comparison.compare_runs(two(0.2)).pairs
    (none,) = run_comparison.compare_runs(two(1e-3, error=0.05)).pairs
    assert clear.difference.significant
    assert clear.difference.mean > 0
    assert not none.difference.significant


def test_turning_the_runs_turns_the_sign() -> None:
    sides = two(0.2)
    (there,) = run_comparison.compare_runs(sides).pairs
    (back,) = run_comparison.compare_runs(dict(reversed(sides.items()))).pairs
    assert back.difference.mean == pytest.approx(-there.difference.mean, rel=1e-9)


def test_three_runs_give_three_pairs() -> None:
    sides = two(0.2) | {"c": toy.mixed()}
    found = run_comparison.compare_runs(sides)
    assert [(pair.one, pair.other) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        ({"a": toy.mixed()}, "needs two runs or more"),
        ({}, "needs two runs or more"),
        ({"a": toy.mixed(), "b": toy.run([])}, "once each run has a trial that counts"),
        ({"a": toy.mixed(), "b": toy.run([toy.trial(0, 3.0, 0.1)], goals=(BASE_LOSS_DOWN,))},
         "where the goals are the same"),
        ({"a": toy.mixed(), "b": toy.run([toy.trial(0, 3.0, 0.1)], goals=(
            BASE_LOSS_DOWN, Goal(metric="gain", direction="down")))},
         "where the goals are the same"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(sides: dict[str, Run], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_comparison.compare_runs(sides)


def described(recipe: dict[str, Any]) -> Run:
    return toy.run([toy.trial(0, 3.5, 0.2)], reproduce={"study": {"objective": {"recipe": recipe}}})


def test_runs_that_measure_something_else_are_reported() -> None:
    one = described({"corpus": {"vocab_size": 1024}, "pretrain": {"lr": 1, "seq_len": 64}})
    other = described({"corpus": {"vocab_size": 2048}, "pretrain": {"lr": 2, "seq_len": 64}})
    (note,) = run_comparison.compare_runs({"one": one, "other": other}).notes
    assert "corpus.vocab_size differ" in note
    assert run_comparison.compare_runs({"one": one, "same": one}).notes == ()


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Run]:
    found = two(0.2) | {"hostile": toy.run([toy.trial(0, 3.5, 0.2, baseline=toy.HOSTILE)])}
    found |= {"apart": toy.run([toy.trial(0, 3.5, 0.2)], name="apart", goals=(BASE_LOSS_DOWN,))}
    monkeypatch.setattr(
        run_folder, "find_run", lambda run, out, url: run_folder.RunFolder(tmp_path / run, run, "")
    )
    monkeypatch.setattr(run_folder, "read", lambda place: found[place.name])
    return found


def test_compare_prints_fronts_volumes_and_a_statement(
    places: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["compare", "a", "b"]) == 0
    printed = capsys.readouterr().out
    assert "Hypervolume against the worst seen of all runs (base_loss 4, gain 0.1):" in printed
    assert "a exceeds" in printed
    assert "b by 0.2 (95 %:" in printed
    assert "); significant." in printed
    assert main.main(["compare", "b", "a"]) == 0
    assert "a exceeds" in capsys.readouterr().out


def test_json_has_the_documented_keys(
    places: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["compare", "a", "b", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data) == ["goals", "reference", "runs", "pairs", "notes"]
    assert [list(each) for each in data["runs"]] == [
        ["run", "hypervolume", "low", "high", "front"]
    ] * 2
    (pair,) = data["pairs"]
    assert list(pair) == ["one", "other", "mean", "low", "high", "significant", "reference"]
    assert pair["significant"] is True
    assert pair["low"] <= pair["mean"] <= pair["high"]


def test_a_difference_without_known_noise_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (toy.run([quiet(0, loss, 0.2), quiet(1, 4.0, 0.1)]) for loss in (3.0, 3.4))
    monkeypatch.setattr(
        run_folder, "find_run", lambda run, out, url: run_folder.RunFolder(tmp_path / run, run, "")
    )
    known = {"one": one, "other": other, "same": one}
    monkeypatch.setattr(run_folder, "read", lambda place: known[place.name])
    assert main.main(["compare", "one", "other"]) == 0
    assert "one exceeds other by 0.04; significance unknown" in (capsys.readouterr().out)
    assert main.main(["compare", "one", "same"]) == 0
    assert "one and same are equal." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "needs two runs or more"),
        (["a", "a"], "each run is compared once, got a, a."),
        (["a", "apart"], "a and apart have different ones"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], said: str, places: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["compare", *arguments]) == 2
    assert said in complaint(capsys)


def test_hostile_names_are_printed_as_they_are(
    places: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["compare", "a", "hostile"]) == 0
    assert "onerror=alert(1)" in capsys.readouterr().out


def test_each_run_is_fitted_once_however_many_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[str] = []

    def counting(run: Run) -> front.Front:
        fits.append(run.name)
        return front.front(run)

    monkeypatch.setattr(run_comparison, "front", counting)
    runs = {
        name: dataclasses.replace(noisy.curve(noise=0.05, draw=draw), name=name)
        for draw, name in enumerate("abcd")
    }
    found = run_comparison.compare_runs(runs)
    assert sorted(fits) == list("abcd")
    for pair in found.pairs:
        assert pair.difference == run_comparison.hypervolume_difference(
            runs[pair.one], runs[pair.other]
        )
