"""Faults of every kind at random instants of a study: what is lost, recorded twice, or wrong.

A study of analytic trials (`study.py`) or of real ones (`training.py`) is run undisturbed, then
again and again while one kind of fault strikes at times drawn uniformly, until each kind has had
its number. Where a fault ends the controller, the same command is run again. After every study its
record is held against the undisturbed one:

- lost: trials that were finished when last seen and are not, or that are missing at the end;
- twice: trials beyond the planned ones;
- wrong: trials with other params, metrics, curves or states, to the last bit.

The time to recover is that from a fault to the next step that is told of. A power cut is not among
the faults, so databases are in memory where there is room: a disk's pace would only slow the bench.
"""

from __future__ import annotations

import random
import signal
import tempfile
from pathlib import Path

import optuna

from tests import folders
from tests.bench.faults import (
    changes,
    controllers,
    databases,
    networks,
    rows,
    stages,
    study,
    training,
)
from tests.bench.faults.ledger import Kind, Ledger, Place, bare
from tests.bench.faults.workers import preparation_hung, signalled
from tests.bench.figures import Figure, Options, mean_of

SEED = 0


def run(options: Options) -> dict[str, Figure]:
    """All kinds, or the one of `--only`; `repeats` is the number of faults of each."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    figures: dict[str, Figure] = {}
    totals, compared = Ledger(), 0
    for name in options.picked(list(KINDS)):
        kind, ledger = KINDS[name], Ledger()
        wanted = options.repeats or (kind.few if options.quick else kind.count)
        expected = [bare(each) for each in kind.expected()]
        with tempfile.TemporaryDirectory(dir=folders.in_memory()) as folder:
            drawn = random.Random(f"{SEED} {name}")
            kind.strike(Place(Path(folder), wanted, drawn, expected), ledger)
        options.say(f"{name}: {ledger.faults} faults in {ledger.studies} studies, "
                    f"{ledger.lost} lost, {ledger.twice} twice, {ledger.wrong} wrong")  # fmt: skip
        for complaint in ledger.complaints:
            options.say(f"{name}: {complaint}")
        count = ledger.studies * len(expected)
        figures |= _figures(name, ledger, count)
        compared += count
        for each in ("faults", "studies", "lost", "twice", "wrong"):
            setattr(totals, each, getattr(totals, each) + getattr(ledger, each))
    enough = None if options.quick or options.only or options.repeats else ">= 1000"
    total = _figures("all", totals, compared)
    total["all.faults"] = Figure(value=totals.faults, unit="faults", goal=enough)
    return figures | total


def _figures(name: str, ledger: Ledger, compared: int) -> dict[str, Figure]:
    found = {f"{name}.faults": Figure(value=ledger.faults, unit="faults")}
    for what in ("lost", "twice", "wrong"):
        value = getattr(ledger, what)
        found[f"{name}.{what}"] = Figure(value=value, unit="trials", n=compared, goal="= 0")
    if ledger.noticed is not None:
        found[f"{name}.noticed"] = Figure(value=ledger.noticed, unit="faults", n=ledger.faults)
    if ledger.recover_s:
        found[f"{name}.recover_s"] = mean_of(ledger.recover_s, "s")
        longest = max(ledger.recover_s)
        found[f"{name}.longest_s"] = Figure(
            value=longest, unit="s", n=len(ledger.recover_s), goal="<= 30"
        )
    return found


ANALYTIC, REAL = study.undisturbed, training.undisturbed


KINDS: dict[str, Kind] = {
    "worker_killed": Kind(signalled(signal.SIGKILL), 50, 2, ANALYTIC),
    "worker_hung": Kind(signalled(signal.SIGSTOP), 12, 1, ANALYTIC),
    "worker_stopped": Kind(signalled(signal.SIGTERM), 15, 1, ANALYTIC),
    "preparation_hung": Kind(preparation_hung, 10, 1, ANALYTIC),
    "controller_killed": Kind(controllers.controller_killed, 15, 1, ANALYTIC),
    "successor_waiting": Kind(controllers.successor_waiting, 12, 1, ANALYTIC),
    "clock_jump": Kind(controllers.clock_jump, 40, 2, ANALYTIC),
    "clocks_apart": Kind(controllers.clocks_apart, 24, 2, ANALYTIC),
    "connection_lost": Kind(databases.connection_lost, 100, 4, ANALYTIC),
    "database_restarted": Kind(databases.database_restarted, 15, 1, ANALYTIC),
    "database_locked": Kind(databases.database_locked, 30, 3, ANALYTIC),
    "database_replaced": Kind(databases.database_replaced, 60, 4, rows.undisturbed),
    "network_cut": Kind(networks.network_cut, 40, 2, ANALYTIC),
    "controller_cut_off": Kind(networks.controller_cut_off, 12, 1, ANALYTIC),
    "disk_full": Kind(databases.disk_full, 40, 2, ANALYTIC),
    "row_damaged": Kind(rows.row_damaged, 250, 12, rows.undisturbed),
    "note_damaged": Kind(rows.note_damaged, 40, 3, rows.undisturbed),
    "versions_changed": Kind(changes.versions_changed, 60, 4, rows.undisturbed),
    "corpus_changed": Kind(changes.corpus_changed, 12, 1, REAL),
    "checkpoint_damaged": Kind(training.checkpoint_damaged, 60, 4, REAL),
    "entry_damaged": Kind(stages.entry_damaged, 100, 6, REAL),
    "share_damaged": Kind(stages.share_damaged, 40, 4, REAL),
    "memory_short": Kind(training.memory_short, 30, 3, REAL),
    "memory_of_one_lane": Kind(training.memory_of_one_lane, 10, 1, training.some_unfit),
}
