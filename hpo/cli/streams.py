"""Standard output that cannot end a study: it falls back where it cannot encode or write.

1. A character that the encoding does not have is written another way, such as +- for a plus-minus
   sign; what has no other way is written as Python escapes it.
2. Where nothing can be written any more (a pipe whose reader left, a closed terminal, a full disk)
   that is reported once on standard error, and the rest is dropped. Commands that measure go on.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO, cast

from hpo.core.format import escape_controls

FALLBACK = "hpo.fallback"
"""The name of the error handler of encodings."""


SPELLINGS = {
    "±": "+-", "≤": "<=", "≥": ">=", "∞": "inf", "τ": "tau", "·": "-", "…": "...", "→": "->",
    "✓": "x", "²": "^2", "\N{EN DASH}": "-", "\N{MULTIPLICATION SIGN}": "x",
}  # fmt: skip


ALIGNED = {" ± ": " +-", " ≤ ": " <=", " ≥ ": " >=", "…": "."}
"""What takes as much place in a table as the text that it represents."""


class Stream:
    """A text stream whose failures are kept instead of raised."""

    def __init__(self, inner: TextIO, *, says: TextIO | None = None) -> None:
        self.inner, self.says = inner, says
        self.tells_of_pipe = False
        """Whether a reader that leaves, such as `head`, is worth a message."""
        self.error: OSError | None = None
        """Why nothing is written any more."""
        if reconfigure := getattr(inner, "reconfigure", None):
            with contextlib.suppress(LookupError, ValueError):
                reconfigure(errors=FALLBACK)

    def write(self, text: str) -> int:
        """Write, or drop what cannot be written."""
        self._try(lambda: self.inner.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, where that can be done."""
        self._try(self.inner.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _try(self, action: Any) -> None:
        if self.error is not None:
            return
        try:
            action()
        except OSError as error:
            self._lose(error)
        except ValueError as error:  # the stream is closed
            self._lose(OSError(str(error)))
        except RuntimeError:  # a signal's handler prints within a write
            return

    def _lose(self, error: OSError) -> None:
        """Have what is still in the buffer go nowhere, else it is tried again at exit."""
        self.error = error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.inner.fileno())
            os.close(nowhere)
        if self.says is not None and (self.tells_of_pipe or not isinstance(error, BrokenPipeError)):
            reason = error.strerror or str(error)
            with contextlib.suppress(OSError, ValueError):
                print(f"hpo: the output cannot be written ({reason}); the rest of it is dropped.",
                      file=self.says, flush=True)  # fmt: skip


@contextlib.contextmanager
def lasting() -> Iterator[Stream | None]:
    """Within it standard output and standard error are such streams; gives that of the output.

    None where there is no standard output, as after `>&-`.
    """
    codecs.register_error(FALLBACK, _spell)
    out, err = sys.stdout, sys.stderr
    says = None if err is None else Stream(err)
    found = None if out is None else Stream(out, says=cast(TextIO, says))
    if found is not None:
        sys.stdout = cast(TextIO, found)
    if says is not None:
        sys.stderr = cast(TextIO, says)
    try:
        yield found
    finally:
        for stream in (found, says):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = out, err


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Within it warnings, whose texts may come from anywhere, are spelled out as well."""
    before = warnings.formatwarning

    def plain(*given: Any, **named: Any) -> str:
        return escape_controls(before(*given, **named))

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = before


def encodable(text: str, encoding: str) -> str:
    """The text with what the encoding lacks written in as much place, where there is a way."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        for sign, spelled in ALIGNED.items():
            text = text.replace(sign, spelled)
    return text


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    spelled = "".join(SPELLINGS.get(each) or _escaped(each) for each in wrong)
    return spelled, error.end


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")
