"""Who may import whom, and no pickle: read from the source, without importing it."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
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
LAYERS = {
    "hpo": {
        "core": set[str](),
        "numerics": set[str](),
        "front": {"core", "numerics"},
        "storage": {"core"},
        "search": {"core", "numerics", "front"},
        "analysis": {"core", "numerics", "front"},
        "study_modules": set(),
        "study_files": {"core", "storage", "study_modules"},
        "known_studies": {"core"},
        "executors": {"core", "study_files"},
        "report": {"core", "front", "analysis"},
        "spec": {"core"},
        "recording": {"core", "front", "storage"},
        "controller": {"core", "front", "search", "storage", "executors", "recording"},
        "progress": {"core", "executors"},
        "callbacks": {"core", "controller"},
        "trackers": {"core"},
        "study_runs": {
            "core", "search", "storage", "executors", "report", "study_files", "controller",
            "notebook", "progress", "callbacks", "trackers",
        },
        "notebook": {"core", "front", "storage", "report"},
        "cli": {
            "core", "numerics", "front", "storage", "search", "analysis", "study_files",
            "executors", "report", "controller", "notebook", "known_studies", "progress",
            "callbacks", "trackers",
        },
    },
    "objectives": {
        name: {*ORDER[:place]}
        for ORDER in [
            (
                "progress", "turns", "waiting", "store", "config", "types", "models", "data",
                 "training",
                "row_errors", "pretraining", "finetuning", "probes", "trial",
                "failures", "result_notes", "results", "conditions", "metric_names", "export",
                "pipeline", "preflight", "scaffold", "objective", "vision",
            )
        ]
        for place, name in enumerate(ORDER)
    },
}  # fmt: skip
"""Package, or module beside the packages -> what it may import of its own kind."""
HOMES = {
    "sqlalchemy": {"hpo/storage", "hpo/cli/doctor.py"},
    "plotly": {"hpo/report"},
    "jinja2": {"hpo/report/html"},
    "rich": {
        "hpo/cli", "hpo/progress.py", "hpo/study_runs.py", "hpo/report/terminal_tables.py",
        "hpo/report/claim_tables.py",
        "hpo/report/trial_tables.py",
    },
    "matplotlib": {"hpo/report/plots/without_browser.py"},
    "tensorboard": {"hpo/trackers/tensorboard.py"},
    "wandb": {"hpo/trackers/wandb.py"},
    "mlflow": {"hpo/trackers/mlflow.py"},
    "trackio": {"hpo/trackers/trackio.py"},
    "IPython": {"hpo/progress.py"},
    "pandas": {"hpo/notebook.py"},
    "ray": {"hpo/executors"},
    "submitit": {"hpo/executors"},
    "optuna": {
        "hpo/storage", "hpo/recording.py", "hpo/cli",
         "hpo/analysis/importance.py",
        "hpo/core/distributions.py", "hpo/core/domains.py", "hpo/core/goals.py",
        "hpo/search/optuna_samplers.py", "hpo/search/plasticity_sampler.py",
    },
    "sklearn": {"objectives/probes/separability.py", "objectives/vision/data.py"},
    "fsspec": {"objectives/store/remote.py", "objectives/data"},
    "peft": {
        "objectives/finetuning", "objectives/export", "objectives/models/library_fingerprints.py",
    },
}  # fmt: skip
"""Third-party package -> the only places that import it."""
HEAVY = (
    "torch", "transformers", "datasets", "peft", "plotly", "pyarrow", "pandas", "numpy", "scipy",
    "sklearn", "rich", "optuna", "sqlalchemy", "pydantic", "psutil", "ray", "submitit",
    "jinja2",
)  # fmt: skip
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@functools.cache
def imported_modules(text: str) -> list[str]:
    """Dotted names of all imports, also those inside functions."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            found += (f"{node.module or ''}.{name.name}" for name in node.names)
    return found


def imported(text: str) -> Iterator[str]:
    """Top-level names of all imports."""
    yield from (name.split(".")[0] for name in imported_modules(text))


def layer(path: Path) -> str:
    """The package below hpo or objectives that a file is in; a file beside them is its own."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


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
        loads = isinstance(node.func, ast.Attribute) and node.func.attr == "load"
        is_torch_load = loads and ast.unparse(node.func) == "torch.load"
        if "allow_pickle" in true or (is_torch_load and "weights_only" not in true):
            yield node.lineno


def test_the_scan_sees_what_it_looks_for() -> None:
    text = (
        "import a.b\ndef f():\n    from c.d import e\ntorch.load(x)\nnp.load(x, allow_pickle=True)"
    )
    assert [*imported(text)] == ["a", "c"]
    assert [*imported_modules(text)] == ["a.b", "c.d.e"]
    assert [*unsafe_loads(text)] == [4, 5]
    assert [*unsafe_loads("torch.load(x, weights_only=True)\nnp.load(x)")] == []
    assert layer(ROOT / "hpo" / "core" / "spec.py") == "core"
    assert layer(ROOT / "hpo" / "controller.py") == "controller"


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


@pytest.mark.parametrize("top", LAYERS)
def test_a_layer_imports_only_those_below(top: str) -> None:
    allowed = LAYERS[top]
    wrong = set()
    for path in sources(top):
        own = layer(path)
        if own in ("__init__", "__main__"):
            continue
        for name in imported_modules(path.read_text(encoding="utf-8")):
            first, *rest = name.split(".")
            if first == top and rest and rest[0] not in {own, *allowed[own]}:
                wrong.add(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == set()


PRESENTERS = ("report", "notebook.py", "cli")
COMPUTES = {"report/results.py", "cli/transfer.py", "cli/compare.py", "cli/verify.py"}
"""A run's results, and the commands that compare it with a large run and with other runs."""
WORDS = {"sentence"}
"""Functions of the analysis that only write a value in words."""


def computing_imports(path: Path) -> Iterator[str]:
    """What of front/ and analysis/ a file imports besides types and constants, which begin with a
    capital letter."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("hpo.front", "hpo.analysis")
        ):
            names = {name.name for name in node.names} - WORDS
            yield from (f"{node.module}.{name}" for name in names if not name[0].isupper())


def test_what_shows_a_run_reads_its_results_and_computes_nothing_of_them() -> None:
    files = [
        path
        for path in sources("hpo")
        if path.relative_to(ROOT / "hpo").parts[0] in PRESENTERS
        and str(path.relative_to(ROOT / "hpo")) not in COMPUTES
    ]
    assert len(files) > 30
    assert {f"{path}: {name}" for path in files for name in computing_imports(path)} == set()
    assert [*computing_imports(ROOT / "hpo" / "report" / "results.py")]


@pytest.mark.parametrize("top", LAYERS)
def test_every_layer_is_in_the_table(top: str) -> None:
    assert {layer(path) for path in sources(top)} - {"__init__", "__main__"} == set(LAYERS[top])


@pytest.mark.parametrize("name", HOMES)
def test_a_third_party_package_is_imported_in_its_home_alone(name: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for top in LAYERS
        for path in sources(top)
        if name in imported(path.read_text(encoding="utf-8"))
    }
    assert users
    assert {user for user in users if not user.startswith(tuple(HOMES[name]))} == set()


LIGHT = {
    "import hpo": "import hpo",
    "import objectives": "import objectives",
    "hpo --help": "main(['--help'])",
    "hpo --version": "main(['--version'])",
    "hpo run --help": "main(['run', '--help'])",
    "an option that there is not": "main(['run', 'x', '--trails', '3'])",
    "hpo completion bash": "main(['completion', 'bash'])",
    "a line to complete": "main(['completion', 'bash', '--line', 'hpo run '])",
}
"""What is to start in no time -> the code that does it."""
MOST_MODULES = 220
"""Of any kind, those of the interpreter's start included; 62 to 188 when this was written."""


@pytest.mark.parametrize("command", LIGHT)
def test_what_measures_nothing_loads_nothing_heavy(command: str) -> None:
    code = (
        "import contextlib, io, sys\n"
        "def main(words):\n    from hpo.cli.main import main\n    main(words)\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    {LIGHT[command]}\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), len(sys.modules) < {MOST_MODULES})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[] True", done.stderr


def test_a_worker_loads_nothing_that_only_a_terminal_needs() -> None:
    code = "import hpo.executors.worker, sys; print(sorted(set(sys.modules) & {'rich', 'plotly'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_figures_load_nothing_that_only_some_of_them_need() -> None:
    some = {"jinja2", "scipy.stats", "pyarrow", "matplotlib", "kaleido"}
    code = f"import hpo.cli.plot, sys; print(sorted(set(sys.modules) & {some!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("package", [*FORBIDDEN, "tests"])
def test_nothing_unpickles(package: str) -> None:
    for path in sources(package):
        text = path.read_text(encoding="utf-8")
        assert set(imported(text)).isdisjoint(PICKLES), path
        assert [*unsafe_loads(text)] == [], path
