"""Completion: what a line may go on with, and that a real shell completes with it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.cli import completion, main
from hpo.cli.commands import COMMANDS
from hpo.cli.completion import NOTE, candidates, split
from hpo.cli.parser import parser
from hpo.storage import run_folder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two runs, a study file and a folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/toy", "runs/toy-2", "other/else", "runs/store", "sub"):
        Path(name).mkdir(parents=True)
    for name in ("runs/toy", "runs/toy-2", "other/else"):
        Path(name, NOTE).touch()
    for name in ("mine.py", "sub/deep.py", "notes.txt", "my study.py"):
        Path(name).touch()
    return tmp_path


LINES = [
    ("hpo ru", {"run"}),
    ("hpo st", {"store"}),
    ("hpo store ", {"show", "prune"}),
    ("hpo store p", {"prune"}),
    ("hpo --v", {"--version"}),
    ("hpo show ", {"toy", "toy-2"}),
    ("hpo show --all to", {"toy", "toy-2"}),
    ("hpo show toy ", set()),
    ("hpo show --out other ", {"else"}),
    ("hpo show --out=other e", {"else"}),
    ("hpo compare toy ", {"toy", "toy-2"}),
    ("hpo run mi", {"mine.py"}),
    ("hpo run quicks", {"quickstart"}),
    ("hpo run sub/", {"sub/deep.py"}),
    ("hpo run my", {"my study.py"}),
    ("hpo run mine.py --warm-start t", {"toy", "toy-2"}),
    ("hpo run mine.py --max", {"--max-flops"}),
    ("hpo run --max-flops 3 --max", set()),
    ("hpo run --set a=1 --se", {"--set", "--seed"}),
    ("hpo run mine.py --executor ", {"auto", "inline", "processes", "ray", "slurm"}),
    ("hpo run mine.py --executor=p", {"--executor=processes"}),
    ("hpo run mine.py --trials ", set()),
    ("hpo run mine.py --vari", {"--variant"}),
    ("hpo run mine.py --setti", set()),
    ("hpo store prune --budg", set()),
    ("hpo plot toy front --format s", {"svg"}),
    ("hpo export toy --trial k", {"knee"}),
    ("hpo completion ", {"bash", "zsh", "fish"}),
    ("hpo rn ", set()),
    ("hpo show 'to", {"toy", "toy-2"}),
    ('hpo show --out "oth er" \'', set()),
    ("hpo show to\\", set()),
    ("hpo", set()),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_line_goes_on_with_these_words(line: str, expected: set[str], folder: Path) -> None:
    found = {each.word for each in candidates(split(line))}
    if line == "hpo":  # the word of the command itself is the shell's
        assert "run" in found
    else:
        assert found == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_that_the_help_shows_is_completed(name: str, folder: Path) -> None:
    helped = {
        word
        for word in help_of(name).replace(",", " ").split()
        if word.startswith("--") and len(word) > 2
    }
    assert helped >= {each.word for each in candidates([*name.split(), "--"])} - {"--help"}
    assert {each.word for each in candidates([*name.split(), "--"])} == {
        each.name for each in COMMANDS[name].options if each.name.startswith("-")
    } | {"--help"}


def help_of(name: str) -> str:
    """What the command prints for --help."""
    found = parser()
    for word in name.split():
        action = next(each for each in found._actions if isinstance(each.choices, dict))
        assert isinstance(action.choices, dict)
        found = action.choices[word]
    return found.format_help()


def test_the_file_that_makes_a_folder_a_run_is_the_one_that_runs_have() -> None:
    assert NOTE == run_folder.NOTE


def bash(line: str) -> list[str]:
    """What bash puts into COMPREPLY for a line with the cursor at its end, by the script."""
    script = (
        f'hpo() {{ {shlex.quote(sys.executable)} -m hpo "$@"; }}\n'
        f'eval "$(hpo completion bash)"\n'
        f"COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}\n"
        "complete -p hpo >&2; _hpo hpo; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "-F _hpo hpo" in done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("hpo show t", ["toy", "toy-2"]), ("hpo run my", ["'my study.py'"]),
     ("hpo run mine.py --executor=p", ["processes"])],
)  # fmt: skip
def test_bash_completes_with_the_script(line: str, expected: list[str], folder: Path) -> None:
    assert bash(line) == expected


HPO = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -m hpo"


ZSH = f"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; hpo() {{ {HPO} "$@" }}; autoload -Uz compinit; compinit -u -D
eval "$(hpo completion zsh)"
show() {{ print -r -- "<<$BUFFER>>"; BUFFER= }}; zle -N show; bindkey "^Xs" show; print REA""DY'
zpty -r -m z found '*READY*'
for line in "$@"; do
    zpty -w -n z "$line"$'\\t\\x18s'
    zpty -r -m z found '*<<*>>*'
    print -r -- ${{${{found##*<<}}%%>>*}}
done
zpty -d z
"""
"""Types each line and a tab into an interactive zsh, and prints what the line is then."""


FISH = f"""
function hpo; {HPO} $argv; end
hpo completion fish | source
for line in $argv; complete -C $line; end
"""


def shell(name: str, script: str, *lines: str) -> list[str]:
    """What a shell prints for these lines."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    quiet = {"zsh": ["-f"], "fish": ["--no-config"]}[name]
    again = ["zsh"] if name == "zsh" else []  # its $0
    command = [name, *quiet, "-c", script, *again, *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_zsh_completes_with_the_script(folder: Path) -> None:
    lines = ("hpo show toy-", "hpo run my", "hpo run mine.py --executor=p", "hpo notes.t")
    assert shell("zsh", ZSH, *lines) == [
        "hpo show toy-2 ", r"hpo run my\ study.py ", "hpo run mine.py --executor=processes ",
        "hpo notes.txt ",
    ]  # fmt: skip


def test_fish_completes_with_the_script(folder: Path) -> None:
    assert shell("fish", FISH, "hpo show t", "hpo run my", "hpo store p", "hpo notes.t") == [
        "toy", "toy-2", "my study.py", f"prune\t{COMMANDS['store prune'].help}", "notes.txt",
    ]  # fmt: skip


def test_zsh_and_fish_get_descriptions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shell, expected in (
        ("zsh", "run:start a study, or continue it\n"),
        ("fish", "run\tstart a study, or continue it\n"),
    ):
        assert main.main(["completion", shell, "--line", "hpo run"]) == 0
        assert capsys.readouterr().out == expected
        assert main.main(["completion", shell]) == 0
        assert f"completion {shell} --line" in capsys.readouterr().out
        assert completion.SCRIPTS[shell].count("{") == completion.SCRIPTS[shell].count("}")
