"""How alike two items are, by the ratings of the users who have rated both; of users, with a history transposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffepy.proto.caffe_pb2 import NeighborsParameter
from caffepy.recommend.dense import blocks, raters
from caffepy.recommend.history import UserHistory

TILE = 128
"""Items compared with all others at once; those of about the same popularity share their users."""


_CONSTANT = 1e-5
"""Variance, as a share of the mean square, below which ratings are all the same but for rounding."""


class Common(NamedTuple):
    """Sums over the users whom two items have in common: x is of the one, y of the other."""

    n: np.ndarray
    xy: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    x: np.ndarray = np.zeros(())
    """This and the next are for PEARSON alone."""
    y: np.ndarray = np.zeros(())


def similarity(p: NeighborsParameter, c: Common) -> np.ndarray:
    """0 where there is none, as of ratings that are all the same: they have no correlation."""
    if p.similarity == p.COSINE:
        return _ratio(c.xy, c.xx * c.yy)
    if p.similarity == p.MSD:
        return np.where(c.n > 0, 1 / (1 + (c.xx + c.yy - 2 * c.xy) / np.maximum(c.n, 1)), 0)
    if p.similarity == p.PEARSON:
        return _ratio(c.n * c.xy - c.x * c.y, _variance(c.n, c.x, c.xx) * _variance(c.n, c.y, c.yy))
    return _ratio(c.xy, c.xx * c.yy) * ((c.n - 1) / np.maximum(c.n - 1 + np.float32(p.shrinkage), 1e-9))


def _variance(n: np.ndarray, x: np.ndarray, xx: np.ndarray) -> np.ndarray:
    """n squared times it."""
    squares = n * xx
    found = squares - x * x
    return np.where(found > _CONSTANT * squares, found, np.float32(0))


def _ratio(above: np.ndarray, squared: np.ndarray) -> np.ndarray:
    below = np.sqrt(np.maximum(squared, 0, out=squared), out=squared)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def nearest(
    p: NeighborsParameter, history: UserHistory, values: np.ndarray, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some items (n,), and of each the `most` most similar ones, best first, (n, most), and their similarities.

    `values` (N,) are the ratings to compare, as they are or without a baseline. Where fewer are alike at all,
    similarities of 0 fill up.
    """
    items = _compared(p, history)
    most = min(most, len(items))
    # Of many that are alike to 1.0, as those with one common rater are, no kind of item is to come first.
    mixing = np.random.default_rng(0).permutation(len(items))
    number = np.full(history.num_items, -1)
    number[items] = np.arange(len(items))
    for a in range(0, len(items), TILE):
        tile = np.arange(a, min(a + TILE, len(items)))
        sums = _common(p, history, values, items[tile], tile, number)
        alike = similarity(p, sums)
        alike[sums.n < p.min_support] = 0
        alike[tile - a, tile] = 0  # itself
        best, found = np.zeros((len(alike), most), np.int64), np.zeros((len(alike), most), np.float32)
        for row, to, weights in zip(alike, best, found):
            chosen = _largest(row, most, mixing)
            to[: len(chosen)], weights[: len(chosen)] = chosen, row[chosen]
        yield items[tile], items[best], found


def _largest(row: np.ndarray, most: int, mixing: np.ndarray) -> np.ndarray:
    """Where the positive entries are, the largest first, equal ones in the order of `mixing`, at most so many."""
    mixed = row[mixing]
    where = np.flatnonzero(mixed > 0)
    values = -mixed[where]
    if len(where) > most:
        kept = np.argpartition(values, most - 1)[:most]
        where, values = where[kept], values[kept]
    return mixing[where[np.argsort(values, kind="stable")]]


def _compared(p: NeighborsParameter, history: UserHistory) -> np.ndarray:
    """The items with enough ratings to be like any other, the most popular first."""
    least = max(1, p.min_support)
    if p.similarity in (p.PEARSON, p.PEARSON_BASELINE):
        least = max(2, least)  # both are 0 for a single common rating
    order = np.argsort(-history.item_counts, kind="stable")
    return order[history.item_counts[order] >= least]


def _common(
    p: NeighborsParameter,
    history: UserHistory,
    values: np.ndarray,
    items: np.ndarray,
    columns: np.ndarray,
    number: np.ndarray | None = None,
) -> Common:
    """Of these items (n,), which stand in `columns`, and all: (n, I), where `number` says which are compared."""
    if p.similarity == p.PEARSON:  # the same of other origins, and small sums are more exact
        values = values - np.float32(np.round(2 * history.mean) / 2)
    total: Common | None = None
    for given, ratings in blocks(history, raters(history, items), values, number):
        squares = ratings * ratings
        g, r, s = (matrix[:, columns].T for matrix in (given, ratings, squares))
        sums = Common(g @ given, r @ ratings, s @ given, g @ squares)
        if p.similarity == p.PEARSON:
            sums = sums._replace(x=r @ given, y=g @ ratings)
        total = sums if total is None else Common(*(a + b for a, b in zip(total, sums)))
    if total is None:
        width = history.num_items if number is None else int(number.max(initial=-1)) + 1
        total = Common(*np.zeros((6, len(items), width), np.float32))
    return total


def pair_similarity(p: NeighborsParameter, history: UserHistory, values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How similar all items are to these (n,): (n, I)."""
    return similarity(p, _common(p, history, values, items, items))
