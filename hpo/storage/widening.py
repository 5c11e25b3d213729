"""Widening a study in place: choices are added and ranges widened, its trials stay as they are.

What a trial was measured with does not depend on the space it was proposed from, so that all trials
of a widened study are compared; conditions such as changed data still make groups of their own.
Everything else that decides proposals or results, such as a goal, cannot change within a study.

Optuna's tables hold one list of options a choice. A choice that was widened is left out of them in
later trials, whose own record has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo.core.domains import Domain
from hpo.storage.provenance import changes
from hpo.storage.settings import space_of

ATTRIBUTE = "widened_choices"
"""User attribute of a study: paths of choices that got options after it was started."""


def refusal(started: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why settings do not widen those that a study was started with; None if they do.

    Both are as `storage.settings.spec_data` makes them; equal ones count as wider.
    """
    before, after = space_of(started), space_of(now)
    rest = {name: value for name, value in now.items() if name != "space"}
    if rest != {name: value for name, value in started.items() if name != "space"}:
        what = changes({**started, "space": {}}, {**now, "space": {}}).partition("; undo")[0]
        return _sentence(what.replace("the study was started", "but the study was started"))
    if before.keys() != after.keys():
        names = ", ".join(sorted(before.keys() ^ after.keys()))
        return _sentence(f"but no parameter can come or go, as {names} would")
    for path, old in before.items():
        if not after[path].covers(old):
            return _sentence(f"but {path} would not contain {_shown(old)} as {_shown(after[path])}")
    return None


def explained(started: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs and what to do, `--widen` among it where that would do."""
    what = changes(started, now)
    if refusal(started, now) is not None:
        return what
    return what.replace(
        "; undo the change, or add", "; add --widen to go on in the wider space, undo it, or add"
    )


def widened_choices(started: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Paths of choices with other options than before."""
    after = space_of(now)
    return [
        path
        for path, old in space_of(started).items()
        if old.is_choice and old.ends != after[path].ends
    ]


def _shown(domain: Domain) -> str:
    if domain.is_choice:
        return str(list(domain.ends))
    low, high = domain.ends
    return f"{domain.kind} {low} to {high}{', log' if domain.log else ''}"


def _sentence(what: str) -> str:
    return (
        f"--widen adds choices, widens ranges and adds trials, {what}; undo that, or use --fork "
        "instead."
    )
