"""What will work here: device, versions, free disk, the folder and storage for runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rich.table import Table
from rich.text import Text
from sqlalchemy import create_engine, text

from hpo.cli.console import new_console
from hpo.cli.options import DONE, FAILED
from hpo.core import format
from hpo.core.failures import StorageError
from hpo.core.format import plural
from hpo.core.passwords import mask, shown
from hpo.storage import run_folder, timeouts
from hpo.storage.addresses import file_of, opened
from hpo.storage.provenance import PACKAGES
from hpo.storage.record import guarded

LEAST_FREE_GB = 2.0


DEVICE = (
    "import torch; c = torch.cuda.is_available(); "
    "print(torch.cuda.get_device_name() + ', %.0f of %.0f GiB free' % "
    "tuple(each / 2**30 for each in torch.cuda.mem_get_info()) if c "
    "else 'CPU, %d thread%s (no GPU)' % (n := torch.get_num_threads(), 's' * (n > 1)))"
)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


EXTRAS = {
    "Ray": ("ray", "ray", "--executor ray"),
    "submitit": ("submitit", "slurm", "--executor slurm"),
    "psycopg": ("psycopg", "postgresql", "PostgreSQL"),
    "pymysql": ("pymysql", "mysql", "MySQL and MariaDB"),
    "optuna-dashboard": ("optuna_dashboard", "dashboard", "hpo dashboard"),
    "kaleido": ("kaleido", "pictures", "pictures of hpo plot"),
}
"""What is needed for some uses only: package -> module, extra, use."""


STANDINGS = {True: "ok", None: "note", False: "PROBLEM"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool | None
    """None: it could be better, and nothing needs it to be."""
    found: str


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; a problem is a failure."""
    table = Table("check", "", "found", title="What works here", title_justify="left")
    found = checks(arguments.out, arguments.storage)
    for each in found:
        table.add_row(Text(each.name), STANDINGS[each.ok], Text(each.found))
    new_console().print(table)
    return FAILED if any(each.ok is False for each in found) else DONE


def checks(out: Path, storage: str | None) -> list[Check]:
    """All checks."""
    found = [
        _check("Python", lambda: sys.version.split()[0]),
        *(_check(name, lambda name=name: metadata.version(name)) for name in PACKAGES),  # type: ignore[misc]
        _check("device", _device),
        _load(),
        _check("free disk", lambda: _disk(out)),
        _check(f"folder {out}", lambda: _writable(out)),
        _check("store", lambda: _store(out)),
        *(_extra(name) for name in EXTRAS),
        _browser(),
    ]
    if storage is not None:
        found.append(_check("storage", lambda: _storage(storage)))
    return found


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed; run pip install -e .")
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        return Check(name, False, mask(str(error)))


def _device() -> str:
    """Asked of another process: this package does not import torch.

    With -P, as a file torch.py in the current folder is not meant.
    """
    command = [sys.executable, "-P", "-c", DEVICE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()


def _load() -> Check:
    """Threads of several programs on the same cores wait for each other most of the time."""
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    idle = busy <= cores / 2
    hint = "" if idle else "; busy: runs will be slow, OMP_NUM_THREADS=1 helps"
    return Check("load", True if idle else None, f"{busy:.1f} on {plural(cores, 'core')}{hint}")


def _extra(name: str) -> Check:
    module, extra, use = EXTRAS[name]
    if find_spec(module) is None:
        return Check(name, None, f"not installed; for {use}: pip install 'plasticity-hpo[{extra}]'")
    return Check(name, True, f"{metadata.version(name.lower())}, for {use}")


def _browser() -> Check:
    paths = filter(None, map(shutil.which, BROWSERS))
    found = next(paths, None)
    if found is None:
        return Check("browser", None, "none found; for pictures of hpo plot: install Chromium")
    return Check("browser", True, f"{found}, for pictures of hpo plot")


def _store(out: Path) -> str:
    """The size of finished stages, which later runs use again."""
    total = 0
    for folder, _, names in os.walk(out / run_folder.STORE):
        for name in names:
            with contextlib.suppress(OSError):  # a file that a run has just removed
                total += os.lstat(os.path.join(folder, name)).st_size
    return f"{format.size(total)}; hpo store shows and prunes it" if total else "empty"


def _disk(out: Path) -> str:
    existing = next(path for path in [out.absolute(), *out.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < LEAST_FREE_GB:
        raise ValueError(f"{free:.1f} GB; free at least {LEAST_FREE_GB:g} GB")
    return f"{free:.0f} GB"


def _writable(out: Path) -> str:
    existing = next(path for path in [out.absolute(), *out.absolute().parents] if path.exists())
    with tempfile.TemporaryFile(dir=existing):
        return "can be written"


def _storage(url: str) -> str:
    """Whether the database answers; a SQLite file that is not there is not made."""
    path = file_of(url)
    if path is not None and not path.exists():
        if not path.parent.is_dir():
            raise ValueError(f"{shown(url)} cannot be used: there is no folder {path.parent}")
        return f"{shown(url)}, a new file: {_writable(path.parent)}"
    try:
        with guarded(url):
            engine = create_engine(opened(url, "read"), **timeouts.engine_options(url))
            with engine.connect() as connection:
                connection.execute(text("select 1"))
            engine.dispose()
    except StorageError as error:
        raise ValueError(str(error)) from None
    return f"{shown(url)} answers"
