"""A PostgreSQL server of one's own, from the wheel that brings one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import folders


@dataclass(frozen=True)
class Server:
    """A running server, listening on a socket."""

    data: Path
    running: Any

    @property
    def url(self) -> str:
        return str(self.running.get_uri()).replace("postgresql:", "postgresql+psycopg:")

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.data / ".s.PGSQL.5432"

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        self.running.psql(f"create database {name};")
        return self.url.replace("/postgres?", f"/{name}?")

    def restart(self) -> None:
        """As after a crash: connections are cut, transactions under way are lost."""
        self.control("-l", str(self.running.log), "restart")

    def control(self, *words: str) -> None:
        """`pg_ctl`, in its hastiest way."""
        from pgserver import _commands

        options = ["-m", "immediate", "-w", *words]
        _commands.pg_ctl(options, pgdata=self.data, user=self.running.system_user)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A new server, until the context ends.

    Root's runs as another user, who must get to its data: hence a folder of its own, not pytest's.
    """
    with tempfile.TemporaryDirectory(dir=folders.in_memory()) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # where the wheel keeps its lock
        import pgserver

        data = Path(folder) / "data"
        found = Server(data, pgserver.get_server(data))
        found.running.psql("alter system set fsync = off; select pg_reload_conf();")
        try:
            yield found
        finally:
            with contextlib.suppress(
                subprocess.CalledProcessError
            ):  # new to the wheel if restarted
                found.control("stop")
            found.running.cleanup()
