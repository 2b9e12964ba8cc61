"""SIGINT and SIGHUP as requests to a running solver, as Caffe has them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caffepy.solver.events import Action
from caffepy.solver.training import Training


@contextmanager
def heard(solver: Training, sigint: str = "stop", sighup: str = "snapshot") -> Iterator[None]:
    """Within the block the two signals are requests to the solver.

    Effects: "stop" (snapshot as after training, then stop), "snapshot" (and go on), "none".
    A second interrupt while the first has not been seen yet ends the program at once.
    """

    def handler(effect: Action) -> Callable:
        def handle(number, frame):
            if number == signal.SIGINT and Action.STOP in solver.requests:
                raise KeyboardInterrupt
            solver.request(effect)

        return handle

    wanted = {signal.SIGINT: Action[sigint.upper()]}
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = Action[sighup.upper()]
    before = {number: signal.signal(number, handler(effect)) for number, effect in wanted.items()}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
