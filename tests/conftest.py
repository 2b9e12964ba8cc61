"""What every test leaves as it found it."""

from __future__ import annotations

import logging
import os
import signal

import pytest

from caffepy.passes import divided

if os.environ.get("CAFFEPY_TEST_PARTS"):
    # Every batch is divided, however small.
    divided.LEAST_ELEMENTS = 0

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a script; the commands that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LOGGER = logging.getLogger("caffepy")
QUIET = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate


@pytest.fixture(autouse=True)
def log_as_it_was():
    """A command starts the log for the rest of the process: not for the tests that follow, nor one of a fixture's."""
    LOGGER.handlers[:], LOGGER.level, LOGGER.propagate = QUIET
    yield
    LOGGER.handlers[:], LOGGER.level, LOGGER.propagate = QUIET
