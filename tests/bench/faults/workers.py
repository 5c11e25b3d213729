"""Faults of workers: killed, hung, asked to stop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from hpo.controller import Controller
from hpo.executors.pool import Pool
from hpo.executors.processes import Process, local_pool
from hpo.storage.record import url_of
from hpo.study_files import StudyRequest
from tests.bench.faults.ledger import Ledger, Place, ended, struck, studies
from tests.bench.faults.study import FILE, HANGS, STUDY

PREPARATION_S = 1.0


SILENCE_S = 3.0
"""Instead of the pool's own, so that hung workers are found within the bench."""


def signalled(number: int) -> Callable[[Place, Ledger], None]:
    """A signal to the worker of a pool of one."""

    def kind(place: Place, ledger: Ledger) -> None:
        for folder in studies(place, ledger):
            launch = StudyRequest(study=str(FILE), store=str(folder / "store"), device="cpu")
            made = local_pool(launch, folder, workers=1)
            pool = Pool(made.links, silence_s=SILENCE_S)
            (link,) = pool.links
            assert isinstance(link, Process)

            def strike(link: Process = link) -> bool:
                process = link.process
                if process is None or process.poll() is not None:
                    return False
                process.send_signal(number)
                return True

            with contextlib.closing(pool), struck(strike, place, ledger, (0.3, 2.5)):
                controller = Controller(STUDY, url_of(folder), pool)
                ended(controller, place, ledger)

    return kind


def preparation_hung(place: Place, ledger: Ledger) -> None:
    """A worker that is heard of hangs while it prepares its data, as one that asks a question."""
    for folder in studies(place, ledger):
        asks = folder / "asks"
        launch = StudyRequest(study=str(FILE), store=str(folder / "store"), device="cpu")
        with mock.patch.dict(os.environ, {HANGS: str(asks)}):
            made = local_pool(launch, folder, workers=1)
        pool = Pool(made.links)
        pool.preparation_s = PREPARATION_S

        def strike(asks: Path = asks) -> bool:
            asks.touch()
            ledger.strike()
            return False  # it is noted

        with contextlib.closing(pool), struck(strike, place, ledger, (0.3, 2.5)):
            ended(Controller(STUDY, url_of(folder), pool), place, ledger)
