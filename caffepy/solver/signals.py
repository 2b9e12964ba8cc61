"""SIGINT, SIGTERM and SIGHUP as requests to a running solver."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from caffepy.solver.events import Action
from caffepy.solver.training import Training

SAID = {
    Action.STOP: "stopping after this iteration, then a snapshot; again = stop now without one",
    Action.SNAPSHOT: "a snapshot follows after this iteration",
}


@contextmanager
def heard(solver: Training, effects: Mapping[str, str]) -> Iterator[None]:
    """Within the block signals, by name ("SIGINT"), are requests to the solver, and are answered at once.

    Effects: "stop" (snapshot as after training, then stop), "snapshot" (and go on), "none". An interrupt while a stop
    has not been seen yet is a KeyboardInterrupt.
    """

    def handler(effect: Action) -> Callable:
        def handle(number, frame):
            if number == signal.SIGINT and Action.STOP in solver.requests:
                raise KeyboardInterrupt
            solver.request(effect)
            _say(SAID.get(effect, ""))

        return handle

    wanted = {
        getattr(signal, name): Action[effect.upper()] for name, effect in effects.items() if hasattr(signal, name)
    }
    before = {number: signal.signal(number, handler(effect)) for number, effect in wanted.items()}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _say(text: str) -> None:
    """A line on stderr, past Python's buffers: the signal may have come while one was being written."""
    if text:
        with suppress(OSError):
            os.write(2, f"{text}\n".encode())
