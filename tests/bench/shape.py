"""The shape of the source: size, packages and the imports between them, functions, start-up time.

1. Files and functions of hpo, objectives, studies and examples are read, not imported.
2. A module's floor is one more than the highest floor among the modules it imports; a circle is a
   set of modules that import one another, directly or by others. Imports inside functions count.
3. A package is a folder below hpo or objectives; files beside the folders are a package each.
4. A hop is a function of hpo or objectives that is on the stack when training begins, in a study of
   one trial at toy size.
5. `--only make` times `make check` and `make test`, which takes minutes and is left out otherwise.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import networkx

from tests.bench.figures import Figure, Options, mean_of

ROOT = Path(__file__).parents[2]


TOPS = ("hpo", "objectives")


ALSO = ("studies", "examples")


PARTS = ("tree", "hops", "help", "make")


def run(options: Options) -> dict[str, Figure]:
    """Figures of the tree this file is in."""
    parts = options.picked(PARTS) if options.only else [p for p in PARTS if p != "make"]
    found: dict[str, Figure] = {}
    if "tree" in parts:
        found |= Source(ROOT).figures()
    if "hops" in parts:
        found["hops.to_a_training_step"] = Figure(value=_hops(), unit="calls")
    if "help" in parts:
        repeats = options.repeats or (1 if options.quick else 5)
        command = [sys.executable, "-m", _command_module(), "--help"]
        seconds = [_seconds(command) for _ in range(repeats)]
        found["hpo_help_s"] = mean_of(seconds, "s", options.speed_goal("<= 0.3"))
    if "make" in parts:
        found["make_check_s"] = Figure(value=_seconds(["make", "check"]), unit="s", goal="<= 90")
        found["make_test_s"] = Figure(value=_seconds(["make", "test"]), unit="s", goal="<= 360")
    return found


class Source:
    """The Python files of a checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = [path for top in (*TOPS, *ALSO) for path in sorted((root / top).rglob("*.py"))]
        self.texts = {_module(path.relative_to(root)): path.read_text("utf-8") for path in paths}
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}

    def figures(self) -> dict[str, Figure]:
        """Everything that can be counted without running anything."""
        lengths = sorted(self._function_lengths())
        lines = {name: text.count("\n") for name, text in self.texts.items()}
        values = {
            "files": len(self.texts),
            "lines": sum(lines.values()),
            "longest_file": max(lines.values()),
            "functions": len(lengths),
            "function_lines.median": statistics.median(lengths),
            "function_lines.p90": lengths[int(0.9 * len(lengths))],
            "function_lines.longest": lengths[-1],
            "readme_kilobytes": (self.root / "README.md").stat().st_size / 1e3,
        }
        found = {name: Figure(value=value, unit=_unit(name)) for name, value in values.items()}
        for top in TOPS:
            found |= self._graph_figures(top)
        return found

    def _graph_figures(self, top: str) -> dict[str, Figure]:
        modules = networkx.DiGraph(
            [edge for edge in self.imports if all(_top(end) == top for end in edge)]
        )
        packages = networkx.DiGraph(
            {(_package(a), _package(b)) for a, b in modules.edges if _package(a) != _package(b)}
        )
        names = Counter(
            name for module in self.trees if _top(module) == top for name in self._defined(module)
        )
        groups = networkx.strongly_connected_components(modules)
        values = {
            "packages": len({_package(name) for name in self.trees if _top(name) == top}),
            "package_arrows": packages.number_of_edges(),
            "floors": networkx.dag_longest_path_length(networkx.condensation(modules)) + 1,
            "modules_in_circles": sum(len(group) for group in groups if len(group) > 1),
            "names_in_several_files": sum(count > 1 for count in names.values()),
        }
        goals = {"modules_in_circles": "<= 0"}
        return {
            f"{top}.{name}": Figure(value=value, unit=_unit(name), goal=goals.get(name))
            for name, value in values.items()
        }

    @cached_property
    def imports(self) -> set[tuple[str, str]]:
        """Pairs of a module and one that it imports."""
        return {
            (module, target)
            for module, tree in self.trees.items()
            for node in ast.walk(tree)
            for target in self._targets(node)
            if target != module
        }

    def _targets(self, node: ast.AST) -> Iterator[str]:
        """Modules of this checkout that an import statement names."""
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in self.trees)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in node.names:
                inside = f"{node.module}.{name.name}"
                if inside in self.trees:
                    yield inside
                elif node.module in self.trees:
                    yield node.module

    def _defined(self, module: str) -> Iterator[str]:
        """Public functions and classes of a module."""
        for node in self.trees[module].body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield node.name

    def _function_lengths(self) -> Iterator[int]:
        """Lines of every function without its docstring."""
        for tree in self.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node, clean=False) or ""
                    assert node.end_lineno is not None
                    yield node.end_lineno - node.lineno + 1 - len(text.splitlines())


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _top(module: str) -> str:
    return module.split(".")[0]


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _unit(name: str) -> str:
    kinds = {"lines": "lines", "longest_file": "lines", "kilobytes": "kB", "files": "files"}
    return next((unit for end, unit in kinds.items() if re.search(end, name)), "")


def _command_module() -> str:
    return "hpo" if (ROOT / "hpo" / "__main__.py").is_file() else "hpo.cli.main"


def _seconds(command: list[str]) -> float:
    """Wall-clock seconds of a command that must succeed."""
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def _hops() -> int:
    """Functions of this project between `hpo run` and the first training step of a toy study."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tiny.py").write_text(_STUDY, encoding="utf-8")
        command = [sys.executable, "-c", _COUNT, str(ROOT), "run", "tiny.py"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    counted = re.search(r"^HOPS (\d+)$", done.stderr, re.MULTILINE)
    if counted is None:
        raise ValueError(f"the toy study did not train: {done.stderr[-500:]}")
    return int(counted[1])


_COUNT = """
import os, sys
root, *words = sys.argv[1:]
sys.path.insert(0, root)
ours = tuple(os.path.join(root, top, "") for top in ("hpo", "objectives"))

def look(frame, event, argument):
    code = frame.f_code
    # The loop's own: a tokenizer is trained before, and a sweep has a function of that name.
    loops = (os.path.join("training", "loop.py"), os.path.join("objectives", "train.py"))
    if event != "call" or code.co_name != "train" or not code.co_filename.endswith(loops):
        return
    functions = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(ours):
            functions.append(frame.f_code)
        frame = frame.f_back
    print("HOPS", len(functions), file=sys.stderr, flush=True)
    os._exit(0)

try:
    from hpo.cli.main.main import main
except ImportError:
    from hpo.cli.main import main
sys.setprofile(look)
main(words)
"""


_STUDY = """
from dataclasses import replace
from studies.quickstart import STUDY
STUDY = replace(STUDY, name="tiny", trials=1, baselines=())
"""
