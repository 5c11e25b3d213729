"""Which run a command line means: one that goes on, one that is replaced, or a new one.

Runs of one study are called NAME, NAME-2, NAME-3, ... (forks).

1. The first whose settings are those of the study goes on.
2. Else a run in which no trial has measured anything is replaced: what a mistake in the study left
   behind is in nobody's way.
3. Else the first free name is taken if NAME itself is free or a fork is asked for; if not, the
   study has changed and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hpo.core import rows
from hpo.core.passwords import shown
from hpo.core.spec import StudySpec
from hpo.storage import lease, run_folder, widening
from hpo.storage.provenance import StudyChanged
from hpo.storage.record import (
    ForeignStudy,
    check_own,
    closing,
    delete_study,
    find_study,
    guarded,
)
from hpo.storage.run_folder import RunFolder
from hpo.storage.settings import spec_data


@dataclass(frozen=True)
class Opened:
    """The run that is meant."""

    place: RunFolder
    finished: int = 0
    """Trials that have ended in a run that goes on."""
    replaces: Study | None = None
    """What is in its place and is to go."""
    is_fork: bool = False

    @property
    def line(self) -> str | None:
        """What a person should know about the choice."""
        if self.replaces is not None:
            return (
                f"Replacing run {self.place.name}: none of its trials has measured anything, and "
                "the study has changed since."
            )
        return f"This is run {self.place.name}, a fork." if self.is_fork else None

    def clear(self) -> None:
        """Delete what is replaced.

        Raises:
            lease.LeaseHeld: a controller runs it.
        """
        if self.replaces is None:
            return
        with (
            guarded(self.place.url),
            closing(self.replaces),
            lease.held(self.replaces, self.place.url),
        ):
            delete_study(self.replaces)


def choose(
    spec: StudySpec,
    out: Path,
    url: str | None,
    default: str | None = None,
    *,
    fork: bool = False,
    widen: bool = False,
    restart: bool = False,
    origin: str | None = None,
) -> Opened:
    """The run of this study, by its name and settings; nothing is written.

    `origin`: where the study is from; a fork that another study has left is never replaced.
    `widen`: a run with a narrower space goes on too.
    `restart`: begin again where a run's record has vanished, which is refused otherwise.

    Raises:
        StudyChanged: there is a run with other settings, and no fork is asked for.
        ValueError, StorageError: a storage has to be given, or cannot be used; or the record of
            the run has vanished.
    """
    now = spec_data(spec)
    free: RunFolder | None = None
    failed: Opened | None = None
    changed: str | None = None
    for place, study in _known(spec.name, out, url, default):
        is_fork = place.name != spec.name
        if study is None:
            free = free or place
            continue
        with guarded(place.url), closing(study):
            try:
                check_own(study, place.url)
            except ForeignStudy:
                if is_fork:  # the name is taken, and nobody asked for it
                    continue
                raise
            started = rows.checked(study.user_attrs, rows.OF_STUDY).get("spec")
            trials = study.get_trials(deepcopy=False)
            empty = _is_empty(study, trials)
        refused = None if started is None else widening.refusal(started, now)
        if started in (None, now) or (
            widen and refused is None
        ):  # None: it was cut short before its settings were written
            return Opened(place, sum(each.state.is_finished() for each in trials), None, is_fork)
        changed = changed or (refused if widen else widening.explained(started, now))
        if failed is None and (not is_fork or _is_of(place, origin)) and empty:
            failed = Opened(place, 0, study, is_fork)
    if failed is not None:
        return failed
    assert free is not None
    if changed is not None and not fork and free.name != spec.name:
        raise StudyChanged(changed)
    if run_folder.was_recorded(free, url) and not restart:
        raise ValueError(
            f"run {free.name!r} was started before, but {shown(free.url)} holds no study of this "
            "name any more; restore the database, or add --restart to begin the run again with the "
            "stages that are in the store."
        )
    return Opened(free, is_fork=free.name != spec.name)


def _known(
    name: str, out: Path, url: str | None, default: str | None
) -> Iterator[tuple[RunFolder, Study | None]]:
    """Runs of this name and its forks, and the first name that is free.

    Forks may be in the storage without a folder, or in folders beyond a number that is free.
    """

    def look(each: str) -> tuple[RunFolder, Study | None]:
        place = run_folder.place_of(out, each, url, default)
        return place, find_study(place.url, each)

    seen = set[str]()
    for each in run_folder.fork_names(name):
        seen.add(each)
        place, study = look(each)
        yield place, study
        if study is None and each != name:
            break
    yield from (look(each) for each in run_folder.forks_in(out, name) if each not in seen)


def _is_of(place: RunFolder, origin: str | None) -> bool:
    if not (place.folder / run_folder.NOTE).is_file():
        return False
    noted = run_folder.read_study(place)
    return noted is not None and noted["study"] == origin


def _is_empty(study: Study, trials: list[FrozenTrial]) -> bool:
    """Whether no trial has measured anything, and nobody is at it."""
    holder = lease.holder_of(study)
    if holder is not None and not holder.gone():
        return False
    return not any(
        each.state in (TrialState.COMPLETE, TrialState.PRUNED)
        or (each.state == TrialState.RUNNING and each.user_attrs.get("metrics"))
        for each in trials
    )
