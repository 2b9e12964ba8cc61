"""A batch cut into one piece for each thread: handing out single pictures costs more than a small one's work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

R = TypeVar("R")


class Pieces:
    """Runs a function on parts of a batch, on `threads` threads; with one thread on the caller's, in one piece."""

    def __init__(self, threads: int):
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0  # the process that the threads live in: a fork does not inherit them

    def run(self, count: int, work: Callable[[slice], R]) -> list[R]:
        """`work` of slices that make up `range(count)`, results in their order; the first piece's error is raised."""
        if self.threads == 1 or count <= 1:
            return [work(slice(0, count))]
        if self._pool is None or self._owner != os.getpid():
            self._pool, self._owner = ThreadPoolExecutor(self.threads, "caffepy-decode"), os.getpid()
        edges = [count * i // self.threads for i in range(self.threads + 1)]
        futures = [self._pool.submit(work, slice(a, b)) for a, b in pairwise(edges) if a < b]
        return [future.result() for future in futures]

    def map(self, function: Callable[..., R], *columns: Sequence[Any]) -> list[R]:
        """`function` of the columns' first values, of their second ones, ..."""

        def rows(part: slice) -> list[R]:
            return [function(*row) for row in zip(*(column[part] for column in columns))]

        return [result for piece in self.run(len(columns[0]), rows) for result in piece]
