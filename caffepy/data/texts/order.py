"""Which part of a text, or which sentences, a batch is made of: pure functions of a cursor, as `caffepy.data.order`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.data.order import Cursor
from caffepy.data.tables.order import RowOrder


class Streams(NamedTuple):
    """`count` stretches of a text of `length` tokens, read side by side, `steps` tokens of each a batch.

    With `size` processes there are size * count stretches, of which process `rank` has `count`. What is left at the end
    of a stretch is not read; behind the last batch of an epoch the stretches begin again.
    """

    length: int
    count: int  # type: ignore[assignment]  # a tuple's method of this name is not needed
    steps: int
    rank: int = 0
    size: int = 1

    @property
    def stretch(self) -> int:
        """Tokens of a stretch that have one behind them."""
        return (self.length - 1) // (self.count * self.size)

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return self.stretch // self.steps

    def take(self, cursor: Cursor) -> tuple[np.ndarray, bool, Cursor]:
        """Where the next batch's parts begin (count,), whether they go on from the batch before, and the cursor."""
        epoch, index = cursor
        starts = (self.rank * self.count + np.arange(self.count)) * self.stretch + index * self.steps
        wrapped, index = divmod(index + 1, self.batches)
        return starts, cursor.index > 0, Cursor(epoch + wrapped, index)


class Windows(NamedTuple):
    """All windows of `steps` tokens that follow each other from a place drawn for every epoch, mixed."""

    length: int
    count: int  # type: ignore[assignment]
    steps: int
    seed: int
    rank: int = 0
    size: int = 1

    @property
    def windows(self) -> int:
        return (self.length - self.steps) // self.steps

    @property
    def batches(self) -> int:
        return self.windows // (self.count * self.size)

    def take(self, cursor: Cursor) -> tuple[np.ndarray, bool, Cursor]:
        order = RowOrder(self.windows, True, self.seed, self.rank, self.size)
        chosen, after = order.take(cursor, self.count)
        epochs = cursor.epoch + (cursor.index + np.arange(self.count) * self.size + self.rank) // self.windows
        offsets = {epoch: np.random.default_rng([self.seed, epoch, 1]).integers(self.steps) for epoch in {*epochs}}
        return np.array([offsets[epoch] for epoch in epochs]) + chosen * self.steps, False, after
