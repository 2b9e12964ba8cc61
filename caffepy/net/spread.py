"""Tables spread over the processes of a training (`param { spread: true }`): of n, process r keeps rows r, r + n ..."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from caffepy import rng

if TYPE_CHECKING:
    from caffepy.hdf5 import H5Dataset

Array = Any

_CHUNK = 1 << 16
"""Rows that travel at once into a file."""


class Share(Protocol):
    """One of several processes, and how it speaks to the others: `caffepy.distributed.tables` has them."""

    rank: int
    size: int

    def rows(self, name: str, table: Array, index: Array, alone: bool) -> Array:
        """The rows (n, K) at `index` (n,) of the whole table; all processes ask at once, or the first one `alone`."""

    def part(self, name: str, rank: int, rows: slice, width: int) -> np.ndarray:
        """For the first process: some of the rows (n, K) that another one keeps, as that one counts them."""

    def served(self) -> AbstractContextManager[Any]:
        """Within it the first process may ask for rows alone, for the others `serve`."""

    def serve(self) -> None:
        """Answer the first process until it leaves `served`."""


_in_use: ContextVar[Share | None] = ContextVar("caffepy.spread", default=None)


@contextmanager
def use(share: Share) -> Iterator[None]:
    """Nets that are built within the block, in this thread, keep their share of the tables that are spread."""
    before = _in_use.set(share)
    try:
        yield
    finally:
        _in_use.reset(before)


class Spread:
    """What one process keeps of a table with `count` rows: `kept` of them, the last of which may be none's."""

    def __init__(self, share: Share, count: int):
        self.share, self.count = share, count
        self.kept = -(-count // share.size)

    @property
    def own(self) -> slice:
        """The rows of the whole table that are kept here."""
        return slice(self.share.rank, self.count, self.share.size)

    def own_of(self, index: Array, values: Array) -> tuple[Array, Array]:
        """Of rows of the whole table those that are kept here, as they are counted here."""
        here = index % self.share.size == self.share.rank
        return index[here] // self.share.size, values[here]

    @contextmanager
    def random(self) -> Iterator[None]:
        """Each process draws other numbers for its rows."""
        with rng.use(rng.Stream(rng.draw() + self.share.rank)):
            yield

    def read(self, dataset: H5Dataset) -> np.ndarray:
        """The rows that are kept here, (kept, K), from a file that has all."""
        found = dataset.rows(self.own)
        return np.concatenate([found, np.zeros((self.kept - len(found), *found.shape[1:]), found.dtype)])

    def write(self, name: str, table: np.ndarray, dataset: Any) -> None:
        """For the first process, which keeps `table`: all rows to a dataset (count, K), a part of them at a time."""
        n, width = self.share.size, table.shape[1]
        for rank in range(n):
            mine = -(-(self.count - rank) // n)
            for a in range(0, mine, _CHUNK):
                rows = slice(a, min(a + _CHUNK, mine))
                values = self.share.part(name, rank, rows, width) if rank else table[rows]
                dataset[rank + a * n : rank + (rows.stop - 1) * n + 1 : n] = values


def over_processes(count: int) -> Spread | None:
    """How a table of so many rows is spread over the processes of this training; None where there is one."""
    share = _in_use.get()
    return Spread(share, count) if share is not None else None
