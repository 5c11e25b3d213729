"""What all tests need."""

import gc
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Have Ctrl-C mean what it means at a terminal.

    A shell starts its background jobs with SIGINT ignored, and programs that they start inherit it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _databases_are_closed() -> Iterator[None]:
    """Close what a module's tests have left to the garbage collector, such as files of SQLite.

    One process runs many modules, and `select` knows only the first 1,024 descriptors.
    """
    yield
    gc.collect()
