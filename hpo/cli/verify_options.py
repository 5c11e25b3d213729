"""The options of `hpo verify`."""

from __future__ import annotations

from hpo.cli.options import OPTIONS, Command, Group, Option
from hpo.cli.run_options import CONTINUE, LENGTH, OUT, SHARE, STORAGE, VARIANT, WHERE
from hpo.cli.values import rate, whole


def named(group: Group, *names: str) -> tuple[Option, ...]:
    """These options of a group."""
    return tuple(option for option in group.options if option.name in names)


VERIFY = Command(
    "verify", "hpo.cli.verify:run", "train a run's recipes at larger models, and compare",
    (
        Group(
            OPTIONS,
            (
                Option("run", "RUN", "name or folder of a run"),
                Option(
                    "--recipes", "N", "recipes of the front, baselines and dominated ones "
                    "(default: 8)", whole(3), default=8,
                ),
                Option("--dry-run", None, "print the plan and its cost, train nothing"),
                Option("--study", "STUDY", "file of the study, if it has moved"),
                VARIANT,
                Option("--json", None, "print JSON"),
            ),
        ),
        Group(
            "the larger models",
            (
                Option(
                    "--sizes", "LIST", "presets, the smallest first, such as "
                    "llama-0.2m,llama-1m", required=True,
                ),
                Option(
                    "--tokens-per-param", "X", "training tokens per parameter (default: 20)",
                    rate, default=20.0,
                ),
                Option(
                    "--rules", "LIST", "rules of hpo transfer for the weight decay "
                    "(default: all)",
                ),
                Option(
                    "--lr-factor", "X", "peak rate there over the proxy's (default: 1)", rate,
                    default=1.0,
                ),
                Option(
                    "--seeds", "N", "seeds of every recipe, the same for all (default: 2)",
                    whole(1), default=2,
                ),
            ),
        ),
        Group("how long", named(LENGTH, "--budget", "--wall")),
        Group(
            WHERE.title,
            tuple(
                each
                for each in WHERE.options
                if each.name not in ("--devices", "--sharding")
            ),
        ),
        Group("a verification that is there", named(CONTINUE, "--wait", "--accept-changes")),
        Group("storage", (OUT, STORAGE, SHARE)),
    ),
    ("hpo verify quickstart --sizes llama-1m --dry-run",
     "hpo verify quickstart --sizes llama-0.2m,llama-1m --seeds 3 --budget 2h"),
)  # fmt: skip
