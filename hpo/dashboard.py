"""optuna-dashboard on a run's own storage, for this machine only.

The dashboard has no log-in, so it is bound to the loopback address; from elsewhere, reach it
through an SSH tunnel.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from hpo.storage import guarded, load_study

HOST = "127.0.0.1"


def serve(url: str, name: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted; says where, without the storage's password.

    Raises:
        ValueError: optuna-dashboard is not installed, or the port cannot be used.
        StorageError: the storage cannot be used.
    """
    try:
        dashboard = importlib.import_module("optuna_dashboard")
    except ImportError:
        raise ValueError(
            "optuna-dashboard is not installed; install it with: pip install "
            "'plasticity-hpo[dashboard]'."
        ) from None
    if not 0 < port < 2**16:
        raise ValueError(f"--port must be from 1 to 65535, got {port}.")
    study = load_study(url, name)
    say(f"Dashboard: http://{HOST}:{port}/dashboard/studies/{study._study_id} (Ctrl-C ends it)")
    with guarded(url):
        try:
            dashboard.run_server(study._storage, host=HOST, port=port)
        except OSError as error:
            raise ValueError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port."
            ) from None
