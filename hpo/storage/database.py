"""Optuna's database, behind two guards: lost connections are retried, and a lease fences writes.

**Lost connections.** A database that restarts, or a network that is cut, fails a transaction that
may have been committed or not. Each operation is done again until it is known to be done, with
growing pauses, and none twice: attributes and params are written to the same place, a trial is
created only if its number is not there yet, and a trial that is already finished as asked is
finished. This counts on one writer a study, which the lease sees to. That a silent connection is
seen to be lost is the work of `hpo.storage.timeouts`.

**Transactions.** Optuna commits each attribute and each param by itself. What belongs together,
such as all of an answer, is one transaction here, written whole or not at all: a disk that waits at
each commit else spends more time on a trial's record than the search on its params.

**The fence.** With a lease, every transaction that writes looks at the lease's row before it
commits, in the same transaction and with that row locked. A controller whose lease was taken over,
say because its machine slept, so cannot write a word, however late it wakes.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import column, create_engine, event, func, inspect, select, table, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from hpo.core.passwords import mask
from hpo.core.rows import DamagedRow
from hpo.storage import tables, timeouts
from hpo.storage.addresses import Access, check_options, opened
from hpo.storage.statements import STATE_OF_TRIAL, STUDIES, TRIALS, VERSIONS, upsert
from hpo.storage.transactions import ConnectionLost, TransactionSession, on_error

Found = TypeVar("Found")


RETRY_S = 300.0
"""Seconds for which a lost database is tried again; assumed: a restart or failover takes less."""


MAKING_S = 30.0
"""Seconds for which another may be making the tables; assumed."""


BEING_MADE = ("already exists", "UNIQUE constraint", "unique constraint", "Duplicate entry")
"""What databases say to the slower of two that make the same table or first row."""


FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0


NOT_THERE = "Record does not exist"
"""Of Optuna's KeyError for a study or trial that is not in the database."""
log = logging.getLogger("hpo")


class NoRecord(Exception):
    """The database is not there, or has none of Optuna's tables."""


class Database(RDBStorage):
    """The storage of one study's controller, or of whoever reads."""

    def __init__(self, url: str, access: Access = "make") -> None:
        """Open it, with the tables made where there are none if `access` is "make".

        Raises:
            NoRecord: it is not there, and `access` is "write" or "read".
            OtherSchema: another version of Optuna has made its tables.
            OtherTables: another program has.
            DamagedRow: a table is a view, or lacks columns.
            StorageError: it is no regular file.
            ValueError: an option of the URL is not taken.
        """
        check_options(url, "the storage")
        with tables.of_this_schema():
            if access == "make":
                self._open(url)
            else:
                self._open_existing(url, access)
        with self.engine.connect() as connection:
            tables.check(connection, writes=access == "make")
        self.scoped_session = scoped_session(
            sessionmaker(bind=self.engine, class_=TransactionSession)
        )
        weakref.finalize(self, self.engine.dispose)
        self.fence: Callable[[Session], None] | None = None
        """Called in each writing transaction before its commit; raises where it may not be."""
        self._writing = threading.local()
        event.listen(self.engine, "handle_error", on_error)
        _check_fence(weakref.ref(self), self.scoped_session)

    def _open(self, url: str) -> None:
        """Connect, and make the tables where there are none.

        Of two that make them at once one fails, at any table; it then finds the other's.
        """
        url = opened(url, "make")
        options = timeouts.engine_options(url)
        template = url.replace("{", "{{").replace("}", "}}")  # Optuna fills in what is in braces
        tables.check_owner(url, options)
        deadline = time.monotonic() + MAKING_S
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    super().__init__(template, engine_kwargs={"pool_pre_ping": True, **options})
                return
            except (IntegrityError, OperationalError, ProgrammingError) as error:
                self.engine.dispose()
                made = any(sign in str(error) for sign in BEING_MADE)
                if not made or time.monotonic() > deadline:
                    raise
                time.sleep(FIRST_PAUSE_S)

    def _open_existing(self, url: str, access: Access) -> None:
        """Connect without making a file, a table or a row; Optuna itself looks only whether the
        two tables that it checks here have theirs."""
        try:
            url = opened(url, access)
        except OSError as error:
            raise NoRecord(str(error)) from None
        options = {"pool_pre_ping": True, **timeouts.engine_options(url)}
        tables.check_owner(url, options)
        engine = create_engine(url, **options)
        try:
            with engine.connect() as connection:
                there = set(inspect(connection).get_table_names())
                whole = there >= {"studies", "trials"} and all(
                    name in there and connection.execute(select(table(name, column(key)))).first()
                    for name, key in VERSIONS.items()
                )
        finally:
            engine.dispose()
        if not whole:
            raise NoRecord("it has no tables of Optuna's")
        template = url.replace("{", "{{").replace("}", "}}")
        super().__init__(template, engine_kwargs=options, skip_table_creation=True)

    def close(self) -> None:
        """Close this thread's session and all connections at rest; the next use opens new ones.

        One in memory stays: it is nowhere else.
        """
        if not self.is_in_memory:
            self.scoped_session.remove()
            self.engine.dispose()

    @property
    def is_in_memory(self) -> bool:
        """Whether it is a SQLite database without a file."""
        url = self.engine.url
        return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")

    def retry(self, operation: Callable[[], Found], *, writes: bool = False) -> Found:
        """Do it until the database answers; within `transaction` that is repeated as a whole.

        Raises:
            StorageInternalError: it did not for `RETRY_S`.
        """
        if self._session().held:
            return operation()
        deadline, pause = time.monotonic() + RETRY_S, FIRST_PAUSE_S
        self._writing.now, before = writes, getattr(self._writing, "now", False)
        try:
            while True:
                try:
                    return operation()
                except UpdateFinishedTrialError:
                    if writes and self.fence is not None:  # finished by who took over, then
                        with self.scoped_session() as session:
                            self.fence(session)
                    raise
                except ConnectionLost as lost:
                    if time.monotonic() > deadline:
                        raise StorageInternalError(str(lost)) from lost.__cause__
                    if pause > 1:
                        answer = mask(str(lost))
                        log.warning("the database does not answer (%s); trying again", answer)
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
        finally:
            self._writing.now = before

    def transaction(self, operation: Callable[[], None]) -> None:
        """Do what it does to the record in one transaction, all or nothing.

        Raises:
            StorageInternalError: the database did not answer for `RETRY_S`, or refused a part.
        """
        session, tries = self._session(), 0
        if session.held:
            operation()
            return

        def whole() -> None:
            nonlocal tries
            tries += 1
            session.held = True
            try:
                operation()
                session.held = False
                session.commit()
            except UpdateFinishedTrialError:
                if tries == 1:
                    raise
                if self.fence is not None:  # finished by who took over, then
                    self.fence(session)
            finally:
                session.held = session.refused = False
                session.close()

        self.retry(whole, writes=True)

    def _session(self) -> TransactionSession:
        """This thread's."""
        session = self.scoped_session()
        assert isinstance(session, TransactionSession)
        return session

    def _before_commit(self, session: Session) -> None:
        if self.fence is not None and getattr(self._writing, "now", False):
            session.flush()  # SQLite gives its only lock to who writes first
            self.fence(session)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        number = self.count(study_id)
        tries = 0

        def create() -> FrozenTrial:
            nonlocal tries
            tries += 1
            if tries > 1 and self.count(study_id) > number:
                return self.get_trial(
                    self.get_trial_id_from_study_id_trial_number(study_id, number)
                )
            return super(Database, self)._create_new_trial(study_id, template_trial)

        return self.retry(create, writes=True)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        def finish() -> None:
            super(Database, self).set_trial_state_values(trial_id, state, values)

        self.transaction(finish)
        return True

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        given = (trial_id, param_name, param_value_internal, distribution, previous_distribution)
        self.retry(lambda: super(Database, self)._set_trial_param(*given), writes=True)

    def _set_trial_attr_without_commit(
        self,
        session: Session,
        model_cls: Any,
        trial_id: int,
        key: str,
        value: Any,
    ) -> None:
        """As Optuna does, with statements that are made once: a trial has a dozen attributes."""
        state = session.execute(STATE_OF_TRIAL, {"trial": trial_id}).scalar_one_or_none()
        if state is None:
            raise KeyError(NOT_THERE)
        self.check_trial_is_updatable(trial_id, state)
        row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        session.execute(upsert(self.engine.name, model_cls), row)

    def rename(self, study_id: int, name: str) -> None:
        """Give a study another name."""
        rows = update(STUDIES).where(STUDIES.c.study_id == study_id).values(study_name=name)

        def renamed() -> None:
            with self.engine.begin() as connection:
                connection.execute(rows)

        self.retry(renamed)

    def count(self, study_id: int) -> int:
        """Trials of a study, without reading them."""
        rows = select(func.count()).select_from(TRIALS).where(TRIALS.c.study_id == study_id)

        def counted() -> int:
            with self.engine.connect() as connection:
                return int(connection.execute(rows).scalar_one())

        return self.retry(counted)


def _retried(name: str, *, writes: bool) -> Callable[..., Any]:
    """The storage's method of this name, which may be done twice without harm."""

    def method(self: Database, *given: Any, **named: Any) -> Any:
        call = functools.partial(getattr(RDBStorage, name), self, *given, **named)
        return self.retry(call if writes else lambda: _decoded(call), writes=writes)

    method.__name__ = name
    return method


def _decoded(read: Callable[[], Found]) -> Found:
    """What Optuna reads; rows that it cannot decode are damage and not a fault of the program.

    Raises:
        DamagedRow: an unknown word in a column of few words, a null, JSON of another shape.
    """
    try:
        return read()
    except json.JSONDecodeError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError,
            AssertionError) as error:  # fmt: skip
        if isinstance(error, KeyError) and NOT_THERE in str(error):
            raise
        raise DamagedRow(f"{type(error).__name__} while a row was decoded") from error


for _name in ("create_new_study", "set_study_user_attr", "set_study_system_attr",
              "set_trial_user_attr", "set_trial_system_attr"):  # fmt: skip
    setattr(Database, _name, _retried(_name, writes=True))


for _name in ("get_study_id_from_name", "get_study_name_from_id", "get_study_directions",
              "get_study_user_attrs", "get_study_system_attrs", "get_all_studies", "get_trial",
              "get_trial_id_from_study_id_trial_number", "_get_trials"):  # fmt: skip
    setattr(Database, _name, _retried(_name, writes=False))


def _check_fence(database: weakref.ref[Database], sessions: Any) -> None:
    """Have the fence looked at before each commit; the listener would else keep the database."""

    def before_commit(session: Session) -> None:
        found = database()
        if found is not None:
            found._before_commit(session)

    event.listen(sessions, "before_commit", before_commit)
