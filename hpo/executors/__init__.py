"""Where batches of requests are measured: one small interface with futures.

The controller submits and records; an executor is stateless but for the work it holds, so that a
study goes on with another one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hpo.executors.base import Executor as Executor
from hpo.executors.base import Options as Options

if TYPE_CHECKING:
    from hpo.core.spec import StudySpec
    from hpo.study_files import StudyRequest


Make: TypeAlias = "Callable[[StudySpec, StudyRequest, Path, Options], Executor]"
"""Of a study, how it was asked for, the run's folder and options; starts nothing yet."""


def _auto(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.auto import local_executor

    return local_executor(spec, request, folder, options)


def _inline(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.inline import Inline

    return Inline(spec.objective)


def _processes(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.processes import local_pool

    return local_pool(request, folder, options.workers, options.patience_s)


def _ray(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.ray_actors import ray_pool

    return ray_pool(
        request, folder, options.workers, options.patience_s, cpus=options.cpus, gpus=options.gpus
    )


def _slurm(spec: StudySpec, request: StudyRequest, folder: Path, options: Options) -> Executor:
    from hpo.executors.slurm import slurm_pool

    return slurm_pool(
        request,
        folder,
        options.workers,
        options.patience_s,
        cpus=options.cpus,
        gpus=options.gpus,
        settings=options.slurm,
    )


EXECUTORS: dict[str, Make] = {
    "auto": _auto,
    "inline": _inline,
    "processes": _processes,
    "ray": _ray,
    "slurm": _slurm,
}
"""Each is imported when it is used: the names alone are on the command line."""
