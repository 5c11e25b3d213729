"""The documentation agrees with the code: commands and Python run, links and tables are right."""

from __future__ import annotations

import argparse
import importlib.util
import json
import lzma
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo import study_files
from hpo.cli import main
from hpo.cli.parser import parser
from hpo.core.spec import StudySpec
from hpo.executors import EXECUTORS
from tests import docs
from tests.bench import __main__ as bench
from tests.toy_size import TOY, small_inputs

ROOT = docs.ROOT


TEXTS = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in docs.DOCUMENTS}


README_BYTES = 12 * 1024


FOLDERS = ("hpo", "objectives", "studies", "examples", "tests")


RUN_ELSEWHERE = {
    "--executor": "needs workers; tests/hpo/executors",
    "--devices": "needs several processes; tests/objectives/pretraining/test_several_devices.py",
    "--wait": "needs another controller; tests/hpo/storage/test_lease.py",
    "--share": "needs a bucket; tests/objectives/store/test_remote.py",
    "dashboard": "serves until it is stopped; tests/hpo/cli/test_dashboard.py",
    "alpha_decay": "is a long study; tests/studies/test_paper_studies.py",
    "examples/own_task.py": "tests/examples/test_examples.py",
}
"""Words of a command that is only parsed here -> why, and where it runs in a test."""


TOY_STUDY = """
from hpo import Baseline, StudySpec
from tests.hpo.toy_objective import SPACE, ToyObjective

STUDY = StudySpec(
    name="quickstart", objective=ToyObjective(), space=SPACE,
    baselines=(Baseline(name="standard", params={}),), trials=3,
)
"""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def commands(text: str) -> list[str]:
    """The commands of all shell blocks, without comments, one a line."""
    joined = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    lines = (shlex.join(shlex.split(line, comments=True)) for line in joined.splitlines())
    return [line for line in lines if line]


COMMANDS = sorted({line for text in TEXTS.values() for line in commands(text)})


HPO = [line.removeprefix("hpo ") for line in COMMANDS if line.startswith("hpo ")]


def test_readme_is_short() -> None:
    assert len(TEXTS["README.md"].encode()) <= README_BYTES


@pytest.mark.parametrize("name", TEXTS)
def test_generated_parts_are_up_to_date(name: str) -> None:
    assert docs.filled(TEXTS[name]) == TEXTS[name], "run python -m tests.docs"


def test_only_the_generated_part_of_a_document_changes() -> None:
    text = "before\n<!-- files studies -->\nold\n<!-- end files studies -->\nafter\n"
    found = docs.filled(text)
    assert "old" not in found
    assert "| `quickstart.py` | A few minutes" in found
    assert found.startswith("before\n<!-- files studies -->\n")
    assert found.endswith("<!-- end files studies -->\nafter\n")
    assert docs.filled(found) == found


def test_every_results_file_is_in_the_results() -> None:
    names = set(re.findall(r"<!-- bench (\S+) -->", TEXTS["tests/bench/RESULTS.md"]))
    assert names == {path.stem for path in (ROOT / "tests/bench/results").glob("*.json")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folders_readme_names_every_file_in_it(folder: str) -> None:
    text = TEXTS[f"{folder}/README.md"]
    listed = set(re.findall(r"`([\w.]+)/?`", text))
    assert listed >= {path.name for path in docs.sources(folder)}
    parts = {path.parent.name for path in (ROOT / folder).glob("*/*.py")} - {"__pycache__"}
    assert listed >= parts
    assert "here to look first" in text.partition("\n##")[0]


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py" and not docs.summary(path)
    ]
    assert silent == []


@pytest.mark.parametrize("name", TEXTS)
def test_links_and_pictures_lead_to_files_and_headings(name: str) -> None:
    here = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        path = (here / file).resolve() if file else ROOT / name
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in titles}
            assert heading in anchors, target


@pytest.mark.parametrize("name", TEXTS)
def test_paths_of_files_that_the_text_names_exist(name: str) -> None:
    here = (ROOT / name).parent
    for target in re.findall(r"`((?:\w+/)+\w+\.(?:py|md|png))`", TEXTS[name]):
        assert (ROOT / target).is_file() or (here / target).is_file(), target


def test_every_command_and_option_in_the_table_exists() -> None:
    there = {
        name: {option for action in each._actions for option in action.option_strings}
        for name, each in all_commands(parser(), "").items()
    }
    rows = re.findall(r"^\| `hpo ((?:store )?\w+)([^|]*)` \|(.*)\|$", TEXTS["hpo/README.md"], re.M)
    assert {name for name, _, _ in rows} == set(there)
    for name, usage, text in rows:
        assert set(re.findall(r"--[a-z-]+", usage + text)) <= there[name]


def all_commands(above: argparse.ArgumentParser, name: str) -> dict[str, argparse.ArgumentParser]:
    """Words -> parser, for every command that can be run."""
    found = {}
    for action in above._actions:
        for word, each in action.choices.items() if isinstance(action.choices, dict) else ():
            found |= all_commands(each, f"{name} {word}".strip())
    return found or {name: above}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the documents speak of: README's study at toy size, run as two runs."""
    here = tmp_path_factory.mktemp("docs")
    before = Path.cwd()
    os.chdir(here)
    (here / "corpus").mkdir()
    (here / "text").mkdir()
    (here / "intents").mkdir()
    inputs = small_inputs(here / "text")
    texts = [path.read_text() for path in sorted((here / "text").glob("*.txt"))]
    with lzma.open(here / "corpus" / "all.jsonl.xz", "wt") as file:
        file.writelines(json.dumps({"text": each}) + "\n" for each in texts)
    for name in ("train", "test"):
        rows = [
            {"prompt": f"{name} {n}:", "completion": f" {n % 2}", "label": f" {n % 2}"}
            for n in range(60)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (here / "intents" / f"{name}.jsonl").write_text(text)
    toy = TOY | {"corpus.vocab_size": 300, "finetune.tasks": inputs["finetune.tasks"]}
    (here / "my_study.py").write_text(shrunk(own_study()).replace("TOY", repr(toy)))
    (here / "toy.py").write_text(TOY_STUDY)
    try:
        assert main.main(["run", "my_study.py", "--trials", "3"]) == 0
        assert main.main(["run", "my_study.py", "--trials", "3", "--name", "quickstart"]) == 0
        yield here
    finally:
        os.chdir(before)


def own_study() -> str:
    return next(each for each in blocks(TEXTS["README.md"], "python") if "STUDY =" in each)


def shrunk(block: str) -> str:
    """The block with objectives that measure at toy size; `TOY` has the settings."""
    return re.sub(
        r"PlasticityObjective\((RECIPE|recipe)", r"PlasticityObjective(\1.with_params(TOY)", block
    )


def test_the_study_of_your_own_is_a_study_and_has_tasks_of_its_own(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(own_study(), names)
    study = names["STUDY"]
    assert isinstance(study, StudySpec)
    assert set(study.space) <= set(study.objective.values())
    study.objective.preflight([])


@pytest.mark.parametrize("name", [name for name in TEXTS if blocks(TEXTS[name], "python")])
def test_python_blocks_of_a_document_run_one_after_the_other(name: str, folder: Path) -> None:
    toy = TOY | small_inputs(folder / "text")
    names: dict[str, Any] = {"TOY": toy}
    if "continues README's" in TEXTS[name]:
        exec(shrunk(own_study()), names)
    for block in blocks(TEXTS[name], "python"):
        exec(shrunk(block), names)


def runs_elsewhere(line: str) -> bool:
    return any(word in line.split() for word in RUN_ELSEWHERE)


@pytest.mark.parametrize("line", HPO)
def test_every_hpo_command_parses(line: str) -> None:
    found = parser().parse_args(shlex.split(line))
    assert getattr(found, "executor", "inline") in EXECUTORS


@pytest.mark.parametrize("line", [line for line in HPO if not runs_elsewhere(line)])
def test_every_hpo_command_runs(line: str, folder: Path, tmp_path: Path) -> None:
    words = [str(tmp_path / word) if word in ("best", "figures") else word for word in line.split()]
    if words[0] in ("run", "check") and words[1] == "quickstart":
        words = [words[0], "toy.py", *words[2:], "--out", str(tmp_path)]
    if words[:2] == ["run", "my_study.py"]:
        words += ["--trials", "3"]
    assert main.main(words) == 0


@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.startswith("hpo ")])
def test_every_other_command_names_what_there_is(line: str) -> None:
    match shlex.split(line):
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
        case ["pip", "install", *words]:
            assert words[0] == "-e"
            known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            extras = re.findall(r"[\w-]+", words[1])
            assert set(extras) <= set(known["optional-dependencies"])
        case ["python", "-m", "pytest", *words]:
            paths = [word for word in words if word.startswith("tests/")]
            assert all((ROOT / path).exists() for path in paths)
        case ["python", "-m", "tests.bench", *words]:
            bench._parser().parse_args(words)
        case ["python", "-m", module]:
            assert importlib.util.find_spec(module) is not None
        case ["python", path]:
            assert (ROOT / path).is_file()
        case ["lm_eval", *_]:  # an external program; tests/objectives/export/test_bundle.py
            assert "--include_path" in line
        case _:
            pytest.fail(f"unknown command {line!r}")


def test_the_changelog_has_its_kinds_of_change_and_nothing_twice() -> None:
    text = TEXTS["CHANGELOG.md"]
    assert re.findall(r"^## \[(.*)\]$", text, re.M)[0] == "Unreleased"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= kinds
    entries = [each.split("\n\n")[0] for each in text.split("\n- ")[1:]]
    assert len(entries) == len(set(entries))


def test_recorded_claims_are_written_as_tables_with_what_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrast = {
        "name": "decay", "metric": "loss", "arm": "a", "minus": "b", "expected": "down",
        "value": -0.03, "error": 0.007, "low": -0.046, "high": -0.014, "p": 0.0016,
        "corrected_p": 0.0032, "outcome": "as expected", "detectable": 0.022,
    }  # fmt: skip
    unknown = dict.fromkeys(("value", "error", "low", "high", "p", "corrected_p", "detectable"))
    claim = {"table": "T", "text": "it falls", "ours": "-1 ± 2", "p": 0.6, "detectable": 5.0,
             "verdict": "not significant"}  # fmt: skip
    run = {
        "command": "hpo run s", "commit": "abc", "seeds": [3, 4, 5], "trials": 6, "failed": 1,
        "device_s": 125.0, "machine": {"device": "cpu"}, "claims": [claim],
        "contrasts": {"alpha": 0.01, "correction": "holm", "results_before": 0,
                      "findings": [contrast, contrast | unknown | {"outcome": "not measured"}]},
    }  # fmt: skip
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({"runs": [run]}))
    monkeypatch.setattr(docs, "CLAIMS", path)
    text = docs.filled("<!-- claims all -->\n<!-- end claims all -->")
    for part in (
        "**`hpo run s`** (commit abc; seeds 3 to 5; 6 trials, 1 failed; 2m05s on cpu)",
        "stated before the run, two-sided at 0.01, correction holm",
        "| decay: a - b | `loss` | down | -0.0300 ± 0.0070 | -0.046 to -0.014 | 0.0016 | 0.0032 |",
        "| n/a |  | n/a | n/a | not measured | n/a |",
        "| T: it falls | -1 ± 2 | 0.6 | 5 | not significant |",
    ):
        assert part in text
    path.write_text('{"runs": []}')
    assert "No run is recorded yet." in docs.filled("<!-- claims all -->\n<!-- end claims all -->")


RECORDED = json.loads(docs.CLAIMS.read_text("utf-8"))["runs"]


@pytest.mark.parametrize("run", RECORDED, ids=[run["command"] for run in RECORDED])
def test_recorded_contrasts_are_those_that_the_study_plans(run: dict[str, Any]) -> None:
    planned = study_files.load(run["study"], run["variant"]).contrasts
    found = run["contrasts"]
    if planned is None:
        assert found is None
        return
    assert (found["alpha"], found["correction"]) == (planned.alpha, planned.correction)
    names = ("name", "metric", "arm", "minus", "expected")
    assert [[each[name] for name in names] for each in found["findings"]] == [
        [getattr(each, name) for name in names] for each in planned.contrasts
    ]


def test_text_of_a_claim_stays_in_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "a|b\n| c <img src=x> <!-- end claims all --> x < y"
    claim = {"table": "T", "text": hostile, "ours": "", "p": None, "detectable": None,
             "verdict": "not measured"}  # fmt: skip
    run = {"command": "hpo run s", "commit": None, "seeds": [], "trials": 0, "failed": 0,
           "device_s": 0.0, "machine": {}, "claims": [claim], "contrasts": None}  # fmt: skip
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({"runs": [run]}))
    monkeypatch.setattr(docs, "CLAIMS", path)
    text = docs.filled("<!-- claims all -->\n<!-- end claims all -->")
    row = r"| T: a\|b \| c &lt;img src=x> &lt;!-- end claims all --> x < y |"
    assert f"{row}  | n/a | n/a | not measured |" in text
    assert "(commit not recorded; no seed; 0 trials" in text
    assert docs.filled(text) == text
