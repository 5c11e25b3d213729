"""What all tests need."""

import signal


def pytest_configure() -> None:
    """Have Ctrl-C mean what it means at a terminal.

    A shell starts its background jobs with SIGINT ignored, and programs that they start inherit it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
