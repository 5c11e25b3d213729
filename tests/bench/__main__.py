"""`python -m tests.bench NAME`: run one bench, print a table, write JSON.

Exit codes: 0 measured, 1 measured but a goal was missed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import (
    calibration,
    control,
    decay,
    devices,
    errors,
    figures,
    kills,
    lanes,
    late_goals,
    lora,
    parts,
    peer_bench,
    probes,
    race,
    report,
    rungs,
    search,
    shape,
    stages,
    throughput,
)
from tests.bench.faults import run
from tests.bench.figures import Figure, Options


def main(argv: Sequence[str] | None = None) -> int:
    """Run a bench; returns the exit code."""
    arguments = _parser().parse_args(argv)
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    started = time.monotonic()
    options = Options(
        quick=arguments.quick,
        device=arguments.device,
        repeats=arguments.repeats,
        first_seed=arguments.first_seed,
        only=arguments.only,
        corpus=arguments.corpus,
        task=arguments.task,
        seconds=arguments.seconds,
        parts=arguments.parts,
        recipe=arguments.recipe,
        say=lambda text: print(f"{time.monotonic() - started:7.1f} s  {text}", file=sys.stderr),
    )
    try:
        found = BENCHES[arguments.name](options)
    except ValueError as error:
        print(f"tests.bench: {error}", file=sys.stderr)
        return 2
    console.print(figures.table(arguments.name, found))
    if arguments.json is not None:
        data = figures.to_json(arguments.name, found, arguments.device)
        figures.write_json(arguments.json, data)
    return 1 if any(figures.is_met(figure) is False for figure in found.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", choices=list(BENCHES))
    parser.add_argument("--quick", action="store_true", help="a smoke check of at most a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu or cuda")
    parser.add_argument(
        "--repeats", "--seeds", type=int, metavar="N", help="measurements of each thing, or seeds"
    )
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        metavar="N",
        help="of search, rungs, parts and race, to measure them in parts",
    )
    parser.add_argument("--only", metavar="NAME", help="one setting or preset of the bench")
    parser.add_argument("--corpus", type=Path, metavar="PATH", help="text for lora and race")
    parser.add_argument(
        "--task", type=Path, metavar="DIR", help="train, validation and test.jsonl for these"
    )
    of_race = parser.add_argument_group("race")
    of_race.add_argument("--seconds", type=float, metavar="S", help="for each arm and seed")
    of_race.add_argument("--parts", type=Path, metavar="DIR", help="where its parts are kept")
    of_race.add_argument("--recipe", type=Path, metavar="FILE", help="in place of the quickstart's")
    return parser


BENCHES: dict[str, Callable[[Options], dict[str, Figure]]] = {
    "peer": peer_bench.run,
    "lanes": lanes.run,
    "stages": stages.run,
    "kills": kills.run,
    "faults": run.run,
    "probes": probes.run,
    "decay": decay.run,
    "devices": devices.run,
    "calibration": calibration.run,
    "control": control.run,
    "errors": errors.run,
    "search": search.run,
    "late_goals": late_goals.run,
    "lora": lora.run,
    "rungs": rungs.run,
    "parts": parts.run,
    "race": race.run,
    "report": report.run,
    "shape": shape.run,
    "throughput": throughput.run,
}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what a bench started ends with it
    sys.exit(main())
