"""What all tests need."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests import folders
from tests.pace import Meter, Pace

# Toy models and small matrices gain nothing from more threads, and lose much where tests run side
# by side. Set before numpy and torch are imported; workers and children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# No test uses a network, nor waits for one that is not there.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pace", action="store_true", help="write tests/pace.json again")


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C mean what it means at a terminal.

    A shell starts its background jobs with SIGINT ignored, and programs that they start inherit it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if memory := folders.in_memory():  # stores and databases are synced thousands of times
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)
    measure = config.getoption("--pace")
    config.pluginmanager.register(Pace(mark=not measure))
    if measure:
        config.pluginmanager.register(Meter())


@pytest.fixture(autouse=True, scope="session")
def _users_state_is_left_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What programs remember of this user goes to a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
