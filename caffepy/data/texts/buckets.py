"""Batches of sentences of about one length."""

from __future__ import annotations

import numpy as np

from caffepy.data.order import Cursor


class Buckets:
    """Sentences of these `lengths`, `count` a batch: as they lie, or mixed so that those of a batch are of like length.

    A batch may span the end of an epoch. With several processes their batches together are of like length.
    """

    def __init__(self, lengths: np.ndarray, count: int, shuffle: bool, seed: int, rank: int = 0, size: int = 1):
        self.lengths, self.count, self.shuffle, self.seed, self.rank, self.size = (
            lengths, count, shuffle, seed, rank, size,
        )  # fmt: skip
        self._known: tuple[int, np.ndarray] = (-1, lengths)

    def take(self, cursor: Cursor) -> tuple[np.ndarray, Cursor]:
        """The next batch's sentences (count,), and the cursor behind them."""
        total = len(self.lengths)
        places = (cursor.index + np.arange(self.count) * self.size + self.rank).tolist()
        chosen = [self._order(cursor.epoch + place // total)[place % total] for place in places]
        wrapped, index = divmod(cursor.index + self.count * self.size, total)
        return np.array(chosen), Cursor(cursor.epoch + wrapped, index)

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.lengths))
        if self._known[0] != epoch:
            self._known = epoch, self._mixed(epoch)
        return self._known[1]

    def _mixed(self, epoch: int) -> np.ndarray:
        """By length, cut where batches begin, the pieces mixed; equal lengths are mixed before."""
        total, group = len(self.lengths), self.count * self.size
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(total)
        order = order[np.argsort(self.lengths[order], kind="stable")]
        begun = -epoch * total % group  # sentences that complete the last batch of the epoch before
        first, *groups = np.split(order, range(begun, total, group))
        last = groups.pop() if groups and len(groups[-1]) < group else order[:0]
        return np.concatenate([first, *(groups[i] for i in random.permutation(len(groups))), last])
