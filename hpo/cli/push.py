"""Pushing an exported folder to the Hugging Face hub; private unless it is asked for otherwise.

The token is the one of `hf auth login` or HF_TOKEN, and is never printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.utils.tqdm import disable_progress_bars

from hpo.core.failures import StorageError
from hpo.core.passwords import mask

LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def check(repo: str, *, public: bool) -> None:
    """Raise before anything is trained where the push would be refused.

    Raises:
        ValueError: the name is none, there is no token, or the repository is public and `public` is
            not given.
        StorageError: the hub cannot be reached, or refuses the token.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise ValueError(f"--push-to-hub needs USER/NAME, got {repo!r}.")
    if get_token() is None:
        raise ValueError(f"--push-to-hub needs a token; {LOGIN}.")
    with _explained(repo, "nothing was exported"):
        api = _api()
        api.whoami()
        if not public and api.repo_exists(repo) and not api.repo_info(repo).private:
            raise ValueError(
                f"the repository {repo!r} is public; add --public to push there, or name another."
            )


def push(folder: Path, repo: str, *, public: bool, message: str) -> str:
    """Upload the folder, making the repository if there is none; returns its address.

    Raises:
        StorageError: that failed; the folder stays.
    """
    disable_progress_bars()
    with _explained(repo, f"{folder} is whole; to try again: hf upload {repo} {folder}"):
        api = _api()
        made = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message=message)
    return str(made)


def _api() -> HfApi:
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


@contextmanager
def _explained(repo: str, kept: str) -> Iterator[None]:
    """One sentence, without the token, of whatever the hub's library raises."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # of several libraries below it
        reason = " ".join(str(error).split())[:300]
        token = get_token()
        if token:
            reason = reason.replace(token, "***")
        denied = any(sign in reason for sign in ("401", "403"))
        hint = LOGIN if denied else "check the network and https://status.huggingface.co"
        raise StorageError(
            f"cannot push to {repo} on the hub ({mask(reason)}): {hint}; {kept}."
        ) from None
