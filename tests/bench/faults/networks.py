"""Faults of the network between controllers and their database, a PostgreSQL; workers use none.

The cut says nothing to either end (`tests/cut.py`). The waits that find it out are shortened, and
the lease with them, so that the bench ends; what follows what is as it is.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from unittest import mock

from hpo.controller import Controller
from hpo.storage import lease, timeouts
from hpo.storage.lease import LeaseLost
from tests import cut, postgres
from tests.bench.faults.ledger import Ledger, Place, ended, struck, studies
from tests.bench.faults.study import STUDY

SILENT_S, CONNECT_S, LEASE_S, RENEW_S = 1, 2, 2.0, 0.4


CUTS = ("reset", "silent", "forgotten")


def network_cut(place: Place, ledger: Ledger) -> None:
    """Connections are reset, or nothing arrives for a while, after which they go on or never do.

    The time to recover is that from the cut to the next recorded wave.
    """
    ledger.sign = "recorded"
    with postgres.server() as server, cut.network(server.socket) as network:

        def strike() -> bool:
            ledger.strike()
            how = place.drawn.choice(CUTS)
            if how == "reset":
                network.reset()
            else:
                network.cut()
                time.sleep(place.drawn.uniform(0.1, 1.5 * SILENT_S))
                network.mend(forget=how == "forgotten")
            return False  # it is noted

        for folder in studies(place, ledger):
            url = network.url(server.database(folder.name.replace("-", "_")))
            # One that cannot be opened is an error at once, so it has time on a busy machine.
            with mock.patch.dict(timeouts.LIBPQ, connect_timeout=5):
                controller = Controller(STUDY, url)
            with _impatient(), struck(strike, place, ledger, (0.2, 1.0)):
                ended(controller, place, ledger)


def controller_cut_off(place: Place, ledger: Ledger) -> None:
    """A controller is cut off for longer than its lease, and one that waits takes over from it.

    When the first one's network is back it must not write. The time to recover is that from the
    cut to the second one's first step.
    """
    with _impatient(), postgres.server() as server:
        for folder in studies(place, ledger):
            url = server.database(folder.name.replace("-", "_"))
            with contextlib.ExitStack() as stack:
                first = _Follower(stack, server, url, ledger)
                for _ in range(place.left(ledger)):
                    first.works.wait()
                    time.sleep(place.drawn.uniform(0.0, 0.5))
                    if first.over.is_set():
                        break
                    second = _Follower(stack, server, url, ledger)
                    first.network.cut()
                    ledger.strike()
                    second.works.wait()
                    first.network.mend(forget=place.drawn.random() < 0.5)
                    first.over.wait()
                    first = second
                first.over.wait()
            ledger.struck_at = None
            ended(Controller(STUDY, url), place, ledger)


class _Follower:
    """A controller in a thread, with a network of its own; it waits for the one before."""

    def __init__(
        self, stack: contextlib.ExitStack, server: postgres.Server, url: str, ledger: Ledger
    ) -> None:
        self.network = stack.enter_context(cut.network(server.socket))
        self.works, self.over = threading.Event(), threading.Event()
        controller = Controller(STUDY, self.network.url(url))

        def tell(event: dict[str, object]) -> None:
            if "stage" in event and not self.works.is_set():
                ledger.on_event(event)
                self.works.set()

        def body() -> None:
            try:
                with contextlib.suppress(LeaseLost):
                    controller.run(tell, wait=True)
            finally:
                self.works.set()
                self.over.set()

        threading.Thread(target=body, daemon=True).start()


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Waits and lease shorter than they are."""
    with (
        mock.patch.multiple(timeouts, SILENT_S=SILENT_S, REST_S=SILENT_S),
        mock.patch.dict(timeouts.LIBPQ, connect_timeout=CONNECT_S),
        mock.patch.multiple(lease, LEASE_S=LEASE_S, RENEW_S=RENEW_S, LOOK_S=0.05),
    ):
        yield
