"""Which study file a recorded run is of, for commands that measure again."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path

from hpo import known_studies, study_files
from hpo.storage import run_folder
from hpo.storage.run_folder import RunFolder
from hpo.study_files import StudyRequest


def study_of_run(arguments: argparse.Namespace, place: RunFolder) -> StudyRequest:
    """The study that a run is of, as noted or as given.

    Raises:
        ValueError: the run does not tell, its file is gone, or nobody has run that file here.
    """
    note, store = run_folder.read_study(place), str(place.folder.parent / run_folder.STORE)
    if note is None and arguments.study is None:
        raise ValueError(
            f"run {place.name!r} does not tell which study it is of; give its file with --study."
        )
    noted = StudyRequest.noted({"study": arguments.study} if note is None else note, store)
    if (
        arguments.study is None
        and study_files.is_file(noted.study)
        and not Path(noted.study).is_file()
    ):
        raise ValueError(
            f"the study file {noted.study} of run {place.name!r} is not there any more; give it "
            "with --study."
        )
    if arguments.study is None and not known_studies.is_known(noted.study):
        raise ValueError(
            f"run {place.name!r} names the study file {noted.study}, which you have not run here, "
            "and this command executes it; if you trust what is in it, add --study "
            f"{shlex.quote(noted.study)}."
        )
    if arguments.study is not None:
        known_studies.remember(arguments.study)
    given = {name: getattr(arguments, name) for name in ("study", "variant", "device", "share")}
    changed = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(noted, **changed)
