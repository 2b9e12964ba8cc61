"""SIGINT and SIGHUP as requests to a running solver, as Caffe has them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caffepy.solver.solver import Action


@contextmanager
def listen(sigint: str = "stop", sighup: str = "snapshot") -> Iterator[Callable[[], Action]]:
    """Catch the two signals inside the block; yields the function that `Solver.action` wants.

    Effects: "stop" (snapshot as after training, then stop), "snapshot" (and go on), "none".
    A second interrupt while the first has not been seen yet ends the program at once.
    """
    pending: list[Action] = []

    def caught(effect: Action) -> Callable:
        def handle(number, frame):
            if Action.STOP in pending and number == signal.SIGINT:
                raise KeyboardInterrupt
            if effect is not Action.NONE:
                pending.append(effect)

        return handle

    def take() -> Action:
        return pending.pop(0) if pending else Action.NONE

    wanted = {signal.SIGINT: Action(sigint)}
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = Action(sighup)
    before = {number: signal.signal(number, caught(effect)) for number, effect in wanted.items()}
    try:
        yield take
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
