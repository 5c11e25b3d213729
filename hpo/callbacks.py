"""Calls callbacks on a study's events, and keeps the study safe from them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from hpo.controller import Controller
from hpo.core.callback import Callback, CurvePoint, StudyEnded, TrialBegun
from hpo.core.objective import Event
from hpo.core.trial import Run, Trial


class CallbackEvents:
    """Passes events on, and calls the callbacks that they are about."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        callbacks: Sequence[Callback],
        controller: Controller,
        warn: Callable[[str], None],
    ) -> None:
        """`warn` takes one sentence for each callback that fails."""
        self.tell, self.callbacks, self.controller, self.warn = tell, callbacks, controller, warn
        self.failed: set[int] = set()
        self.ended: set[int] = set()
        self._lock = threading.Lock()

    def begin(self, run: Run, folder: Path) -> None:
        """Tell of the study."""
        self.ended = {trial.number for trial in run.trials if trial.state != "running"}
        self._call(lambda each: each.study_begun(run, folder))

    def end(self, ended: StudyEnded) -> None:
        """Tell of the trials that were stopped at the end, then of the end."""
        for trial in ended.run.trials:
            if trial.state != "running":
                self._trial_ended(trial)
        self._call(lambda each: each.study_ended(ended))

    def __call__(self, event: Event) -> None:
        """Pass an event on, then tell of it; what `tell` raises comes out."""
        self.tell(event)
        if not self.callbacks:
            return
        with self._lock:  # workers' threads and the controller's
            if "wave" in event:
                for number in event["wave"]:
                    self._trial_begun(number)
            elif "recorded" in event:
                for number in event["recorded"]:
                    trial = self.controller.record.history.trials[number]
                    if trial.ended:
                        self._trial_ended(trial)
            elif "stage" in event:
                self._curve_point(event)

    def _trial_begun(self, number: int) -> None:
        trial = self.controller.record.history.trials[number]
        begun = TrialBegun(
            number=number,
            params=dict(trial.params),
            seed=trial.seed,
            fidelity=trial.asks[-1].fidelity,
        )
        self._call(lambda each: each.trial_begun(begun))

    def _trial_ended(self, trial: Trial) -> None:
        if trial.number in self.ended:
            return
        self.ended.add(trial.number)
        self._call(lambda each: each.trial_ended(trial))

    def _curve_point(self, event: Event) -> None:
        loss = event.get("loss")
        if loss is None or not math.isfinite(loss):
            return
        point = CurvePoint(
            trials=tuple(event.get("numbers", ())),
            stage=event["stage"],
            step=event.get("step", 0),
            steps=event.get("steps", 1),
            loss=loss,
        )
        self._call(lambda each: each.curve_point(point))

    def _call(self, call: Callable[[Callback], None]) -> None:
        """Call every callback; one that fails is a warning, once."""
        for index, each in enumerate(self.callbacks):
            try:
                call(each)
            except Exception as error:  # of somebody else's code, which must not end the study
                if index not in self.failed:
                    reason = " ".join(str(error).split())[:300]
                    self.warn(
                        f"{type(each).__name__} failed ({type(error).__name__}: {reason}); the "
                        "study goes on without what it would have noted."
                    )
                self.failed.add(index)
