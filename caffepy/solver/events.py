"""What a solver announces, and to whom: one list of listeners, each told in the order of the list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Flag
from typing import Any

from caffepy.solver.training import Training


class Action(Flag):
    """What a listener, a signal or another thread asks of a running solver."""

    NONE = 0
    SNAPSHOT = 1
    STOP = 2


class Listener:
    """Base of all that follow a training; a subclass defines the events that it wants to hear of.

        class Patience(caffepy.Listener):
            def test(self, solver):
                if solver.scores["accuracy"] > 0.99:
                    solver.stop()

        solver.listeners.append(Patience())

    ========= ==================================================== ================================================
    event     when                                                 what is there; what a listener may change
    ========= ==================================================== ================================================
    start     `step` begins (`solve` calls it once, `fit` once an  `iter`
              epoch)
    batch     before the `iter_size` passes of an iteration, and,  the gradients are zero; in `testing` the batch is
              where `solver.testing`, before each batch of a test  of a test net
    display   every `display` iterations, behind the passes        `smoothed_loss`; the net's blobs
    gradients behind the passes of an iteration                    gradients, a sum over `iter_size`, neither
                                                                   clipped nor decayed: they may be changed
    update    behind an update                                     `iter` counts it; `rate` was its learning rate;
                                                                   weights may be changed; gradients are steps
    test      behind the tests of all test nets                    `scores`, none where a stop interrupted the test;
                                                                   a stop now comes before the next iteration; a
                                                                   snapshot now resumes with this test
    snapshot  a snapshot is complete                               `written`, its path, in all processes; one that
                                                                   a listener writes in the middle of a test the
                                                                   first process alone hears of
    stop      `step` ends, all iterations done or not; not if an   `iter`, `stopped_early`
              error ends it
    ========= ==================================================== ================================================

    No listener can keep what it hears of from happening. It may ask for more: `solver.stop()` ends `step` behind the
    present iteration or test, or before the first one, `solver.request(Action.SNAPSHOT)` writes a snapshot there.

    The list begins with the solver's own: the group of processes, if any, so that all others see averaged gradients
    and scores that are the same everywhere; Caffe's log; the best snapshot; early stop. Yours follow.
    """

    name = ""
    """Under which name a snapshot keeps `state`; a listener that has one needs a name. See `Listeners`."""

    def start(self, solver: Training) -> None: ...

    def batch(self, solver: Training) -> None: ...

    def display(self, solver: Training) -> None: ...

    def gradients(self, solver: Training) -> None: ...

    def update(self, solver: Training) -> None: ...

    def test(self, solver: Training) -> None: ...

    def snapshot(self, solver: Training) -> None: ...

    def stop(self, solver: Training) -> None: ...

    def state(self) -> dict[str, Any]:
        """What an exact resume needs: numbers, texts, arrays, lists and dicts of them."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned: when a snapshot is restored, or, behind that, when it joins the list."""


@contextmanager
def listening(solver: Training, *listeners: Listener) -> Iterator[None]:
    """Within the block the solver tells these, too."""
    solver.listeners.extend(listeners)
    try:
        yield
    finally:
        for listener in listeners:
            if listener in solver.listeners:  # one may have gone by itself
                solver.listeners.remove(listener)


class Requests:
    """What a solver was asked to do and has not looked at yet. Signal handlers and other threads may add to it."""

    def __init__(self) -> None:
        self._asked: deque[Action] = deque()  # whose append no signal interrupts

    def add(self, action: Action) -> None:
        self._asked.append(action)

    def __contains__(self, action: Action) -> bool:
        return any(action in asked for asked in tuple(self._asked))

    def take(self) -> Action:
        """All that this process was asked to do since the last call."""
        taken = Action.NONE
        while self._asked:
            taken |= self._asked.popleft()
        return taken

    def take_in_test(self) -> Action:
        """What is to be done in the middle of a test: the first of several processes alone is in it."""
        return self.take()

    def from_first(self, value: Any) -> Any:
        """What the first process has, in all of them; where one trains alone, its own."""
        return value

    def decide(self) -> Action:
        """What is to be done behind an iteration or a test: what this process was asked to, where it trains alone."""
        return self.take()
