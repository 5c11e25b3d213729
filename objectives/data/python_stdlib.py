"""Real text that every machine has: what ships with the running Python.

Three kinds of documents, each whole, so that a split by document hash is a split of text:

- documentation topics (`pydoc_data.topics`; none where the interpreter comes without them),
- the docstrings of a module, one document a module,
- the source of a module, docstrings kept, one document a module.

A module gives its docstrings or its source, never both: the hash of its name decides, a quarter
goes to docstrings (assumed; it makes prose about a tenth of the text). So no module's text is
in two documents. Topics quote one another at length; one that shares a long paragraph with a longer
one is left out. What remains is the odd sentence that two modules have in common.

Modules are found by name and read as files, never imported: importing runs code. Tests, vendored
code and files that are tables rather than text are left out. A file that cannot be read or decoded
is skipped, since an installation may lack any of them. Order is by name, so the same Python gives
the same documents.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

EXCLUDED_FOLDERS = frozenset(
    {"__pycache__", "encodings", "idle_test", "pydoc_data", "test", "tests"}
)


EXCLUDED_MODULES = frozenset(
    {
        "_opcode_metadata",
        "html.entities",
        "locale",
        "msilib.schema",
        "msilib.sequence",
        "opcode",
        "pydoc_data",
        "stringprep",
        "this",
        "token",
    }
)
"""Tables: names, code points, opcodes."""


MIN_CHARS = 200
"""Shorter documents say nothing: package files that hold one import."""


QUOTED_CHARS = 80
"""A paragraph of this length in two topics is a quotation, not a coincidence."""


def documents() -> Iterator[str]:
    """Every document: topics, then modules by name, each as docstrings or as source."""
    yield from topics()
    seen: set[str] = set()
    for module, source in sources():
        text = source
        if _gives_docstrings(module):
            found = [f"{heading}\n{doc}".strip() for heading, doc in docstrings(source)]
            text = "\n\n".join([module, *found])
        if len(text) >= MIN_CHARS and text not in seen:
            seen.add(text)
            yield text


def topics() -> Iterator[str]:
    """The documentation topics that quote no longer one, by name."""
    try:
        from pydoc_data.topics import topics as texts
    except ImportError:
        return
    seen: set[str] = set()
    kept: list[str] = []
    for name in sorted(texts, key=lambda name: (-len(texts[name]), name)):
        long = {part for part in texts[name].split("\n\n") if len(part) > QUOTED_CHARS}
        if not long & seen and len(texts[name]) >= MIN_CHARS:
            kept.append(name)
        seen |= long
    for name in sorted(kept):
        yield texts[name]


def sources() -> Iterator[tuple[str, str]]:
    """(dotted module name, source text) of every readable module, by name."""
    for module, path in sorted(source_files().items()):
        text = read_source(path)
        if text is not None:
            yield module, text


def package_sources(package: str) -> Iterator[str]:
    """The source texts of one top-level module or package, by module name."""
    for module, path in sorted(_package_files(_stdlib_folder(), package).items()):
        text = read_source(path)
        if module not in EXCLUDED_MODULES and text is not None:
            yield text


def source_files() -> dict[str, Path]:
    """Dotted module name -> file, for the standard library without tests and tables."""
    root = _stdlib_folder()
    files: dict[str, Path] = {}
    for package in sys.stdlib_module_names:
        files |= _package_files(root, package)
    return {module: path for module, path in files.items() if module not in EXCLUDED_MODULES}


def read_source(path: Path) -> str | None:
    """The text of a source file in its declared encoding; None where it cannot be read."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def docstrings(source: str) -> list[tuple[str, str]]:
    """(heading, docstring) of the module, then its classes and functions in the order of the text.

    A heading is "class A" or "def A.f"; the module's is "". Definitions inside functions and
    branches count with the text around them and are left out. Empty where nothing parses.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules hold invalid escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    text = ast.get_docstring(tree)
    return [*([("", text)] if text else []), *_docstrings_below(tree, "")]


def _docstrings_below(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str]]:
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        is_class = isinstance(child, ast.ClassDef)
        text = ast.get_docstring(child)
        if text:
            yield f"{'class' if is_class else 'def'} {prefix}{child.name}", text
        if isinstance(child, ast.ClassDef):
            yield from _docstrings_below(child, f"{prefix}{child.name}.")


def _gives_docstrings(module: str) -> bool:
    return hashlib.sha256(module.encode()).digest()[0] < 64


def _stdlib_folder() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _package_files(root: Path, package: str) -> dict[str, Path]:
    files = [root / f"{package}.py", *(root / package).rglob("*.py")]
    found = {}
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        if path.is_file() and not EXCLUDED_FOLDERS & set(parts):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found
