"""The record: a study's trials in Optuna's own storage, read into plain data.

Values that Optuna knows (params, goal values, constraints) are written where every Optuna tool
finds them; the rest (all metrics, curves, cost, reasons) is in user attributes. A password in a
storage URL is never shown: `shown` is between a URL, and `mask` between any other text, and
everything a person reads.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, StorageInternalError
from optuna.study import Study
from sqlalchemy.exc import SQLAlchemyError

from hpo.core import rows
from hpo.core.contrasts import PlannedContrasts
from hpo.core.failures import StorageError
from hpo.core.goals import Goal
from hpo.core.paper import Paper
from hpo.core.passwords import mask, shown
from hpo.core.rows import DamagedRow
from hpo.core.trial import Run
from hpo.storage.addresses import Access, file_of, of_file
from hpo.storage.database import Database, NoRecord
from hpo.storage.settings import goals_of, limits_of, space_of
from hpo.storage.tables import OtherSchema, OtherTables
from hpo.storage.trials import read_trials

DATABASE = "study.db"


MARK = "hpo"
"""The user attribute that every study of this program has from its first moment."""


LEASE = "lease"
"""The user attribute in which a controller says that it runs the study."""


RESTORE = "restore a copy of it, or move it away to measure again with what the store has"


MAYBE_DAMAGED = f"if it was edited or damaged, {RESTORE}"


REMEDIES = {
    ("malformed", "not a database", "no such table", "no such column"): "the file is damaged; "
    f"{RESTORE}",
    ("unable to open", "readonly", "is a directory"): "check that this is a file, in a folder that "
    "exists and may be written",
    ("full", "disk I/O error"): "free some space on its disk",
    ("locked", "busy"): "another program holds it; end that one",
}
"""Words of SQLite's errors -> what helps."""


OF_SERVERS = {
    ("does not exist", "Unknown database"): "create it, or check its name and the user's",
    ("denied", "permission", "authentication"): "check the user's password and rights",
    ("read-only", "read only"): "it may not be written; check the server, or use another database",
    ("no schema",): "check the database's search_path",
}
"""The same of servers."""


def url_of(folder: Path) -> str:
    """The URL of the SQLite file in a run's folder."""
    return of_file(folder / DATABASE)


class ForeignStudy(ValueError):
    """A study of this name that another program has made."""


def open_study(url: str, name: str, goals: tuple[Goal, ...]) -> Study:
    """The study of this name, made if it is not there; one of another program is left alone.

    A new study and the mark that it is of this program are one transaction, so that one that was
    cut short right after is still known.

    Raises:
        ForeignStudy: another program has made it.
        StorageError: the database cannot be reached.
    """
    directions = [goal.optuna_direction for goal in goals]
    with guarded(url):
        database = Database(url)

        def make() -> None:
            study_id = database.create_new_study(directions, name)
            database.set_study_user_attr(study_id, MARK, True)

        if name not in optuna.get_all_study_names(database):
            with contextlib.suppress(DuplicatedStudyError):  # made by another at the same time
                database.transaction(make)
        try:
            study = optuna.load_study(storage=database, study_name=name)
        except KeyError:  # it could not be made, as something has its number
            raise DamagedRow(f"it has rows of a study {name!r} that is not there") from None
        check_own(study, url)
        return study


def check_own(study: Study, url: str) -> None:
    """Raise ForeignStudy if another program has made the study.

    A study from before there was the mark is known by its settings, or by its description where it
    was cut short before those were written.
    """
    attrs = study.user_attrs
    if MARK in attrs or "spec" in attrs:
        return
    if "description" in attrs and not study.get_trials(deepcopy=False):
        return
    raise ForeignStudy(
        f"{shown(url)} has a study {study.study_name!r} that hpo did not start; give this run "
        "another name with --name, or another database with --storage."
    )


def name_values(study: Study, metrics: Sequence[str]) -> None:
    """Name the values of trials, for Optuna's dashboard and tables; those named already stay."""
    if study.metric_names == list(metrics):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(metrics))


def database_of(study: Study) -> Database:
    """The database in which a study was opened."""
    database = getattr(study._storage, "_backend", None)
    assert isinstance(database, Database)
    return database


@contextlib.contextmanager
def closing(study: Study) -> Iterator[Study]:
    """Close the study's database at the end."""
    try:
        yield study
    finally:
        database_of(study).close()


def load_study(url: str, name: str, access: Access = "write") -> Study:
    """The study of this name; no database is made for it, and none is changed by "read".

    Raises:
        StorageError: it is not there, or the database cannot be reached.
    """
    with guarded(url):
        try:
            return optuna.load_study(storage=Database(url, access), study_name=name)
        except (KeyError, NoRecord) as error:
            reason = f" ({error})" if isinstance(error, NoRecord) else ""
            raise StorageError(
                f"the storage {shown(url)} holds no study {name!r}{reason}; check --storage and "
                "the name."
            ) from None


def find_study(url: str, name: str) -> Study | None:
    """The study of this name, None if there is none; neither file nor tables are made.

    Raises:
        StorageError: the database cannot be reached.
    """
    with guarded(url):
        try:
            return optuna.load_study(storage=Database(url, "write"), study_name=name)
        except (KeyError, NoRecord):
            return None


def delete_study(study: Study) -> None:
    """Delete a study with its trials; others in the same storage stay."""
    database, study_id = database_of(study), study._study_id
    database.retry(lambda: database.delete_study(study_id))


def copy_study(url: str, name: str, to_url: str) -> int:
    """Copy a study into another storage, with every trial as it is; returns how many there are.

    The copy has its name only once it is whole: what a copy that was cut short has left is made
    again.

    Raises:
        ValueError: there is one of that name already.
        StorageError: a storage cannot be used.
    """
    partial = f"{name} (being copied)"
    with guarded(url), closing(load_study(url, name)) as source:
        attrs, trials = source.user_attrs, source.get_trials(deepcopy=False)
        names_of_values, directions = source.metric_names, source.directions
    with guarded(to_url), contextlib.closing(Database(to_url)) as database:
        names = optuna.get_all_study_names(database)
        if name in names:
            raise ValueError(
                f"{shown(to_url)} has a study {name!r} already; choose another storage."
            )
        if partial in names:
            optuna.delete_study(study_name=partial, storage=database)
        target = optuna.create_study(storage=database, study_name=partial, directions=directions)
        if names_of_values is not None:
            name_values(target, names_of_values)
        for key, value in attrs.items():
            if key != LEASE:
                target.set_user_attr(key, value)
        target.add_trials(trials)
        database.rename(target._study_id, name)
    return len(trials)


@contextlib.contextmanager
def guarded(url: str) -> Iterator[None]:
    """Turn what a database throws into one sentence without passwords."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise StorageError(
            _damaged(f"the record in {shown(url)}", f"{error.msg} in a row")
        ) from None
    except DamagedRow as error:
        raise StorageError(_damaged(f"the record in {shown(url)}", str(error))) from None
    except OtherTables:
        raise StorageError(
            f"the storage {shown(url)} holds tables of another program; choose another file with "
            "--storage, or move it away, then run the same command."
        ) from None
    except OtherSchema:
        raise StorageError(
            f"the storage {shown(url)} has tables of another version of Optuna than the installed "
            f"{optuna.__version__}; install the one that made them, or upgrade a copy of the "
            "database with `optuna storage upgrade`."
        ) from None
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        cause = error.__cause__ or error
        reason = mask(str(getattr(cause, "orig", None) or cause).splitlines()[0])
        remedy = "install that driver" if isinstance(error, ImportError) else _remedy(reason, url)
        raise StorageError(
            f"the storage {shown(url)} cannot be used ({reason}): {remedy}; then run the same "
            "command to go on."
        ) from None


def _damaged(what: str, reason: str) -> str:
    return (
        f"{what} is damaged ({reason}); restore a copy of the database, or move it away and run "
        "the study with --restart to measure again with what the store has."
    )


def _remedy(reason: str, url: str) -> str:
    """What to do about a database that refuses; SQLite's words are those of its result codes."""
    if file_of(url) is not None:
        for signs, remedy in REMEDIES.items():
            if any(sign in reason for sign in signs):
                return remedy
        return MAYBE_DAMAGED
    for signs, remedy in OF_SERVERS.items():
        if any(sign in reason for sign in signs):
            return remedy
    return "check that it can be reached"


def read_run(study: Study, group: int | None = None) -> Run:
    """All that a study has recorded of a group of trials; None is the one measured last.

    Raises:
        StorageError: the study was not started by this program, or not to the end, or its record is
            damaged.
    """
    try:
        return _read_run(study, group)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = str(error) if isinstance(error, DamagedRow) else type(error).__name__
        raise StorageError(_damaged(f"the record of study {study.study_name!r}", reason)) from error


def _read_run(study: Study, group: int | None) -> Run:
    attrs = rows.checked(study.user_attrs, rows.OF_STUDY)
    count = database_of(study).count(study._study_id)  # before them: others may come meanwhile
    stored = study.get_trials(deepcopy=False)
    rows.check_numbers([frozen.number for frozen in stored], count)
    if "spec" not in attrs:
        raise StorageError(
            f"the storage holds no settings of study {study.study_name!r}; run the study again."
        )
    data = attrs["spec"]
    everything = read_trials(stored, data)
    known = attrs.get("conditions", [])
    if group is None:
        group = attrs.get("group", 0)
    elif not 0 <= group < max(1, len(known)):
        last = max(1, len(known)) - 1
        there = f"its groups are 0 to {last}" if last else "it has group 0 only"
        raise ValueError(f"study {study.study_name!r} has no group {group} of trials; {there}.")
    trials = [trial for trial in everything if trial.group == group]
    return Run(
        name=study.study_name,
        description=attrs.get("description", ""),
        goals=goals_of(data),
        limits=limits_of(data),
        trials=trials,
        planned=attrs.get("planned", len(trials)),
        conditions=known,
        group=group,
        num_others=len(everything) - len(trials),
        paper=Paper.from_dict(attrs["paper"]) if attrs.get("paper") else None,
        **_contrasts(attrs.get("contrasts")),
        space=space_of(data),
        reproduce={"study": data, **_reproduce(attrs, known[group] if group < len(known) else {})},
        begun=_to_the_second(min, [each.datetime_start for each in stored]),
        ended=_to_the_second(max, [each.datetime_complete for each in stored]),
    )


def _contrasts(noted: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run's fields of planned contrasts."""
    if noted is None:
        return {}
    try:
        planned = PlannedContrasts.from_dict(noted["planned"])
    except ValueError as error:
        raise DamagedRow(f"in its planned contrasts: {error}") from None
    return {"contrasts": planned, "contrasts_after": int(noted["after"])}


def _to_the_second(
    pick: Callable[[list[datetime]], datetime], times: Sequence[datetime | None]
) -> datetime | None:
    """The first or last of those that are known; not all databases keep fractions of a second."""
    known = [each for each in times if each is not None]
    return pick(known).replace(microsecond=0) if known else None


def _reproduce(attrs: Mapping[str, Any], conditions: Mapping[str, str]) -> dict[str, Any]:
    """What was noted when the study began, with the library versions of a group of trials."""
    found: dict[str, Any] = dict(attrs.get("reproduce", {}))
    if isinstance(versions := found.get("versions"), dict):
        now = {name: conditions.get(name, version) for name, version in versions.items()}
        found["versions"] = now
    return found
