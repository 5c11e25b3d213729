"""Every command and its options, each with name, type, default and help at one place.

Those of `hpo run` are in hpo/cli/run_options.py.
"""

from __future__ import annotations

from pathlib import Path

from hpo.cli.options import OPTIONS, Command, Group, Option
from hpo.cli.run_options import DEVICE, OUT, OUTPUT, RUN_GROUPS, SHARE, STORAGE, STORE_GB, VARIANT
from hpo.cli.values import count, gigabytes, rate, seconds, whole
from hpo.cli.verify_options import VERIFY

RUN = Option("run", "RUN", "name or folder of a run")
JSON = Option("--json", None, "print JSON")
GROUP = Option(
    "--group",
    "N",
    "show group N of the trials, where data or versions changed (default: the latest)",
    whole(0),
)


def reading(*options: Option, storage: tuple[Option, ...] = (OUT, STORAGE)) -> tuple[Group, ...]:
    """Groups of a command that reads runs: its own options, and where runs are."""
    own = (Group(OPTIONS, options),) if options else ()
    return (*own, Group("storage", storage))


MEASURE = (
    Command(
        "init", "hpo.cli.init:run", "write a commented study file for your text and tasks",
        (
            Group(
                OPTIONS,
                (
                    Option(
                        "file", "FILE", "the new file (default: study.py)", default="study.py",
                        nargs="?",
                    ),
                    Option(
                        "--corpus", "PATH", "file, folder or pattern of the text; may be repeated",
                        repeats=True,
                    ),
                    Option(
                        "--task", "PATH", "folder with train and test rows, or a file of train "
                        "rows with one of test rows beside it; may be repeated", field="tasks",
                        repeats=True,
                    ),
                    Option("--name", "NAME", "name of the study (default: the file's)"),
                ),
            ),
        ),
        ("hpo init", "hpo init mine.py --corpus texts/ --task intents/"),
    ),
    Command(
        "run", "hpo.cli.run:run", "start a study, or continue it", RUN_GROUPS,
        ("hpo run quickstart",
         "hpo run mine.py --trials 40 --budget 2h --set pretrain.steps=2000",
         "hpo run mine.py --executor slurm --workers 8 --worker-gpus 1 --slurm partition=gpu"),
    ),
    Command(
        "check", "hpo.cli.check:run", "check a study, and estimate what it would cost",
        (*RUN_GROUPS[:-1], Group("output", (*OUTPUT.options, JSON))),
        ("hpo check mine.py --trials 40",),
    ),
    Command(
        "params", "hpo.cli.params:run", "list hyperparameters: type, unit, default, meaning",
        (
            Group(
                OPTIONS,
                (
                    Option(
                        "pattern", "PATTERN", "part of a path, such as lora, or a glob, such as "
                        "'pretrain.*_frac'", default="", nargs="?",
                    ),
                    Option("--study", "STUDY", "those of the objective of this study"),
                    VARIANT,
                    JSON,
                ),
            ),
        ),
        ("hpo params lora", "hpo params 'pretrain.*_frac' --study quickstart"),
    ),
)  # fmt: skip
LOOK = (
    Command(
        "list", "hpo.cli.listing:run", "list the shipped studies, and the runs with their progress",
        reading(), ("hpo list", "hpo list --out /data/runs"),
    ),
    Command(
        "show", "hpo.cli.show:run", "print the front and the baselines as tables, or every trial",
        reading(
            RUN,
            JSON,
            Option("--csv", None, "print every trial as CSV"),
            Option("--all", None, "every trial, failed ones too"),
            Option("--sort", "METRIC", "every trial, the best by this metric first"),
            Option("--top", "N", "only the first N trials", whole(1)),
            GROUP,
        ),
        ("hpo show quickstart", "hpo show quickstart --sort gain --top 5"),
    ),
    Command(
        "report", "hpo.cli.show:report", "write the HTML report, print its path",
        reading(RUN, GROUP), ("hpo report quickstart",),
    ),
    Command(
        "compare", "hpo.cli.compare:run", "compare the fronts of several runs",
        reading(Option("run", "RUN", "names or folders of runs", nargs="+"), JSON),
        ("hpo compare quickstart quickstart-2",),
    ),
    Command(
        "claims", "hpo.cli.claims:run", "planned contrasts and a paper's claims, with p and power",
        reading(
            RUN,
            Option(
                "--record", "FILE", "keep them in this JSON file, in place of the earlier ones "
                "of the same study", Path,
            ),
            JSON,
        ),
        ("hpo claims weight_decay_plasticity",
         "hpo claims weight_decay_plasticity --record studies/RESULTS.json"),
    ),
    Command(
        "plot", "hpo.cli.plot:run", "write a figure as picture, page or data",
        reading(
            RUN,
            Option("figure", "FIGURE", "without one, the figures are listed", nargs="?"),
            Option("--all", None, "write every figure into a folder"),
            Option(
                "--to", "PATH", "file that ends in .png, .svg, .pdf, .html, .csv, .parquet or "
                ".json (default: FIGURE.png); with --all a folder (default: RUN-figures)", Path,
            ),
            Option(
                "--format", "FORMAT", "format of the files, where --to names none (default: png)",
                choices=("png", "svg", "pdf", "html", "csv", "parquet", "json"),
            ),
        ),
        ("hpo plot quickstart", "hpo plot quickstart front --to front.svg",
         "hpo plot quickstart --all --format html"),
    ),
    Command(
        "dashboard", "hpo.cli.dashboard:run", "serve optuna-dashboard for a run on this machine",
        reading(
            RUN,
            Option("--port", "N", "port (default: 8080)", whole(1, 65535), default=8080),
            Option("--writable", None, "allow changes from the page"),
        ),
        ("hpo dashboard quickstart --port 8081",),
    ),
)  # fmt: skip
USE = (
    Command(
        "export", "hpo.cli.export:run", "export a trial as Hugging Face folders with a model card",
        reading(
            RUN,
            Option(
                "--trial", "ID", "number of a trial, knee, or best:GOAL", required=True,
                suggests=("knee",),
            ),
            Option("--to", "DIR", "new or empty folder that is written", Path, required=True),
            Option(
                "--push-to-hub", "REPO", "push the folder to this repository of the Hugging Face "
                "hub, a private one"
            ),
            Option("--public", None, "push to a public repository"),
            Option(
                "--license", "ID", "licence in the model card, such as apache-2.0 (default: other)",
                default="other", suggests=("apache-2.0", "mit", "cc-by-4.0"),
            ),
            Option("--study", "STUDY", "file of the study, if it has moved"),
            VARIANT,
            DEVICE,
            SHARE,
            JSON,
        ),
        ("hpo export quickstart --trial knee --to knee",
         "hpo export quickstart --trial knee --to knee --push-to-hub me/knee --license mit"),
    ),
    Command(
        "transfer", "hpo.cli.transfer:run", "weight decay and schedule for the large run",
        (
            Group(
                OPTIONS,
                (
                    RUN,
                    Option(
                        "--trial", "ID", "number of a trial, knee, front or best:GOAL (default: "
                        "knee)", default="knee", suggests=("knee", "front"),
                    ),
                    JSON,
                ),
            ),
            Group(
                "the large run",
                (
                    Option("--params", "N", "parameters, such as 7B", count, required=True),
                    Option("--tokens", "N", "training tokens, such as 140e9", count, required=True),
                    Option("--lr", "X", "peak learning rate", rate, required=True),
                    Option("--seq-len", "N", "tokens per sequence", count),
                ),
            ),
            Group(
                "its batch",
                (
                    Option(
                        "--batch", "N", "sequences per step; needs --seq-len (10,000 and more "
                        "without --seq-len are tokens)", count,
                    ),
                    Option("--batch-tokens", "N", "tokens per step", count),
                ),
                exclusive=True,
            ),
            *reading(),
        ),
        ("hpo transfer quickstart --params 7B --tokens 140e9 --batch-tokens 4M --lr 3e-4",),
    ),
    VERIFY,
)  # fmt: skip
KEEP = (
    Command(
        "copy", "hpo.cli.copy:run", "copy the record of a run into another database",
        reading(RUN, Option("--to-storage", "URL", "URL of the other database", required=True)),
        ("hpo copy quickstart --to-storage postgresql://user@host/hpo",),
    ),
    Command(
        "delete", "hpo.cli.delete:run", "delete the record and the folder of a run",
        reading(RUN, Option("--yes", None, "do not ask")), ("hpo delete quickstart",),
    ),
    Command(
        "store show", "hpo.cli.store:show", "print the sizes of finished stages, and what they "
        "saved", reading(JSON, storage=(OUT,)), ("hpo store show",),
    ),
    Command(
        "store prune", "hpo.cli.store:prune", "free space; stages that are in use stay",
        (
            Group(
                "what goes",
                (
                    Option(
                        STORE_GB, "GB", "the least useful stages, until the store has this size",
                        gigabytes, old="--budget",
                    ),
                    Option(
                        "--older-than", "TIME", "stages unused for this long, such as 12h or 7d",
                        seconds,
                    ),
                    Option("--damaged", None, "stages that are damaged; all are read"),
                    Option("--stage", "NAME", "all of one stage, as hpo store show names it"),
                ),
                exclusive=True,
            ),
            *reading(
                Option("--dry-run", None, "print what would go, delete nothing"), storage=(OUT,)
            ),
        ),
        ("hpo store prune --store-gb 20 --dry-run", "hpo store prune --older-than 30d"),
    ),
    Command(
        "doctor", "hpo.cli.doctor:run", "check device, versions, disk and storage", reading(),
        ("hpo doctor", "hpo doctor --storage postgresql://user@host/hpo"),
    ),
    Command(
        "completion", "hpo.cli.completion:run", "print a script that completes commands in a shell",
        (
            Group(
                OPTIONS,
                (
                    Option("shell", "SHELL", "bash, zsh or fish", choices=("bash", "zsh", "fish")),
                    Option("--line", "TEXT", "print what completes this line, for the script"),
                ),
            ),
        ),
        ("eval \"$(hpo completion bash)\"    # in ~/.bashrc",
         "eval \"$(hpo completion zsh)\"     # in ~/.zshrc, after compinit",
         "hpo completion fish > ~/.config/fish/completions/hpo.fish"),
    ),
)  # fmt: skip
SECTIONS = {
    "measure": MEASURE,
    "look at runs": LOOK,
    "use a trial": USE,
    "maintain": KEEP,
}
"""Commands as `hpo --help` lists them."""
COMMANDS = {each.name: each for section in SECTIONS.values() for each in section}
STORE_HELP = "look at finished stages, or delete some"
