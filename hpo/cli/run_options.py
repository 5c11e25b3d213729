"""The options of `hpo run`, in groups, and those that other commands share with it."""

from __future__ import annotations

from pathlib import Path

from hpo.cli.options import Group, Option
from hpo.cli.values import rate, seconds, setting, share, whole
from hpo.core.checks import MOST_SEED
from hpo.executors import EXECUTORS
from hpo.trackers.registry import TRACKERS

OUT = Option("--out", "DIR", "folder of the runs (default: runs)", Path, default=Path("runs"))


STORAGE = Option(
    "--storage", "URL", "storage URL (default: $HPO_STORAGE, else SQLite in the run folder)"
)


VARIANT = Option(
    "--variant", "NAME", "variant of the study, such as small or full", old="--setting",
    suggests=("small", "full"),
)  # fmt: skip


DEVICE = Option(
    "--device",
    "D",
    "cpu, cuda or mps (default: cuda if there is a GPU)",
    suggests=("cpu", "cuda", "mps"),
)


SHARE = Option("--share", "URL", "folder or bucket where machines share finished stages")


STORE_GB = "--store-gb"


WHAT = Group(
    "what to run",
    (
        Option("study", "STUDY", "a shipped study (see hpo list), or a .py, .yaml or .json file"),
        VARIANT,
        Option(
            "--set", "PATH=VALUE", "fix a hyperparameter for all trials; may be repeated", setting,
            field="params", repeats=True,
        ),
        Option("--name", "NAME", "name of the run (default: the study's)"),
        Option("--seed", "N", "seed of the study", whole(0, MOST_SEED)),
        Option("--warm-start", "RUN", "begin the search with the trials of an earlier run"),
    ),
)  # fmt: skip


LENGTH = Group(
    "how long",
    (
        Option(
            "--trials", "N", "number of trials in all, baselines and grid points included", whole(1)
        ),
        Option(
            "--budget", "TIME", "stop after this much device time, such as 90s, 30m or 1h30m",
            seconds, field="budget_s",
        ),
        Option("--wall", "TIME", "start no new trials after this much elapsed time", seconds),
        Option("--max-flops", "N", "stop after this many training FLOPs", rate),
        Option(
            "--patience", "N", "stop when N full trials in a row bring no improvement", whole(1)
        ),
        Option("--confirm", "N", "at the end, measure the front again at N new seeds", whole(0)),
    ),
)  # fmt: skip


WHERE = Group(
    "where trials run",
    (
        DEVICE,
        Option("--devices", "N", "devices per trial, such as 4 GPUs", whole(1)),
        Option(
            "--sharding", "KIND",
            "how a model uses them: replicate (a copy on each) or fsdp (split over them)",
            suggests=("replicate", "fsdp"),
        ),
        Option("--lanes", "K", "train at most K trials together in one program", whole(1)),
        Option(
            "--executor", "NAME", f"{', '.join(EXECUTORS)} (default: auto)",
            choices=tuple(EXECUTORS), default="auto",
        ),
        Option("--workers", "N", "number of workers of the executor", whole(1)),
        Option(
            "--worker-cpus", "N", "CPUs per worker (Ray, SLURM; default: 1)", share, field="cpus",
            default=1.0,
        ),
        Option(
            "--worker-gpus", "N", "GPUs per worker (Ray, SLURM), such as 0.5", share, field="gpus",
            default=0.0,
        ),
        Option(
            "--slurm", "NAME=VALUE", "option of SLURM jobs, such as partition=gpu or time=60; may "
            "be repeated", setting, repeats=True,
        ),
        Option(
            "--hung-after", "TIME", "replace a worker without progress for this long (default: 1h, "
            "and 10m while it prepares data)", seconds, field="patience_s",
        ),
    ),
)  # fmt: skip


CONTINUE = Group(
    "a run that is there",
    (
        Option("--wait", None, "wait for the process that holds this study"),
        Option("--fork", None, "start a new run beside the old one if the study has changed"),
        Option(
            "--widen", None,
            "continue with choices added or ranges widened in the study's space; trials stay",
        ),
        Option(
            "--accept-changes", None,
            "continue with changed data or library versions; new trials form a group of their own",
        ),
        Option("--restart", None, "begin again where the database of the run has vanished"),
    ),
)  # fmt: skip


STORED = Group(
    "storage",
    (
        OUT,
        STORAGE,
        Option(STORE_GB, "GB", "keep the store of finished stages within this size", rate),
        SHARE,
    ),
)


OUTPUT = Group(
    "output",
    (
        Option("--live", None, "keep the report up to date while trials run"),
        Option(
            "--track", "TOOL", f"track trials in {', '.join(TRACKERS)}; may be repeated",
            choices=tuple(TRACKERS), repeats=True,
        ),
    ),
)  # fmt: skip


RUN_GROUPS = (WHAT, LENGTH, WHERE, CONTINUE, STORED, OUTPUT)
