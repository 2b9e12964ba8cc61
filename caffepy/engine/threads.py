"""A pool of threads for numpy calls, which release the interpreter lock while they compute, and their memory."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from queue import SimpleQueue

import numpy as np

from caffepy import limits
from caffepy.engine.numpy.blas import one_thread
from caffepy.errors import ConfigError, ShapeError

log = logging.getLogger(__name__)


def available_cores() -> int:
    """Cores this process may use, or CAFFEPY_THREADS."""
    if chosen := os.environ.get("CAFFEPY_THREADS"):
        if not chosen.isdecimal() or not int(chosen):
            raise ConfigError(f'the environment variable CAFFEPY_THREADS is "{chosen}", not a number of threads')
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ThreadPool:
    """Runs `task(0) .. task(n - 1)`, the caller being one of the workers.

    A queue a helper thread instead of concurrent.futures: handing out work costs 10 microseconds, not 60,
    and a LeNet step hands out some thirty times. Where the system refuses a thread, there are fewer.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._queues: list[SimpleQueue] = []
        self._owner = 0  # the process that the helper threads live in: a fork does not inherit them
        self._busy = threading.Lock()
        self._scratch = threading.local()

    def scratch(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialized memory of the calling thread, valid until it asks for the same name again."""
        buffers = self._scratch.__dict__
        count = prod(shape)
        buffer = buffers.get(name)
        if buffer is None or buffer.size < count:
            limits.check(4 * count, f"working memory of shape {shape}", ShapeError)
            buffer = buffers[name] = np.empty(count, np.float32)
        return buffer[:count].reshape(shape)

    def run(self, task: Callable[[int], None], n: int) -> None:
        """Run the tasks; which worker takes which is open, so tasks must not depend on it."""
        with one_thread:
            self._run(task, n)

    def _run(self, task: Callable[[int], None], n: int) -> None:
        if n <= 1 or self.threads == 1 or not self._busy.acquire(blocking=False):
            for i in range(n):
                task(i)
            return
        try:
            indices = itertools.count()
            errors: list[BaseException] = []

            def work() -> None:
                try:
                    for i in indices:
                        if i >= n or errors:
                            return
                        task(i)
                except BaseException as error:
                    errors.append(error)

            self._together([work] * min(n, self._workers()))
            if errors:
                raise errors[0]
        finally:
            self._busy.release()

    def in_step(self, steps: Sequence[Callable[[int], None]], n: int, between: Callable[[int], None]) -> None:
        """Run the n tasks of each step, all of them before the next step's; the caller calls `between(number)` then.

        Work is handed out once for all steps, which meet instead.
        """
        with one_thread:
            self._in_step(steps, n, between)

    def _in_step(self, steps: Sequence[Callable[[int], None]], n: int, between: Callable[[int], None]) -> None:
        if n <= 1 or self.threads == 1 or not self._busy.acquire(blocking=False):
            for number, step in enumerate(steps):
                for i in range(n):
                    step(i)
                between(number)
            return
        try:
            _Steps(steps, n, between, min(n, self._workers())).run(self._together)
        finally:
            self._busy.release()

    def _together(self, works: Sequence[Callable[[], None]]) -> None:
        """Call them all at once, the first here. They raise nothing."""
        # A queue of this call's own: after an interrupt nobody waits for the helpers, who still answer.
        done: SimpleQueue = SimpleQueue()
        for queue, work in zip(self._queues, works[1:]):
            queue.put((work, done))
        works[0]()
        for _ in works[1:]:
            done.get()

    def _workers(self) -> int:
        """How many work together, the caller included; the first call of a process starts its helpers."""
        if self._owner != os.getpid():
            self._owner, self._queues = os.getpid(), []
            for i in range(self.threads - 1):
                queue: SimpleQueue = SimpleQueue()
                try:
                    threading.Thread(target=_serve, args=(queue,), name=f"caffepy-{i + 1}", daemon=True).start()
                except RuntimeError as error:
                    log.warning("%d threads compute instead of %d: %s", i + 1, self.threads, error)
                    break
                self._queues.append(queue)
        return 1 + len(self._queues)


class _Steps:
    """Steps whose tasks are shared out among workers that wait for each other after each."""

    def __init__(self, steps: Sequence[Callable[[int], None]], n: int, between: Callable[[int], None], workers: int):
        self._steps, self._n, self._between, self._workers = steps, n, between, workers
        self._barrier = threading.Barrier(workers)
        self._errors: list[BaseException] = []

    def run(self, together: Callable[[Sequence[Callable[[], None]]], None]) -> None:
        together([partial(self._work, worker) for worker in range(self._workers)])
        if self._errors:
            raise self._errors[0]

    def _work(self, worker: int) -> None:
        try:
            for number, step in enumerate(self._steps):
                for i in range(worker, self._n, self._workers):
                    step(i)
                self._barrier.wait()
                if worker == 0:
                    self._between(number)
                self._barrier.wait()
        except threading.BrokenBarrierError:
            pass  # another's error has stopped all
        except BaseException as error:
            self._errors.append(error)
            self._barrier.abort()


def _serve(queue: SimpleQueue) -> None:
    np.seterr(all="ignore")  # of this thread: as in a pass
    while True:
        work, done = queue.get()
        work()
        del work  # while it waits, nothing of the last task stays alive
        done.put(None)
