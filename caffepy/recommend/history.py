"""The ratings that a recommender has learned from, by user and by item."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from caffepy.data.tables.table import Table, held_out, open_table
from caffepy.errors import DataError
from caffepy.proto.caffe_pb2 import RatingsParameter


class UserHistory:
    """Ratings sorted by user: `user`, `item` (N,) of ids, `rating` (N,) float32, `day` (N,) or None.

    Those of user u are the rows `starts[u]` up to `starts[u + 1]`.
    """

    def __init__(self, table: Table, p: RatingsParameter):
        order = np.argsort(table[p.user], kind="stable")
        if p.hold_out:
            order = order[~held_out(table[p.user], table[p.item], p.hold_out)[order]]
        self.path = table.path
        self.user, self.item = (table[name][order].astype(np.int64) for name in (p.user, p.item))
        self.rating = table[p.rating][order].astype(np.float32)
        self.num_users, self.num_items = table.size(p.user), table.size(p.item)
        self._day = table[p.day][order].astype(np.int64) if p.day in table.columns else None
        self.user_counts = np.bincount(self.user, minlength=self.num_users)
        self.item_counts = np.bincount(self.item, minlength=self.num_items)
        self.starts = np.concatenate([[0], np.cumsum(self.user_counts)])
        self.mean = float(self.rating.mean(dtype=np.float64))
        self.low, self.high = float(self.rating.min()), float(self.rating.max())

    def __len__(self) -> int:
        return len(self.rating)

    @property
    def day(self) -> np.ndarray:
        """Raises DataError where the table has none."""
        if self._day is None:
            raise DataError(
                "the ratings have no times, which this model needs",
                where=self.path,
                hint="Convert a file with timestamps, or use the model without time.",
            )
        return self._day

    def rows_of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of some users, one after the other, and which of `users` each is of."""
        counts = self.user_counts[users]
        at = np.repeat(np.arange(len(users)), counts)
        before = np.cumsum(counts) - counts
        return at, np.arange(len(at)) + (self.starts[users] - before)[at]

    @cached_property
    def by_item(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows sorted by item, and where in them each item begins."""
        order = np.argsort(self.item, kind="stable")
        return order, np.concatenate([[0], np.cumsum(self.item_counts)])

    @cached_property
    def transposed(self) -> UserHistory:
        """The same with users and items exchanged: what is written for one serves for the other."""
        other = object.__new__(UserHistory)
        order, starts = self.by_item
        vars(other).update(vars(self))
        vars(other).pop("by_item")
        other.user, other.item, other.rating = self.item[order], self.user[order], self.rating[order]
        other._day = None if self._day is None else self._day[order]
        other.num_users, other.num_items = self.num_items, self.num_users
        other.user_counts, other.item_counts, other.starts = self.item_counts, self.user_counts, starts
        return other


def open_history(p: RatingsParameter) -> UserHistory:
    """The ratings that `ratings_param` names, read once for all layers that do so."""
    table = open_table(p.source)
    if not len(table):
        raise DataError("the table has no rows", where=p.source)
    named = RatingsParameter()
    named.CopyFrom(p)
    named.ClearField("epochs")
    return _history(table, named.SerializeToString())


@lru_cache(4)
def _history(table: Table, param: bytes) -> UserHistory:
    return UserHistory(table, RatingsParameter.FromString(param))
