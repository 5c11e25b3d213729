"""`python -m objectives.store`: what a store holds, and dropping some of it, as JSON."""

from __future__ import annotations

import sys

from objectives.store.maintenance import main

main(sys.argv[1:])
