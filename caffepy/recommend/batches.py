"""Which ratings are taken together in a pass of stochastic gradient descent, and how their steps are added up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from caffepy.recommend.history import History


def mixed(history: History, size: int, most: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """All rows once, in batches of about `size`: pieces of users, in random order, of at most `most` rows each.

    The rows of a piece lie side by side, so that a user's step is one product of a vector and a matrix.
    """
    count = len(history)
    order = random.permutation(count)
    order = order[sorted_by(history.user[order])]  # those of a user at random
    place = np.arange(count) - history.starts[history.user]
    piece = np.cumsum(place % most == 0) - 1
    mixing = random.permutation(int(piece[-1]) + 1)
    lengths = np.bincount(mixing[piece])
    rows = order[sorted_by(mixing[piece])]
    ends = np.cumsum(lengths)
    cuts = ends[np.searchsorted(ends, np.arange(size, count, size))]
    yield from np.split(rows, np.unique(cuts[cuts < count]))


def sorted_by(numbers: np.ndarray) -> np.ndarray:
    """The order of these numbers from 0 on, equal ones as they come."""
    if len(numbers) and int(numbers.max()) < 1 << 16:
        numbers = numbers.astype(np.uint16)  # which numpy sorts by digits, ten times as fast
    return np.argsort(numbers, kind="stable")


def pieces(user: np.ndarray) -> np.ndarray:
    """Where in a batch another user begins, and its end."""
    return np.concatenate([[0], np.flatnonzero(np.diff(user)) + 1, [len(user)]])


class Rounds:
    """Adds rows to those of a table, also where an index repeats: its first occurrences, then its second ones, ...

    A few large additions; `numpy.add.at` and `reduceat` took 40 times as long on rows of 100.
    """

    def __init__(self, index: np.ndarray):
        order = sorted_by(index)
        ascending = index[order]
        is_first = np.concatenate([[True], ascending[1:] != ascending[:-1]])
        starts = np.flatnonzero(is_first)
        occurrence = np.arange(len(index)) - starts[np.cumsum(is_first) - 1]
        by_round = order[sorted_by(occurrence)]
        self.parts = np.split(by_round, np.cumsum(np.bincount(occurrence))[:-1])
        self.index = index

    def add(self, table: np.ndarray, rows: np.ndarray) -> None:
        for part in self.parts:
            table[self.index[part]] += rows[part]
