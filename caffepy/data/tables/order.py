"""The order of many rows at once."""

from __future__ import annotations

import numpy as np

from caffepy.data.order import Cursor, Order
from caffepy.data.permutation import permutation


class RowOrder(Order):
    """As Order, with the rows of a batch as one array: a batch may be the whole table."""

    def take(self, cursor: Cursor, count: int) -> tuple[np.ndarray, Cursor]:
        """What `advance` gives: the next `count` rows, and the cursor behind them."""
        epoch, index = cursor
        at = index + np.arange(count, dtype=np.int64) * self.size + self.rank
        wraps, at = np.divmod(at, self.length)
        if self.shuffle:
            for wrap in np.unique(wraps):
                here = wraps == wrap
                at[here] = permutation(self.seed, epoch + int(wrap), self.length)[at[here]]
        wrapped, index = divmod(index + count * self.size, self.length)
        return at, Cursor(epoch + wrapped, index)
