"""A run's findings as data that can be kept beside its study: what it claims, and what made it."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hpo.report.planned_contrasts import contrasts_json
from hpo.report.results import Results
from hpo.report.terminal_tables import finite

IDENTITY = ("study", "variant", "params")
"""Fields by which a run is the same as one that was recorded before."""


def has_claims(results: Results) -> bool:
    """Whether there is anything to record."""
    return results.run.contrasts is not None or results.run.paper is not None


def record(results: Results, note: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything that a run claims, whatever came of it, with what reproduces it.

    {"study": str, "variant": str | null, "params": {path: value}, "command": str,
     "commit": str | null, "versions": {package: str | null}, "machine": {name: value},
     "seeds": [int], "trials": int, complete, "failed": int, "device_s": float, all trials together,
     "begun": str | null, "ended": str | null, local time,
     "contrasts": null | see `hpo.report.terminal_tables.run_json`,
     "claims": [{"table": str, "text": str, "paper": str, "ours": str, "value": float | null,
                 "error": float | null, "p": float | null, not corrected,
                 "detectable": float | null, with 80 % power at 95 %, "verdict": str,
                 "equality": bool}]}

    Args:
        note: which study the run is of, as its folder has it; None where it does not tell.
    """
    run = results.run
    note = {} if note is None else note
    counted = [trial for trial in run.trials if trial.name is not None]
    study = _study(note.get("study", run.name))
    return dict(
        finite(
            {
                "study": study,
                "variant": note.get("variant"),
                "params": dict(note.get("params") or {}),
                "command": command(study, note),
                "commit": run.reproduce.get("revision"),
                "versions": run.reproduce.get("versions", {}),
                "machine": run.reproduce.get("machine", {}),
                "seeds": sorted({trial.seed for trial in counted}),
                "trials": len(run.complete()),
                "failed": sum(trial.state == "failed" for trial in run.trials),
                "device_s": math.fsum(trial.cost.get("time_s", 0.0) for trial in run.trials),
                "begun": None if run.begun is None else run.begun.isoformat(" "),
                "ended": None if run.ended is None else run.ended.isoformat(" "),
                "contrasts": contrasts_json(results),
                "claims": [
                    {"table": side.title, **dataclasses.asdict(finding)}
                    for side in results.paper_sides
                    for finding in side.findings
                ],
            }
        )
    )


def recorded(known: Sequence[Mapping[str, Any]], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs that are known with a new one, which replaces an earlier one of the same study."""
    kept = [dict(each) for each in known if _identity(each) != _identity(new)]
    return sorted([*kept, dict(new)], key=lambda each: (each["study"], each.get("variant") or ""))


def is_run(found: Any) -> bool:
    """Whether data is of a recorded run, as far as runs are found and ordered by it."""
    return (
        isinstance(found, Mapping)
        and isinstance(found.get("study"), str)
        and isinstance(found.get("variant"), str | None)
    )


def _identity(found: Mapping[str, Any]) -> list[Any]:
    return [found.get(name) for name in IDENTITY]


def _study(given: str) -> str:
    """A study's name, or its file without the folders of this machine."""
    return PurePath(given).name


def command(study: str, note: Mapping[str, Any]) -> str:
    """The line that starts the run again, quoted for a shell."""
    words = ["hpo", "run", study]
    if note.get("variant"):
        words += ["--variant", str(note["variant"])]
    for path, value in (note.get("params") or {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += ["--set", f"{path}={text}"]
    return shlex.join(words)
