"""`hpo export`: a trial's weights, recipe and evidence in a folder of its own."""

from __future__ import annotations

import argparse
import json
import re

from rich.console import Console
from rich.text import Text

from hpo import study_files
from hpo.cli import export_folder, push, trial_names
from hpo.cli.console import new_console, print_path
from hpo.cli.options import DONE, INTERRUPTED
from hpo.cli.run_study_file import study_of_run
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

CARD = "README.md"


def run(arguments: argparse.Namespace) -> int:
    """Write the folder; what the store does not hold any more is trained again."""
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place))
    record = results.run
    trial = trial_names.pick(results, arguments.trial)
    study = study_files.reload(record, study_of_run(arguments, place))
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
