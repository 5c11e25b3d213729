"""`hpo verify`, from the words typed to tables, JSON and the report, on an analytic objective."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo.cli import main
from hpo.storage import run_folder, verifications
from hpo.storage.run_folder import RunFolder
from hpo.study_runs import run_study
from tests.hpo.cli.test_main import complaint, words

STUDY = """
from pathlib import Path
from hpo import Baseline, Float, GridPoint, StudySpec
from tests.hpo.sized_objective import SizedObjective

class Count:
    def __call__(self, requests):
        with (Path(__file__).parent / "measured").open("a") as file:
            file.write("x" * len(requests))

DECAY = "pretrain.weight_decay.value"
STUDY = StudySpec(
    name="toy",
    objective=SizedObjective(measured=Count()MORE),
    space={},
    baselines=(Baseline(name="standard", params={}),),
    grid=tuple(GridPoint(name=f"d{d}", params={DECAY: d}) for d in (0.0, 0.03, 0.3, 1.0, 3.0, 9.0)),
    replicates=2,
    trials=14,
    wave=4,
)
"""


SIZES = ("--sizes", "middle,large")


Copy = Callable[[str, Path], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy_run: Copy) -> Path:
    """The working folder, with a run of seven recipes at two seeds."""
    monkeypatch.chdir(tmp_path)
    start(copy_run, "")
    return tmp_path


def start(copy_run: Copy, more: str) -> None:
    copy_run(STUDY.replace("MORE", more), Path.cwd())
    Path("measured").write_text("")


def verify(*more: str) -> int:
    return main.main(["verify", "toy", *more, "--executor", "inline"])


def verified(capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    capsys.readouterr()
    assert verify(*more, "--json") == 0
    return json.loads(capsys.readouterr().out)["verifications"]


def measured() -> int:
    return len(Path("measured").read_text())


def place() -> RunFolder:
    return run_folder.find_run("toy", Path("runs"), None)


def test_every_size_is_measured_judged_and_in_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    middle, large = verified(capsys, *SIZES, "--rules", "tau_share,carry_over")
    assert [each["plan"]["size"] for each in (middle, large)] == ["middle", "large"]
    assert (middle["complete"], middle["seeds"]) == (True, 2)
    carried = next(each for each in large["rules"] if each["rule"] == "carry_over")
    loss, gain = carried["goals"]
    assert (loss["accuracy"]["value"], gain["accuracy"]["value"]) == (
        1.0,
        1.0,
    )  # decay alone counts
    assert (loss["pick"], loss["best"], loss["regret"]["value"]) == (3, 3, 0.0)
    assert loss["decided"] == loss["pairs"] == 21
    (of_loss, _) = large["differences"]
    assert (of_loss["better"], of_loss["recipes"]) == ("tau_share", 7)  # smaller decays, less far
    page = place().report.read_text()
    assert "Verified at middle (40k parameters, 20 tokens each): 7 recipes, 2 seeds" in page
    assert main.main(["show", "toy"]) == 0
    printed = words(capsys)
    assert "Front by carry_over: stayed" in printed
    assert "Peak rates are the proxy's own" in printed
    assert "DataDecide (arXiv 2504.11393)" in printed


def test_a_repeated_verification_measures_nothing_and_another_plan_only_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = verified(capsys, "--sizes", "middle", "--rules", "carry_over")
    assert measured() == 14
    assert verified(capsys, "--sizes", "middle", "--rules", "carry_over") == [first]
    assert measured() == 14
    (more,) = verified(capsys, "--sizes", "middle", "--rules", "carry_over", "--seeds", "3")
    assert (more["seeds"], measured()) == (3, 14 + 21)
    assert len(verifications.read_all(place())) == 1  # the latest of what differs in seeds alone
    both = verified(capsys, "--sizes", "middle", "--rules", "carry_over", "--lr-factor", "0.5")
    assert [each["plan"]["lr_factor"] for each in both] == [1.0, 0.5]


def test_a_budget_stops_between_waves_and_the_same_command_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_s = 40_000 * 20 / 1e4
    few = ("--sizes", "middle", "--rules", "carry_over", "--budget", f"{4 * one_s}s")
    (some,) = verified(capsys, *few)
    assert not some["complete"]
    assert measured() == 4
    (all_of_it,) = verified(capsys, "--sizes", "middle", "--rules", "carry_over")
    assert all_of_it["complete"]
    assert measured() == 14


def test_a_verification_that_was_stopped_hides_no_finished_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words_of = ("--sizes", "middle", "--rules", "carry_over")
    (first,) = verified(capsys, *words_of)
    more = (*words_of, "--seeds", "3")
    both = verified(capsys, *more, "--budget", "320s")
    assert (both[0], [each["complete"] for each in both]) == (first, [True, False])
    (whole,) = verified(capsys, *more)
    assert (whole["seeds"], whole["complete"]) == (3, True)


def test_a_dry_run_shows_plan_and_cost_and_trains_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(*SIZES, "--dry-run", "--lr-factor", "0.5") == 0
    printed = words(capsys)
    assert "Plan at large, 160k parameters" in printed
    assert "0.005" in printed
    twice = ("--sizes", "middle,middle", "--rules", "carry_over,carry_over")  # counted once
    assert verify(*twice, "--dry-run", "--json") == 0
    (plan,) = json.loads(capsys.readouterr().out)["plans"]
    assert plan["trials"] == 14
    assert plan["estimate"]["tokens"]["pretraining"] == 14 * 40_000 * 20
    assert measured() == 0
    assert not (place().folder / verifications.FOLDER).exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--sizes", "midle"), "model.preset 'midle' is unknown; did you mean middle?"),
        (("--sizes", ","), "--sizes needs at least one preset"),
        (
            ("--sizes", "middle", "--rules", "tau_shar"),
            "--rules has no rule 'tau_shar'; did you mean tau_",
        ),
        (("--sizes", "middle", "--rules", ","), "--rules needs at least one of tau_share, power_"),
        (("--sizes", "middle", "--budget", "1s"), "--budget 1s does not pay for one recipe at mid"),
    ],
)
def test_what_cannot_be_verified_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    capsys.readouterr()
    assert verify(*more) == 2
    assert message in complaint(capsys)
    assert measured() == 0


def test_a_run_of_too_few_recipes_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = STUDY.replace('"toy"', '"few"').replace("MORE", "").replace("14", "2")
    Path("few.py").write_text(other.replace("replicates=2", "replicates=1"))
    assert main.main(["run", "few.py", "--executor", "inline"]) == 0
    capsys.readouterr()
    assert main.main(["verify", "few", "--sizes", "middle"]) == 2
    assert "compares 3 recipes or more, and 2 of this run are measured" in complaint(capsys)


def test_a_recipe_that_diverges_there_is_named(
    folder: Path, copy_run: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    start(copy_run, ", fails_above_decay=9.5")
    few = ("--tokens-per-param", "0.16")  # a tenth of the steps, so tenfold decay
    (found,) = verified(capsys, "--sizes", "middle", *few, "--rules", "tau_share,carry_over")
    unmeasured = {rule["rule"]: rule["unmeasured"] for rule in found["rules"]}
    assert unmeasured == {"tau_share": [4, 5, 6], "carry_over": []}
    assert main.main(["show", "toy"]) == 0
    assert "tau_share: without a result #4 d1.0, #5 d3.0, #6 d9.0." in words(capsys)


def test_an_interrupted_verification_prints_the_line_that_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("mine.py").read_text()
    stop = "            import signal; signal.raise_signal(signal.SIGINT)\n"
    Path("mine.py").write_text(
        text.replace("            file.write", stop + "            file.write")
    )
    capsys.readouterr()
    assert verify("--sizes", "middle") == 130
    assert "hpo verify toy --sizes middle" in words(capsys)


def test_a_run_that_goes_on_keeps_its_verification_in_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verified(capsys, "--sizes", "middle", "--rules", "carry_over")
    assert main.main(["run", "mine.py", "--executor", "inline"]) == 0
    assert "Verified at middle" in place().report.read_text()
    place().report.unlink()
    run_study("mine.py", progress=False)
    assert "Verified at middle" in place().report.read_text()


def test_a_damaged_plan_hides_no_run_and_is_written_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words_of = ("--sizes", "middle", "--rules", "carry_over")
    (first,) = verified(capsys, *words_of)
    plan = place().folder / verifications.FOLDER / "toy-verify-middle" / verifications.PLAN
    for damaged in ("{", "[]", '{"points": [1]}'):
        plan.write_text(damaged)
        assert verifications.read_all(place()) == ()
    assert main.main(["show", "toy"]) == 0
    assert verified(capsys, *words_of) == [first]
    assert measured() == 14


def test_a_deleted_run_takes_its_verifications_with_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verified(capsys, "--sizes", "middle", "--rules", "carry_over")
    assert main.main(["delete", "toy", "--yes"]) == 0
    assert not Path("runs/toy").exists()
