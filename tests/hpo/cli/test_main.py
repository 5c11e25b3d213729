"""The command line, from the words typed to the exit code and what is printed."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpo import study_files
from hpo.cli import doctor, main
from hpo.cli.commands import COMMANDS
from hpo.cli.parser import parser
from hpo.cli.run_options import LENGTH
from hpo.controller import Controller
from hpo.core.trial import Run
from hpo.front.front import front
from hpo.storage import lease, run_folder
from hpo.storage.record import load_study
from tests.hpo.toy_objective import spec

ROOT = Path(__file__).parents[3]


HEAD = (
    "from pathlib import Path; from hpo import GridPoint; HERE = Path(__file__).parent\n"
    "from tests.hpo.toy_objective import *\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a study file."""
    monkeypatch.chdir(tmp_path)
    write("STUDY = spec(trials=5)")
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed() -> Run:
    return Controller(spec(trials=8), "sqlite://").run()


def write(text: str) -> None:
    Path("mine.py").write_text(HEAD + text + "\n")


def read(name: str = "toy", url: str | None = None) -> Run:
    return run_folder.read(run_folder.find_run(name, Path("runs"), url))


def words(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without line breaks."""
    return " ".join(capsys.readouterr().out.split())


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpo: ")
    return line


def test_run_measures_prints_the_front_and_writes_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", "mine.py"]) == 0
    printed = words(capsys)
    assert "toy: 5 of 5 trials complete." in printed
    assert "Done in" in printed
    report = folder / "runs" / "toy" / "report.html"
    assert f"Report: {report}" in printed
    assert "<html" in report.read_text()


def test_a_finished_study_says_so_and_how_to_add_trials(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["run", "mine.py"])
    first = read().trials
    capsys.readouterr()
    assert main.main(["run", "mine.py"]) == 0
    printed = words(capsys)
    assert "Continuing runs/toy: 5 trials are finished." in printed
    assert "The study is finished with 5 trials; for 8 more: --trials 13" in printed
    assert main.main(["run", "mine.py", "--trials", "7"]) == 0
    assert read().trials[:5] == first
    assert (len(read().trials), read().planned) == (7, 7)


def test_a_spent_budget_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", "mine.py", "--budget", "2s"]) == 0
    said = "The budget of 2s is used up after 3 trials; for more: --budget TIME"
    assert said in words(capsys)
    assert main.main(["run", "mine.py", "--budget", "1m"]) == 0
    assert len(read().trials) == 5


def test_failed_trials_are_listed_and_a_study_of_them_alone_has_failed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(trials=4, objective=ToyObjective(fails_above_lr=0.015))")
    assert main.main(["run", "mine.py"]) == 0
    assert "diverged at lr" in words(capsys)
    write("STUDY = spec(name='hopeless', trials=4, objective=ToyObjective(fails_above_lr=0))")
    assert main.main(["run", "mine.py"]) == 1
    assert "No complete trial counts" in words(capsys)


def test_a_variant_is_picked_by_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("STUDY = spec(trials=5)\nVARIANTS = {'tiny': spec(name='tiny', trials=2)}")
    assert main.main(["run", "mine.py", "--variant", "tiny"]) == 0
    assert len(read("tiny").trials) == 2
    assert main.main(["run", "mine.py", "--variant", "big"]) == 2
    assert "has no variant 'big' in its VARIANTS; choose one of tiny." in complaint(capsys)


def test_set_fixes_a_hyperparameter_and_takes_it_out_of_space_baselines_and_grid(
    folder: Path,
) -> None:
    write(
        "STUDY = spec(trials=5, baselines=(Baseline(name='low', params={'pretrain.lr': 0.001}),),"
        "grid=(GridPoint(name='high', params={'pretrain.lr': 0.1}),))"
    )
    fixed = ["--set", "pretrain.lr=0.02", "--set", "model.layers=3", "--set", "pretrain.shape=up"]
    assert main.main(["run", "mine.py", *fixed]) == 0
    run = read()
    assert list(run.space) == ["pretrain.weight_decay"]
    assert [trial.name for trial in run.trials[:3]] == ["low", "high", None]
    assert all("pretrain.lr" not in trial.params for trial in run.trials)
    objective = run.reproduce["study"]["objective"]["fixed"]
    assert (objective["pretrain.lr"], objective["model.layers"]) == (0.02, 3)
    assert objective["pretrain.shape"] == "up"


def test_seed_changes_the_proposals_and_the_request(folder: Path) -> None:
    assert main.main(["run", "mine.py", "--out", "a", "--seed", "7"]) == 0
    assert main.main(["run", "mine.py", "--out", "b"]) == 0
    seven, zero = (
        run_folder.read(run_folder.find_run("toy", Path(out), None)).trials for out in "ab"
    )
    assert {trial.seed for trial in seven} == {7}
    assert seven[3].params != zero[3].params


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "pretrain.weight_decy=1"], "did you mean ['pretrain.weight_decay'"),
        (["--set", "pretrain.lr=fast"], "pretrain.lr must be like 0.01, got 'fast'"),
        (["--devices", "2"], "the toy objective does not know devices; leave it out"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--out", "mine.py/runs"], "cannot write to the output folder mine.py/runs/toy"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["run", "mine.py", *arguments]) == 2
    assert said in complaint(capsys)
    assert not (folder / "runs").exists()


def test_an_executor_that_is_not_there_is_reported_before_anything_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert main.main(["run", "mine.py", "--executor", "slurm"]) == 2
    assert "there is no SLURM here (no sbatch)" in complaint(capsys)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["run", "mine.py", "--budget", "soon"],
            "a time such as 90s, 30m, 1h30m, 2d or 1:30:00, got 'soon'",
        ),
        (["run", "mine.py", "--budget", "-5m"], "expected one argument"),
        (["run", "mine.py", "--budget", "0"], "got '0'"),
        (["run", "mine.py", "--budget", "nan"], "got 'nan'"),
        (["run", "mine.py", "--budget", ""], "got ''"),
        (
            ["run", "mine.py", "--set", "pretrain.lr"],
            "must be PATH=VALUE such as pretrain.lr=0.01, got 'pretrain.lr'",
        ),
        (
            ["run", "mine.py", "--trials", "many"],
            "argument --trials: must be a whole number of at least 1, got 'many'",
        ),
        (["run", "mine.py", "--executor", "abacus"], "invalid choice: 'abacus'"),
        (["run"], "the following arguments are required: STUDY"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_what_cannot_be_parsed_is_exit_code_2(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("2h", 7200),
        ("7d", 604800),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),
        ("1.5h", 5400),
        ("1:30:00", 5400),
        ("2 Days", 172800),
        ("1e3", 1000),
    ],
)
def test_a_budget_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert parser().parse_args(["run", "x", "--budget", text]).budget_s == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("null", None), ("[1, 2]", [1, 2]),
     ("cosine", "cosine"), ('"1"', "1"), ("", ""), ("a=b", "a=b"),
     ("None", None), ("True", True), ("False", False), (".1", 0.1), ("1e1", 10.0), ("1_000", 1000),
     ("'cosine'", "cosine"), ("['a', 'b']", ["a", "b"]), ("(1, 2)", (1, 2)), ("1,000", "1,000"),
     (" 3 ", 3), ("-.5", -0.5), ("none", "none"), ("1j", "1j"), ("b'x'", "b'x'"), ("...", "..."),
     ("{'kind': 'hub'}", {"kind": "hub"}), ("[a]/x.txt", "[a]/x.txt")],
)  # fmt: skip
def test_a_setting_is_json_where_it_reads_as_json(text: str, value: object) -> None:
    assert parser().parse_args(["run", "x", "--set", f"a.b={text}"]).params == [("a.b", value)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("STUDY = (", "mine.py is broken: line 3: SyntaxError"),
        ("STUDY = 1 / 0", "mine.py is broken: line 3: ZeroDivisionError: division by zero"),
        ("", "mine.py defines no STUDY"),
    ],
)
def test_a_broken_study_file_is_exit_code_2(
    text: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text)
    assert main.main(["run", "mine.py"]) == 2
    assert said in complaint(capsys)


def test_a_changed_study_file_is_refused_with_the_change_and_forked_if_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["run", "mine.py"])
    before = read().trials
    write("STUDY = spec(trials=5, wave=2)")
    capsys.readouterr()
    assert main.main(["run", "mine.py"]) == 2
    line = complaint(capsys)
    assert "(wave: 3 -> 2)" in line
    assert "--fork" in line
    assert main.main(["run", "mine.py", "--fork", "--trials", "4"]) == 0
    assert (len(read("toy-2").trials), read().trials) == (4, before)


def test_a_fork_is_continued_by_its_own_command_and_another_change_forks_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["run", "mine.py"])
    write("STUDY = spec(trials=5, wave=2)")
    for trials in ("3", "5"):
        assert main.main(["run", "mine.py", "--fork", "--trials", trials]) == 0
        assert len(read("toy-2").trials) == int(trials)
    write("STUDY = spec(trials=5, wave=1)")
    assert main.main(["run", "mine.py", "--fork"]) == 0
    assert [place.name for place in run_folder.all_runs(Path("runs"))] == ["toy", "toy-2", "toy-3"]


def test_list_shows_studies_and_runs_also_beside_a_broken_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["list"]) == 0
    printed = words(capsys)
    assert "quickstart" in printed
    assert "No runs in runs yet. Start one: hpo run quickstart" in printed
    main.main(["run", "mine.py", "--trials", "4"])
    broken = run_folder.make_run_folder(Path("runs"), "broken", None)
    (broken.folder / "study.db").write_text("not a database, but long enough to be read as one\n")
    capsys.readouterr()
    assert main.main(["list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (row,) = [row for row in rows if row[1:2] == ["toy"]]
    assert row[3::2][:4] == ["finished", "4", "0", "4"]
    assert "base_loss" in row
    assert any("broken" in row and "cannot" in row for row in rows)


def test_list_tells_failed_trials_from_finished_ones_and_a_stopped_run_from_a_running_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(trials=4, objective=ToyObjective(fails_above_lr=0.015))")
    assert main.main(["run", "mine.py"]) == 0
    write("STUDY = spec(name='cut', objective=ToyObjective(before=Once(1, HERE, explode)))")
    assert main.main(["run", "mine.py"]) == 1
    cut = run_folder.find_run("cut", Path("runs"), None)
    capsys.readouterr()
    assert main.main(["list"]) == 0
    with lease.held(load_study(cut.url, "cut"), cut.url):
        assert main.main(["list"]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row[1:6]] for row in rows if len(row) > 6]
    failed = sum(trial.state == "failed" for trial in read().trials)
    assert failed > 0
    assert ["toy", "finished", str(4 - failed), str(failed), "4"] in cells
    assert ["cut", "stopped", "3", "0", "8"] in cells
    assert ["cut", "running", "3", "0", "8"] in cells


def test_show_prints_the_front_and_json_with_the_documented_keys(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(trials=5, objective=ToyObjective(extra={'odd': float('nan')}))")
    main.main(["run", "mine.py"])
    capsys.readouterr()
    assert main.main(["show", "toy"]) == 0
    assert "toy: 5 of 5 trials complete." in words(capsys)
    assert main.main(["show", "toy", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data) == [
        "name", "goals", "limits", "group", "other_groups", "conditions", "trials",
        "hypervolume", "reference", "knee", "front",
        "trials_all", "disagreement", "pretraining_worth", "best_values", "contrasts",
        "verifications", "paper",
        "hypervolume_range",
        "knee_region", "undecided", "differences", "from_baselines", "leads",
    ]  # fmt: skip
    assert data["trials"] == {"complete": 5, "failed": 0, "running": 0, "planned": 5}
    assert [each["trial"] for each in data["front"]] == [t.number for t in front(read()).trials]
    assert {each["metrics"]["odd"] for each in data["trials_all"]} == {None}


def test_report_writes_the_file_and_prints_its_path(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["run", "mine.py"])
    (folder / "runs" / "toy" / "report.html").unlink()
    capsys.readouterr()
    assert main.main(["report", "toy"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == folder / "runs" / "toy" / "report.html"
    assert path.is_file()


@pytest.mark.parametrize("command", ["show", "report", "compare", "plot"])
def test_an_unknown_run_is_exit_code_2(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([command, "nothing"]) == 2
    assert "no run 'nothing' in runs; there are none" in complaint(capsys)


def test_doctor_fails_where_something_will_not_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DEVICE", "print('a device')")
    assert main.main(["doctor"]) == 0
    assert "PROBLEM" not in words(capsys)
    assert main.main(["doctor", "--out", "mine.py/x"]) == 1
    assert "PROBLEM" in words(capsys)


@pytest.mark.parametrize(
    ("command", "code"), [(["run", "mine.py"], 1), (["show", "toy"], 2), (["doctor"], 1)]
)
def test_no_command_shows_the_password_of_a_storage(
    command: list[str], code: int, folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(doctor, "DEVICE", "print('a device')")
    url = "postgresql://user:secret@127.0.0.1:1/x"
    assert main.main([*command, "--storage", url]) == code
    shown = capsys.readouterr()
    written = "".join(path.read_text() for path in folder.rglob("*.json"))
    assert "secret" not in shown.out + shown.err + written


def test_a_storage_elsewhere_holds_the_run_and_has_to_be_given_to_read_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{folder / 'elsewhere.db'}"
    assert main.main(["run", "mine.py", "--storage", url]) == 0
    assert not (folder / "runs" / "toy" / "study.db").exists()
    assert len(read(url=url).trials) == 5
    assert main.main(["show", "toy", "--storage", url]) == 0
    assert main.main(["show", "toy"]) == 2
    assert "give it with --storage, or in the environment as HPO_STORAGE" in complaint(capsys)


def test_a_copied_run_goes_on_in_the_other_storage(
    folder: Path, capsys: pytest.CaptureFixture[str], undisturbed: Run
) -> None:
    write("STUDY = spec(trials=8, objective=ToyObjective(before=Once(1, HERE, explode)))")
    main.main(["run", "mine.py"])
    before = read().trials
    url = f"sqlite:///{folder / 'elsewhere.db'}"
    assert main.main(["copy", "toy", "--to-storage", url]) == 0
    assert "Copied 6 trials of toy; to go on there, run the study with" in words(capsys)
    assert main.main(["copy", "toy", "--to-storage", url]) == 2
    assert "has a study 'toy' already" in complaint(capsys)
    assert read().trials == before
    assert main.main(["run", "mine.py", "--storage", url]) == 0
    assert read(url=url).trials == undisturbed.trials


def test_an_objective_that_breaks_leaves_its_trace_in_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = spec(objective=ToyObjective(before=lambda requests: explode()))")
    assert main.main(["run", "mine.py"]) == 1
    assert complaint(capsys) == "hpo: the machine caught fire"
    assert "in explode" in (folder / "runs" / "toy" / "error.log").read_text()


def test_an_objective_that_always_raises_fails_its_trials_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("def bad(requests): raise ValueError('no good')\n"
          "STUDY = spec(objective=ToyObjective(before=bad))")  # fmt: skip
    assert main.main(["run", "mine.py"]) == 1
    out, err = capsys.readouterr()
    said = "the objective raised ValueError: no good"
    assert said in " ".join(out.split())
    assert err == f"hpo: stopped, as 3 trials in a row failed for the same reason: {said}.\n"
    assert "Traceback" not in out + err
    assert "Traceback" in (folder / "runs" / "toy" / "error.log").read_text()


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from hpo.cli.main import main; sys.exit(main())"]
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_interrupted_run_keeps_its_state_and_prints_the_line_to_continue(
    folder: Path, undisturbed: Run
) -> None:
    write("STUDY = spec(objective=ToyObjective(before=Once(1, Path(__file__).parent, interrupt)))")
    done = start("run", "mine.py", "--storage", f"sqlite:///{folder}/a b.db")
    assert done.returncode == 130, done.stderr
    assert f"hpo run mine.py --storage 'sqlite:///{folder}/a b.db'\n" in done.stdout
    url = f"sqlite:///{folder}/a b.db"
    states = [trial.state for trial in read(url=url).trials]
    assert states == ["complete"] * 3 + ["running"] * 3
    assert main.main(["run", "mine.py", "--storage", url]) == 0
    assert read(url=url).trials == undisturbed.trials


def test_sigterm_before_anything_is_measured_also_prints_the_line_to_continue(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("import os, signal\nsignal.raise_signal(signal.SIGTERM)\nSTUDY = spec()")
    assert main.main(["run", "mine.py"]) == 130
    assert capsys.readouterr().out.endswith("To continue:\nhpo run mine.py\n")


def test_a_full_disk_is_reported_though_the_trace_cannot_be_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *given: Any, **named: Any) -> int:
        raise OSError(28, "No space left on device")

    write("STUDY = spec(objective=ToyObjective(before=lambda requests: explode()))")
    monkeypatch.setattr(Path, "write_text", full)
    assert main.main(["run", "mine.py"]) == 1
    assert complaint(capsys) == "hpo: the machine caught fire"


def test_a_killed_run_goes_on_to_the_front_of_the_undisturbed_one(
    folder: Path, undisturbed: Run
) -> None:
    write("STUDY = spec(objective=ToyObjective(before=Once(2, Path(__file__).parent, kill)))")
    assert start("run", "mine.py").returncode == -9
    assert read().trials[:6] == undisturbed.trials[:6]
    assert main.main(["run", "mine.py"]) == 0
    assert read().trials == undisturbed.trials
    assert front(read()).standings == front(undisturbed).standings


HELP, STORED = "-h --help", ["--out", "--storage"]


RUN = [
    HELP, "study", "--variant", "--set", "--name", "--seed", "--warm-start",
    "--trials", "--budget", "--wall", "--max-flops", "--patience", "--confirm",
    "--device", "--devices", "--sharding", "--lanes", "--executor", "--workers",
    "--worker-cpus", "--worker-gpus", "--slurm", "--hung-after",
    "--wait", "--fork", "--widen", "--accept-changes", "--restart",
    *STORED, "--store-gb", "--share", "--live", "--track",
]  # fmt: skip


OPTIONS = {
    "init": [HELP, "file", "--corpus", "--task", "--name"],
    "run": RUN,
    "check": [*RUN, "--json"],
    "params": [HELP, "pattern", "--study", "--variant", "--json"],
    "list": [HELP, *STORED],
    "show": [HELP, "run", "--json", "--csv", "--all", "--sort", "--top", "--group", *STORED],
    "report": [HELP, "run", "--group", *STORED],
    "compare": [HELP, "run", "--json", *STORED],
    "claims": [HELP, "run", "--record", "--json", *STORED],
    "plot": [HELP, "run", "figure", "--all", "--to", "--format", *STORED],
    "dashboard": [HELP, "run", "--port", "--writable", *STORED],
    "export": [
        HELP, "run", "--trial", "--to", "--push-to-hub", "--public", "--license", "--study",
        "--variant", "--device", "--share", "--json", *STORED,
    ],
    "transfer": [
        HELP, "run", "--trial", "--json", "--params", "--tokens", "--lr", "--seq-len", "--batch",
        "--batch-tokens", *STORED,
    ],
    "verify": [
        HELP, "run", "--recipes", "--dry-run", "--study", "--variant", "--json", "--sizes",
        "--tokens-per-param", "--rules", "--lr-factor", "--seeds", "--budget", "--wall", "--device",
        "--lanes", "--executor", "--workers", "--worker-cpus", "--worker-gpus", "--slurm",
        "--hung-after", "--wait", "--accept-changes", *STORED, "--share",
    ],
    "copy": [HELP, "run", "--to-storage", *STORED],
    "delete": [HELP, "run", "--yes", *STORED],
    "store show": [HELP, "--json", "--out"],
    "store prune": [
        HELP, "--store-gb", "--older-than", "--damaged", "--stage", "--dry-run", "--out",
    ],
    "doctor": [HELP, *STORED],
    "completion": [HELP, "shell", "--line"],
}  # fmt: skip


def test_the_commands_and_their_options_are_these() -> None:
    found = {
        name: [
            " ".join(action.option_strings) or action.dest
            for action in command._actions
            if action.help != argparse.SUPPRESS
        ]
        for name, command in commands().items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("command", [[], ["store"], *(name.split() for name in OPTIONS)])
def test_help_works(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: hpo", *command]))


def test_commands_read_only_options_that_they_have() -> None:
    has: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        module = command.work.partition(":")[0]
        has.setdefault(module, {"command_line"}).update(each.dest for each in command.options)
    for module, names in has.items():
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert set(re.findall(r"\barguments\.(\w+)", source)) <= names, module


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_the_help_can_be_typed(name: str) -> None:
    lines = [each for each in COMMANDS[name].examples if each.startswith("hpo ")]
    assert lines or name == "completion"
    for line in lines:
        words = shlex.split(line.partition(" > ")[0])[1:]
        assert parser().parse_args(words).command == COMMANDS[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["run", "x", "--setting", "full"], ["run", "x", "--variant", "full"]),
        (["store", "prune", "--budget", "3"], ["store", "prune", "--store-gb", "3"]),
    ],
)
def test_earlier_spellings_work_and_are_not_shown(old: list[str], new: list[str]) -> None:
    one, other = (vars(parser().parse_args(words)) for words in (old, new))
    del one["parser"], other["parser"]
    assert one == other
    shown = commands()[" ".join(old[: 1 + (old[0] == "store")])].format_help()
    assert new[-2] in shown
    assert old[-2] not in shown.replace("--budget TIME", "")


def test_every_limit_that_stops_a_study_is_an_option_of_how_long() -> None:
    limits = {"budget_s", "max_flops", "wall", "patience"}
    assert limits <= {each.dest for each in LENGTH.options}
    source = (ROOT / "hpo/search/stopping.py").read_text(encoding="utf-8")
    assert set(re.findall(r'StopReason\(.*, "(\w+)"\)', source)) == limits


def commands() -> dict[str, Any]:
    """All commands, those of `hpo store` with both words."""
    found = {}
    for name, command in below(parser()).items():
        found |= {f"{name} {word}": each for word, each in below(command).items()} or {
            name: command
        }
    return found


def below(command: argparse.ArgumentParser) -> dict[str, Any]:
    return {
        name: each
        for action in command._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, each in action.choices.items()
    }


class RanksError(RuntimeError):
    """Named like the objective's, which is not to be imported here."""


@pytest.mark.parametrize("kind", [MemoryError, RanksError])
def test_no_memory_or_a_lost_rank_is_one_sentence_and_a_failure(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(study: str, setting: str | None) -> None:
        raise kind("one lane does not fit; take a smaller model.")

    monkeypatch.setattr(study_files, "load", load)
    assert main.main(["run", "any"]) == 1
    assert capsys.readouterr().err == "hpo: one lane does not fit; take a smaller model.\n"


@pytest.mark.parametrize(
    "words",
    [
        ["show", "x", "--storagee", "postgresql://u:PW@h/x"],
        ["show", "x", "--storagee=postgresql://u:PW@h/x"],
        ["show", "x", "postgresql://u:PW@h/x"],
        ["show", "x", "postgresql://u:a PW@h/x"],
        ["show", "x", "mysql://h/x?password=PW"],
        ["show", "x", "--postgresql://u:a PW@h/x"],
        ["postgresql://u:PW@h/x"],
        ["postgresql://u:a PW@h/x"],
        ["run", "x", "--executor", "postgresql://u:a PW@h/x"],
        ["run", "x", "--trials", "postgresql://u:PW@h/x"],
        ["run", "x", "--s=postgresql://u:PW@h/x"],
    ],
)
def test_a_word_out_of_place_is_complained_of_without_its_password(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == 2
    assert "PW" not in complaint(capsys)


@pytest.mark.parametrize("option", [["--sort", "gain"], ["--top", "1"]])
def test_json_has_every_trial_so_that_no_option_chooses_among_them(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["show", "x", "--json", *option]) == 2
    assert f"leave out {option[0]}, or --json" in complaint(capsys)
