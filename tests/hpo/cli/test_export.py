"""`hpo export`, from the words typed to the folder, and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.core.trial import Run
from hpo.report import model_card
from hpo.report.results import Results
from hpo.storage import run_folder
from tests.hpo import toy
from tests.hpo.cli.test_main import HEAD, complaint, folder, read, words, write
from tests.hpo.toy_objective import ToyExported, ToyResult

__all__ = ["folder"]


@pytest.fixture
def finished(
    folder: Path, copy_run: Callable[[str, Path], None], capsys: pytest.CaptureFixture[str]
) -> Path:
    """A working folder with a finished run."""
    copy_run(HEAD + "STUDY = spec(trials=5, sampler='random')\n", folder)
    capsys.readouterr()
    return folder


def export(*words: str) -> int:
    return main.main(["export", "toy", "--to", "out", *words])


def test_the_folder_holds_what_the_objective_writes_and_a_card(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--trial", "3") == 0
    printed = words(capsys)
    assert "#3 of toy: 1 part in out." in printed
    assert printed.endswith(str(finished / "out" / "README.md"))
    assert json.loads(Path("out/params.json").read_text()) == read().trials[3].params
    assert "# toy, trial \\#3" in Path("out/README.md").read_text()


def test_programs_get_json_alone_on_stdout(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--trial", "best:gain", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data) == [
        "run", "trial", "files", "not_expressed", "metrics", "tokens_trained", "differences",
    ]  # fmt: skip
    assert data["not_expressed"] == {"params.json": ["the rest"]}
    assert data["metrics"] == read().trials[data["trial"]].metrics


def test_the_run_remembers_study_variant_and_fixed_params_from_any_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("VARIANTS = {'tiny': spec(name='tiny', trials=2)}")
    fixed = ["--set", "model.layers=4", "--set", "pretrain.shape=linear", "--device", "cpu"]
    assert main.main(["run", "mine.py", "--variant", "tiny", *fixed]) == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    place = ["export", str(folder / "runs" / "tiny"), "--to", "out"]
    assert main.main([*place, "--trial", "0"]) == 0
    noted = run_folder.read_study(run_folder.find_run("tiny", folder / "runs", None))
    assert noted == {
        "study": str(folder / "mine.py"),
        "variant": "tiny",
        "params": {"model.layers": 4, "pretrain.shape": "linear"},
        "folder": str(folder),
        "device": "cpu",
        "devices": None,
        "sharding": None,
    }


def test_a_study_that_moved_is_given_and_a_changed_one_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").rename("moved.py")
    assert export("--trial", "0") == 2
    assert "is not there any more; give it with --study" in complaint(capsys)
    assert export("--trial", "0", "--study", "moved.py") == 0
    write("STUDY = spec(objective=ToyObjective(fixed={**DEFAULTS, 'model.layers': 5}))")
    assert main.main(["export", "toy", "--to", "other", "--trial", "0"]) == 2
    assert "describes another objective than the one that run 'toy'" in complaint(capsys)
    assert not Path("other").exists()


def test_a_run_from_before_studies_were_noted_asks_for_it(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = Path("runs/toy/run.json")
    old = json.loads(note.read_text())
    note.write_text(json.dumps({"name": old["name"], "storage": old["storage"]}))
    assert export("--trial", "0") == 2
    assert "does not tell which study it is of; give its file with --study" in complaint(capsys)
    assert export("--trial", "0", "--study", "mine.py") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trial", "99"], "run 'toy' has no trial 99; its trials are 0 to 4."),
        (["--trial", "best:x"], "run 'toy' has no goal 'x'"),
        (["--trial", "../3"], "got '../3'"),
        (["--trial", "0", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["--trial", "0", "--study", "no.py"], "no study file"),
        (["--trial", "0", "--to", "mine.py"], "cannot write to mine.py"),
        (["--trial", "0", "--to", "runs"], "runs is not empty; give --to a new or an empty folder"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(*arguments) == 2
    assert said in complaint(capsys)
    assert not Path("out").exists()


def test_a_failed_trial_is_refused_with_its_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(trials=4, sampler='random', objective=ToyObjective(fails_above_lr=0.015))")
    main.main(["run", "mine.py"])
    failed = next(trial.number for trial in read().trials if trial.state == "failed")
    capsys.readouterr()
    assert export("--trial", str(failed)) == 2
    assert f"trial {failed} failed (diverged at lr" in complaint(capsys)


@pytest.mark.parametrize(("act", "code"), [("explode", 1), ("interrupt", 130)])
def test_half_of_an_export_is_marked_and_the_same_command_completes_it(
    act: str, code: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"STUDY = spec(trials=2, objective=ToyObjective(halfway={act}))")
    main.main(["run", "mine.py"])
    Path("empty").mkdir()
    stops_before = act == "interrupt"
    if stops_before:
        write(
            "STUDY = spec(trials=2, objective=ToyObjective("
            "before=lambda requests: signal.raise_signal(signal.SIGTERM)))"
        )
    for to in ("empty", "new"):
        assert main.main(["export", "toy", "--trial", "0", "--to", to]) == code
    assert Path("new").exists() != stops_before
    assert sorted(path.name for path in Path("empty").iterdir()) == (
        [] if stops_before else [".hpo-export", "half"]
    )
    write("STUDY = spec(trials=2, objective=ToyObjective())")
    for to in ("empty", "new"):
        Path(to).mkdir(exist_ok=True)
        assert main.main(["export", "toy", "--trial", "0", "--to", to]) == 0
        assert {path.name for path in Path(to).iterdir()} == {"README.md", "half", "params.json"}


def test_what_a_person_puts_into_an_export_that_fails_stays(folder: Path) -> None:
    put = "(Path('out') / 'letter.txt').write_text('letter')"
    write(
        f"from pathlib import Path\ndef fails():\n    {put}\n    raise ValueError('no weights')\n"
        "STUDY = spec(trials=2, objective=ToyObjective(halfway=fails))"
    )
    main.main(["run", "mine.py"])
    Path("out").mkdir()
    assert export("--trial", "0") != 0
    assert Path("out/letter.txt").read_text() == "letter"


@pytest.mark.parametrize("kind", ["link", "hard link", "folder", "FIFO"])
def test_half_of_this_export_with_links_that_lead_elsewhere_is_not_completed(
    kind: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else may have prepared the folder."""
    Path("out/half").mkdir(parents=True)
    Path("out/.hpo-export").write_text('{"run": "toy", "trial": 3}')
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("mine")
    target, path = Path("mine/letter.txt").absolute(), Path("out/params.json")
    if kind == "link":
        path.symlink_to(target)
    elif kind == "hard link":
        path.hardlink_to(target)
    elif kind == "folder":
        Path("out/half/more").symlink_to(target.parent)
    else:
        os.mkfifo(path)
    assert export("--trial", "3") == 2
    assert "is a link, or no regular file" in complaint(capsys)
    assert Path("mine/letter.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "mark",
    ['{"run": "toy", "trial": 1}', '{"run": "other", "trial": 0}', "{}", "[" * 100_000, ""],
)
def test_half_of_another_export_and_a_folder_with_other_files_are_refused(
    mark: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/.hpo-export").write_text(mark)
    assert export("--trial", "0") == 2
    assert "out holds half of " in complaint(capsys)
    assert Path("out/.hpo-export").read_text() == mark
    Path("out/.hpo-export").rename("out/letter.txt")
    assert export("--trial", "0") == 2
    assert "out is not empty; give --to a new or an empty folder" in complaint(capsys)
    assert Path("out/letter.txt").read_text() == mark


def exported(metrics: dict[str, float], tokens: float = 0.0) -> ToyExported:
    result = ToyResult(metrics=metrics, cost={"tokens": tokens})
    files = {"base": "the model", "adapters/a-0": "tuned", "evaluation/a.yaml": "a task"}
    return ToyExported(files, result, {"x.toml": ["this", "that"], "y.sh": ["this"]})


def carded(run: Run, number: int, **given: float) -> str:
    trial = run.trials[number]
    return model_card.card(Results(run), trial, exported({**trial.metrics, **given}))


def test_the_card_tells_evidence_recipe_check_and_limits() -> None:
    text = carded(toy.mixed(), 3)
    for part in ("## Evidence", "## Recipe", "## Check it", "## Limits", "## Made with"):
        assert part in text
    assert "the knee of the front among 6 settings that count" in text
    row = "| gain | 0.300 ± 0.010 | 0.200 ± 0.010 | 0.220 ± 0.010 |"
    assert row in text
    assert "| metric | \\#3 | \\#0 standard | \\#1 constant rate |" in text
    assert "- all of them: this\n- x.toml: that\n" in text
    assert "one pretraining seed" in text
    assert "pretrained=base,peft=adapters/a-0,dtype=float32 --tasks hpo_a" in text
    assert "3.550000 nats a token" in text


def test_the_card_says_where_the_weights_measure_something_else() -> None:
    text = carded(toy.mixed(), 3, base_loss=3.56)
    assert "base\\_loss is 3.56 for these weights, and 3.55 in the record" in text
    assert "in the record" not in carded(toy.mixed(), 3)
    trial = toy.mixed().trials[3]
    again = model_card.card(Results(toy.mixed()), trial, exported(trial.metrics, tokens=5e6))
    assert "5e6 tokens were trained again" in again


def test_the_card_shows_other_seeds_of_the_same_params() -> None:
    same = {"pretrain.lr": 0.01}
    run = toy.run(
        [
            toy.trial(0, 3.5, 0.2, params=same),
            toy.trial(1, 3.6, 0.3, params=same, seed=1, replicate_of=0),
        ]
    )
    text = carded(run, 0)
    assert "base\\_loss over pretraining seeds: 3.5, 3.6 (n = 2)" in text
    assert "one pretraining seed" not in text
    assert "- probability of belonging to the front: 1.00" in text
    assert "probability of belonging" not in carded(toy.mixed(), 3)


def test_hostile_names_stay_text_in_the_card() -> None:
    hostile = f"{toy.HOSTILE} | `x` [a](b)\n# head"
    run = toy.run([toy.trial(0, 3.5, 0.2, baseline=hostile, notes=[hostile], labels=[hostile],
                             params={hostile: hostile})], description=hostile)  # fmt: skip
    text = carded(run, 0)
    assert "<img" not in text
    assert "\n# head" not in text
    assert "[a](b)" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "onerror" in line]
    assert rows
    for line in rows:
        assert line.replace("\\|", "").count("|") == 3


def test_a_file_that_only_the_note_names_is_not_executed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = run_folder.find_run("toy", Path("runs"), None)
    note = run_folder.read_study(place)
    assert note is not None
    evil = finished / "runs" / "toy" / "it's evil.py"
    evil.write_text("open('owned', 'w')\nSTUDY = 1\n")
    for named in (str(evil), "runs/toy/it's evil.py"):
        run_folder.note_study(place, note | {"study": named})
        assert export("--trial", "0") == 2
        said = complaint(capsys)
        assert "which you have not run here, and this command executes it; if you trust" in said
        assert said.endswith(f"add --study {shlex.quote(named)}.")
    assert export("--trial", "0", "--study", "mine.py") == 0
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    "wrong", [[], "x", {}, {"study": 1}, {"params": []}, {"devices": "2"}, {"x": 1}, {"folder": []}]
)
def test_an_origin_that_is_none_is_one_sentence(
    wrong: object, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = Path("runs/toy/run.json")
    data = json.loads(note.read_text())
    good = data["origin"]
    data["origin"] = good | wrong if isinstance(wrong, dict) and wrong else wrong
    note.write_text(json.dumps(data))
    assert export("--trial", "0") == 2
    said = complaint(capsys)
    assert "run.json cannot be read" in said or "the run's note says" in said
    assert "run the study again" in said
