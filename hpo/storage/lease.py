"""One controller a study: a lease in the study's own storage.

1. The lease is the study's user attribute `lease`: who holds it, when that one was last heard of,
   and a token that grows with every holder. It is taken, renewed and given back by
   compare-and-swap: one UPDATE that names the text it replaces, or one INSERT that fails where
   there is a row. Of two that try at once one succeeds, on any database.
2. A thread renews it, and the text changes each time. A holder is gone if its process on this
   machine has ended, or by the database server's clock it was not heard of for LEASE_S; then it is
   taken over from. One that was heard of since is there, and is named or waited for.
3. A file has no clock of its own, and that of another machine may be years off. Where the times
   make no sense or look old, the row is watched for LEASE_S: who changes it is there, else it is
   taken over. The same goes for a row that cannot be read.
4. That the one who lost a lease writes nothing more is the fence's work (`hpo.storage.database`):
   each write of the record checks the token in its own transaction.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from sqlalchemy import Connection, column, insert, select, table, update
from sqlalchemy import text as sql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from hpo.core.failures import StorageError
from hpo.core.process_ids import born_at as _born
from hpo.core.process_ids import machine as _machine
from hpo.storage.database import Database
from hpo.storage.record import LEASE, guarded
from hpo.storage.transactions import ConnectionLost

LEASE_S = 60.0
"""Seconds after which a holder that was not heard of may be taken over from; assumed."""


RENEW_S = 15.0


DATABASE, HOST = "database", "host"
"""Whose clock a time is by."""


CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6",
    "mariadb": "SELECT timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6",
}
"""Seconds since 1970, asked of a server."""


LOOK_S = 1.0
"""Seconds between looks at a lease that is waited for, and between tries to renew one."""


LEAVE_S = 4.0
"""Seconds for which leaving waits for the lease to be given back; assumed: within the 15 that
preemption gives, after what an interruption waits for."""


State = Literal["there", "unsure", "gone"]


ATTRIBUTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))


class LeaseHeld(StorageError):
    """Another controller runs the study."""


class LeaseLost(StorageError):
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
    beat_at: float = 0.0
    """When it was last heard of; seconds since 1970."""
    clock: str = HOST
    """Whose time that is: `DATABASE`, or the holder's `HOST`."""
    beats: int = 0
    """How often it was heard of."""

    def state(self, now: float, clock: str) -> State:
        """What can be determined of it at a time by a clock."""
        if self.pid is None or (self.machine == _machine() and _born(self.pid) != self.born):
            return "gone"
        age = now - self.beat_at
        if abs(age) <= LEASE_S:
            return "there"
        one_clock = clock == self.clock == DATABASE or self._is_before_reboot()
        return "gone" if age > 0 and one_clock else "unsure"

    def _is_before_reboot(self) -> bool:
        """Whether it is of a machine of this name, and not of what runs on it now."""
        return self.host == platform.node() and self.machine != _machine()

    def gone(self) -> bool:
        """Whether its process is known to have ended or to have given the lease back."""
        return self.state(self.beat_at, HOST) == "gone"

    def may_be_there(self) -> bool:
        """Whether it seems to be there, without asking the database for its time."""
        return self.state(time.time(), HOST) == "there"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Unreadable:
    """Who wrote a row that cannot be read."""

    def __str__(self) -> str:
        return "somebody whose lease cannot be read"


UNREADABLE = Unreadable()


def holder_of(study: Study) -> Holder | None:
    """Who has the lease of a study, dead or alive; None if nobody."""
    holder = _holder(study.user_attrs.get(LEASE))
    return None if holder is None or holder.pid is None else holder


def _holder(data: Any) -> Holder | None:
    """The holder that a row names; None for a row that cannot be read."""
    if not isinstance(data, dict):
        return None
    if "until" in data:  # as earlier versions wrote it
        data = {**data, "beat_at": _number(data["until"]) - LEASE_S}
    known = {field.name: data[field.name] for field in fields(Holder) if field.name in data}
    known = {**known, "beat_at": _number(known.get("beat_at", 0.0))}
    whole = [known.get("token"), known.get("beats", 0), known.get("pid") or 0]
    texts = [known.get(name, "") for name in ("host", "machine", "clock")]
    born = known.get("born")
    if not (
        all(type(each) is int and abs(each) < 2**63 for each in whole)
        and all(isinstance(each, str) for each in texts)
        and (born is None or isinstance(born, float | int))
        and math.isfinite(known["beat_at"])
    ):
        return None
    return Holder(**known)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, float | int) and abs(value) < 1e300 else math.nan


@contextlib.contextmanager
def held(
    study: Study,
    url: str,
    *,
    wait: bool = False,
    on_wait: Callable[[str], None] = lambda holder: None,
) -> Iterator[None]:
    """Hold the study's lease, renewed and fenced.

    `wait`: wait while the holder renews its lease; `on_wait` is called with its name every second,
    and what it raises ends the waiting. A holder that may be dead is waited for without `wait`
    too, for LEASE_S at most.

    Raises:
        Held: another controller has the lease, and `wait` is false.
        StorageError: the database is away.
        Overtaken: from any write of the record, once another has taken the lease.
    """
    database = getattr(study._storage, "_backend", None)
    if not isinstance(database, Database) or database.is_in_memory:
        yield  # nobody else can see it
        return
    lease = _Lease(database, study._study_id, study.study_name)
    with guarded(url):
        while (other := lease.take()) is not None:
            if lease.heard and not wait:
                raise LeaseHeld(
                    f"study {study.study_name!r} is being run by {other}; end that one, or add "
                    "--wait to go on when it has ended."
                )
            for_a_sign = "" if lease.heard else f" or {LEASE_S:.0f} s without a sign of life"
            on_wait(f"waiting for {other}{for_a_sign}, which runs study {study.study_name!r}")
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
        self.heard = False
        """Whether the one who has the lease is there for sure."""
        self._seen: tuple[str, float] | None = None
        """The row that is watched, and since when by this process's count of seconds."""
        self.row = (ATTRIBUTES.c.study_id == study_id) & (ATTRIBUTES.c.key == LEASE)

    def take(self) -> Holder | Unreadable | None:
        """Take the lease; who has it, if that one is or may be there."""
        while True:
            text, now, clock = self.database.retry(self._look)
            token = 0
            if text is not None:
                known = _holder(_parsed(text)) or UNREADABLE
                if self._may_be_there(known, text, now, clock):
                    return known
                token = known.token + 1 if isinstance(known, Holder) else secrets.randbits(40)
            self.mine = Holder(token=token, beat_at=now, clock=clock, **_myself())
            if self.database.retry(lambda text=text: self._swap(text, self.mine)):  # type: ignore[misc]
                return None

    def _may_be_there(self, known: Holder | Unreadable, text: str, now: float, clock: str) -> bool:
        state = known.state(now, clock) if isinstance(known, Holder) else "unsure"
        before, self._seen = self._seen, self._seen or (text, time.monotonic())
        if before is not None and before[0] != text:
            self.heard, self._seen = True, (text, time.monotonic())
        self.heard = self.heard or state == "there"
        return state != "gone" and time.monotonic() - self._seen[1] <= LEASE_S

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
        other = None if text is None else _holder(_parsed(text))
        assert self.mine is not None
        if other is None or other.token != self.mine.token:
            by = "somebody" if other is None or other.pid is None else str(other)
            raise LeaseLost(
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
                text, now, clock = self._look()
                if self._is_mine(text):
                    self.mine = replace(
                        self.mine, beat_at=now, clock=clock, beats=self.mine.beats + 1
                    )
                    self._swap(text, self.mine)
                pause = RENEW_S
        self.give_back()

    def _is_mine(self, text: str | None) -> bool:
        assert self.mine is not None
        other = None if text is None else _holder(_parsed(text))
        return other is not None and other.token == self.mine.token

    def _look(self) -> tuple[str | None, float, str]:
        """The row, and the time by which it is judged."""
        text, dialect = self._read(), self.database.engine.dialect.name
        if dialect not in CLOCKS:
            return text, time.time(), HOST
        with self.database.engine.connect() as connection:
            return text, float(connection.execute(sql(CLOCKS[dialect])).scalar_one()), DATABASE

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
    }


def _parsed(text: str) -> Any:
    """JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
