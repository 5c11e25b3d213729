"""Faults of what training leaves and needs: stages that are damaged, memory that runs out.

The study is one of real trials, small enough for a second or two: pretraining on text, fine-tuning
and scores. Each step is told of and lanes are stored every few steps, so that faults fall anywhere.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from hpo.controller import Controller
from hpo.core.domains import Choice, Float
from hpo.core.objective import Event
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.executors.interrupts import Interrupted
from hpo.storage.record import url_of
from objectives import Execution, PlasticityObjective, Recipe, progress
from objectives.pretraining.lane_checkpoints import DELETED
from objectives.training import loop, optimizers, out_of_memory, setup
from tests.bench.faults.ledger import Ledger, Place, ended, studies
from tests.toy_size import TOY, small_inputs

CHECKPOINT_S = 0.02


STOP, HURT, SHORT = 0.04, 0.06, 0.2
"""Chances at a step that the study is stopped, that a stage is damaged under it, that memory runs
out."""


RECENT = 6
"""Files among which one is damaged."""


LARGE = 6
"""The batch size whose lanes do not fit where one lane is too much."""


MAPPED = "tokens"
"""The stage that is read while it is used; it is damaged only between two processes."""


NO_STAGES = ("partial", "damaged", "leases")


def spec(folder: Path) -> StudySpec:
    """Six trials in waves of three, with a store in the folder."""
    recipe = Recipe().with_params(TOY | {"pretrain.steps": 16, "probes.run": []} | _inputs())
    return StudySpec(
        name="faults",
        objective=PlasticityObjective(recipe, Execution(device="cpu", store=folder / "store")),
        space={
            "pretrain.weight_decay": Float(low=0.01, high=1.0, log=True),
            "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
            "pretrain.batch_size": Choice(options=(4, LARGE)),
        },
        trials=6,
        wave=3,
        replicate_share=0.0,
        sampler="random",
    )


@functools.cache
def undisturbed() -> list[Trial]:
    """The study's trials without a fault."""
    with tempfile.TemporaryDirectory() as folder:
        return Controller(spec(Path(folder)), "sqlite://").run().trials


def some_unfit() -> list[Trial]:
    """The same where no lane of a large batch fits."""
    try:
        out_of_memory.in_chunks([0], 1, _no_memory)
    except MemoryError as error:
        reason = str(error)
    return [
        Trial.measured(each.number, each.params, {}, state="failed", failure=reason)
        if each.params["pretrain.batch_size"] == LARGE
        else each
        for each in undisturbed()
    ]


def checkpoint_damaged(place: Place, ledger: Ledger) -> None:
    """A byte of a stage's file is flipped, or the file cut or emptied: while the study runs, and
    while it is stopped, after which a new process reads what is there."""
    with restless():
        for folder in studies(place, ledger):
            store, most = folder / "store", ledger.faults + place.left(ledger)

            def on_event(event: Event, store: Path = store, most: int = most) -> None:
                ledger.on_event(event)
                chance = place.drawn.random()
                if ledger.faults < most and chance < STOP:
                    raise Interrupted
                if ledger.faults < most and chance < STOP + HURT:
                    _damage(store, place, ledger, but=MAPPED)

            while True:
                controller = Controller(spec(folder), url_of(folder))
                try:
                    trials = controller.run(on_event).trials
                    break
                except Interrupted:
                    _damage(store, place, ledger)
                except RuntimeError as error:  # damaged between the look at a stage and its use
                    if str(error) != DELETED:
                        raise
            ledger.compare(trials, place.expected, ended=True)
            ledger.noticed = (ledger.noticed or 0) + len(list(store.glob("damaged/*")))


def memory_short(place: Place, ledger: Ledger) -> None:
    """Memory runs out under several lanes, before a gradient or in the middle of an update."""

    def short(lanes: int, chance: float) -> None:
        if lanes > 1 and ledger.faults < place.wanted and place.drawn.random() < chance:
            ledger.strike()
            _no_memory()

    for folder in studies(place, ledger):
        with restless(), _memory(lambda lanes, batch: short(lanes, SHORT / 2),
                                  lambda lanes: short(lanes, SHORT / 2)):  # fmt: skip
            ended(Controller(spec(folder), url_of(folder)), place, ledger)


def memory_of_one_lane(place: Place, ledger: Ledger) -> None:
    """Lanes of a large batch do not fit, not even one alone; their trials are to fail."""

    def too_much(lanes: int, batch: int) -> None:
        if batch == LARGE:
            if lanes == 1:
                ledger.strike()
            _no_memory()

    for folder in studies(place, ledger):
        with restless(), _memory(too_much, lambda lanes: None):
            ended(Controller(spec(folder), url_of(folder)), place, ledger)


def _damage(store: Path, place: Place, ledger: Ledger, but: str = "") -> None:
    """Damage a file of a finished stage, one of the last written: those are gone on from."""
    files = [
        path
        for path in sorted(store.glob("*/*/*"), key=lambda path: path.stat().st_mtime_ns)
        if path.is_file() and path.parts[-3] not in (*NO_STAGES, but) and path.stat().st_size
    ]
    if files:
        _hurt(place.drawn.choice(files[-RECENT:]), place.drawn)
        ledger.strike()


def _hurt(path: Path, drawn: random.Random) -> None:
    data = bytearray(path.read_bytes())
    how = drawn.choice(("flipped", "cut", "emptied"))
    if how == "flipped":
        data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
    else:
        del data[len(data) // 2 if how == "cut" else 0 :]
    path.write_bytes(data)


def _no_memory(*given: object) -> None:
    raise torch.OutOfMemoryError("out of memory, says the bench")


@contextlib.contextmanager
def _memory(before: Callable[[int, int], None], amid: Callable[[int], None]) -> Iterator[None]:
    """Call `before(lanes, batch size)` before each gradient of pretraining, `amid(lanes)` when an
    update is half done; what they raise comes out of the step."""
    gradient, step_ = loop._gradient, optimizers.step_

    def computed(program: Any, rows: Any, frozen: Any, batch: Any, parts: int) -> torch.Tensor:
        if frozen is None:
            before(len(rows.values), batch.ids.shape[-2])
        return gradient(program, rows, frozen, batch, parts)

    def updated(values_KP: torch.Tensor, *given: Any, **named: Any) -> None:
        step_(values_KP, *given, **named)
        amid(len(values_KP))

    with mock.patch.object(loop, "_gradient", computed), \
            mock.patch.object(optimizers, "step_", updated):  # fmt: skip
        yield


@contextlib.contextmanager
def restless() -> Iterator[None]:
    """Tell of each step, store lanes every few, and leave warnings of damage aside."""
    with (
        mock.patch.object(progress, "TELL_S", 0.0),
        mock.patch.object(setup, "CHECKPOINT_S", CHECKPOINT_S),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@functools.cache
def corpus_folder() -> Path:
    """The corpus of all studies of this process."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def _inputs() -> dict[str, Any]:
    return small_inputs(corpus_folder())
