"""The executor that `hpo run` takes unless another one is named.

On a CPU a wave is divided among worker processes, one of one thread for each core: two processes of
one thread train 1.3 times as fast as one of two (`python -m tests.bench throughput`), and a lane of
one thread has the same bits in any company, so that results do not depend on how many there are.
Where little is to be computed, on a GPU, and for an objective that does not say what it computes,
everything is measured in this process.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpo.core.objective import EstimatesWork, Request
from hpo.core.spec import StudySpec
from hpo.executors.base import Executor, Options
from hpo.executors.divided import Divided
from hpo.executors.inline import Inline
from hpo.executors.processes import local_pool, num_cpus
from hpo.study_files import StudyRequest

OPERATIONS_PER_S = 3e10
"""Of a core, in training; measured: 2 to 4e10 with lanes of 0.2M and 1M parameters."""


START_S = 6.0
"""Seconds until workers have loaded a study; measured: 3 to 5."""


def local_executor(
    spec: StudySpec, request: StudyRequest, folder: Path, options: Options
) -> Executor:
    """Workers where they pay, else this process."""
    most = min(spec.wave, spec.trials)  # more would load the study and have no trial
    workers = min(options.workers or _num_workers(request), most)
    if workers == 1 or (options.workers is None and not _pays(spec, workers)):
        return Inline(spec.objective)
    on_cpu = dataclasses.replace(request, device=request.device or "cpu")
    return Divided(local_pool(on_cpu, folder, workers, options.patience_s), spec.objective)


def _num_workers(request: StudyRequest) -> int:
    """One for each core that a trial's devices leave."""
    return max(1, num_cpus() // (request.devices or 1))


def _pays(spec: StudySpec, workers: int) -> bool:
    """Whether several workers save more than their start takes."""
    objective = spec.objective
    if not isinstance(objective, EstimatesWork):
        return False
    asked = Request(params={}, fidelity=1.0, seed=spec.seed)
    try:
        operations = objective.cpu_operations([asked]) * spec.trials
    except ValueError:  # what is wrong is reported where the study is checked
        return False
    return operations / OPERATIONS_PER_S * (1 - 1 / workers) > START_S
