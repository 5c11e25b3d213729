"""One controller a study: a lease in the study's own storage.

1. The lease is the study's user attribute `lease`: who holds it, until when, and a token that grows
   with every holder. It is taken, renewed and given back by compare-and-swap: one UPDATE that names
   the text it replaces, or one INSERT that fails where there is a row. Of two that try at once one
   succeeds, on any database.
2. A thread renews it. A holder that is gone (its process on this machine has ended, or its time is
   over) is taken over from; one that is there is told of, or waited for.
3. Clocks decide only how soon a lease may be taken over. That the one who lost it writes nothing
   more is the fence's work (`hpo.database`): each write of the record checks the token in its own
   transaction. A clock that jumps may so stop a controller, and never harms the record.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from sqlalchemy import Connection, column, insert, select, table, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from hpo.database import ConnectionLost, Database
from hpo.storage import LEASE, StorageError, guarded

LEASE_S = 60.0
"""Seconds after which a holder that was not heard of may be taken over from; assumed."""
RENEW_S = 15.0
LOOK_S = 1.0
"""Seconds between looks at a lease that is waited for, and between tries to renew one."""
LEAVE_S = 4.0
"""Seconds for which leaving waits for the lease to be given back; assumed: within the 15 that
preemption gives, after what an interruption waits for."""
ATTRIBUTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))


class Held(StorageError):
    """Another controller runs the study."""


class Overtaken(StorageError):
    """Another controller has taken the study over from this one."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has a lease; without a pid it was given back."""

    token: int
    host: str = ""
    machine: str = ""
    """What tells this system from others of the same name: its boot and, in Linux, its view of
    processes."""
    pid: int | None = None
    born: float | None = None
    """When the process was started, by its system's count; tells it from a later one of its pid."""
    until: float = 0.0
    """Seconds since 1970."""

    def gone(self) -> bool:
        """Whether it may be taken over from."""
        if self.pid is None or time.time() > self.until:
            return True
        return self.machine == _machine() and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def of(study: Study) -> Holder | None:
    """Who has the lease of a study, dead or alive; None if nobody."""
    found = study.user_attrs.get(LEASE)
    holder = None if found is None else Holder(**found)
    return None if holder is None or holder.pid is None else holder


@contextlib.contextmanager
def held(
    study: Study,
    url: str,
    *,
    wait: bool = False,
    on_wait: Callable[[str], None] = lambda said: None,
) -> Iterator[None]:
    """Hold the study's lease, renewed and fenced.

    `wait`: for a holder that is there, however long it takes; `on_wait` is told of whom every
    second, and what it raises ends the waiting.

    Raises:
        Held: another controller has the lease, and `wait` is false.
        StorageError: the database is away.
        Overtaken: from any write of the record, once another has taken the lease.
    """
    database = getattr(study._storage, "_backend", None)
    if not isinstance(database, Database) or _in_memory(database):
        yield  # nobody else can see it
        return
    lease = _Lease(database, study._study_id, study.study_name)
    with guarded(url):
        while (other := lease.take()) is not None:
            if not wait:
                raise Held(
                    f"study {study.study_name!r} is being run by {other}; end that one, or add "
                    "--wait to go on when it has ended."
                )
            on_wait(f"waiting for {other}, which runs study {study.study_name!r}")
            time.sleep(LOOK_S)
    database.fence = lease.check
    try:
        with lease.renewed():
            yield
    finally:
        database.fence = None


class _Lease:
    """This process's hold on a study."""

    def __init__(self, database: Database, study_id: int, name: str) -> None:
        self.database, self.study_id, self.name = database, study_id, name
        self.mine: Holder | None = None
        self.row = (ATTRIBUTES.c.study_id == study_id) & (ATTRIBUTES.c.key == LEASE)

    def take(self) -> Holder | None:
        """Take the lease; who has it, if that one is there."""
        while True:
            text = self.database.again(self._read)
            known = None if text is None else Holder(**json.loads(text))
            if known is not None and not known.gone():
                return known
            token = 0 if known is None else known.token + 1
            self.mine = Holder(token=token, **_myself())
            if self.database.again(lambda text=text: self._swap(text, self.mine)):  # type: ignore[misc]
                return None

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease while the context lasts, then give it back.

        Where the database is away nobody waits for that: the lease ends by itself.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(LEAVE_S)

    def check(self, session: Session) -> None:
        """Raise Overtaken if the lease is another's; else keep it as it is until the commit."""
        query = select(ATTRIBUTES.c.value_json).where(self.row).with_for_update()
        text = session.execute(query).scalar()
        other = None if text is None else Holder(**json.loads(text))
        assert self.mine is not None
        if other is None or other.token != self.mine.token:
            by = "somebody" if other is None or other.pid is None else str(other)
            raise Overtaken(
                f"study {self.name!r} was taken over by {by}; this process was not heard of for "
                f"{LEASE_S:.0f} s and stops."
            )

    def give_back(self) -> None:
        """Let the next one in; where the database is away, the lease ends by itself."""
        assert self.mine is not None
        with contextlib.suppress(SQLAlchemyError, StorageInternalError, ConnectionLost):
            if self._is_mine(text := self._read()):
                self._swap(text, Holder(token=self.mine.token))

    def _renew(self, ended: threading.Event) -> None:
        pause = RENEW_S
        while not ended.wait(pause):
            pause = LOOK_S
            with contextlib.suppress(SQLAlchemyError, ConnectionLost):  # soon again, then
                assert self.mine is not None
                if self._is_mine(text := self._read()):
                    self._swap(text, replace(self.mine, until=time.time() + LEASE_S))
                pause = RENEW_S
        self.give_back()

    def _is_mine(self, text: str | None) -> bool:
        assert self.mine is not None
        return text is not None and json.loads(text)["token"] == self.mine.token

    def _read(self) -> str | None:
        with self.database.engine.connect() as connection:
            found: str | None = connection.execute(
                select(ATTRIBUTES.c.value_json).where(self.row)
            ).scalar()
            return found

    def _swap(self, old: str | None, new: Holder) -> bool:
        """Write the row if it still is what it was; whether it was."""
        text = json.dumps(asdict(new))
        try:
            with self.database.engine.begin() as connection:
                return self._swapped(connection, old, text)
        except IntegrityError:  # another made the row
            return False

    def _swapped(self, connection: Connection, old: str | None, text: str) -> bool:
        if old is None:
            row = {"study_id": self.study_id, "key": LEASE, "value_json": text}
            connection.execute(insert(ATTRIBUTES).values(**row))
            return True
        same = self.row & (ATTRIBUTES.c.value_json == old)
        return (
            connection.execute(update(ATTRIBUTES).where(same).values(value_json=text)).rowcount == 1
        )


def _myself() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "machine": _machine(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "until": time.time() + LEASE_S,
    }


def _machine() -> str:
    """Equal in two processes only if each can see the other by its pid."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _born(pid: int) -> float | None:
    """When a process was started; None if it is not there or a zombie.

    Linux counts in ticks since the boot, which do not move when the clock is set.
    """
    try:
        if sys.platform == "linux":
            after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
            state, *fields = after_name.split()
            return None if state in "ZX" else float(fields[18])
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else float(found.create_time())
    except (OSError, psutil.NoSuchProcess):
        return None


def _in_memory(database: Database) -> bool:
    url = database.engine.url
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")
