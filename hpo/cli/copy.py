"""`hpo copy`: a run's record in another database."""

from __future__ import annotations

import argparse

from rich.text import Text

from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core.format import plural
from hpo.core.passwords import shown
from hpo.storage import lease, run_folder
from hpo.storage.addresses import checked
from hpo.storage.record import closing, copy_study, load_study


def run(arguments: argparse.Namespace) -> int:
    """Copy while nobody writes it, and say how to go on there."""
    checked(arguments.to_storage, "--to-storage")
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    with (
        closing(load_study(place.url, place.name)) as study,
        lease.held(study, place.url),
    ):
        count = copy_study(place.url, place.name, arguments.to_storage)
    copied = f"Copied {plural(count, 'trial')} of {place.name}"
    text = f"{copied}; to go on there, run the study with --storage "
    new_console().print(Text(text + shown(arguments.to_storage)), soft_wrap=True)
    return DONE
