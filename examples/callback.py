"""A callback of your own: a line for every trial that ends, and the front at the end."""

from __future__ import annotations

from pathlib import Path

import hpo
from hpo.core.callback import CurvePoint, StudyEnded, TrialBegun
from hpo.core.trial import Run, Trial


class Printer:
    """Prints what happens; whatever it raised would be a warning, and the study would go on."""

    def study_begun(self, run: Run, folder: Path) -> None:
        print(f"{run.name}: {len(run.trials)} of {run.planned} trials are recorded in {folder}")

    def trial_begun(self, trial: TrialBegun) -> None:
        print(f"trial {trial.number} begins with {dict(trial.params)}")

    def curve_point(self, point: CurvePoint) -> None:
        pass  # a loss after every step of training: for a live plot, for example

    def trial_ended(self, trial: Trial) -> None:
        goals = {name: trial.metrics.get(name) for name in ("base_loss", "gain")}
        print(f"trial {trial.number} is {trial.state}: {trial.failure or goals}")

    def study_ended(self, ended: StudyEnded) -> None:
        print(f"front: {[trial.number for trial in ended.front]}; report: {ended.report}")


def main(study: hpo.StudySpec | str = "quickstart", out: str | Path = "runs") -> None:
    """Run a study with the callback, beside TensorBoard files: `track=["tensorboard"]`."""
    hpo.run_study(study, out=out, progress=False, callbacks=[Printer()])


if __name__ == "__main__":
    main()
