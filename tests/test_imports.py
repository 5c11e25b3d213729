"""Who may import whom, and no pickle: read from the source, without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "objectives": {"hpo", "optuna", "plotly", "studies", "tests", "examples"},
    "hpo": {"torch", "transformers", "peft", "objectives", "tests", "examples"},
    "studies": {"tests", "examples"},
    "examples": {"tests"},
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(text: str) -> Iterator[str]:
    """Top-level names of all imports, also those inside functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def unsafe_loads(text: str) -> Iterator[int]:
    """Lines of calls that may unpickle: torch.load without weights_only=True, allow_pickle=True."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        true = {
            keyword.arg
            for keyword in node.keywords
            if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        }
        is_torch_load = ast.unparse(node.func) == "torch.load"
        if "allow_pickle" in true or (is_torch_load and "weights_only" not in true):
            yield node.lineno


def test_the_scan_sees_what_it_looks_for() -> None:
    text = (
        "import a.b\ndef f():\n    from c.d import e\ntorch.load(x)\nnp.load(x, allow_pickle=True)"
    )
    assert [*imported(text)] == ["a", "c"]
    assert [*unsafe_loads(text)] == [4, 5]
    assert [*unsafe_loads("torch.load(x, weights_only=True)\nnp.load(x)")] == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert sources(package)
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path.read_text(encoding="utf-8"))
        if name in FORBIDDEN[package]
    }
    assert found == set()


@pytest.mark.parametrize("package", [*FORBIDDEN, "tests"])
def test_nothing_unpickles(package: str) -> None:
    for path in sources(package):
        text = path.read_text(encoding="utf-8")
        assert set(imported(text)).isdisjoint(PICKLES), path
        assert [*unsafe_loads(text)] == [], path
