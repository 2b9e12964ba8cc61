"""A setting of the whole process that lasts only while somebody needs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

Undo = Callable[[], None]


class _Depth(threading.local):
    """How often this thread is within."""

    value = 0


class Held:
    """Within it `begin` has been called; what that returns is called when the last thread leaves.

    Threads may be within it side by side, and one thread several times: then entering costs half a microsecond.
    """

    def __init__(self, begin: Callable[[], Undo]):
        self._begin = begin
        self._depth = _Depth()
        self._threads = 0  # that are within
        self._undo: Undo | None = None
        self._owner, self._lock = os.getpid(), threading.Lock()

    def __enter__(self) -> None:
        depth = self._depth
        if not depth.value:
            with self._locked(0):
                if not self._threads:
                    self._undo = self._begin()
                self._threads += 1
        depth.value += 1

    def __exit__(self, *error: object) -> None:
        depth = self._depth
        depth.value -= 1
        if not depth.value:
            with self._locked(1):
                self._threads -= 1
                if not self._threads:
                    self._end()

    def _end(self) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def _locked(self, within: int) -> threading.Lock:
        """The lock. In a fork it is a new one: of the threads that were within, only this one may have come along."""
        if self._owner != os.getpid():
            self._owner, self._lock = os.getpid(), threading.Lock()
            if self._threads and not within:
                self._end()
            self._threads = within
        return self._lock
