"""Tables whose rows several processes keep: how they get rows from each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from caffepy.distributed.group import Group
from caffepy.net.blob import Array, Blob
from caffepy.solver.solver import Solver


class Tables:
    """A `caffepy.net.spread.Share`: the tables of this process, and those of the others behind a Group.

    In training all processes ask for rows at once. What the first does alone, tests and snapshots, the others follow
    in `serve`: it tells them each question, in the end that there are no more.
    """

    def __init__(self, group: Group):
        self.group, self.rank, self.size = group, group.rank, group.size
        self._blobs: dict[str, Blob] = {}
        self._asking = 0

    def keep(self, solver: Solver) -> None:
        """Answer for the tables of this solver, and for what its rule remembers of them."""
        blobs = [blob for node in solver.net.nodes for blob in node.layer.blobs]
        self._blobs = {blob.name: blob for blob in [*blobs, *solver.history]}

    def rows(self, name: str, table: Array, index: Array, alone: bool) -> Array:
        if alone:
            self.group.from_first(("rows", name))
        return self.group.rows_of_all(table, index)

    def part(self, name: str, rank: int, rows: slice, width: int) -> np.ndarray:
        self.group.from_first(("part", name, rank, rows))
        return self.group.take_from(rank, (rows.stop - rows.start, width))

    # The first process and its questions

    def begin(self) -> None:
        """From now on the others `serve`."""
        self._asking += 1

    def end(self) -> None:
        self._asking -= 1
        if not self._asking:
            self.group.from_first(None)

    @contextmanager
    def served(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self.end()

    def still_there(self) -> None:
        """A word for the others, whose patience with silence ends after 30 minutes."""
        self.group.from_first(("nothing",))

    def serve(self) -> None:
        while (asked := self.group.from_first(None)) is not None:
            self._answer(*asked)

    def _answer(self, kind: str, name: str = "", rank: int = 0, rows: slice = slice(0)) -> None:
        if kind == "rows":
            blob = self._blobs[name]
            self.group.rows_of_all(blob.data, blob.engine.xp.zeros((0,), dtype=blob.engine.xp.int64))
        elif kind == "part" and rank == self.rank:
            self.group.give_to_first(self._blobs[name].data[rows])
