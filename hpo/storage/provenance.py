"""What a run was started with: what else reproduces it, and what its study says otherwise now."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from hpo.core.objective import ExplainsMetrics
from hpo.core.spec import StudySpec
from hpo.storage.settings import json_roundtrip

PACKAGES = ("plasticity-hpo", "torch", "transformers", "peft", "optuna", "datasets", "numpy")


def reproduce(spec: StudySpec) -> dict[str, Any]:
    """What else reproduces a run: versions, device, code revision; and what its metrics mean."""
    objective = spec.objective
    return plain_dict(
        versions={name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        machine=spec.objective.machine() | {"system": platform.system(), "cpus": os.cpu_count()},
        revision=_revision(),
        meanings=dict(objective.meanings()) if isinstance(objective, ExplainsMetrics) else {},
    )


def plain_dict(**items: Any) -> dict[str, Any]:
    """The items as they come back from the storage."""
    data: dict[str, Any] = json_roundtrip(items)
    return data


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The git revision of this code, with a mark if it was changed since; None outside git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def changes(started: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two descriptions of a study, and what to do."""
    before, after = _flat(started), _flat(now)
    changed = [
        f"{path}: {before.get(path, 'absent')!r} -> {after.get(path, 'absent')!r}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path, "absent") != after.get(path, "absent")
    ]
    shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
    return (
        f"the study was started with other settings ({shown}); undo the change, or add --fork to "
        "start a new run from here, which finds finished stages in the store."
    )


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    found: dict[str, Any] = {}
    for key, value in items:
        path = f"{prefix}.{key}".lstrip(".")
        if isinstance(value, Mapping | list) and value:
            found |= _flat(value, path)
        else:
            found[path] = value
    return found


class StudyChanged(ValueError):
    """The study file no longer says what the run was started with."""
