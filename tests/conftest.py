"""What all tests need."""

import signal

import pytest

from tests.pace import Meter, Pace


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pace", action="store_true", help="write tests/pace.json again")


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C mean what it means at a terminal.

    A shell starts its background jobs with SIGINT ignored, and programs that they start inherit it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(Pace())
    if config.getoption("--pace"):
        config.pluginmanager.register(Meter())
