"""`python -m objectives.store`: what a store holds, and dropping some of it, as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from objectives.store import maintenance


def run(words: Sequence[str]) -> int:
    """The exit code; what the file system refuses is one line on standard error."""
    try:
        maintenance.main(words)
    except OSError as error:
        where = "" if error.filename is None else f"{ascii(str(error.filename))[1:-1]}: "
        print(f"{where}{error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
