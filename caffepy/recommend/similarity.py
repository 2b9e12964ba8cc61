"""How alike two items are, by the ratings of the users who have rated both; of users, with a history transposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffepy.proto.caffe_pb2 import NeighborsParameter
from caffepy.recommend.history import UserHistory

TILE = 128
"""Items compared with all others at once; those of about the same popularity share their users."""


class Common(NamedTuple):
    """Sums over the users whom two items have in common: x is of the one, y of the other."""

    n: np.ndarray
    xy: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    x: np.ndarray | None = None
    y: np.ndarray | None = None


def similarity(p: NeighborsParameter, c: Common) -> np.ndarray:
    """0 where there is none."""
    if p.similarity == p.COSINE:
        return _ratio(c.xy, c.xx * c.yy)
    if p.similarity == p.MSD:
        return np.where(c.n > 0, 1 / (1 + (c.xx + c.yy - 2 * c.xy) / np.maximum(c.n, 1)), 0)
    if p.similarity == p.PEARSON:
        assert c.x is not None and c.y is not None
        return _ratio(c.n * c.xy - c.x * c.y, (c.n * c.xx - c.x * c.x) * (c.n * c.yy - c.y * c.y))
    return _ratio(c.xy, c.xx * c.yy) * ((c.n - 1) / np.maximum(c.n - 1 + np.float32(p.shrinkage), 1e-9))


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
    rows = number[history.item] >= 0
    shape = history.num_users, len(items)
    at = history.user[rows], number[history.item[rows]]
    given, ratings = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    given[at], ratings[at] = 1, values[rows]
    for a in range(0, len(items), TILE):
        tile = slice(a, min(a + TILE, len(items)))
        users = np.flatnonzero(given[:, tile].any(axis=1))
        alike = similarity(p, _common(p, given[users], ratings[users], tile))
        alike[_common_count_below(p, given[users], tile)] = 0
        alike[np.arange(tile.stop - a), np.arange(a, tile.stop)] = 0  # itself
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


def _common(p: NeighborsParameter, given: np.ndarray, ratings: np.ndarray, tile: slice | np.ndarray) -> Common:
    squares = ratings * ratings
    g, r, s = given[:, tile].T, ratings[:, tile].T, squares[:, tile].T
    sums = Common(g @ given, r @ ratings, s @ given, g @ squares)
    return sums._replace(x=r @ given, y=g @ ratings) if p.similarity == p.PEARSON else sums


def _common_count_below(p: NeighborsParameter, given: np.ndarray, tile: slice) -> np.ndarray | slice:
    """Where two items have fewer than `min_support` ratings in common."""
    return given[:, tile].T @ given < p.min_support if p.min_support > 1 else slice(0)


def pair_similarity(p: NeighborsParameter, history: UserHistory, values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How similar all items are to these (n,): (n, I)."""
    shape = history.num_users, history.num_items
    given, ratings = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    at = history.user, history.item
    given[at], ratings[at] = 1, values
    users = np.flatnonzero(given[:, items].any(axis=1))
    return similarity(p, _common(p, given[users], ratings[users], items))
