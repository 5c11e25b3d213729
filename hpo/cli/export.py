"""`hpo export`: a trial's weights, recipe and evidence in a folder of its own."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hpo import study_files
from hpo.cli import export_folder, trial_names
from hpo.cli.options import DONE, INTERRUPTED, command
from hpo.cli.progress import Display
from hpo.core import files, format
from hpo.core.events import clean
from hpo.core.format import plural
from hpo.core.objective import Exported, Request
from hpo.core.trial import Run, Trial
from hpo.executors.interrupts import Interrupted, interrupts
from hpo.report import model_card
from hpo.report.results import Results
from hpo.report.terminal_tables import finite
from hpo.storage import run_folder
from hpo.storage.run_folder import Origin, RunFolder

CARD = "README.md"


def add(commands: Any) -> list[argparse.ArgumentParser]:
    """`hpo export`."""
    added = command(commands, "export", run, "a trial as Hugging Face folders, with its evidence")
    added.add_argument("run", metavar="RUN", help="a run's name or folder")
    added.add_argument(
        "--trial", required=True, metavar="ID", help="a number, knee, or best:GOAL"
    )  # fmt: skip
    added.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    added.add_argument("--study", metavar="STUDY", help="the study's file, where it has moved")
    added.add_argument("--setting", metavar="NAME", help="of that study")
    added.add_argument("--device", metavar="D", help="where what is missing is trained again")
    added.add_argument("--share", metavar="URL", help="where machines share finished stages")
    added.add_argument("--json", action="store_true", help="for programs")
    return [added]


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write the folder; what the store does not hold any more is trained again."""
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place))
    record = results.run
    trial = trial_names.pick(results, arguments.trial)
    origin = _origin(arguments, place)
    given = {
        "device": arguments.device or origin.device,
        "devices": origin.devices,
        "sharding": origin.sharding,
        "store": str(place.folder.parent / run_folder.STORE),
        "share": arguments.share,
    }
    compute: Any = {name: value for name, value in given.items() if value is not None}
    objective = study_files.reload(record, origin).objective.configure(compute)
    request = Request(params=dict(trial.params), fidelity=trial.fidelity, seed=trial.seed)
    shown = Console(stderr=True) if arguments.json else console
    display = Display(shown, len(record.trials), trial.number)
    try:
        with (
            export_folder.filling(arguments.to, place.name, trial.number),
            interrupts(),
            display,
        ):
            display(
                {"wave": [trial.number], "trials": len(record.trials), "finished": trial.number}
            )
            exported = objective.export(request, arguments.to, lambda event: display(clean(event)))
            files.write(arguments.to / CARD, model_card.card(results, trial, exported))
    except (Interrupted, KeyboardInterrupt):
        console.print(Text("Stopped; what was trained is kept, the same command goes on."))
        return INTERRUPTED
    _tell(arguments, console, record, trial, exported)
    return DONE


def _origin(arguments: argparse.Namespace, place: RunFolder) -> Origin:
    """The study the run is of, as noted or as given."""
    noted = run_folder.read_origin(place)
    if arguments.study is not None:
        given = study_files.origin(arguments.study, arguments.setting, {})
        if noted is None:
            return given
        setting = given.setting or noted.setting
        return dataclasses.replace(noted, study=given.study, setting=setting)
    if noted is None:
        raise ValueError(
            f"run {place.name!r} does not tell which study it is of; give its file with --study."
        )
    if noted.study.endswith(".py") and not Path(noted.study).is_file():
        raise ValueError(
            f"the study file {noted.study} of run {place.name!r} is not there any more; give it "
            "with --study."
        )
    return noted


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
    if any(exported.lost.values()):
        lines.append(f"What the files for other trainers cannot express stands in {CARD}")
    for line in lines:
        console.print(Text(f"{line}."), soft_wrap=True)
    print((arguments.to / CARD).absolute())
