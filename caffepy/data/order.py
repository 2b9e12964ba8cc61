"""Which record comes next. A position is a small value and advancing is a pure function: a resume stores the value."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from caffepy import rng


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
        return int(_permutation(self.seed, epoch, self.length)[i]) if self.shuffle else i


class ListOrder(Order):
    """The order that Caffe's ImageData shuffles a list into: each epoch mixes anew what the last one left."""

    def check(self, cursor: Cursor) -> None:
        epochs = cursor.epoch + cursor.index // self.length
        if self.shuffle and epochs > _MOST_EPOCHS:  # which would take hours to walk through
            raise ValueError(f"a list that was shuffled {epochs} times")

    def permuted(self, epoch: int, i: int) -> int:
        return int(_list_permutation(self.seed, epoch, self.length)[i]) if self.shuffle else i


def _list_permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """A walk from the list as it lies: it is kept where it stands, since the next epoch begins there."""
    with _lock:  # of nets with the same seed, each on its own thread
        known = _lists.pop((seed, length), None)
        # The list as it lies is made only where a walk begins: this is asked for every record.
        if known is None or known[0] > epoch:
            known = -1, np.arange(length), rng.mt19937(seed)
        at, permutation, random = known
        while at < epoch:
            permutation = _mixed(permutation, random)
            at += 1
        while len(_lists) >= _KEPT:
            del _lists[next(iter(_lists))]
        _lists[seed, length] = at, permutation, random
        return permutation


_MOST_EPOCHS = 1_000_000
_KEPT = 8
"""Permutations that are remembered, of a few epochs of a few sources."""
_lock = threading.Lock()
_lists: dict[tuple[int, int], tuple[int, np.ndarray, np.random.Generator]] = {}


def _mixed(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Fisher-Yates from the end, each place drawn evenly by division of 32-bit numbers (rejecting the excess)."""
    mixed = values.tolist()
    last = len(mixed) - 1
    while last > 0:
        numbers = random.bit_generator.random_raw(min(last, _BLOCK)).astype(np.int64)
        while numbers.size:
            places = np.arange(last, last - numbers.size, -1)
            drawn = numbers // (2**32 // (places + 1))
            rejected = np.flatnonzero(drawn > places)
            count = int(rejected[0]) if rejected.size else numbers.size
            for i, j in zip(places[:count].tolist(), drawn[:count].tolist()):
                mixed[i], mixed[j] = mixed[j], mixed[i]
            last -= count
            numbers = numbers[count + 1 :]
    return np.array(mixed)


_BLOCK = 4096
"""Numbers drawn at once (a million are mixed in 0.7 s, not in 1.7); hardly any block has one that is rejected."""


@lru_cache(_KEPT)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length).astype(np.uint32)
