"""This project's sampler as a Hydra sweeper.

    python app.py -m hydra/sweeper=plasticity hydra.sweeper.n_trials=20 \
        'pretrain.weight_decay=tag(log,interval(0.01,1))' 'pretrain.schedule.decay_frac=0,0.25,1'

1. Intervals (of whole numbers with the tag `int`), ranges and choices are searched; all other
   overrides are the same in every job.
2. `n_jobs` configurations are asked of an Optuna study, launched as a batch by Hydra's launcher,
   and their return values told: one number for each of `directions`. A job that raises, or returns
   another number of values or no finite one, is a failed trial, and is not fatal.
3. The best trials are written to `optimization_results.yaml` in the sweep's folder. With `storage`
   the study goes on where it ended.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Transformer,
)
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from hpo import PlasticitySampler

log = logging.getLogger(__name__)


DEFAULTS: dict[str, Any] = {
    "_target_": "hydra_plugins.plasticity_sweeper.sweeper.PlasticitySweeper",
    "directions": ["minimize", "maximize"],  # of each value that the task returns, in order
    "n_trials": 20,
    "n_jobs": 1,  # configurations that are launched as a batch
    "seed": 0,
    "study_name": "sweep",
    "storage": None,  # URL of Optuna's storage; null keeps the study in memory
}
"""The group `hydra/sweeper=plasticity`."""


ConfigStore.instance().store(
    group="hydra/sweeper", name="plasticity", node=DEFAULTS, provider="hpo"
)


class PlasticitySweeper(Sweeper):
    """Asks and tells an Optuna study."""

    def __init__(
        self,
        directions: Sequence[str],
        n_trials: int,
        n_jobs: int,
        seed: int | None,
        study_name: str,
        storage: str | None,
    ) -> None:
        self.directions, self.n_trials, self.n_jobs = [*directions], n_trials, n_jobs
        self.seed, self.study_name, self.storage = seed, study_name, storage
        self.config: DictConfig | None = None
        self.launcher: Any = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run all trials."""
        assert self.config is not None
        overrides = OverridesParser.create().parse_overrides(overrides=arguments)
        space = {
            each.get_key_element(): _domain(each) for each in overrides if each.is_sweep_override()
        }
        fixed = [each.input_line for each in overrides if not each.is_sweep_override()]
        study = optuna.create_study(
            directions=self.directions,
            sampler=PlasticitySampler(seed=self.seed),
            study_name=self.study_name,
            storage=self.storage,
            load_if_exists=True,
        )
        left = self.n_trials - len(study.trials)
        while left > 0:
            trials = [study.ask(space) for _ in range(min(self.n_jobs, left))]
            batch = [
                [*fixed, *(f"{name}={_written(value)}" for name, value in trial.params.items())]
                for trial in trials
            ]
            self.validate_batch_is_legal(batch)
            returns = self.launcher.launch(batch, initial_job_idx=trials[0].number)
            for trial, result in zip(trials, returns, strict=True):
                self._tell(study, trial, result)
            left -= len(trials)
        self._write(study)

    def _tell(self, study: optuna.Study, trial: optuna.Trial, result: JobReturn) -> None:
        values = _values(result, len(self.directions))
        if values is None:
            log.warning("trial %d failed: %s", trial.number, _reason(result))
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, values)

    def _write(self, study: optuna.Study) -> None:
        assert self.config is not None
        best = [{"params": each.params, "values": each.values} for each in study.best_trials]
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(
            OmegaConf.create({"name": "plasticity", "solutions": best}),
            folder / "optimization_results.yaml",
        )
        for each in best:
            log.info("front: %s with %s", each["values"], each["params"])


def _values(result: JobReturn, count: int) -> list[float] | None:
    """What the job returned; None where that is not a finite number for each direction."""
    if result.status != JobStatus.COMPLETED:
        return None
    given = result.return_value
    given = [given] if isinstance(given, int | float) else given
    try:
        values = [float(each) for each in given]
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _reason(result: JobReturn) -> str:
    if result.status == JobStatus.COMPLETED:
        return f"it returned {result.return_value!r}"
    return " ".join(str(result._return_value).split())[:300]


def _domain(override: Override) -> BaseDistribution:
    """The domain of a swept override.

    Raises:
        ValueError: it is a kind of sweep that has no domain, such as a glob.
    """
    value = override.value()
    tags: set[str] = getattr(value, "tags", set())
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        if "int" in tags:
            return IntDistribution(int(value.start), int(value.end), log="log" in tags)
        return FloatDistribution(float(value.start), float(value.end), log="log" in tags)
    if isinstance(value, RangeSweep):
        assert value.start is not None
        assert value.stop is not None
        if all(isinstance(each, int) for each in (value.start, value.stop, value.step)):
            last = int(value.stop) - 1
            return IntDistribution(int(value.start), last, step=int(value.step))
        return FloatDistribution(float(value.start), float(value.stop), step=float(value.step))
    if isinstance(value, ChoiceSweep):
        return CategoricalDistribution(list(override.sweep_iterator(Transformer.encode)))
    raise ValueError(
        f"{override.input_line!r} cannot be searched; give interval(low,high), range(start,stop) "
        "or a list of choices."
    )


def _written(value: Any) -> str:
    """A value as an override has it; choices are written as they were given."""
    return repr(value) if isinstance(value, float) else str(value)
