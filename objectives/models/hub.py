"""The Hugging Face hub, with and without a network.

A dataset's identity is the commit that its name represents. It is asked for once, without retries;
where the hub cannot be reached it is the commit that was seen last: by this process, by a process
with the same store, or by the hub's own cache. So machines with and without a network find one
another's stages.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from objectives.store.entries import DamagedError, read_json, write_json
from objectives.store.stages import Stages
from objectives.store.store import key_of
from objectives.waiting import in_thread

TIMEOUT_S = 10.0
"""For one answer of the hub; assumed: a hub that is there answers within a second."""


AGAIN_S = 60.0
"""Seconds after which a hub that could not be reached is asked again; assumed."""


COMMITS = "hub-commit"
"""The stage of a note which commit a dataset's name represented."""


COMMIT = re.compile("[0-9a-f]{40}")


NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


_OFFLINE = threading.RLock()


_seen: dict[tuple[str, str | None], str] = {}


_unreachable: list[tuple[float, str]] = []


_answered: list[float] = []
"""When the hub answered last; empty before."""


class HubUnreachable(Exception):
    """The hub gave no answer; the message says why."""


def commit_of(name: str, revision: str | None, notes: Stages | None = None) -> str:
    """The commit that a revision of a dataset represents; None is its main branch.

    Raises:
        ValueError: there is no such dataset or revision, or the hub cannot be reached and the
            commit was never seen.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    try:
        commit = _ask(name, revision)
    except HubUnreachable as error:
        found = _remembered(name, revision, notes)
        if found is None:
            raise ValueError(
                f"the commit of dataset {name!r} is not known: the hub cannot be reached "
                f"({error}) and neither the store nor the hub's cache has seen it; run once with "
                "a network, set revision to a commit (40 hexadecimal digits), or give a local "
                "folder."
            ) from None
        return found
    _remember(name, revision, commit, notes)
    return commit


def why_unreachable(name: str, kind: str = "model") -> str | None:
    """Why the hub cannot be asked for a repository now; None if it answers, whatever it says."""
    from huggingface_hub import HfApi

    if _answered and time.monotonic() - _answered[0] < AGAIN_S:
        return None

    def ask() -> None:
        getattr(HfApi(), f"{kind}_info")(name, timeout=TIMEOUT_S)

    try:
        _answer(ask)
    except HubUnreachable as error:
        return str(error)
    except Exception:  # it does answer, and whoever loads the repository meets the same error
        return None
    return None


def only_local(name: str) -> bool:
    """Whether to look for a repository on this machine alone: a folder, or without a network."""
    return Path(name).exists() or why_unreachable(name) is not None


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Have `datasets` look into its cache alone, without retries."""
    import datasets
    from huggingface_hub import constants

    places: tuple[Any, ...] = (constants, datasets.config)
    with _OFFLINE:
        before = [place.HF_HUB_OFFLINE for place in places]
        for place in places:
            place.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            for place, value in zip(places, before, strict=True):
                place.HF_HUB_OFFLINE = value


def check_name(name: str) -> None:
    """Raise ValueError if this cannot be a dataset's name, such as a folder that is not there."""
    if not NAME.fullmatch(name) or name.startswith("."):
        raise ValueError(
            f"dataset {name!r} is neither a folder nor a name on the hub, such as 'owner/name'; "
            f"check the path (looked for {os.path.abspath(name)})."
        )


def _ask(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, errors

    check_name(name)
    page = f"https://huggingface.co/datasets/{name}"
    try:
        info = _answer(lambda: HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S))
        return str(info.sha)
    except errors.GatedRepoError:
        raise ValueError(
            f"dataset {name!r} is gated; ask for access at {page}, then run `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"dataset {name!r} has no revision {revision!r}; see {page}.") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(
            f"dataset {name!r} is not on the hub, or is private; check its name, or run "
            "`hf auth login`."
        ) from None
    except errors.HFValidationError:
        raise ValueError(
            f"dataset {name!r} is neither a folder nor a name on the hub; check the path."
        ) from None


def _answer(ask: Callable[[], Any]) -> Any:
    """What the hub says, in good time.

    Raises:
        HubUnreachable: nothing, or that it is out of order.
    """
    from huggingface_hub import errors

    if _unreachable and time.monotonic() - _unreachable[0][0] < AGAIN_S:
        raise HubUnreachable(_unreachable[0][1])
    _unreachable.clear()
    try:
        found = in_thread(ask, limit_s=TIMEOUT_S + 1)
    except errors.HFValidationError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        _answered[:] = [time.monotonic()]
        raise
    except errors.OfflineModeIsEnabled:
        raise HubUnreachable("HF_HUB_OFFLINE is set") from None
    except Exception as error:  # httpx's errors, which are no OSError; OSError; a status like 503
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        _unreachable.append((time.monotonic(), reason))
        raise HubUnreachable(reason) from None
    _answered[:] = [time.monotonic()]
    return found


def _remember(name: str, revision: str | None, commit: str, notes: Stages | None) -> None:
    _seen[name, revision] = commit
    key = key_of(name, revision, commit)
    if notes is None or notes.get(COMMITS, key) is not None:
        return
    note = {"name": name, "revision": revision, "commit": commit, "seen": time.time()}
    notes.put(COMMITS, key, lambda folder: write_json(folder / "commit.json", note))


def _remembered(name: str, revision: str | None, notes: Stages | None) -> str | None:
    """The commit seen last: by a process with this store, by this one, by the hub's cache."""
    noted = [] if notes is None else list(_noted(name, revision, notes))
    if noted:
        return max(noted)[1]
    return _seen.get((name, revision)) or _cached_ref(name, revision)


def _noted(name: str, revision: str | None, notes: Stages) -> Iterator[tuple[float, str]]:
    for key in notes.keys(COMMITS):
        note = notes.read(COMMITS, key, _read_note)
        if note is not None and note[:2] == (name, revision):
            yield note[3], note[2]


def _read_note(entry: Path) -> tuple[str, str | None, str, float]:
    note = read_json(entry / "commit.json")
    try:
        name, revision, commit, seen = (note[k] for k in ("name", "revision", "commit", "seen"))
        if not COMMIT.fullmatch(commit) or not isinstance(seen, float):
            raise TypeError
    except (KeyError, TypeError):
        raise DamagedError("commit.json is no note of a commit") from None
    return name, revision, commit, seen


def _cached_ref(name: str, revision: str | None) -> str | None:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs"
    try:
        commit = (folder / (revision or "main")).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None
