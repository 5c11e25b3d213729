"""`hpo completion`: a script that has a shell ask for the words that complete a line.

1. The script calls `hpo completion SHELL --line TEXT` with the line up to the cursor.
2. What completes it comes from the table of commands, the folder of runs and the studies that ship;
   nothing is imported for it, and no database is opened.
3. Each candidate is printed in the shell's own form. Where there is none, the shell completes names
   of files.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo.cli.commands import COMMANDS, STORE_HELP
from hpo.cli.options import DONE, Command, Option
from hpo.cli.run_options import OUT

NOTE = "run.json"
"""The file that makes a folder a run's."""


VERSION = Option("--version", None, "print the version")


HELP = Option("--help", None, "print the help")


@dataclass(frozen=True)
class Candidate:
    """A word that may be at the end of the line."""

    word: str
    help: str = ""


def run(arguments: argparse.Namespace) -> int:
    """Print the script, or what completes a line."""
    if arguments.line is None:
        print(SCRIPTS[arguments.shell])
        return DONE
    words = split(arguments.line)
    for each in candidates(words):
        print(WRITTEN[arguments.shell](each, words[-1]))
    return DONE


def split(line: str) -> list[str]:
    """The words after the command's own; the last one, maybe empty, is to be completed."""
    for end in ("", "'", '"', "\\"):  # of a quote that is open, or a backslash at the end
        try:
            words = shlex.split(line + end)
        except ValueError:
            continue
        return [*words, ""][1:] if end == "" and line[-1:].isspace() else words[1:] or [""]
    return [""]


def candidates(words: Sequence[str]) -> list[Candidate]:
    """What may complete the last of the words that were typed after `hpo`."""
    before, last = list(words[:-1]), words[-1]
    command, rest = _command(before)
    if command is None:
        found = _commands(" ".join(before)) if len(before) < 2 else []
        return [each for each in found if each.word.startswith(last)]
    options = {option.name: option for option in command.options}
    name, equals, value = last.partition("=")
    if equals and name in options:
        return [
            Candidate(f"{name}={each.word}", each.help)
            for each in _values(options[name], rest, value)
        ]
    given = options.get(rest[-1]) if rest else None
    if given is not None and given.metavar is not None:
        return _values(given, rest, last)
    if last.startswith("-"):
        known = [*(each for each in options.values() if each.name.startswith("-")), HELP]
        left = [each for each in known if each.repeats or each.name not in rest]
        return [Candidate(each.name, each.help) for each in left if each.name.startswith(last)]
    argument = _argument(command, rest)
    return [] if argument is None else _values(argument, rest, last)


def _command(before: Sequence[str]) -> tuple[Command | None, Sequence[str]]:
    """The command that was typed, and the words after it."""
    for length in (2, 1):
        found = COMMANDS.get(" ".join(before[:length])) if len(before) >= length else None
        if found is not None:
            return found, before[length:]
    return None, before


def _commands(above: str) -> list[Candidate]:
    """Commands, or the actions of the one that was typed."""
    start = f"{above} " if above else ""
    names = [name.removeprefix(start) for name in COMMANDS if name.startswith(start)]
    words = dict.fromkeys(name.split()[0] for name in names)
    helps = {name: each.help for name, each in COMMANDS.items()} | {"store": STORE_HELP}
    found = [Candidate(word, helps[f"{start}{word}"]) for word in words]
    return found if above else [*found, *(Candidate(e.name, e.help) for e in (VERSION, HELP))]


def _argument(command: Command, rest: Sequence[str]) -> Option | None:
    """The argument without dashes whose place is at the end of the line."""
    takes_value = {each.name for each in command.options if each.metavar is not None}
    placed = [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if not word.startswith("-") and before not in takes_value
    ]
    arguments = [each for each in command.options if not each.name.startswith("-")]
    if arguments and arguments[-1].nargs == "+":
        return arguments[-1]
    return arguments[len(placed)] if len(placed) < len(arguments) else None


def _values(option: Option, rest: Sequence[str], last: str) -> list[Candidate]:
    """Values of an option or argument."""
    if option.metavar == "RUN":
        found = [Candidate(name) for name in _runs(_out(rest))]
    elif option.metavar == "STUDY":
        found = [*(Candidate(name) for name in _studies()), *map(Candidate, _files(last))]
    else:
        found = [Candidate(word) for word in option.words]
    return [each for each in found if each.word.startswith(last)]


def _out(rest: Sequence[str]) -> Path:
    """The folder of runs that the line names."""
    for before, word in zip(["", *rest], rest, strict=False):
        if before == OUT.name or word.startswith(f"{OUT.name}="):
            return Path(word.removeprefix(f"{OUT.name}=")).expanduser()
    return Path(OUT.default)


def _runs(out: Path) -> list[str]:
    try:
        return sorted(note.parent.name for note in out.glob(f"*/{NOTE}"))
    except OSError:
        return []


def _studies() -> list[str]:
    """Names of the studies that ship; their files are not read."""
    found = importlib.util.find_spec("studies")
    folders = [] if found is None else found.submodule_search_locations or []
    paths = [path for folder in folders for path in Path(folder).glob("*.py")]
    return sorted(path.stem for path in paths if not path.stem.startswith("_"))


def _files(start: str) -> Iterator[str]:
    """Study files, and folders that may hold some, below what was typed so far."""
    typed, _, name = start.rpartition("/")
    above = f"{typed}/" if "/" in start else ""
    try:
        paths = sorted(Path(above or ".").expanduser().iterdir())
    except OSError:
        return
    for path in paths:
        if path.name.startswith(name) and not path.name.startswith((".", "_")):
            if path.is_dir():
                yield f"{above}{path.name}/"
            elif path.suffix in (".py", ".yaml", ".yml"):
                yield f"{above}{path.name}"


def _for_bash(each: Candidate, last: str) -> str:
    """Bash completes what is after an `=`, and inserts what it gets as it is."""
    name, equals, value = each.word.partition("=")
    return shlex.quote(value) if equals and name.startswith("--") else shlex.quote(each.word)


def _for_zsh(each: Candidate, last: str) -> str:
    word = each.word.replace("\\", "\\\\").replace(":", "\\:")
    return f"{word}:{each.help}" if each.help else word


def _for_fish(each: Candidate, last: str) -> str:
    return f"{each.word}\t{each.help}" if each.help else each.word


WRITTEN: dict[str, Callable[[Candidate, str], str]] = {
    "bash": _for_bash,
    "zsh": _for_zsh,
    "fish": _for_fish,
}


BASH = """\
_hpo() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <("$1" completion bash --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -o default -F _hpo hpo"""


ZSH = """\
#compdef hpo
_hpo() {
    local -a found
    found=("${(@f)$($words[1] completion zsh --line "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then
        _describe 'hpo' found
    else
        _files
    fi
}
compdef _hpo hpo"""


FISH = """\
function __hpo_complete
    set -l typed (commandline -opc)
    set -l found ($typed[1] completion fish --line (commandline -cp | string collect) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c hpo -f -a '(__hpo_complete)'"""


SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
