"""What an objective raises: a trial's own fault, which fails it, or one that ends the study.

An exception of `evaluate` says nothing of which trial caused it, so the controller has the trials
of such a batch measured one by one, and the one that raises again fails with its reason. What is no
trial's fault, such as a full disk, a store that cannot be read or a service that is down, ends the
study instead: nothing is recorded, and the same command goes on once it is fixed.
"""

from __future__ import annotations

import errno
import traceback

from hpo.core.passwords import mask
from hpo.core.results import text

SENTENCES = ("StoreError", "StorageError", "MemoryError", "RanksError")
"""Errors that are no trial's fault and whose text is a sentence for the user."""


ERRNOS = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE,
        errno.ENFILE, errno.ENOMEM, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH,
    }
)  # fmt: skip
"""Of errors of the system that are no trial's fault."""


SIGNS = ("No space left on device", "Disk quota exceeded")
"""By which the same is recognised where a library has an error of its own."""


MOST_REASON = 500


class ObjectiveError(RuntimeError):
    """What an objective raised, here or in a worker."""

    def __init__(
        self,
        kind: str,
        text: str,
        trace: str,
        *,
        fatal: bool | None = None,
        error: BaseException | None = None,
    ) -> None:
        """`fatal`: whether it is no trial's fault; None goes by its kind."""
        super().__init__(text if kind in (*SENTENCES, "ResultsError") else f"{kind}: {text}")
        self.kind, self.text, self.trace, self.error = kind, text, trace, error
        self.fatal = kind in SENTENCES if fatal is None else fatal

    @property
    def reason(self) -> str:
        """Why a trial failed by it."""
        message = mask(self.text)
        if self.kind != "ResultsError":
            message = f"the objective raised {self.kind}: {message}"
        return message if len(message) <= MOST_REASON else f"{message[:MOST_REASON]}..."


def raised(error: BaseException) -> ObjectiveError:
    """An exception that came out of an objective."""
    kind = type(error).__name__
    message = " ".join(text(error).split()) or kind
    trace = "".join(traceback.format_exception(error))
    return ObjectiveError(kind, message, trace, fatal=is_fatal(error), error=error)


def is_fatal(error: BaseException) -> bool:
    """Whether it is no trial's fault, by itself or by what it was raised from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        kinds = {kind.__name__ for kind in type(each).__mro__}
        if kinds & set(SENTENCES) or isinstance(each, ConnectionError | TimeoutError):
            return True
        if isinstance(each, OSError) and each.errno in ERRNOS:
            return True
        if any(sign in text(each) for sign in SIGNS):
            return True
        each = each.__cause__
    return False


class StorageError(RuntimeError):
    """The storage cannot be used; the message says how to fix it, without any password."""
