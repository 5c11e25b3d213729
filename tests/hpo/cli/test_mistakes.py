"""Plausible mistakes in study files and on the command line: one good sentence, exit code 2.

Each is found before anything is measured, and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.cli import main

ROOT = Path(__file__).parents[3]


HEAD = (
    "import math; import numpy as np; from hpo import *; from objectives import *\n"
    "from tests.hpo.toy_objective import SPACE, BASELINES, ToyObjective\n"
    "class Never(ToyObjective):\n"
    "    def evaluate(self, *given, **named):\n"
    "        open('measured', 'w').close(); return super().evaluate(*given, **named)\n"
    "def study(**fields):\n"
    "    return StudySpec(**{'name': 's', 'objective': Never(), 'space': SPACE} | fields)\n"
    "def lm(**fields):\n"
    "    recipe = Recipe(**fields)\n"
    "    return study(objective=PlasticityObjective(recipe), space={'pretrain.lr': "
    "Float(0.001, 0.1)})\n"
)
"""Imports, and makers of studies of the toy objective and of a language model."""


PROSE = re.compile(r"Traceback|pydantic|ValidationError|input_value|type=\w|errors\.py|\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a study that could run."""
    monkeypatch.chdir(tmp_path)
    write("STUDY = study()")
    return tmp_path


def write(text: str) -> None:
    Path("mine.py").write_text(HEAD + text + "\n", encoding="utf-8")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that did nothing."""
    code: object = None
    with contextlib.suppress(SystemExit):
        code = main.main(words)
    printed = capsys.readouterr()
    assert code in (2, None)
    (line,) = printed.err.splitlines()
    assert line.startswith("hpo: ")
    assert not PROSE.search(line)
    assert len(line) < 700
    assert printed.out == ""
    assert not Path("measured").exists()
    assert not Path("runs").exists()
    return line


STUDIES = [
    # goals and limits
    ("study(goals=Goal('base_loss', 'downwards'))", 'must be "down" or "up", got \'downwards\''),
    ("study(goals=Goal(metric='gain'))", "Goal needs direction; write Goal(direction=...)"),
    ("study(goals=Goal(name='gain', direction='up'))", "Goal has no field 'name'"),
    ("study(goals=['base_loss'])", "each of goals must be a Goal(metric=\"base_loss\""),
    ("study(goals='base_loss')", "goals must be a list of Goal("),
    ("study(goals={'base_loss': 'down'})", "goals must be a list of Goal("),
    ("study(goals=[])", "needs different goals, got []"),
    ("study(goals=[GAIN_UP, GAIN_UP])", "needs different goals, got ['gain', 'gain']"),
    ("study(limits=[Limit('gain', 1, 0)])", "needs low <= high, got 1 and 0"),
    ("study(limits={'gain': (0, 1)})", "limits must be a list of Limit("),
    ("study(limits=[Limit('gain', '0.1')])", "must be a number without quotes, got '0.1'"),
    ("lm() and study(objective=PlasticityObjective(Recipe()), space={}, "
     "goals=Goal('base_los', 'down'))", "the goal 'base_los' is no metric"),
    ("study(objective=PlasticityObjective(Recipe()), space={}, "
     "limits=Limit('forgeting_nats', high=1))", "did you mean forgetting_nats"),
    # the space
    ("study(space={'pretrain.lr': (0.01, 3.0)})", "write Float(low=0.01, high=3.0)"),
    ("study(space={'pretrain.lr': [0.01, 0.1, 1.0]})", "write Choice(options=[0.01, 0.1, 1.0"),
    ("study(space={'pretrain.lr': 'loguniform'})", "to fix a parameter, leave it out of space"),
    ("study(space=[Float(0, 1)])", "space must be a dict such as"),
    ("study(space={'pretrain.lr': Float('a', 1)})", "low of Float must be"),
    ("study(space={'pretrain.lr': Float(1, 0.1)})", "finite low <= high, got 1 and 0.1"),
    ("study(space={'pretrain.lr': Float(0, 1, log=True)})", "log=True needs low > 0, got 0"),
    ("study(space={'pretrain.lr': Float(lo=0, hi=1)})", "no field 'lo'; did you mean low"),
    ("study(space={'model.layers': Int(1.5, 2.5)})", "low of Int must be a whole number"),
    ("study(space={'pretrain.shape': Choice('cosine')})", "write Choice(options=['cosine'"),
    ("study(space={'pretrain.shape': Choice('cosine', 'linear')})", "at most 1 values without"),
    ("study(space={'pretrain.shape': Choice([math.nan, math.nan])})", "got nan"),
    ("study(space={'pretrain.shape': Choice([['cosine']])})", "options of Choice must be numbers"),
    ("study(space={'pretrain.learning_rate': Float(0, 1)})", "unknown hyperparameter"),
    ("study(priors={'pretrain.rl': Prior(0.01, 1)})", "did you mean pretrain.lr"),
    ("study(priors={'pretrain.lr': Prior(mean=0.01, std=1)})", "Prior has no field 'mean'"),
    ("study(priors={'pretrain.lr': Prior(5.0, 1)})", "a centre in its domain"),
    # baselines and grid
    ("study(baselines=[{'pretrain.lr': 0.1}])", "each of baselines must be a Baseline("),
    ("study(baselines={'standard': {}})", "baselines must be a list of Baseline("),
    ("study(baselines=Baseline('standard'))", "Baseline needs params"),
    ("study(baselines=Baseline('a\\nb', {}))", "printable characters"),
    ("study(baselines=Baseline('a', {'pretrain.lr': math.nan}))", "pretrain.lr must be finite"),
    ("study(baselines=Baseline('a', {'pretrain.rl': 0.1}))", "unknown hyperparameter"),
    ("study(grid=[Baseline('a', {})])", "each of grid must be a Point("),
    # numbers
    ("study(trials=2.5)", "trials must be a whole number of at least 1, got 2.5"),
    ("study(trials='24')", "trials must be a whole number of at least 1, got '24'"),
    ("study(n_trials=24)", "no field 'n_trials'; did you mean trials"),
    ("study(trials=0)", "at least 1, got 0"),
    ("study(wave=math.inf)", "wave must be a whole number"),
    ("study(seed=-1)", "seed must be a whole number from 0 to 4294967295, got -1"),
    ("study(seed=None)", "seed must be a whole number"),
    ("study(budget_s='2h')", "budget_s must be a number above 0 without quotes, got '2h'"),
    ("study(budget_s=True)", "budget_s must be a number above 0, got True"),
    ("study(patience=math.nan)", "patience must be a whole number"),
    ("study(confirm=1.5)", "confirm must be a whole number"),
    ("study(replicate_share=2)", "0 <= replicate_share < 1, got 2"),
    ("study(rungs=[1/9, 1/3])", "rising shares of the horizon up to 1"),
    ("study(rungs=3)", "rising shares of the horizon up to 1"),
    # words
    ("study(sampler='bayes')", "sampler 'bayes' is unknown; choose one of gp, gp-optuna"),
    ("study(sampler='TPE')", "did you mean tpe"),
    ("study(finetune_at_rungs='allways')", "did you mean always"),
    ("study(name='my study')", "a study's name holds letters, digits"),
    ("study(objective=Recipe())", "a recipe becomes one by PlasticityObjective(recipe)"),
    ("study(objective=PlasticityObjective)", "write objective=PlasticityObjective(...)"),
    ("study(direction='minimize')", "StudySpec has no field 'direction'"),
    ("StudySpec(name='s')", "StudySpec needs objective and space"),
    ("StudySpec('s')", "StudySpec takes no value without a name"),
    # the recipe
    ("lm(pretrain=Pretrain(n_steps=12))", "Pretrain has no field 'n_steps'; did you mean steps"),
    ("lm(pretrain=Pretrain(learning_rate=1e-3))", "did you mean lr"),
    ("lm(pretrain=Pretrain(batch_size=0))", "batch_size of Pretrain must be at least 1, got 0"),
    ("lm(pretrain=Pretrain(lr='3e-3'))", "got '3e-3'; write it without quotes: 3e-3"),
    ("lm(pretrain=Pretrain(accumulation=3))", "pretrain.accumulation must divide"),
    ("lm(pretrain=Pretrain(schedule=Schedule(shape='wsd')))", "decay_frac below 1 holds the rate"),
    ("lm(pretrain=dict(steps=12))", "pretrain of Recipe must be Pretrain(...), got {'steps': 12}"),
    ("lm(finetune=Finetune(lora=8))", "lora of Finetune must be Lora(...), got 8"),
    ("lm(finetune=Finetune(lrs=[]))", "lrs of Finetune must be a list with at least one item"),
    ("lm(finetune=Finetune(tasks=['list_ops']))", "tasks.0 of Finetune must be BuiltinTask(...)"),
    ("lm(finetune=Finetune(tasks=BuiltinTask(name='nope')))", "name of BuiltinTask must be code_"),
    ("lm(finetune=Finetune(epochs=1))", "exactly one of finetune.steps and finetune.epochs"),
    ("lm(model=Model(preset='llama-9b'))", "got 'llama-9b'; did you mean llama-"),
    ("lm(model='llama-1m')", "model of Recipe must be Model(...), got 'llama-1m'"),
    ("lm(corpus=Corpus(sources=['a.jsonl']))", "sources.0 of Corpus must be Stdlib(...) or Files"),
    ("lm(corpus=Corpus(sources=Files('a.jsonl')))", "Files takes its fields by name"),
    ("lm(corpus=Corpus(vocab_size=100))", "vocab_size of Corpus must be at least 257, got 100"),
    ("lm(probes=Probes(run=['norm']))", "did you mean norms"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), STUDIES)
def test_a_mistake_in_a_study_file_is_one_sentence(
    text: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"\nSTUDY = {text}")
    line = refused(["run", "mine.py"], capsys)
    assert said in line
    assert "mine.py is broken: line " in line


FILES = [
    ("study = study()", "rename study to STUDY"),
    ("x = 1", "defines no STUDY; add a line STUDY = StudySpec(...)"),
    ("STUDY = Recipe()", "it is Recipe("),
    ("STUDY = study(", "SyntaxError: '(' was never closed"),
    (
        "STUDY = study(space={'pretrain.lr': Flaot(0, 1)})",
        "name 'Flaot' is not defined; did you mean Float?",
    ),
    ("STUDY = study(goals=[Goal('gain', direction=Up)])", "name 'Up' is not defined"),
    ("import torchh", "No module named 'torchh'"),
    ("from objectives import Pretraning", "did you mean Pretrain?"),
    ("STUDY = study().wawe", "has no attribute 'wawe'; did you mean wave?"),
    ("raise SystemExit(0)", "SystemExit"),
    ("VARIANTS = {'small': 3}", "defines no STUDY"),
]


@pytest.mark.parametrize(("text", "said"), FILES)
def test_a_file_that_gives_no_study_is_one_sentence(
    text: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text)
    assert said in refused(["run", "mine.py"], capsys)


RUN = ["run", "mine.py"]


LINES = [
    (["rn", "mine.py"], "did you mean run?"),
    (["run"], "the following arguments are required: STUDY; see hpo run --help"),
    (["run", "."], "'.' is a folder, not a study"),
    (["run", "common.txt"], "a study's file ends in .py, .yaml or .json"),
    (["run", "mine"], "did you mean the file mine.py?"),
    (["run", "mien.py"], "did you mean "),
    (["run", "quickstrat"], "did you mean quickstart?"),
    (["run", "quickstart.py"], "did you mean quickstart?"),
    (["run", "quickstart", "--variant", "big"], "has no variant 'big'"),
    ([*RUN, "more"], "unexpected argument 'more'; see hpo run --help"),
    ([*RUN, "--trails", "3"], "there is no option '--trails', did you mean --trials?"),
    ([*RUN, "--learning-rate", "3"], "there is no option '--learning-rate'"),
    ([*RUN, "--trials"], "argument --trials: expected one argument"),
    ([*RUN, "--trials", "0"], "must be a whole number of at least 1, got '0'"),
    ([*RUN, "--trials", "1.5"], "must be a whole number of at least 1, got '1.5'"),
    ([*RUN, "--trials", "ten"], "must be a whole number of at least 1, got 'ten'"),
    ([*RUN, "--trials", "9" * 4000], "must be a whole number from 1 to 1000000"),
    ([*RUN, "--trials", "9" * 5000], "must be a whole number"),
    ([*RUN, "--seed", "-1"], "argument --seed: must be a whole number of at least 0, got '-1'"),
    ([*RUN, "--seed", str(2**32)], "from 0 to 4294967295"),
    ([*RUN, "--lanes", "0"], "argument --lanes: must be a whole number of at least 1"),
    ([*RUN, "--devices", "two"], "argument --devices: must be a whole number"),
    ([*RUN, "--devices", "2"], "the toy objective does not know devices; leave it out."),
    ([*RUN, "--device", "gpu"], "device 'gpu' cannot be used"),
    ([*RUN, "--workers", "0"], "argument --workers: must be a whole number of at least 1"),
    ([*RUN, "--worker-gpus", "-1"], "argument --worker-gpus: must be a number of at least 0"),
    ([*RUN, "--patience", "0"], "argument --patience: must be a whole number of at least 1"),
    ([*RUN, "--confirm", "-1"], "argument --confirm: must be a whole number of at least 0"),
    ([*RUN, "--max-flops", "nan"], "argument --max-flops: must be a number above 0, got 'nan'"),
    ([*RUN, "--store-gb", "0"], "argument --store-gb: must be a number above 0, got '0'"),
    ([*RUN, "--budget", "soon"], "must be a time such as 90s, 30m, 1h30m, 2d or 1:30:00"),
    ([*RUN, "--budget", "1h30"], "must be a time such as"),
    ([*RUN, "--budget", "1:30"], "must be a time such as"),
    ([*RUN, "--budget", "2 weeks"], "must be a time such as"),
    ([*RUN, "--executor", "processs"], "did you mean processes?"),
    ([*RUN, "--set", "pretrain.lr"], "must be PATH=VALUE such as pretrain.lr=0.01"),
    ([*RUN, "--set", "=3"], "must be PATH=VALUE such as pretrain.lr=0.01, got '=3'"),
    ([*RUN, "--set", "pretrain.rl=0.1"], "unknown hyperparameter 'pretrain.rl'"),
    ([*RUN, "--set", "pretrain.lr=fast"], "pretrain.lr must be like 0.01, got 'fast'"),
    ([*RUN, "--set", "pretrain.lr=NaN"], "pretrain.lr must be finite numbers"),
    ([*RUN, "--set", "pretrain.shape=[cosine]"], "pretrain.shape must be JSON"),
    ([*RUN, "--set", 'corpus.sources=[{"kind": "files"'], "corpus.sources must be JSON such as"),
    ([*RUN, "--set", f"pretrain.lr={'[' * 3000}{']' * 3000}"], "nested at most 50 deep"),
    ([*RUN, "--set", f"pretrain.lr={'[' * 60}{']' * 60}"], "nested at most 50 deep"),
    ([*RUN, "--set", f"pretrain.lr={'9' * 400}"], "at most 2^53"),
    ([*RUN, "--warm-start", "nothing"], "no run 'nothing' in runs"),
    (["show", "nothing"], "no run 'nothing' in runs"),
    (["show"], "the following arguments are required: RUN; see hpo show --help"),
    (["transfer", "s", "--params", "1B"], "required: --tokens"),
    (["transfer", "s", "--params", "7G"], "must be a number such as 7e9, 7B or 300M, got '7G'"),
    (["store", "prun"], "did you mean prune?"),
    (["store", "prune"], "is required; see hpo store prune --help"),
    (["dashboard", "s", "--port", "99999"], "must be a whole number from 1 to 65535"),
    (["--verson"], "did you mean --version?"),
]


@pytest.mark.parametrize(("words", "said"), LINES)
def test_a_mistake_on_the_command_line_is_one_sentence(
    words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("common.txt").touch()
    assert said in refused(words, capsys)


RECIPES = [
    ("pretrain.weight_decay=x", "pretrain.weight_decay must be a number or an object"),
    ("pretrain.n_steps=12", "unknown hyperparameter 'pretrain.n_steps'; did you mean pretrain.st"),
    ("pretrain.steps=12.5", "pretrain.steps must be a whole number, got 12.5"),
    ('pretrain.steps="12"', "write it without quotes: 12"),
    ("pretrain.schedule.shape=wsd", "decay_frac below 1 holds the rate"),
    ("finetune.lora=8", "finetune.lora must be an object with the fields of Lora, got 8"),
    ("finetune.tasks=list_ops", "finetune.tasks.0 must be an object with the fields of Builtin"),
    ("model.preset=llama-9b", "did you mean llama-"),
    ("corpus.tokenizer=3", 'corpus.tokenizer must be a text, got 3; write it in quotes: "3"'),
    ("lr=0.1", "did you mean pretrain.lr"),
    ("pretrain.activation_checkpointing=yes", "must be true or false, got 'yes'"),
]


@pytest.mark.parametrize(("setting", "said"), RECIPES)
def test_a_mistake_in_a_setting_of_a_recipe_is_one_sentence(
    setting: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("STUDY = lm()")
    assert said in refused(["run", "mine.py", "--set", setting], capsys)


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: hpo")


@pytest.mark.parametrize("words", [["--version"], ["run", "mine.py", "--trails", "3"]])
def test_the_module_is_the_command(words: list[str], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpo", *words], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if words == ["--version"]:
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"hpo \S+\n", done.stdout)
    else:
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert "did you mean --trials?" in line
