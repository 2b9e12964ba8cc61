"""Ratings as matrices users x items, of some users at a time: all of them at once would not fit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from caffepy.recommend.history import UserHistory

_ENTRIES = 1 << 24
"""Of a matrix."""


def raters(history: UserHistory, items: np.ndarray) -> np.ndarray:
    """The users with a rating of any of these items."""
    order, _ = history.by_item
    _, rows = history.transposed.rows_of(items)
    is_one = np.zeros(history.num_users, bool)
    is_one[history.user[order[rows]]] = True
    return np.flatnonzero(is_one)


def blocks(
    history: UserHistory, users: np.ndarray, values: np.ndarray, place: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For some of the users after the other which items they have rated, and the `values` (N,) of those rows: (B, I).

    `place` (I,) is the column of each item, -1 for those that are left out.
    """
    width = history.num_items if place is None else int(place.max(initial=-1)) + 1
    step = max(1, _ENTRIES // max(1, width))
    for a in range(0, len(users), step):
        part = users[a : a + step]
        at, rows = history.rows_of(part)
        columns = history.item[rows]
        if place is not None:
            columns = place[columns]
            kept = columns >= 0
            at, rows, columns = at[kept], rows[kept], columns[kept]
        given, filled = np.zeros((len(part), width), np.float32), np.zeros((len(part), width), np.float32)
        given[at, columns], filled[at, columns] = 1, values[rows]
        yield given, filled
