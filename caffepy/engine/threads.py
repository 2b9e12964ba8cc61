"""A pool of threads for numpy calls, which release the interpreter lock while they compute, and their memory."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from math import prod
from queue import SimpleQueue

import numpy as np

from caffepy.engine.numpy.blas import one_thread
from caffepy.errors import ConfigError


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
    and a LeNet step hands out some thirty times.
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
            buffer = buffers[name] = np.empty(count, np.float32)
        return buffer[:count].reshape(shape)

    def forget_scratch(self) -> None:
        """Let go of the scratch memory of all threads."""
        self._scratch = threading.local()

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
            if self._owner != os.getpid():
                self._start()
            # A queue of this call's own: after an interrupt nobody waits for the helpers, who still answer.
            done: SimpleQueue = SimpleQueue()
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

            helpers = self._queues[: n - 1]
            for queue in helpers:
                queue.put((work, done))
            work()
            for _ in helpers:
                done.get()
            if errors:
                raise errors[0]
        finally:
            self._busy.release()

    def _start(self) -> None:
        self._owner = os.getpid()
        self._queues = [SimpleQueue() for _ in range(self.threads - 1)]
        for i, queue in enumerate(self._queues):
            threading.Thread(target=_serve, args=(queue,), name=f"caffepy-{i + 1}", daemon=True).start()


def _serve(queue: SimpleQueue) -> None:
    while True:
        work, done = queue.get()
        work()
        del work  # while it waits, nothing of the last task stays alive
        done.put(None)
