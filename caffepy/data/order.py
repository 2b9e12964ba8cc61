"""Which record comes next. A position is a small value and advancing is a pure function: a resume stores the value."""

from __future__ import annotations

from typing import NamedTuple

from caffepy.data.permutation import MOST_EPOCHS, list_permutation, permutation


class Cursor(NamedTuple):
    """How many epochs are complete, and how many records have been handed out in this one."""

    epoch: int = 0
    index: int = 0  # type: ignore[assignment]  # a tuple's method of this name is not needed


class Order(NamedTuple):
    """The order of `length` records: as they lie, or shuffled anew for every epoch by a generator of (seed, epoch).

    With `size` processes, process `rank` takes records rank, rank + size, ... of that order.
    """

    length: int
    shuffle: bool = False
    seed: int = 0
    rank: int = 0
    size: int = 1

    def advance(self, cursor: Cursor, count: int) -> tuple[list[int], Cursor]:
        """The next `count` records, going round at the end, and the cursor behind them."""
        epoch, index = cursor
        out: list[int] = []
        for i in range(count):
            at = index + i * self.size + self.rank
            wraps, at = divmod(at, self.length)
            out.append(self.permuted(epoch + wraps, at))
        wraps, index = divmod(index + count * self.size, self.length)
        return out, Cursor(epoch + wraps, index)

    def check(self, cursor: Cursor) -> None:
        """Raise ValueError for a cursor from a file that no training has reached."""

    def permuted(self, epoch: int, i: int) -> int:
        return int(permutation(self.seed, epoch, self.length)[i]) if self.shuffle else i


class ListOrder(Order):
    """The order that Caffe's ImageData shuffles a list into: each epoch mixes anew what the last one left."""

    def check(self, cursor: Cursor) -> None:
        epochs = cursor.epoch + cursor.index // self.length
        if self.shuffle and epochs > MOST_EPOCHS:  # which would take hours to walk through
            raise ValueError(f"a list that was shuffled {epochs} times")

    def permuted(self, epoch: int, i: int) -> int:
        return int(list_permutation(self.seed, epoch, self.length)[i]) if self.shuffle else i
