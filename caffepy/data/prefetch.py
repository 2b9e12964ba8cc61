"""Batches made ahead on a background thread, behind a bounded queue."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from caffepy.errors import CaffeError, DataError

log = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds between looks at whether the thread still lives, while the reader waits."""
_FAREWELL = 5.0
"""Seconds that the end of the program waits for a batch in the making."""

S = TypeVar("S")
B = TypeVar("B")


class Prefetcher(Generic[S, B]):
    """Runs `make(state, recycled) -> (batch, next state)` ahead of its reader, at most `depth` batches.

    `state` is where the next batch that the *reader* gets starts from, so it is what a snapshot stores; what lies
    in the queue is made again after a resume. An error of `make` is raised by `next`, at once. A batch may be
    overwritten after the next call of `next`. For one reader; after a fork the child reads on by itself. Where the
    system refuses a thread, the reader makes its batches.
    """

    def __init__(self, make: Callable[[S, B | None], tuple[B, S]], state: S, depth: int):
        self._make = make
        self.depth = max(1, depth)
        self.wait = 0.0
        """Seconds that `next` has waited for data."""
        self._thread: threading.Thread | None = None
        self._held: B | None = None
        self._on_drop: weakref.finalize | None = None
        self._told = False
        self._owner = os.getpid()
        self.restart(state)
        _all.add(self)

    def restart(self, state: S) -> None:
        """Drop what was made ahead and go on from `state`. The thread starts with the first `next`."""
        self.close()
        self.state = state
        # Not Queue and Event: an interrupt in the middle of their methods leaves their locks held, and all hang.
        self._ready: SimpleQueue[tuple[B | None, S, BaseException | None]] = SimpleQueue()
        self._free: SimpleQueue[B] = SimpleQueue()
        self._taken: SimpleQueue[None] = SimpleQueue()  # wakes the thread that waits for room
        self._stop: list[bool] = []  # not empty: it shall end
        if self._on_drop is not None:
            self._on_drop.detach()
        self._on_drop = weakref.finalize(self, self._stop.append, True)  # a dropped net leaves no thread

    def next(self) -> B:
        if self._owner != os.getpid():
            # The thread stayed with the parent, perhaps while it held a lock of the queues.
            self._thread, self._held, self._owner = None, None, os.getpid()
            self.restart(self.state)
        if self._thread is None:
            self._thread = self._started()
        if self._thread is None:
            return self._made_here()
        if self._held is not None:
            recycled, self._held = self._held, None  # before the wait, which an interrupt may end: never put it twice
            self._free.put(recycled)
        try:
            batch, state, error = self._ready.get_nowait()
        except Empty:
            start = time.perf_counter()
            batch, state, error = self._wait(self._thread)
            self.wait += time.perf_counter() - start
        if self._taken.empty():
            self._taken.put(None)
        if error is not None:
            self.close()
            raise error
        self._held, self.state = batch, state
        return batch  # type: ignore[return-value]  # None comes with an error alone

    def _started(self) -> threading.Thread | None:
        """The thread, where the system allows one more."""
        args = (weakref.ref(self), self.state, self._ready, self._free, self._taken, self._stop, self.depth)
        thread = threading.Thread(target=_work, args=args, name="caffepy-prefetch", daemon=True)
        try:
            thread.start()
            return thread
        except RuntimeError as error:
            if not self._told:
                log.warning("Batches are not made ahead but when they are due: %s", error)
            self._told = True
            return None

    def _made_here(self) -> B:
        start = time.perf_counter()
        self._held, self.state = self._make(self.state, self._held)
        self.wait += time.perf_counter() - start
        return self._held

    def _wait(self, thread: threading.Thread) -> tuple[B | None, S, BaseException | None]:
        while True:
            alive = thread.is_alive()  # asked first: what it put before it died is in the queue
            try:
                return self._ready.get(timeout=_PATIENCE)
            except Empty:
                if not alive:
                    self.close()
                    raise DataError("the thread that reads ahead was stopped while its batch was waited for") from None

    def close(self, patience: float | None = None) -> None:
        """Stop the thread; `next` starts it again where the reader stands."""
        if self._thread is not None:
            self._end_thread(patience)
            self._thread = None
            self._held = None
            self.restart(self.state)

    def _end_thread(self, patience: float | None) -> None:
        assert self._thread is not None
        self._stop.append(True)
        self._taken.put(None)
        began = time.perf_counter()
        while self._thread.is_alive() and (patience is None or time.perf_counter() - began < patience):
            self._thread.join(0.01)


_all: weakref.WeakSet[Prefetcher[Any, Any]] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A thread that reads a database while the interpreter takes it down would crash the program."""
    for prefetcher in list(_all):
        prefetcher.close(_FAREWELL)


def _work(
    owner: weakref.ref[Prefetcher],
    state: Any,
    ready: SimpleQueue[Any],
    free: SimpleQueue[Any],
    taken: SimpleQueue[None],
    stop: list[bool],
    depth: int,
) -> None:
    """The thread: make a batch, wait for room in the queue, again and again. It keeps its prefetcher alive only
    while it makes a batch."""
    while not stop:
        prefetcher = owner()
        if prefetcher is None:
            return
        try:
            recycled = free.get_nowait()
        except Empty:
            recycled = None
        error: BaseException | None = None
        batch = None
        try:
            batch, state = prefetcher._make(state, recycled)
        except CaffeError as caught:
            # Its frames, and those of what it came from, would keep the maker alive while the error waits.
            error = caught.with_traceback(None)
            error.__context__ = None
        except BaseException as caught:
            error = caught
        del prefetcher, recycled
        while not stop:
            if ready.qsize() < depth:
                ready.put((batch, state, error))
                break
            with suppress(Empty):
                taken.get(timeout=0.1)
        if error is not None:
            return
