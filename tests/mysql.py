"""A real MariaDB for tests: its daemon in a folder, on a port of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import ports

PARTS = ("mariadbd", "mariadb-install-db", "mariadb")


USER, PASSWORD = "tester", "kept-out-of-logs"


LIGHT = (
    "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M",
    "--skip-log-bin", "--skip-name-resolve",
)  # fmt: skip
"""It need not outlive a power cut."""


@dataclass(frozen=True)
class Server:
    """A running one."""

    port: int
    socket: Path

    def database(self, name: str) -> str:
        """The URL of a new database."""
        self.said(f"create database {name}")
        return f"mysql+pymysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def said(self, command: str) -> str:
        """What it answers root, who comes through the socket."""
        words = ["mariadb", f"--socket={self.socket}", "--user=root", "--execute", command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def missing() -> str | None:
    """Why no server can be started here; None where one can."""
    absent = [part for part in PARTS if shutil.which(part) is None]
    return f"needs a MariaDB ({', '.join(absent)} not found)" if absent else None


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Start one; ends it and removes its data.

    Raises:
        RuntimeError: it does not answer within 30 seconds.
    """
    # A socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        data, found = Path(folder) / "data", Server(ports.free(), Path(folder) / "socket")
        owner = ["--user=root"] if os.geteuid() == 0 else []
        install = ["mariadb-install-db", f"--datadir={data}", "--skip-test-db", *owner,
                   "--auth-root-authentication-method=normal"]  # fmt: skip
        subprocess.run(install, check=True, capture_output=True)
        command = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={found.socket}",
                   f"--port={found.port}", "--bind-address=127.0.0.1", *LIGHT, *owner]  # fmt: skip
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _until_it_answers(found)
            found.said(
                f"create user '{USER}'@'127.0.0.1' identified by '{PASSWORD}';"
                f"grant all on *.* to '{USER}'@'127.0.0.1'"
            )
            yield found
        finally:
            process.terminate()
            process.wait(30)


def _until_it_answers(found: Server) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.CalledProcessError):
            found.said("select 1")
            return
        time.sleep(0.1)
    raise RuntimeError("the MariaDB did not come up.")
