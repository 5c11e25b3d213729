"""`hpo export`: a trial's weights, recipe and evidence in a folder of its own."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hpo import known_studies, study_files
from hpo.cli import export_folder, push, trial_names
from hpo.cli.console import new_console, print_path
from hpo.cli.options import DONE, INTERRUPTED
from hpo.core import files, format
from hpo.core.events import clean
from hpo.core.format import plural
from hpo.core.objective import Exported, Request
from hpo.core.trial import Run, Trial
from hpo.executors.interrupts import Interrupted, interrupts
from hpo.progress import Display
from hpo.report import model_card
from hpo.report.results import Results
from hpo.report.terminal_tables import finite
from hpo.storage import run_folder
from hpo.storage.run_folder import RunFolder
from hpo.study_files import StudyRequest

CARD = "README.md"


def run(arguments: argparse.Namespace) -> int:
    """Write the folder; what the store does not hold any more is trained again."""
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place))
    record = results.run
    trial = trial_names.pick(results, arguments.trial)
    study = study_files.reload(record, _study(arguments, place))
    _check_push(arguments)
    request = Request(params=dict(trial.params), fidelity=trial.fidelity, seed=trial.seed)
    console = new_console(stderr=arguments.json)
    display = Display(console, len(record.trials), trial.number)
    try:
        with (
            export_folder.filling(arguments.to, place.name, trial.number),
            interrupts(),
            display,
        ):
            display(
                {"wave": [trial.number], "trials": len(record.trials), "finished": trial.number}
            )
            exported = study.objective.export(
                request, arguments.to, lambda event: display(clean(event))
            )
            files.write(
                arguments.to / CARD, model_card.card(results, trial, exported, arguments.license)
            )
    except (Interrupted, KeyboardInterrupt):
        console.print(Text("Stopped; what was trained is kept, the same command goes on."))
        return INTERRUPTED
    if arguments.push_to_hub is not None:
        message = f"{record.name}, trial {format.title(trial)}"
        repo, public = arguments.push_to_hub, arguments.public
        address = push.push(arguments.to, repo, public=public, message=message)
        console.print(Text(f"Pushed to {address}"), soft_wrap=True)
    _tell(arguments, console, record, trial, exported)
    return DONE


def _check_push(arguments: argparse.Namespace) -> None:
    """Raises ValueError or StorageError where the push would be refused."""
    if not re.fullmatch(r"[a-z0-9.+-]+", arguments.license):
        raise ValueError(
            f"--license needs an id of the hub such as apache-2.0, got {arguments.license!r}."
        )
    if arguments.push_to_hub is not None:
        push.check(arguments.push_to_hub, public=arguments.public)
    elif arguments.public:
        raise ValueError("--public is about --push-to-hub REPO; give both, or neither.")


def _study(arguments: argparse.Namespace, place: RunFolder) -> StudyRequest:
    """The study the run is of, as noted or as given."""
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
            "and exporting executes it; if you trust what is in it, add --study "
            f"{shlex.quote(noted.study)}."
        )
    if arguments.study is not None:
        known_studies.remember(arguments.study)
    given = {name: getattr(arguments, name) for name in ("study", "variant", "device", "share")}
    changed = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(noted, **changed)


def _tell(
    arguments: argparse.Namespace, console: Console, run: Run, trial: Trial, exported: Exported
) -> None:
    if arguments.json:
        data = finite(model_card.as_json(run, trial, exported))
        print(json.dumps(data, indent=1, allow_nan=False))
        return
    parts = plural(len(exported.files), "part")
    where = f"{format.title(trial)} of {run.name}: {parts} in {arguments.to}"
    lines = [where, *model_card.differences(trial, exported)]
    tokens = exported.result.cost.get("tokens", 0.0)
    if tokens:
        number = format.number(tokens, 3)
        lines.append(f"Trained again, as the store did not hold it any more: {number} tokens")
    if any(exported.unsupported.values()):
        lines.append(f"What the files for other trainers cannot express is in {CARD}")
    for line in lines:
        console.print(Text(f"{line}."), soft_wrap=True)
    print_path(arguments.to / CARD)
